//! Section 3 and 4.2: references that cannot be read, and what is decided without them.

mod support;

use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::Cause::{Changed, Disappeared, Listed, NoHash};
use pod_reloader_core::decide::Context::{Rollout, Steady};
use pod_reloader_core::decide::Verdict;
use pod_reloader_core::observed::Seen;
use support::{World, another_key, cm, secret};

fn tolerant(mut world: World) -> World {
    world.tolerates_unknown = true;
    world
}

/// Lists `a` and `lost`, of which the latter cannot be read.
fn without_lost() -> World {
    let mut world =
        World::listing("a,lost").requiring(&cm("lost")).with(&cm("a"), "1").with(&cm("lost"), "1").created();
    world.cut_off(&cm("lost"));
    world
}

#[test]
fn c3_15_a_reference_that_stays_unreadable_does_not_hold_up_the_others() {
    let mut world = without_lost();
    let before = world.recorded(&cm("lost"));
    world.put(&cm("a"), "2");
    assert_eq!(world.ask(Steady).verdict, Verdict::Undecided(vec![cm("lost")]), "at first it is asked again");

    for context in [Steady, Rollout] {
        let mut world = tolerant(world.clone());
        assert_eq!(world.ask(context).unknown, [cm("lost")]);
        world.expect_one_reload(context, &[Changed(cm("a"))]);
        assert_eq!(world.recorded(&cm("lost")), before);
        world.reconnect(&cm("lost"));
        world.expect_nothing();
        world.put(&cm("lost"), "2");
        world.expect_one_reload(Steady, &[Changed(cm("lost"))]);
    }
}

#[test]
fn c3_15_an_unreadable_reference_causes_nothing_by_itself() {
    for world in [World::listing("lost"), World::listing("lost").using_optionally(&cm("lost"))] {
        for was_there in [true, false] {
            let mut world = world.clone();
            if was_there {
                world.put(&cm("lost"), "1");
            }
            let mut world = tolerant(world.created());
            world.cut_off(&cm("lost"));
            world.expect_nothing();
            assert_eq!(world.ask(Rollout).verdict, Verdict::Keep);
        }
    }
}

#[test]
fn c3_15_a_reference_that_was_never_read_counts_as_other_content_when_it_is() {
    let mut listed = tolerant(World::listing("a").with(&cm("a"), "1").with(&cm("lost"), "1").created());
    listed.cut_off(&cm("lost"));
    listed.list("a,lost", "");
    listed.expect_one_reload(Steady, &[Listed(cm("lost"))]);

    let mut bare = tolerant(without_lost());
    (bare.hash, bare.observed) = (None, None);
    bare.expect_one_reload(Steady, &[NoHash]);

    for mut world in [listed, bare] {
        assert_eq!(world.recorded(&cm("lost")), Seen::Uncompared);
        world.reconnect(&cm("lost"));
        world.expect_one_reload(Steady, &[Changed(cm("lost"))]);
    }
}

#[test]
fn c2_5_a_hash_is_not_adopted_while_a_reference_cannot_be_read() {
    let mut ours = without_lost();
    ours.observed = None;
    let mut saps = World::listing("a,lost").with(&cm("a"), "1").with(&cm("lost"), "1").left_by_sap();
    saps.cut_off(&cm("lost"));
    for world in [ours, saps] {
        for context in [Steady, Rollout] {
            let mut world = tolerant(world.clone());
            let decision = world.ask(context);
            assert_eq!(decision.verdict, Verdict::Undecided(vec![cm("lost")]));
            assert_eq!(decision.unknown, [cm("lost")]);
            world.reconnect(&cm("lost"));
            world.expect_record_only();
        }
    }
}

#[test]
fn c2_4_nothing_is_decided_by_versions_while_a_reference_cannot_be_read() {
    let mut world = tolerant(without_lost());
    world.mode = HashMode::Version;
    world.put(&cm("a"), "2");
    assert_eq!(world.ask(Steady).verdict, Verdict::Undecided(vec![cm("lost")]));
}

#[test]
fn c2_5_with_another_key_what_cannot_be_read_cannot_be_compared() {
    let mut world = tolerant(without_lost());
    world.key = another_key();
    world.expect_record_only();
    assert_eq!(world.recorded(&cm("lost")), Seen::Uncompared);
    world.put(&cm("a"), "2");
    world.expect_one_reload(Steady, &[Changed(cm("a"))]);
}

#[test]
fn c3_15_the_others_are_decided_by_all_rows_of_the_table() {
    let (gone, required) = (cm("gone"), secret("required"));
    let mut world = World::listing("gone,lost").using_optionally(&gone).requiring(&required);
    world.list("gone,lost", "required");
    world = world.with(&gone, "1").with(&cm("lost"), "1").with(&required, "1").created();
    world = tolerant(world);
    world.cut_off(&cm("lost"));
    world.delete(&gone);
    world.delete(&required);
    world.expect_deferral(&[&required], &[Disappeared(gone.clone())]);
    world.put(&required, "1");
    world.expect_one_reload(Steady, &[Disappeared(gone)]);
}

/// "Could not ask" is not "is there": a pod started now might not start.
#[test]
fn c3_16_a_reload_waits_while_a_required_object_cannot_be_asked_for() {
    let s = secret("only-in-the-template");
    let mut world = World::listing("a").requiring(&s).with(&cm("a"), "1").with(&s, "1").created();
    world.cut_off(&s);
    world.expect_nothing();
    world.put(&cm("a"), "2");
    assert_eq!(world.ask(Steady).verdict, Verdict::Undecided(vec![s.clone()]));
    assert!(matches!(world.ask(Rollout).verdict, Verdict::Reload { .. }), "that happens in any case");
    tolerant(world.clone()).expect_one_reload(Steady, &[Changed(cm("a"))]);

    world.reconnect(&s);
    world.delete(&s);
    world.expect_deferral(&[&s], &[Changed(cm("a"))]);
}

#[test]
fn c2_5_a_replaced_key_is_recorded_although_a_reload_waits_for_an_answer() {
    let (gone, s) = (cm("gone"), secret("only-in-the-template"));
    let mut world = World::listing("gone").using_optionally(&gone).requiring(&s);
    world = world.with(&gone, "1").with(&s, "1").created();
    world.delete(&gone);
    world.cut_off(&s);
    world.key = another_key();
    let verdict = world.ask(Steady).verdict;
    assert!(matches!(verdict, Verdict::Observe(Some(_))), "{verdict:?}");
    world.apply(&verdict);
    assert_eq!(world.ask(Steady).verdict, Verdict::Undecided(vec![s.clone()]));
    world.reconnect(&s);
    world.expect_one_reload(Steady, &[Disappeared(gone)]);
}
