//! Section 3: a required key that is missing is like a required object that is missing.

mod support;

use pod_reloader_core::decide::Cause::{Changed, Listed, NoHash, Unwatched};
use pod_reloader_core::decide::Context::{Rollout, Steady};
use pod_reloader_core::decide::{Lookup, Verdict};
use pod_reloader_core::observed::Seen;
use pod_reloader_core::template::Need::Optional;
use support::{World, another_key, cm, missing, missing_key, secret};

/// A workload whose template requires `tls.crt` of `tls`, which is there.
fn running() -> World {
    let tls = cm("tls");
    let mut world = World::listing("a,tls").requiring_key(&tls, "tls.crt").with(&cm("a"), "1");
    world.put_keys(&tls, "one", &["tls.crt"]);
    world.created()
}

#[test]
fn c3_5_a_required_key_that_goes_causes_nothing_and_the_digest_is_kept() {
    let mut world = running();
    let before = world.recorded(&cm("tls"));
    world.put_keys(&cm("tls"), "one", &[]);
    world.expect_nothing();
    assert_eq!(world.recorded(&cm("tls")), before);
    assert_eq!(world.ask(Steady).incomplete, [cm("tls")]);
}

#[test]
fn c3_6_a_required_key_that_is_back_with_the_same_content_causes_nothing() {
    let mut world = running();
    world.put_keys(&cm("tls"), "one", &[]);
    world.expect_nothing();
    world.put_keys(&cm("tls"), "one", &["tls.crt"]);
    world.expect_nothing();
}

#[test]
fn c3_6_a_required_key_that_is_back_with_other_content_causes_one() {
    let mut world = running();
    world.put_keys(&cm("tls"), "two", &[]);
    world.expect_nothing();
    world.put_keys(&cm("tls"), "two", &["tls.crt"]);
    world.expect_one_reload(Steady, &[Changed(cm("tls"))]);
}

#[test]
fn c3_3_other_keys_of_it_come_and_go_like_any_content() {
    let mut world = running();
    world.put_keys(&cm("tls"), "one", &["tls.crt", "ca.crt"]);
    world.expect_one_reload(Steady, &[Changed(cm("tls"))]);
    world.put_keys(&cm("tls"), "one", &["tls.crt"]);
    world.expect_one_reload(Steady, &[Changed(cm("tls"))]);
}

#[test]
fn c3_4_content_changes_while_a_required_key_is_missing_causes_one_when_that_is_back() {
    for content_at_return in ["one", "two"] {
        let mut world = running();
        world.put_keys(&cm("tls"), "one", &[]);
        world.put(&cm("a"), "2");
        world.expect_deferral_for(&[missing_key(&cm("tls"), "tls.crt")], &[Changed(cm("a"))]);
        world.put_keys(&cm("tls"), content_at_return, &["tls.crt"]);
        let mut causes = vec![Changed(cm("a"))];
        causes.extend((content_at_return == "two").then(|| Changed(cm("tls"))));
        world.expect_one_reload(Steady, &causes);
    }
}

#[test]
fn c3_4_all_that_is_missing_is_named_objects_and_keys() {
    let mut world = running();
    world.uses.require_key(cm("tls"), "ca.crt");
    world.uses.require_key(secret("gone"), "k");
    world.put_keys(&cm("tls"), "one", &[]);
    world.put(&cm("a"), "2");
    let expected =
        [missing_key(&cm("tls"), "ca.crt"), missing_key(&cm("tls"), "tls.crt"), missing(&secret("gone"))];
    world.expect_deferral_for(&expected, &[Changed(cm("a"))]);
    let names: Vec<_> = expected.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["key \"ca.crt\" of configmap/tls", "key \"tls.crt\" of configmap/tls", "secret/gone"]);
}

#[test]
fn c3_5_keys_that_are_not_known_are_not_missing() {
    let s = secret("only-in-the-template");
    let mut world = World::listing("a").requiring_key(&s, "k").with(&cm("a"), "1").with(&s, "1").created();
    assert!(matches!(&world.lookups()[&s], Lookup::Found(live) if live.keys.is_none()));
    world.put(&cm("a"), "2");
    world.expect_one_reload(Steady, &[Changed(cm("a"))]);
}

