//! 5.9: what is decided while Secrets are not followed, and when that begins and ends.

mod support;

use pod_reloader_core::decide::Cause::{Adopted, Changed, Listed, NoHash, Unlisted};
use pod_reloader_core::decide::Context::{Rollout, Steady};
use pod_reloader_core::decide::Verdict;
use pod_reloader_core::observed::Seen;
use proptest::prelude::*;
use support::{World, another_key, cm, key, secret};

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
    assert_eq!(world.recorded(&secret("s")), Seen::Unfollowed);
    world.put(&secret("s"), "2");
    world.expect_nothing();
    world.put(&cm("a"), "2");
    alone.put(&cm("a"), "2");
    world.expect_one_reload(Steady, &[Changed(cm("a"))]);
    alone.expect_one_reload(Steady, &[Changed(cm("a"))]);
    assert_eq!(world.hash, alone.hash);
}

#[test]
fn c5_9_turning_it_off_restarts_nothing_and_writes_nothing() {
    for mut world in [shop().created(), shop().requiring(&secret("beside")).created()] {
        world.without_secrets = true;
        world.expect_nothing();
        let recorded = world.recorded(&secret("s"));
        assert!(matches!(recorded, Seen::Digest(_)), "what pods saw stays recorded");
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
    world.expect_one_reload(Steady, &[Changed(secret("s"))]);

    // After a reload of its own it is not known what pods saw.
    let mut world = without_secrets(shop().created());
    world.put(&secret("s"), "2");
    world.put(&cm("a"), "2");
    world.expect_one_reload(Steady, &[Changed(cm("a"))]);
    assert_eq!(world.recorded(&secret("s")), Seen::Unfollowed);
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
    world.expect_one_reload(Steady, &[Changed(secret("s"))]);

    // The owner's next rollout takes the proper hash along.
    let mut world = without_secrets(shop()).created();
    world.without_secrets = false;
    world.expect_one_reload(Rollout, &[Adopted]);

    // One that is not there is recorded as absent.
    let mut world = without_secrets(shop()).created();
    world.delete(&secret("s"));
    world.without_secrets = false;
    world.expect_record_only();
    assert_eq!(world.recorded(&secret("s")), Seen::Absent);
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
            let verdict = world.ask(Steady).verdict;
            assert!(matches!(verdict, Verdict::Keep | Verdict::Observe(_)), "{verdict:?}");
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
    world.expect_one_reload(Steady, &[Changed(cm("a"))]);
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
    world.expect_one_reload(Steady, &[Listed(cm("b"))]);

    // What the hash covers still is another matter.
    let mut world = without_secrets(shop().created());
    world.list("a", "");
    world.expect_one_reload(Steady, &[Unlisted(secret("s"))]);
}

#[test]
fn c5_9_taking_over_restarts_nothing_although_the_hash_cannot_be_told() {
    let mut ours = shop().created();
    ours.observed = None;
    for world in [ours, shop().left_by_sap()] {
        let mut world = without_secrets(world);
        world.expect_record_only();
        assert_eq!(world.recorded(&secret("s")), Seen::Unfollowed);
        world.put(&cm("a"), "2");
        world.expect_one_reload(Steady, &[Changed(cm("a"))]);
    }
}

#[test]
fn c5_9_with_another_key_it_is_recorded_as_not_followed() {
    let mut world = without_secrets(shop().created());
    world.key = another_key();
    world.expect_record_only();
    assert_eq!(world.recorded(&secret("s")), Seen::Unfollowed);
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
    mixed.expect_one_reload(Steady, &[NoHash]);
}

/// Neither what SAP left, nor what was recorded with a key that was lost, nor what a user damaged.
#[test]
fn c5_9_nothing_is_written_of_what_lists_secrets_alone() {
    let alone = || {
        let mut world = World::listing("");
        world.list("", "s");
        world.with(&secret("s"), "1")
    };
    let mut damaged = alone().created();
    damaged.observed = None;
    let mut lost = alone().created();
    lost.key = another_key();
    for world in [alone().created(), alone().left_by_sap(), damaged, lost] {
        without_secrets(world).expect_nothing();
    }

    // Who lists no ConfigMap any longer has opted out; which is seen once Secrets are followed.
    let mut world = without_secrets(shop()).created();
    world.list("", "s");
    world.expect_nothing();
    world.without_secrets = false;
    world.expect_one_reload(Steady, &[Unlisted(cm("a"))]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Toggle,
    ConfigMap(u8),
    Secret(u8),
    Delete,
    Rollout,
    AnotherKey,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Toggle),
        2 => (0_u8..3).prop_map(Step::ConfigMap),
        2 => (0_u8..3).prop_map(Step::Secret),
        1 => Just(Step::Delete),
        1 => Just(Step::Rollout),
        1 => Just(Step::AnotherKey),
    ]
}

proptest! {
    /// Whatever happens before and between: to end following Secrets reloads nothing, to begin that nothing but what is
    /// recorded with something else than there is, and one answer is enough.
    #[test]
    fn c5_9_turning_it_on_or_off_reloads_only_what_is_recorded_otherwise(
        begins_without in any::<bool>(),
        is_optional in any::<bool>(),
        steps in prop::collection::vec(step(), 1..20),
    ) {
        let secret = secret("s");
        let mut world = World::listing("a");
        world.list("a", "s");
        world = if is_optional { world.using_optionally(&secret) } else { world.requiring(&secret) };
        world = world.with(&cm("a"), "0").with(&secret, "0");
        world.without_secrets = begins_without;
        let mut world = world.created();
        let mut held = Some(0);
        for step in steps {
            let mut context = Steady;
            let recorded = world.recorded(&secret);
            // A reload that waits for the Secret goes on once Secrets are not followed.
            let is_due = matches!(world.ask(Steady).verdict, Verdict::Defer { .. });
            match step {
                Step::Toggle => world.without_secrets = !world.without_secrets,
                Step::ConfigMap(content) => world.put(&cm("a"), &content.to_string()),
                Step::Secret(content) => {
                    world.put(&secret, &content.to_string());
                    held = Some(content);
                }
                Step::Delete if held.is_some() => {
                    world.delete(&secret);
                    held = None;
                }
                Step::Delete => continue,
                Step::Rollout => context = Rollout,
                Step::AnotherKey => world.key = if world.key == another_key() { key() } else { another_key() },
            }
            let verdict = world.ask(context).verdict;
            let is_reload = matches!(verdict, Verdict::Reload { .. });
            if matches!(step, Step::Toggle) && is_reload && !is_due {
                let now = held.map_or(Seen::Absent, |held| world.digest_of(&secret, &held.to_string()));
                prop_assert!(recorded != now && recorded != Seen::Unfollowed, "{:?}: {:?}", recorded, verdict);
                prop_assert!(!world.without_secrets, "turning it off reloads nothing: {:?}", verdict);
            }
            world.apply(&verdict);
            let again = world.ask(Steady).verdict;
            prop_assert!(matches!(again, Verdict::Keep | Verdict::Defer { .. }), "{:?} after {:?}", again, verdict);
        }
    }
}
