//! The table of section 3, row by row: what causes a reload, and what does not.

mod support;

use pod_reloader_core::decide::Cause::{Appeared, Changed, Disappeared, Listed, NoHash, Unlisted, Unwatched};
use pod_reloader_core::decide::Context::{Rollout, Steady};
use pod_reloader_core::decide::{
    Answer, ConfigVersion, Depth, Found, Lookup, Lookups, Query, Verdict, decide,
};
use pod_reloader_core::observed::Seen;
use pod_reloader_core::reference::Keys;
use pod_reloader_core::template::Need::{Optional, Required};
use support::{World, cm, secret};

#[test]
fn c3_3_content_of_a_referenced_object_changes_causes_exactly_one() {
    let a = cm("a");
    for world in
        [World::listing("a"), World::listing("a").requiring(&a), World::listing("a").using_optionally(&a)]
    {
        let mut world = world.with(&a, "one").created();
        world.put(&a, "two");
        world.expect_one_reload(Steady, &[Changed(a.clone())]);
        assert_eq!(world.recorded(&a), world.digest_of(&a, "two"));
    }
}

#[test]
fn c3_3_several_changes_together_cause_exactly_one_and_name_what_changed() {
    let mut world =
        World::listing("a,b,c").with(&cm("a"), "1").with(&cm("b"), "1").with(&cm("c"), "1").created();
    world.put(&cm("c"), "2");
    world.put(&cm("a"), "2");
    world.expect_one_reload(Steady, &[Changed(cm("a")), Changed(cm("c"))]);
}

#[test]
fn c3_7_labels_annotations_owner_or_resource_version_of_it_change_causes_nothing() {
    let mut world = World::listing("a").with(&cm("a"), "one").created();
    world.relabel(&cm("a"));
    world.expect_nothing();
}

#[test]
fn c3_2_a_change_and_its_reversal_cause_nothing_in_the_decision() {
    let mut world = World::listing("a").with(&cm("a"), "one").created();
    world.put(&cm("a"), "two");
    world.put(&cm("a"), "one");
    world.expect_nothing();
}

#[test]
fn c3_8_deleted_object_that_the_template_requires_causes_nothing_and_its_digest_is_kept() {
    let a = cm("a");
    let mut world = World::listing("a").requiring(&a).with(&a, "one").created();
    world.delete(&a);
    world.expect_nothing();
    assert_eq!(world.recorded(&a), world.digest_of(&a, "one"));
}

#[test]
fn c3_8_deleted_object_that_the_template_does_not_name_causes_nothing_and_its_digest_is_kept() {
    let a = cm("a");
    let mut world = World::listing("a").with(&a, "one").created();
    world.delete(&a);
    world.expect_nothing();
    assert_eq!(world.recorded(&a), world.digest_of(&a, "one"));
}

#[test]
fn c3_9_deleted_object_whose_every_use_is_optional_causes_one_and_is_recorded_as_absent() {
    let a = cm("a");
    let mut world = World::listing("a").using_optionally(&a).with(&a, "one").created();
    world.delete(&a);
    world.expect_one_reload(Steady, &[Disappeared(a.clone())]);
    assert_eq!(world.recorded(&a), Seen::Absent);
}

#[test]
fn c3_8_one_required_use_outweighs_the_optional_ones() {
    let a = cm("a");
    let mut world =
        World::listing("a").using_optionally(&a).requiring(&a).using_optionally(&a).with(&a, "1").created();
    world.delete(&a);
    world.expect_nothing();
}

#[test]
fn c3_10_object_comes_back_with_the_recorded_digest_causes_nothing() {
    let a = cm("a");
    for world in [World::listing("a"), World::listing("a").requiring(&a)] {
        let mut world = world.with(&a, "one").created();
        world.delete(&a);
        world.expect_nothing();
        world.put(&a, "one");
        world.expect_nothing();
    }
}

#[test]
fn c3_11_object_comes_back_with_other_content_causes_one() {
    let a = cm("a");
    for world in [World::listing("a"), World::listing("a").requiring(&a)] {
        let mut world = world.with(&a, "one").created();
        world.delete(&a);
        world.expect_nothing();
        world.put(&a, "two");
        world.expect_one_reload(Steady, &[Changed(a.clone())]);
    }
}

#[test]
fn c3_9_optional_object_that_went_and_comes_back_causes_one_each_time() {
    let a = cm("a");
    let mut world = World::listing("a").using_optionally(&a).with(&a, "one").created();
    let with_it = world.hash.clone();
    world.delete(&a);
    world.expect_one_reload(Steady, &[Disappeared(a.clone())]);
    world.put(&a, "one");
    world.expect_one_reload(Steady, &[Appeared(a.clone())]);
    assert_eq!(world.hash, with_it, "the earlier revision serves again");
}

