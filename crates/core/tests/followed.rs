//! Section 3: what is followed without being listed is added and removed silently, and neither opting in by it nor what
//! cannot be read of it restarts anything.

mod support;

use pod_reloader_core::admission::{Admission, Baseline, classify};
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::Cause::Changed;
use pod_reloader_core::decide::Context::{Rollout, Steady};
use pod_reloader_core::decide::Verdict;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::reference::{Keys, References};
use pod_reloader_core::workload::Workload;
use support::{World, cm};

fn following(objects: &[&ConfigRef]) -> References {
    References::default().following(objects.iter().map(|object| ((*object).clone(), Keys::All)))
}

/// A workload without a hash that follows these, which it requires.
fn world(objects: &[&ConfigRef]) -> World {
    let mut world = World::listing("");
    for object in objects {
        world = world.requiring(object).with(object, "1");
    }
    world.references = following(objects);
    world
}

#[test]
fn c3_a_write_that_only_adds_or_removes_what_is_followed_is_no_rollout() {
    let workload =
        |objects: &[&ConfigRef]| Workload { references: following(objects), ..Workload::default() };
    let (a, b) = (cm("a"), cm("b"));
    for (before, after) in [(&[][..], &[&a][..]), (&[&a], &[&a, &b]), (&[&a, &b], &[&a])] {
        let (old, new) = (workload(before), workload(after));
        for mode in [HashMode::Content, HashMode::Version] {
            let admission = classify(mode, &new, Some(&old), || false);
            assert_eq!(admission, Admission::Restore(Baseline::default()), "{before:?} {after:?}");
        }
    }
}

#[test]
fn c3_15_what_cannot_be_read_holds_up_no_adoption_and_is_recorded_silently_once_it_can_be() {
    let (a, lost) = (cm("a"), cm("lost"));
    let mut world = world(&[&a, &lost]);
    world.cut_off(&lost);
    assert_eq!(
        world.ask(Steady).verdict,
        Verdict::Undecided(vec![lost.clone()]),
        "at first it is asked again"
    );
    world.tolerates_unknown = true;
    world.expect_record_only();
    world.expect_nothing();
    world.put(&a, "2");
    world.expect_one_reload(Steady, &[Changed(a)]);
    world.reconnect(&lost);
    world.expect_record_only();
    world.put(&lost, "2");
    world.expect_one_reload(Steady, &[Changed(lost)]);
}

#[test]
fn c3_15_where_nothing_can_be_read_nothing_is_recorded() {
    let lost = cm("lost");
    let mut world = world(&[&lost]);
    world.tolerates_unknown = true;
    world.cut_off(&lost);
    assert_eq!(world.ask(Steady).verdict, Verdict::Undecided(vec![lost]));
}

#[test]
fn c3_15_a_rollout_records_that_it_was_not_read_so_that_it_counts_as_other_content_when_it_can_be() {
    let (a, lost) = (cm("a"), cm("lost"));
    let mut world = world(&[&a]);
    world.expect_record_only();
    world = world.with(&lost, "1");
    world.references = following(&[&a, &lost]);
    world.cut_off(&lost);
    world.tolerates_unknown = true;
    world.put(&a, "2");
    world.expect_one_reload(Rollout, &[Changed(a)]);
    world.reconnect(&lost);
    world.expect_one_reload(Steady, &[Changed(lost)]);
}

#[test]
fn c2_4_saps_value_covers_what_is_listed_and_what_is_only_followed_neither_sets_nor_changes_it() {
    let a = cm("a");
    for hash in [None, Some("h".to_owned())] {
        let mut world = world(&[&a]);
        world.mode = HashMode::Version;
        world.hash = hash;
        for context in [Steady, Rollout] {
            assert_eq!(world.ask(context).verdict, Verdict::Keep);
        }
        world.put(&a, "2");
        assert_eq!(world.ask(Steady).verdict, Verdict::Keep);
        world.cut_off(&a);
        assert_eq!(world.ask(Steady).verdict, Verdict::Keep);
    }
}