#[test]
fn c3_12_a_first_appearance_without_its_required_keys_is_recorded_once_they_are_there() {
    let tls = cm("tls");
    let mut world =
        World::listing("tls").requiring_key(&tls, "tls.crt").requiring_key(&tls, "tls.key").created();
    let hash = world.hash.clone();
    for keys in [&[][..], &["tls.crt"]] {
        world.put_keys(&tls, "1", keys);
        world.expect_nothing();
        assert_eq!(world.recorded(&tls), Seen::Absent);
        assert_eq!(
            world.ask(Steady).incomplete,
            vec![tls.clone()],
            "so no pod counts as having seen its version"
        );
    }
    world.put_keys(&tls, "1", &["tls.crt", "tls.key"]);
    assert!(world.ask(Steady).incomplete.is_empty());
    world.expect_record_only();
    assert_eq!(world.hash, hash);
    world.put(&tls, "2");
    world.expect_one_reload(Steady, &[Changed(tls)]);
}

#[test]
fn c3_12_what_is_created_or_listed_before_its_required_keys_waits_for_them() {
    let tls = cm("tls");
    let mut world = World::listing("tls").requiring_key(&tls, "k");
    world.put(&tls, "1");
    let mut created = world.created();
    assert_eq!(created.recorded(&tls), Seen::Absent);
    created.put_keys(&tls, "1", &["k"]);
    created.expect_record_only();

    for context in [Rollout, Steady] {
        let mut world = World::listing("a").requiring_key(&tls, "k").with(&cm("a"), "1").created();
        world.put(&tls, "1");
        world.list("a,tls", "");
        world.expect_one_reload(context, &[Listed(tls.clone())]);
        assert_eq!(world.recorded(&tls), Seen::Absent);
        world.put_keys(&tls, "1", &["k"]);
        world.expect_record_only();
    }
}

#[test]
fn c3_5_owners_rollout_while_a_required_key_is_missing_keeps_all_digests_in_case_it_is_undone() {
    let mut world = running();
    world.delete(&cm("a"));
    world.put_keys(&cm("tls"), "one", &[]);
    assert_eq!(world.ask(Rollout).verdict, Verdict::Keep);
    world.put(&cm("a"), "1");
    world.put_keys(&cm("tls"), "one", &["tls.crt"]);
    world.expect_nothing();
}

#[test]
fn c3_5_owners_rollout_that_no_longer_requires_the_key_carries_what_is_there() {
    let mut world = running();
    world.put_keys(&cm("tls"), "one", &[]);
    world.expect_nothing();
    world.name_in_template(&[(&cm("tls"), Optional)]);
    world.expect_one_reload(Rollout, &[Changed(cm("tls"))]);
}

#[test]
fn c3_20_a_workload_without_a_hash_gets_one_while_a_required_key_is_missing() {
    let mut world = running();
    world.put_keys(&cm("tls"), "one", &[]);
    (world.hash, world.observed) = (None, None);
    world.expect_one_reload(Steady, &[NoHash]);
    assert_eq!(world.recorded(&cm("tls")), Seen::Absent);
}

/// The release before recorded such content as any other.
#[test]
fn c3_21_an_upgrade_restarts_nothing_while_a_required_key_is_missing() {
    let tls = cm("tls");
    let mut world = World::listing("tls").requiring(&tls).with(&tls, "1").created();
    world.uses.require_key(tls.clone(), "k");
    world.expect_nothing();
    assert_eq!(world.ask(Rollout).verdict, Verdict::Keep);
    let hash = world.hash.clone();
    world.observed = None;
    world.expect_record_only();
    assert_eq!((world.hash.clone(), world.recorded(&tls)), (hash, world.digest_of(&tls, "1")));
}

#[test]
fn c2_5_an_unwatched_change_waits_for_a_required_key() {
    let mut world = running();
    world.put_keys(&cm("tls"), "one", &[]);
    world.observed = None;
    world.expect_deferral_for(&[missing_key(&cm("tls"), "tls.crt")], &[Unwatched]);
}

#[test]
fn c2_5_what_lacked_a_required_key_while_the_digest_key_was_lost_comes_back_as_other_content() {
    let mut world = running();
    world.put_keys(&cm("tls"), "one", &[]);
    world.key = another_key();
    world.expect_record_only();
    assert_eq!(world.recorded(&cm("tls")), Seen::Uncompared);
    world.put_keys(&cm("tls"), "one", &["tls.crt"]);
    world.expect_one_reload(Steady, &[Changed(cm("tls"))]);
}