#[test]
fn c3_12_first_appearance_of_a_required_object_causes_nothing_and_is_recorded() {
    let a = cm("a");
    let mut world = World::listing("a").requiring(&a).created();
    assert_eq!(world.recorded(&a), Seen::Absent);
    let hash = world.hash.clone();
    world.put(&a, "one");
    world.expect_record_only();
    assert_eq!(world.hash, hash);
    assert_eq!(world.recorded(&a), world.digest_of(&a, "one"));

    world.put(&a, "two");
    world.expect_one_reload(Steady, &[Changed(a)]);
}

/// A `Secret` made in two steps: pods may have started after the first.
#[test]
fn c3_13_required_object_that_changed_again_before_its_appearance_was_recorded_causes_one() {
    let a = cm("a");
    for context in [Steady, Rollout] {
        let mut world = World::listing("a").requiring(&a).created();
        world.put(&a, "one, seen and not recorded");
        world.put(&a, "two");
        world.superseded.insert(a.clone());
        world.expect_one_reload(context, &[Changed(a.clone())]);
        assert_eq!(world.recorded(&a), world.digest_of(&a, "two"));
    }
}

#[test]
fn c3_13_what_was_superseded_matters_only_for_what_is_recorded_as_absent() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = World::listing("a,b").requiring(&a).with(&a, "1").created();
    world.superseded.extend([a.clone(), b.clone(), cm("unlisted")]);
    world.expect_nothing();
    world.delete(&a);
    world.expect_nothing();
    world.put(&b, "1");
    world.put(&a, "1");
    world.expect_one_reload(Steady, &[Appeared(b)]);
}

#[test]
fn c3_14_first_appearance_of_an_object_that_nothing_requires_causes_one() {
    let a = cm("a");
    for world in [World::listing("a"), World::listing("a").using_optionally(&a)] {
        let mut world = world.created();
        world.put(&a, "one");
        world.expect_one_reload(Steady, &[Appeared(a.clone())]);
    }
}

#[test]
fn c3_17_reference_added_or_removed_causes_one() {
    for context in [Rollout, Steady] {
        let mut world = World::listing("a").with(&cm("a"), "1").with(&secret("s"), "1").created();
        let alone = world.hash.clone();
        world.list("a,missing", "s");
        world.expect_one_reload(context, &[Listed(cm("missing")), Listed(secret("s"))]);
        world.list("a", "");
        world.expect_one_reload(context, &[Unlisted(cm("missing")), Unlisted(secret("s"))]);
        assert_eq!(world.hash, alone);
    }
}

#[test]
fn c1_2_order_repetition_blanks_and_bad_names_in_the_lists_cause_nothing() {
    let mut world = World::listing("a,b").with(&cm("a"), "1").with(&cm("b"), "2").created();
    world.list(" b,a ,,b, Not_Valid", " ,");
    world.expect_nothing();
    assert_eq!(world.ask(Rollout).verdict, Verdict::Keep);
}

#[test]
fn c3_owners_rollout_carries_what_changed_and_leaves_nothing_to_do() {
    let mut world = World::listing("a").with(&cm("a"), "1").created();
    world.put(&cm("a"), "2");
    world.expect_one_reload(Rollout, &[Changed(cm("a"))]);
}

#[test]
fn c3_owners_rollout_without_a_change_of_configuration_leaves_both_annotations() {
    let world = World::listing("a").with(&cm("a"), "1").created();
    assert_eq!(world.ask(Rollout).verdict, Verdict::Keep);
}

#[test]
fn c3_8_owners_rollout_while_a_required_object_is_absent_keeps_its_digest_for_its_return() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = World::listing("a,b").requiring(&a).with(&a, "1").with(&b, "1").created();
    let hash = world.hash.clone();
    world.delete(&a);
    assert_eq!(world.ask(Rollout).verdict, Verdict::Keep, "so that undoing it finds the running revision");
    world.put(&a, "1");
    world.expect_nothing();
    assert_eq!(world.hash, hash);
}

/// New pods run without it, so its return is something that they did not see.
#[test]
fn c3_8_pods_that_were_rolled_out_without_an_unnamed_object_are_reloaded_when_it_comes_back() {
    let (a, b) = (cm("a"), cm("b"));
    let created = World::listing("a,b").with(&a, "1").with(&b, "1").created();

    let mut world = created.clone();
    world.delete(&a);
    world.expect_nothing();
    let verdict = world.ask(Rollout).verdict;
    assert!(matches!(verdict, Verdict::Reload { .. }), "4.3: the hash reflects every write: {verdict:?}");
    world.apply(&verdict);
    assert_eq!(world.recorded(&a), Seen::Absent);
    world.expect_nothing();
    world.put(&a, "1");
    world.expect_one_reload(Steady, &[Appeared(a.clone())]);

    let mut world = created;
    world.delete(&a);
    world.put(&b, "2");
    world.expect_one_reload(Steady, &[Changed(b)]);
    assert_eq!(world.recorded(&a), Seen::Absent);
    world.put(&a, "1");
    world.expect_one_reload(Steady, &[Appeared(a)]);
}

