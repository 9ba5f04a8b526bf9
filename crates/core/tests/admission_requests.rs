//! Sections 1 and 4: how a write is classified, from the old and the new object alone.

mod support;

use pod_reloader_core::admission::Admission::{self, Decide, LeaveAlone, Restore};
use pod_reloader_core::admission::{Baseline, classify};
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::Context::Rollout;
use pod_reloader_core::dialect::sap::{CONFIGMAPS, DISABLED, IGNORED, SECRETS};
use pod_reloader_core::kind::apps::DEPLOYMENT;
use pod_reloader_core::patch::Target;
use pod_reloader_core::workload::Workload;
use support::manifest::Manifest;

const OLD: Baseline<'_> = Baseline { hash: Some("h"), observed: Some("o") };
const NONE: Baseline<'_> = Baseline { hash: None, observed: None };

/// Opted in, with what the webhook put there.
fn ours() -> Manifest {
    Manifest::listing("a").hash("h").observed("o")
}

/// Not opted in.
fn bare() -> Manifest {
    Manifest::new()
}

#[track_caller]
fn update(old: &Workload, new: &Manifest, template_changed: bool, expected: Admission<'_>) {
    for mode in [HashMode::Content, HashMode::Version] {
        assert_eq!(classify(mode, &new.read(), Some(old), || template_changed), expected, "{mode:?}");
    }
}

#[track_caller]
fn create(new: &Manifest, expected: Admission<'_>) {
    for mode in [HashMode::Content, HashMode::Version] {
        let classified = classify(mode, &new.read(), None, || unreachable!("nothing to compare with"));
        assert_eq!(classified, expected, "{mode:?}");
    }
}

#[test]
fn c4_3_a_create_is_decided_from_the_live_configuration() {
    create(&Manifest::listing("a"), Decide(NONE, Rollout));
    create(&bare().annotated(SECRETS, "s"), Decide(NONE, Rollout));
    create(&Manifest::listing("Not_Valid"), Decide(NONE, Rollout));
}

#[test]
fn c3_19_on_a_create_neither_hash_nor_observed_config_counts() {
    create(&ours(), Decide(NONE, Rollout));
}

#[test]
fn c1_a_create_that_is_not_opted_in_labelled_or_being_deleted_is_left_alone() {
    create(&bare(), LeaveAlone);
    create(&Manifest::listing(" , "), LeaveAlone);
    create(&bare().hash("h").observed("o").trigger("t"), LeaveAlone);
    create(&ours().labelled(IGNORED, "true"), LeaveAlone);
    create(&ours().labelled(DISABLED, "true"), LeaveAlone);
    create(&ours().deleting(), LeaveAlone);
    create(&ours().labelled(IGNORED, "false"), Decide(NONE, Rollout));
}

#[test]
fn c4_3_an_update_of_the_template_or_of_the_set_of_references_is_decided() {
    let old = ours().read();
    update(&old, &ours(), true, Decide(OLD, Rollout));
    for lists in
        [Manifest::listing("a,b"), Manifest::listing("b"), Manifest::listing("a").annotated(SECRETS, "a")]
    {
        update(&old, &lists, false, Decide(OLD, Rollout));
    }
    update(&old, &bare().annotated(SECRETS, "a"), false, Decide(OLD, Rollout));
}

#[test]
fn c4_3_any_other_update_gets_the_old_objects_annotations_back_without_a_read() {
    let old = ours().read();
    for new in [
        ours(),
        ours().labelled("team", "x").annotated("note", "y"),
        ours().at("/spec/replicas", 5.into()),
        ours().annotated(CONFIGMAPS, " a ,, "),
        Manifest::listing("a"),
        Manifest::listing("a").hash("another").observed("another"),
        ours().trigger("t"),
    ] {
        update(&old, &new, false, Restore(OLD));
    }
    update(&Manifest::listing("a").read(), &ours(), false, Restore(NONE));
}

#[test]
fn c1_2_order_and_repetition_of_the_lists_are_a_change_only_where_saps_hash_counts_them() {
    let old = Manifest::listing("a,b").hash("h").observed("o").read();
    for list in ["b,a", "a,b,a", "a,a,b"] {
        let new = Manifest::listing(list).read();
        assert_eq!(classify(HashMode::Content, &new, Some(&old), || false), Restore(OLD), "{list}");
        let by_version = classify(HashMode::Version, &new, Some(&old), || false);
        assert_eq!(by_version, Decide(OLD, Rollout), "{list}");
    }
    update(&old, &Manifest::listing(" a, ,b"), false, Restore(OLD));
}

