//! 2.4: `--hash=version` gives SAP's own value, by SAP's rules.

mod support;

use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::Cause::{Appeared, Changed, Disappeared, Listed, NoHash, Unlisted, Unwatched};
use pod_reloader_core::decide::Context::{Rollout, Steady};
use pod_reloader_core::decide::{Answer, Depth, Lookups, Query, Verdict, decide};
use pod_reloader_core::reference::Keys;
use support::{World, another_key, cm};

fn by_version(mut world: World) -> World {
    world.mode = HashMode::Version;
    world
}

/// The hash is SAP's value for what is there, and nothing is recorded beside it.
#[track_caller]
fn expect_saps(world: &World) {
    assert_eq!(world.hash, Some(world.saps_hash()));
    assert_eq!(world.observed, None);
    world.expect_nothing();
}

#[test]
fn c2_4_a_created_workload_carries_saps_value_and_no_observed_config() {
    expect_saps(&by_version(World::listing("a,missing").with(&cm("a"), "1")).created());
}

#[test]
fn c2_4_every_write_deletion_and_appearance_counts_as_with_sap() {
    let a = cm("a");
    let mut world = by_version(World::listing("a").requiring(&a).with(&a, "1")).created();
    world.relabel(&a);
    world.expect_one_reload(Steady, &[Unwatched]);
    expect_saps(&world);
    world.delete(&a);
    world.expect_one_reload(Steady, &[Unwatched]);
    expect_saps(&world);
    world.put(&a, "1");
    world.expect_one_reload(Steady, &[Unwatched]);
    expect_saps(&world);
}

#[test]
fn c2_4_order_and_repetition_of_the_lists_count_and_blanks_do_not() {
    let mut world = by_version(World::listing("a,b").with(&cm("a"), "1").with(&cm("b"), "1")).created();
    world.list(" a,, b", "");
    world.expect_nothing();
    for list in ["b,a", "b,a,b"] {
        world.list(list, "");
        world.expect_one_reload(Rollout, &[Unwatched]);
        expect_saps(&world);
    }
}

#[test]
fn c2_4_what_sap_left_is_taken_over_without_a_write() {
    let mut world = by_version(World::listing("a").with(&cm("a"), "1").left_by_sap());
    expect_saps(&world);
    world.hash = None;
    world.expect_one_reload(Steady, &[NoHash]);
    expect_saps(&world);
}

#[test]
fn c2_4_valid_observed_config_is_honoured_until_the_content_changes_then_it_goes() {
    let a = cm("a");
    let mut world = by_version(World::listing("a").with(&a, "1").created());
    assert!(world.observed.is_some());
    world.expect_nothing();
    world.relabel(&a);
    world.expect_nothing();
    world.put(&a, "2");
    world.expect_one_reload(Steady, &[Changed(a.clone())]);
    expect_saps(&world);
    world.relabel(&a);
    world.expect_one_reload(Steady, &[Unwatched]);
}

#[test]
fn c2_4_honoured_observed_config_misses_no_appearance_disappearance_or_list_change() {
    let (a, b) = (cm("a"), cm("b"));
    let created =
        by_version(World::listing("a,b").using_optionally(&a).requiring(&b).with(&a, "1").created());

    let mut world = created.clone();
    world.delete(&a);
    world.expect_one_reload(Steady, &[Disappeared(a.clone())]);
    expect_saps(&world);

    let mut world = by_version(World::listing("a").using_optionally(&a).created());
    world.put(&a, "1");
    world.expect_one_reload(Steady, &[Appeared(a.clone())]);
    expect_saps(&world);

    // Nothing is recorded in this mode, so the next change of it would be missed if this one did not count.
    let mut world = created.clone();
    world.put(&b, "1");
    world.expect_one_reload(Steady, &[Appeared(b.clone())]);
    expect_saps(&world);

    let mut world = created;
    world.list("a,c", "");
    world.expect_one_reload(Rollout, &[Listed(cm("c")), Unlisted(b)]);
    expect_saps(&world);
}

#[test]
fn c2_4_observed_config_that_stands_for_nothing_goes_without_a_reload() {
    let mut world = by_version(World::listing("a").with(&cm("a"), "1")).created();
    let hash = world.hash.clone();
    world.observed = World::listing("a").with(&cm("a"), "1").created().observed;
    assert_eq!(world.ask(Steady).verdict, Verdict::Observe(None));
    world.apply(&Verdict::Observe(None));
    assert_eq!(world.hash, hash);
    expect_saps(&world);
}

#[test]
fn c2_4_observed_config_under_a_lost_key_cannot_be_honoured() {
    let mut world = by_version(World::listing("a").with(&cm("a"), "1").created());
    world.key = another_key();
    world.expect_one_reload(Steady, &[Unwatched]);
    expect_saps(&world);
}

#[test]
fn c2_4_a_required_object_that_is_missing_defers_nothing() {
    let (a, b) = (cm("a"), cm("b"));
    let mut world = by_version(World::listing("a,b").requiring(&b).with(&a, "1").with(&b, "1")).created();
    world.delete(&b);
    world.put(&a, "2");
    world.expect_one_reload(Steady, &[Unwatched]);
}

#[test]
fn c2_4_going_back_to_content_restarts_nothing() {
    let mut world = by_version(World::listing("a").with(&cm("a"), "1")).created();
    let hash = world.hash.clone();
    world.mode = HashMode::Content;
    world.expect_record_only();
    assert_eq!(world.hash, hash);
}

#[test]
fn c1_4_content_is_asked_for_only_where_it_is_needed() {
    let created = World::listing("a").with(&cm("a"), "1").created();
    let (hash, observed) = (created.hash.clone(), created.observed.clone());
    // Without the witness, which the version may prove right.
    let bare = observed.clone().map(|mut text| {
        let at = text.find('@').unwrap();
        text.replace_range(at..=at + 11, "");
        text
    });
    let content = Depth::Content(Keys::All);
    for (mode, hash, observed, expected) in [
        (HashMode::Content, None, None, &content),
        (HashMode::Version, hash.clone(), bare, &content),
        (HashMode::Version, hash.clone(), observed.clone(), &Depth::Version),
        (HashMode::Version, hash, None, &Depth::Version),
        (HashMode::Version, None, observed.clone(), &Depth::Version),
        (HashMode::Version, Some("another".into()), observed, &Depth::Version),
    ] {
        let mut world = created.clone();
        (world.mode, world.hash, world.observed) = (mode, hash, observed);
        let answer = world.with_input(Steady, |input| decide(input, &Lookups::new()));
        assert_eq!(answer, Answer::Lacks(vec![Query { object: cm("a"), depth: expected.clone() }]));
    }
}