#[test]
fn c3_8_rollout_without_an_object_is_recorded_even_where_the_hash_is_right_already() {
    let a = cm("a");
    let mut world = World::listing("a").requiring(&a).created();
    world.put(&a, "1");
    world.expect_record_only();
    world.delete(&a);
    world.name_in_template(&[]);
    // The hash that was kept while it appeared is the one of its absence.
    let verdict = world.ask(Rollout).verdict;
    assert!(matches!(verdict, Verdict::Observe(_)), "{verdict:?}");
    world.apply(&verdict);
    world.put(&a, "1");
    world.expect_one_reload(Steady, &[Appeared(a)]);
}

#[test]
fn c3_8_while_a_rollout_waits_for_a_required_object_all_digests_are_kept_in_case_it_is_undone() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = World::listing("a,b").with(&a, "1").created();
    world.delete(&a);
    world.name_in_template(&[(&b, Required)]);
    assert_eq!(world.ask(Rollout).verdict, Verdict::Keep);
    assert_eq!(world.recorded(&a), world.digest_of(&a, "1"));
}

#[test]
fn c3_a_change_of_the_template_changes_what_a_deletion_means() {
    let a = cm("a");
    let mut world = World::listing("a").requiring(&a).with(&a, "one").created();
    world.delete(&a);
    world.expect_nothing();
    world.name_in_template(&[(&a, Optional)]);
    world.expect_one_reload(Rollout, &[Disappeared(a.clone())]);
    world.name_in_template(&[(&a, Required)]);
    assert_eq!(world.ask(Rollout).verdict, Verdict::Keep);
    world.put(&a, "one");
    world.expect_record_only();
}

#[test]
fn c3_20_workload_without_a_hash_gets_one() {
    let mut world = World::listing("a").with(&cm("a"), "1").created();
    let proper = world.hash.take();
    world.expect_one_reload(Steady, &[NoHash]);
    assert_eq!(world.hash, proper);
}

#[test]
fn c3_20_hash_that_somebody_changed_past_the_webhook_is_put_right() {
    let mut world = World::listing("a").with(&cm("a"), "1").created();
    let proper = world.hash.replace("0".repeat(64));
    world.expect_one_reload(Steady, &[Unwatched]);
    assert_eq!(world.hash, proper);
}

#[test]
fn c3_21_what_changed_while_the_operator_was_away_is_reloaded_then_and_nothing_else() {
    let (a, b, c) = (cm("a"), cm("b"), cm("c"));
    let mut world = World::listing("a,b,c").with(&a, "1").with(&b, "1").with(&c, "1").created();
    world.relabel(&a);
    world.delete(&b);
    world.put(&b, "1");
    world.expect_nothing();
    world.put(&c, "2");
    world.expect_one_reload(Steady, &[Changed(c)]);
}

#[test]
fn c4_2_not_there_and_could_not_ask_are_different_answers() {
    for context in [Rollout, Steady] {
        let mut world = World::listing("a,b").with(&cm("a"), "1").with(&cm("b"), "1").created();
        world.put(&cm("b"), "2");
        world.cut_off(&cm("a"));
        assert_eq!(world.ask(context).verdict, Verdict::Undecided(vec![cm("a")]));
    }
}

#[test]
fn c4_2_a_decision_says_what_it_lacks_an_answer_or_the_digest_that_is_needed() {
    let world = World::listing("a").using_optionally(&cm("a")).with(&cm("a"), "1").created();
    let version = ConfigVersion::new("u", "1");
    let another_version = Lookup::Found(Found::version(version));
    for (known, depth) in
        [([].into(), Depth::Version), ([(cm("a"), another_version)].into(), Depth::Content(Keys::All))]
    {
        let answer = world.with_input(Steady, |input| decide(input, &known));
        assert_eq!(answer, Answer::Lacks(vec![Query { object: cm("a"), depth }]), "{known:?}");
    }
}

#[test]
fn c4_3_what_the_template_requires_beside_the_lists_is_asked_for_only_where_it_matters() {
    let (a, beside) = (cm("a"), secret("beside"));
    let mut world = World::listing("a").with(&a, "1").with(&beside, "1").requiring(&beside).created();
    let of_a = |world: &World| -> Lookups {
        world.lookups().into_iter().filter(|(object, _)| *object == a).collect()
    };
    let lacks = Answer::Lacks(vec![Query { object: beside.clone(), depth: Depth::Exists }]);
    for context in [Rollout, Steady] {
        assert_eq!(world.ask_knowing(context, &of_a(&world)).verdict, Verdict::Keep, "nothing changed");
    }
    world.put(&a, "2");
    assert_eq!(
        world.with_input(Steady, |input| decide(input, &of_a(&world))),
        lacks,
        "new pods may not start"
    );
    // New pods see that it is gone, unless they have to wait for the other.
    world.delete(&a);
    assert_eq!(world.with_input(Rollout, |input| decide(input, &of_a(&world))), lacks);
    assert_eq!(world.ask_knowing(Steady, &of_a(&world)).verdict, Verdict::Keep);
}
