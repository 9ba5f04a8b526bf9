//! 2.5: taking over restarts nothing by itself.

mod support;

use pod_reloader_core::decide::Cause::{Changed, Disappeared, Proper, Unwatched};
use pod_reloader_core::decide::Occasion::{OwnersRollout, Standing};
use pod_reloader_core::decide::Verdict;
use pod_reloader_core::observed::Record;
use support::{World, another_key, cm, secret};

#[test]
fn c2_5_hash_that_equals_ours_is_kept_and_observed_config_recorded() {
    for occasion in [Standing, OwnersRollout] {
        let mut world = World::listing("a,missing").with(&cm("a"), "1").created();
        let (hash, observed) = (world.hash.clone(), world.observed.take());
        let verdict = world.ask(occasion).verdict;
        assert!(matches!(verdict, Verdict::Record(Some(_))), "{verdict:?}");
        world.apply(&verdict);
        assert_eq!((world.hash.clone(), world.observed.clone()), (hash, observed));
        world.expect_nothing();
    }
}

#[test]
fn c2_5_hash_that_equals_saps_is_kept_and_observed_config_recorded() {
    let mut world = World::listing("a,b,a").with(&cm("a"), "1").left_by_sap();
    let hash = world.hash.clone();
    world.expect_record_only();
    assert_eq!(world.hash, hash);
    assert_eq!(world.recorded(&cm("a")), world.digest_of(&cm("a"), "1"));
    assert_eq!(world.recorded(&cm("b")), Record::Absent);
}

#[test]
fn c2_5_an_adopted_hash_stands_for_the_content_from_then_on() {
    let mut world = World::listing("a").with(&cm("a"), "1").left_by_sap();
    world.expect_record_only();
    world.relabel(&cm("a"));
    world.expect_nothing();
    world.put(&cm("a"), "2");
    world.expect_one_reload(Standing, &[Changed(cm("a"))]);
}

#[test]
fn c2_5_hash_that_equals_neither_means_that_the_configuration_changed_while_nobody_watched() {
    for occasion in [Standing, OwnersRollout] {
        let mut by_sap = World::listing("a").with(&cm("a"), "1").left_by_sap();
        by_sap.put(&cm("a"), "2");
        by_sap.expect_one_reload(occasion, &[Unwatched]);

        let mut by_us = World::listing("a").with(&cm("a"), "1").created();
        by_us.observed = None;
        by_us.put(&cm("a"), "2");
        by_us.expect_one_reload(occasion, &[Unwatched]);
    }
}

#[test]
fn c2_3_observed_config_that_is_malformed_unknown_or_beside_another_hash_counts_as_not_there() {
    let created = World::listing("a").with(&cm("a"), "1").created();
    let valid = created.observed.clone().unwrap();
    let hash = created.hash.clone().unwrap();
    for invalid in [
        String::new(),
        "{".to_owned(),
        valid.replace("\"version\":1", "\"version\":2"),
        valid.replace(&hash, &"0".repeat(64)),
        valid.replace("\"a\":", "\"a\":7,\"b\":"),
    ] {
        let mut world = created.clone();
        world.observed = Some(invalid.clone());
        world.expect_record_only();
        assert_eq!(world.observed.as_deref(), Some(&*valid), "recorded anew over {invalid}");

        world.observed = Some(invalid);
        world.put(&cm("a"), "2");
        world.expect_one_reload(Standing, &[Unwatched]);
    }
}

#[test]
fn c3_owners_rollout_replaces_an_adopted_hash_with_the_proper_one() {
    let adopted = {
        let mut world = World::listing("a").with(&cm("a"), "1").left_by_sap();
        world.expect_record_only();
        world
    };
    let not_yet_adopted = World::listing("a").with(&cm("a"), "1").left_by_sap();
    for mut world in [adopted, not_yet_adopted] {
        world.expect_one_reload(OwnersRollout, &[Proper]);
        assert_eq!(world.ask(OwnersRollout).verdict, Verdict::Keep, "once is enough");
    }
}

#[test]
fn c3_owners_rollout_replaces_a_hash_that_was_kept_while_a_required_object_appeared() {
    let a = cm("a");
    let mut world = World::listing("a").requiring(&a).created();
    world.put(&a, "1");
    world.expect_record_only();
    world.expect_one_reload(OwnersRollout, &[Proper]);
}

#[test]
fn c2_5_with_another_key_the_hash_is_kept_and_observed_config_recorded_anew_with_a_warning() {
    let a = cm("a");
    let mut world = World::listing("a").with(&a, "1").created();
    let hash = world.hash.clone();
    world.put(&a, "2, which cannot be seen");
    world.key = another_key();
    assert!(world.ask(Standing).key_was_replaced);
    world.expect_record_only();
    assert_eq!(world.hash, hash);
    assert!(!world.ask(Standing).key_was_replaced, "the warning is given once");
    assert_eq!(world.recorded(&a), world.digest_of(&a, "2, which cannot be seen"));

    world.put(&a, "3");
    world.expect_one_reload(Standing, &[Changed(a)]);
}

#[test]
fn c2_5_with_another_key_the_owners_rollout_carries_the_proper_hash() {
    let mut world = World::listing("a").with(&cm("a"), "1").created();
    world.key = another_key();
    let decision = world.ask(OwnersRollout);
    assert!(decision.key_was_replaced);
    world.expect_one_reload(OwnersRollout, &[Proper]);
}

#[test]
fn c2_5_what_was_absent_while_the_key_was_lost_comes_back_as_other_content() {
    let (required, unnamed) = (secret("required"), cm("unnamed"));
    let mut world = World::listing("unnamed").requiring(&required);
    world.list("unnamed", "required");
    world = world.with(&required, "1").with(&unnamed, "1").created();
    world.delete(&required);
    world.delete(&unnamed);
    world.expect_nothing();
    world.key = another_key();
    world.expect_record_only();
    assert_eq!(world.recorded(&required), Record::Uncompared);

    world.put(&required, "1");
    world.expect_one_reload(Standing, &[Changed(required)]);
    // That reload started pods without it.
    assert_eq!(world.recorded(&unnamed), Record::Absent);

    let mut world = World::listing("unnamed").with(&unnamed, "1").created();
    world.delete(&unnamed);
    world.key = another_key();
    world.expect_record_only();
    world.put(&unnamed, "1");
    world.expect_one_reload(Standing, &[Changed(unnamed)]);
}

#[test]
fn c2_5_what_was_recorded_as_absent_needs_no_key_to_be_compared() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = World::listing("a,b").using_optionally(&a).with(&a, "1").created();
    world.key = another_key();
    world.delete(&a);
    world.expect_one_reload(Standing, &[Disappeared(a)]);
    assert_eq!(world.recorded(&b), Record::Absent);
}

#[test]
fn c2_5_another_key_is_recorded_even_where_nothing_is_there_to_compare() {
    let mut world = World::listing("a").created();
    world.key = another_key();
    world.expect_record_only();
    assert!(!world.ask(Standing).key_was_replaced);
}
