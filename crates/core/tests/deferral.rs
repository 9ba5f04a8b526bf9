//! Section 3: a reload waits while a pod started now could not run.

mod support;

use pod_reloader_core::decide::Cause::{Appeared, Changed, Disappeared, Listed, NoHash, Unwatched};
use pod_reloader_core::decide::Context::{Rollout, Steady};
use pod_reloader_core::decide::Verdict;
use pod_reloader_core::observed::Seen;
use support::{World, another_key, cm, secret};

#[test]
fn c3_4_content_changes_while_a_listed_required_object_is_absent_causes_one_when_that_is_back() {
    let (a, b) = (cm("a"), cm("b"));
    let created = World::listing("a,b").requiring(&b).with(&a, "1").with(&b, "1").created();
    for content_at_return in ["1", "2"] {
        let mut world = created.clone();
        world.delete(&b);
        world.expect_nothing();
        world.put(&a, "2");
        world.expect_deferral(&[&b], &[Changed(a.clone())]);
        world.put(&b, content_at_return);
        let mut causes = vec![Changed(a.clone())];
        causes.extend((content_at_return == "2").then(|| Changed(b.clone())));
        world.expect_one_reload(Steady, &causes);
    }
}

#[test]
fn c3_4_content_changes_while_an_unlisted_required_object_is_absent_causes_one_when_that_is_back() {
    let (a, s) = (cm("a"), secret("only-in-the-template"));
    let mut world = World::listing("a").requiring(&s).with(&a, "1").with(&s, "1").created();
    world.delete(&s);
    world.expect_nothing();
    world.put(&a, "2");
    world.expect_deferral(&[&s], &[Changed(a.clone())]);
    world.put(&s, "other content, which is not listed");
    world.expect_one_reload(Steady, &[Changed(a)]);
}

#[test]
fn c3_4_content_changes_while_a_required_object_was_never_there_causes_one_when_it_is() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = World::listing("a,b").requiring(&b).with(&a, "1").created();
    world.put(&a, "2");
    world.expect_deferral(&[&b], &[Changed(a.clone())]);
    world.put(&b, "1");
    world.expect_one_reload(Steady, &[Changed(a)]);
    assert_eq!(world.recorded(&b), world.digest_of(&b, "1"));
}

#[test]
fn c3_4_required_object_that_appeared_and_changed_causes_one_when_all_that_is_required_is_there() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = World::listing("a,b").requiring(&a).requiring(&b).created();
    world.put(&a, "2");
    world.superseded.insert(a.clone());
    world.expect_deferral(&[&b], &[Changed(a.clone())]);
    world.put(&b, "1");
    world.expect_one_reload(Steady, &[Changed(a)]);
    assert_eq!(world.recorded(&b), world.digest_of(&b, "1"));
}

#[test]
fn c3_4_every_cause_of_the_configuration_waits_and_all_that_is_missing_is_named() {
    let (gone, new, r, s) = (cm("gone"), cm("new"), cm("r"), secret("s"));
    let mut world = World::listing("gone,new,r").using_optionally(&gone).requiring(&r).requiring(&s);
    world = world.with(&gone, "1").with(&r, "1").with(&s, "1").created();
    world.delete(&gone);
    world.put(&new, "1");
    world.delete(&r);
    world.delete(&s);
    world.expect_deferral(&[&r, &s], &[Disappeared(gone), Appeared(new)]);
}

#[test]
fn c3_4_unwatched_change_waits_too() {
    let b = cm("b");
    let mut world = World::listing("a,b").requiring(&b).with(&cm("a"), "1").with(&b, "1").created();
    world.observed = None;
    world.hash = Some("0".repeat(64));
    world.delete(&b);
    world.expect_deferral(&[&b], &[Unwatched]);
    world.put(&b, "1");
    world.expect_one_reload(Steady, &[Unwatched]);
}

#[test]
fn c3_2_a_deferred_change_that_is_taken_back_causes_nothing() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = World::listing("a,b").requiring(&b).with(&a, "1").with(&b, "1").created();
    world.delete(&b);
    world.put(&a, "2");
    world.expect_deferral(&[&b], &[Changed(a.clone())]);
    world.put(&a, "1");
    world.expect_nothing();
    world.put(&b, "1");
    world.expect_nothing();
}

#[test]
fn c3_4_nothing_is_deferred_when_the_owner_rolls_out_anyway() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = World::listing("a,b").requiring(&b).with(&a, "1").with(&b, "1").created();
    world.delete(&b);
    world.put(&a, "2");
    world.expect_deferral(&[&b], &[Changed(a.clone())]);
    world.expect_one_reload(Rollout, &[Changed(a)]);
    assert_eq!(world.recorded(&b), world.digest_of(&b, "1"));
    world.put(&b, "1");
    world.expect_nothing();
}

#[test]
fn c3_20_what_the_owner_wrote_past_the_webhook_is_put_right_without_waiting() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = World::listing("a").requiring(&b).with(&a, "1").created();
    world.list("a,b", "");
    world.expect_one_reload(Steady, &[Listed(b.clone())]);
    world.hash = None;
    world.observed = None;
    world.expect_one_reload(Steady, &[NoHash]);
}

#[test]
fn c3_4_absent_object_that_is_only_optional_holds_nothing_up() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = World::listing("a,b").using_optionally(&b).with(&a, "1").created();
    world.put(&a, "2");
    world.expect_one_reload(Steady, &[Changed(a)]);
    assert_eq!(world.recorded(&b), Seen::Absent);
}

/// 2.5 records again under the new key; were that put off with the reload, what changes until then would be missed.
#[test]
fn c2_5_a_replaced_key_is_recorded_at_once_even_while_a_reload_is_deferred() {
    let (a, gone, r) = (cm("a"), cm("gone"), cm("r"));
    let mut world = World::listing("a,gone,r").using_optionally(&gone).requiring(&r);
    world = world.with(&a, "1").with(&gone, "1").with(&r, "1").created();
    world.delete(&gone);
    world.delete(&r);
    world.expect_deferral(&[&r], &[Disappeared(gone.clone())]);

    world.key = another_key();
    let hash = world.hash.clone();
    let decision = world.ask(Steady);
    assert!(decision.key_was_replaced, "{decision:?}");
    assert!(matches!(decision.verdict, Verdict::Observe(Some(_))), "{decision:?}");
    world.apply(&decision.verdict);
    assert_eq!(world.hash, hash);
    assert!(!world.ask(Steady).key_was_replaced);
    world.expect_deferral(&[&r], &[Disappeared(gone.clone())]);

    // This would go unseen if the new digests had not been recorded.
    world.put(&a, "2");
    world.put(&gone, "1");
    world.expect_deferral(&[&r], &[Changed(a.clone()), Changed(gone.clone())]);
    world.put(&r, "1");
    world.expect_one_reload(Steady, &[Changed(a), Changed(gone), Changed(r)]);
}

#[test]
fn c2_5_a_replaced_key_makes_no_deferred_cause_forgotten() {
    let (new, r) = (cm("new"), cm("r"));
    let mut world = World::listing("new,r,off").requiring(&r).with(&r, "1").with(&cm("off"), "1").created();
    world.put(&new, "1");
    world.delete(&r);
    world.list("new,r,added", "");
    let causes = |world: &World| match world.ask(Steady).verdict {
        Verdict::Defer { causes, .. } => causes,
        verdict => unreachable!("{verdict:?}"),
    };
    let before = causes(&world);
    world.key = another_key();
    let verdict = world.ask(Steady).verdict;
    world.apply(&verdict);
    assert_eq!(causes(&world), before);
}