#[test]
fn c1_2_the_write_that_opts_in_is_decided() {
    update(&bare().read(), &Manifest::listing("a"), false, Decide(NONE, Rollout));
    // What an earlier opting out left on the template counts: opting in again restarts nothing then.
    let kept = Baseline { hash: Some("h"), observed: None };
    update(&bare().hash("h").read(), &ours(), false, Decide(kept, Rollout));
}

#[test]
fn c3_18_the_write_that_opts_out_keeps_the_hash_and_observed_config_goes() {
    let kept = Restore(Baseline { hash: Some("h"), observed: None });
    for template_changed in [false, true] {
        for new in [bare(), Manifest::listing(" ,"), bare().hash("another").observed("o")] {
            update(&ours().read(), &new, template_changed, kept);
        }
    }
}

#[test]
fn c1_4_an_update_between_versions_that_are_not_opted_in_is_left_alone() {
    let old = bare().hash("h").observed("o");
    for new in [bare(), old.clone(), bare().hash("another"), bare().trigger("t")] {
        update(&old.read(), &new, true, LeaveAlone);
    }
}

#[test]
fn c1_3_the_write_that_sets_the_label_keeps_both_annotations() {
    for label in [IGNORED, DISABLED] {
        for template_changed in [false, true] {
            let new = Manifest::listing("a,b").labelled(label, "true");
            update(&ours().read(), &new, template_changed, Restore(OLD));
        }
    }
}

#[test]
fn c1_3_a_labelled_workload_is_left_alone() {
    let old = ours().labelled(IGNORED, "true").read();
    for new in [ours(), Manifest::listing("b"), bare(), Manifest::listing("a").hash("x")] {
        update(&old, &new.clone().labelled(IGNORED, "true"), true, LeaveAlone);
        update(&old, &new.labelled(DISABLED, "true"), true, LeaveAlone);
    }
    update(&bare().read(), &ours().labelled(IGNORED, "true"), true, LeaveAlone);
}

#[test]
fn c1_3_the_write_that_removes_the_label_is_an_ordinary_write() {
    let old = ours().labelled(IGNORED, "true").labelled(DISABLED, "true").read();
    update(&old, &ours(), false, Restore(OLD));
    update(&old, &ours(), true, Decide(OLD, Rollout));
    update(&old, &Manifest::listing("b"), false, Decide(OLD, Rollout));
    update(&old, &bare(), false, Restore(Baseline { hash: Some("h"), observed: None }));
    // One of the two is enough.
    update(&old, &ours().labelled(DISABLED, "true"), true, LeaveAlone);
}

#[test]
fn c1_5_an_update_of_a_workload_that_is_being_deleted_is_left_alone() {
    for new in [ours(), Manifest::listing("b"), bare()] {
        update(&ours().read(), &new.deleting(), true, LeaveAlone);
    }
}

#[test]
fn the_templates_are_compared_only_where_it_matters() {
    let compare = || unreachable!("it does not matter");
    let old = ours().read();
    for new in [bare(), Manifest::listing("b"), ours().labelled(IGNORED, "true"), ours().deleting()] {
        classify(HashMode::Content, &new.read(), Some(&old), compare);
    }
    classify(HashMode::Content, &bare().read(), Some(&bare().read()), compare);
}

/// To the end: the patch is applied.
#[test]
fn c3_19_somebody_writes_without_the_hash_with_another_one_or_with_copied_annotations_causes_nothing() {
    let old = ours().read();
    for written in [
        Manifest::listing("a"),
        Manifest::listing("a").hash("h"),
        Manifest::listing("a").observed("o"),
        ours().hash("another"),
        ours().observed("from another workload").hash("from another workload"),
        ours().trigger("h"),
        ours(),
    ] {
        let new = written.read();
        let Restore(Baseline { hash, observed }) = classify(HashMode::Content, &new, Some(&old), || false)
        else {
            unreachable!("nothing of ours changed");
        };
        let target = Target { hash: hash.map(str::to_owned), observed: observed.map(str::to_owned) };
        let mut stored = written.clone();
        json_patch::patch(&mut stored.0, &target.admission_patch(DEPLOYMENT, &new)).unwrap();
        assert_eq!(stored, ours(), "{written:?}");
    }
}

/// `kubectl rollout undo` writes the template of an earlier revision, and the annotations that Kubernetes kept with it.
#[test]
fn c3_23_rollout_undo_is_decided_from_the_current_annotations_and_none_if_only_the_hash_differed() {
    let old = ours().read();
    let undone = Manifest::listing("a").hash("of the earlier revision").observed("of the earlier revision");
    update(&old, &undone, true, Decide(OLD, Rollout));
    update(&old, &undone, false, Restore(OLD));
    // The lists of that time come back, too.
    let undone = Manifest::listing("b").hash("of the earlier revision").observed("of the earlier revision");
    update(&old, &undone, false, Decide(OLD, Rollout));
}
