//! 5.9: what is decided while Secrets are not followed, and when that begins and ends.

mod support;

use pod_reloader_core::decide::Cause::{Changed, Listed, NoHash, Proper, Unlisted};
use pod_reloader_core::decide::Occasion::{OwnersRollout, Standing};
use pod_reloader_core::decide::Verdict;
use pod_reloader_core::observed::Record;
use support::{World, another_key, cm, secret};

/// Lists and requires the `ConfigMap` `a` and the Secret `s`.
fn shop() -> World {
    let mut world = World::listing("a").requiring(&cm("a")).requiring(&secret("s"));
    world.list("a", "s");
    world.with(&cm("a"), "1").with(&secret("s"), "1")
}

fn without_secrets(mut world: World) -> World {
    world.without_secrets = true;
    world
}

#[test]
fn c5_9_the_hash_covers_the_configmaps_alone() {
    let mut world = without_secrets(shop()).created();
    let mut alone = World::listing("a").with(&cm("a"), "1").created();
    assert_eq!(world.hash, alone.hash);
    assert_eq!(world.recorded(&secret("s")), Record::Unfollowed);
    world.put(&secret("s"), "2");
    world.expect_nothing();
    world.put(&cm("a"), "2");
    alone.put(&cm("a"), "2");
    world.expect_one_reload(Standing, &[Changed(cm("a"))]);
    alone.expect_one_reload(Standing, &[Changed(cm("a"))]);
    assert_eq!(world.hash, alone.hash);
}

#[test]
fn c5_9_turning_it_off_restarts_nothing_and_writes_nothing() {
    for mut world in [shop().created(), shop().requiring(&secret("beside")).created()] {
        world.without_secrets = true;
        world.expect_nothing();
        let recorded = world.recorded(&secret("s"));
        assert!(matches!(recorded, Record::Digest(_)), "what pods saw stays recorded");
        world.delete(&secret("s"));
        world.expect_nothing();
    }
}

#[test]
fn c5_9_what_changed_while_it_was_off_is_reloaded_when_it_is_on_again_if_pods_still_run_with_the_old() {
    let mut world = without_secrets(shop().created());
    world.put(&secret("s"), "2");
    world.expect_nothing();
    world.without_secrets = false;
    world.expect_one_reload(Standing, &[Changed(secret("s"))]);

    // After a reload of its own nobody knows what pods saw.
    let mut world = without_secrets(shop().created());
    world.put(&secret("s"), "2");
    world.put(&cm("a"), "2");
    world.expect_one_reload(Standing, &[Changed(cm("a"))]);
    assert_eq!(world.recorded(&secret("s")), Record::Unfollowed);
    world.without_secrets = false;
    world.expect_record_only();
}

#[test]
fn c5_9_turning_it_on_restarts_nothing() {
    let mut world = without_secrets(shop()).created();
    world.without_secrets = false;
    let hash = world.hash.clone();
    world.expect_record_only();
    assert_eq!((&world.hash, world.recorded(&secret("s"))), (&hash, world.digest_of(&secret("s"), "1")));
    world.put(&secret("s"), "2");
    world.expect_one_reload(Standing, &[Changed(secret("s"))]);

    // The owner's next rollout takes the proper hash along.
    let mut world = without_secrets(shop()).created();
    world.without_secrets = false;
    world.expect_one_reload(OwnersRollout, &[Proper]);

    // One that is not there is recorded as absent.
    let mut world = without_secrets(shop()).created();
    world.delete(&secret("s"));
    world.without_secrets = false;
    world.expect_record_only();
    assert_eq!(world.recorded(&secret("s")), Record::Absent);
    world.put(&secret("s"), "1");
    world.expect_record_only();
}

#[test]
fn c5_9_on_and_off_again_and_again_restarts_nothing() {
    for begins_without in [true, false] {
        let mut world = shop();
        world.without_secrets = begins_without;
        let mut world = world.created();
        let hash = world.hash.clone();
        for _ in 0..4 {
            world.without_secrets = !world.without_secrets;
            let verdict = world.ask(Standing).verdict;
            assert!(matches!(verdict, Verdict::Keep | Verdict::Record(_)), "{verdict:?}");
            world.apply(&verdict);
            world.expect_nothing();
            assert_eq!(world.hash, hash);
        }
    }
}

#[test]
fn c5_9_a_secret_that_is_required_and_that_nobody_may_ask_for_puts_nothing_off() {
    let mut world = without_secrets(shop().requiring(&secret("beside")).created());
    world.delete(&secret("s"));
    world.put(&cm("a"), "2");
    world.expect_one_reload(Standing, &[Changed(cm("a"))]);
}

#[test]
fn c5_9_listing_and_unlisting_a_secret_is_no_change_of_what_is_followed() {
    let mut world = without_secrets(World::listing("a").with(&cm("a"), "1")).created();
    for secrets in ["s", "s,t", "t", ""] {
        world.list("a", secrets);
        world.expect_record_only();
    }
    world.list("a,b", "s");
    world.put(&cm("b"), "1");
    world.expect_one_reload(Standing, &[Listed(cm("b"))]);

    // What the hash covers still is another matter.
    let mut world = without_secrets(shop().created());
    world.list("a", "");
    world.expect_one_reload(Standing, &[Unlisted(secret("s"))]);
}

#[test]
fn c5_9_taking_over_restarts_nothing_although_the_hash_cannot_be_told() {
    let mut ours = shop().created();
    ours.observed = None;
    for world in [ours, shop().left_by_sap()] {
        let mut world = without_secrets(world);
        world.expect_record_only();
        assert_eq!(world.recorded(&secret("s")), Record::Unfollowed);
        world.put(&cm("a"), "2");
        world.expect_one_reload(Standing, &[Changed(cm("a"))]);
    }
}

#[test]
fn c5_9_with_another_key_it_is_recorded_as_not_followed() {
    let mut world = without_secrets(shop().created());
    world.key = another_key();
    world.expect_record_only();
    assert_eq!(world.recorded(&secret("s")), Record::Unfollowed);
    world.without_secrets = false;
    world.expect_record_only();
}

#[test]
fn c5_9_opted_in_by_secrets_alone_there_is_nothing_to_do() {
    let mut world = World::listing("");
    world.list("", "s");
    let world = without_secrets(world.with(&secret("s"), "1"));
    world.expect_nothing();
    // A rollout carries a hash for nothing, so that turning it on finds one.
    let mut world = world.created();
    world.expect_nothing();
    world.without_secrets = false;
    world.expect_record_only();

    let mut mixed = without_secrets(shop());
    mixed.expect_one_reload(Standing, &[NoHash]);
}
