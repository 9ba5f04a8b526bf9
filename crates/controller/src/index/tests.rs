use super::*;
use pod_reloader_core::annotation::SETTLE_WINDOW;
use pod_reloader_core::dialect::sap::{CONFIGMAPS, IGNORED};
use pod_reloader_core::digest::Digest;
use pod_reloader_core::kind::apps::DEPLOYMENT;

const WINDOW: Duration = Duration::from_secs(2);

fn workload(name: &str) -> Arc<WorkloadRef> {
    of("ns", name)
}

fn of(namespace: &str, name: &str) -> Arc<WorkloadRef> {
    Arc::new(WorkloadRef { kind: DEPLOYMENT, namespace: namespace.into(), name: name.into() })
}

fn read(object: &serde_json::Value) -> Workload {
    Workload::read(DEPLOYMENT, &object.to_string()).unwrap().placed_in("ns")
}

fn listing(configmaps: &str) -> Workload {
    read(&serde_json::json!({"metadata": {"annotations": {CONFIGMAPS: configmaps}}}))
}

fn requiring(configmaps: &str, required: &str) -> Workload {
    read(&serde_json::json!({
        "metadata": {"annotations": {CONFIGMAPS: configmaps}},
        "spec": {"template": {"spec": {"containers": [{"envFrom": [{"configMapRef": {"name": required}}]}]}}}
    }))
}

fn configmap(name: &str) -> ConfigRef {
    ConfigRef::configmap("ns", name)
}

fn new_index() -> Index {
    Index::new(WINDOW, true, 1000)
}

fn version(version: &str) -> Presence {
    Presence::Version(ConfigVersion::new("u", version).into())
}

/// Some digest.
fn digest(content: u8) -> Option<Digest> {
    Digest::parse(&format!("AAAAAAAAAAAAAAAAAAA{}AA", char::from(b'A' + content)))
}

/// Another version of an object is seen, and read to have that content.
fn change(index: &mut Index, name: &str, to: &str, content: u8, at: Instant) -> Vec<Arc<WorkloadRef>> {
    let affected = index.apply_object(&configmap(name), &version(to), at);
    assert_eq!(affected, Affected { compare: true, ..Affected::default() });
    index.compare_object(&configmap(name), digest(content), false)
}

/// An index in which workload `a` lists `x` and `y`, both seen, all quiet since long.
fn settled() -> (Index, Instant) {
    let (mut index, start) = (new_index(), Instant::now());
    index.apply_workload(&workload("a"), listing("x,y"), start);
    index.apply_object(&configmap("x"), &version("1"), start);
    index.apply_object(&configmap("y"), &version("1"), start);
    index.learn(&configmap("x"), version("1"), digest(0));
    index.learn(&configmap("y"), version("1"), digest(0));
    index.recorded(&configmap("x"), &workload("a"));
    index.recorded(&configmap("y"), &workload("a"));
    index.settled(&workload("a"), start);
    (index, start + Duration::from_hours(1))
}

#[test]
fn c5_2_nothing_is_kept_of_objects_that_nobody_refers_to() {
    let (mut index, now) = settled();
    let affected = index.apply_object(&configmap("other"), &version("1"), now);
    assert_eq!(affected, Affected::default());
    assert_eq!(index.object_count(), 2);

    let (_, orphans) = index.apply_workload(&workload("a"), listing("y"), now);
    assert_eq!(orphans, [configmap("x")]);
    assert_eq!(index.delete_workload(&workload("a")), [configmap("y")]);
    assert_eq!((index.object_count(), index.workload_count()), (0, 0));
}

#[test]
fn c1_3_a_workload_that_is_ignored_is_dropped() {
    let (mut index, now) = settled();
    let object =
        serde_json::json!({"metadata": {"labels": {IGNORED: "true"}, "annotations": {CONFIGMAPS: "x"}}});
    let (applied, orphans) = index.apply_workload(&workload("a"), read(&object), now);
    assert_eq!(applied, Applied::Unmanaged);
    assert_eq!(orphans.len(), 2);
}

#[test]
fn c5_3_what_a_reconcile_brings_back_takes_the_place_of_what_it_began_with_only() {
    let (mut index, now) = (new_index(), Instant::now());
    index.apply_workload(&workload("a"), listing("x"), now);
    let began_with = index.snapshot(&workload("a")).unwrap().view;
    assert!(index.is_latest(&began_with));
    index.apply_workload(&workload("a"), listing("x,y"), now);
    assert!(!index.is_latest(&began_with), "the watch reported another version");
    let latest = index.snapshot(&workload("a")).unwrap().view;
    index.delete_workload(&workload("a"));
    assert!(!index.is_latest(&latest), "it must not come back");
}

#[test]
fn c3_4_the_first_news_of_a_required_object_wakes_those_who_may_wait_for_it() {
    let (mut index, now) = (new_index(), Instant::now());
    index.apply_workload(&workload("a"), requiring("x", "needed"), now);
    let affected = index.apply_object(&configmap("needed"), &version("1"), now);
    assert_eq!(affected.at_once, [workload("a")]);
}

#[test]
fn a_change_concerns_those_who_list_the_object_and_a_repetition_nobody() {
    let (mut index, now) = settled();
    index.apply_workload(&workload("b"), listing("y"), now);
    assert_eq!(change(&mut index, "y", "2", 1, now), [workload("a"), workload("b")]);
    assert_eq!(index.apply_object(&configmap("y"), &version("2"), now), Affected::default());
    assert_eq!(change(&mut index, "x", "2", 1, now), [workload("a")]);
}

#[test]
fn c3_1_a_write_that_leaves_the_content_as_it_was_delays_nothing() {
    let (mut index, now) = settled();
    change(&mut index, "x", "2", 1, now);
    for second in 1..20 {
        let at = now + Duration::from_secs(second);
        // One that waited for the comparison is reported, and is due when it was.
        assert_eq!(change(&mut index, "y", &format!("again-{second}"), 0, at), [workload("a")]);
        assert_eq!(change(&mut index, "x", &format!("again-{second}"), 1, at), [workload("a")]);
        assert_eq!(index.due(&workload("a")), Some(now + WINDOW));
    }
    let later = now + Duration::from_mins(1);
    index.settled(&workload("a"), later);
    assert!(change(&mut index, "x", "and again", 1, later).is_empty());
}

#[test]
fn c3_1_content_that_is_still_being_compared_counts_as_moved() {
    let (mut index, now) = settled();
    index.apply_object(&configmap("x"), &version("2"), now);
    assert_eq!(index.due(&workload("a")), Some(now + WINDOW));
    index.compare_object(&configmap("x"), digest(0), false);
    assert!(index.due(&workload("a")).unwrap() < now);
}

#[test]
fn c5_7_a_change_that_one_workload_read_early_and_that_is_taken_back_is_news_to_it() {
    let (mut index, now) = settled();
    // It read other content before the watch reported it; by the time it does, that is gone again.
    index.learn(&configmap("x"), version("2"), digest(1));
    assert_eq!(change(&mut index, "x", "3", 0, now), [workload("a")]);
}

#[test]
fn c3_1_content_that_cannot_be_compared_counts_as_changed() {
    let (mut index, now) = settled();
    index.apply_object(&configmap("x"), &version("2"), now);
    assert_eq!(index.compare_object(&configmap("x"), None, false), [workload("a")]);
    assert_eq!(index.due(&workload("a")), Some(now + WINDOW));
    index.forget_digests();
    assert_eq!(change(&mut index, "y", "2", 0, now), [workload("a")]);
}

#[test]
fn c2_4_where_content_does_not_count_every_version_is_a_change() {
    let (mut index, now) = (Index::new(WINDOW, false, 1000), Instant::now());
    index.apply_workload(&workload("a"), listing("x"), now);
    index.apply_object(&configmap("x"), &version("1"), now);
    let affected = index.apply_object(&configmap("x"), &version("2"), now);
    assert_eq!(affected, Affected { to_settle: vec![workload("a")], ..Affected::default() });
}

#[test]
fn c3_13_what_appeared_and_went_before_it_was_recorded_stays_the_first_version() {
    let (mut index, now) = settled();
    for (recorded, expected) in [(false, "2"), (true, "3")] {
        index.recorded(&configmap("x"), &workload("a"));
        index.apply_object(&configmap("x"), &Presence::Absent, now);
        index.apply_object(&configmap("x"), &version("2"), now);
        if recorded {
            index.recorded(&configmap("x"), &workload("a"));
        }
        index.apply_object(&configmap("x"), &Presence::Absent, now);
        index.apply_object(&configmap("x"), &version("3"), now);
        let first_seen = index.snapshot(&workload("a")).unwrap().references[0].first_seen.clone();
        assert_eq!(first_seen.unwrap().resource_version, expected);
    }
}

#[test]
fn c5_7_what_a_read_says_before_the_watches_do_is_still_news_to_the_others() {
    let (mut index, now) = settled();
    index.learn(&configmap("x"), version("2"), digest(1));
    assert!(index.apply_object(&configmap("x"), &version("2"), now).compare);
    assert_eq!(index.compare_object(&configmap("x"), digest(1), false), [workload("a")]);
}

#[test]
fn c3_13_an_appearance_is_reconciled_at_once_and_its_first_version_remembered() {
    let (mut index, now) = settled();
    let first_seen = |index: &Index| {
        let snapshot = index.snapshot(&workload("a")).unwrap();
        snapshot.references[0].first_seen.clone().map(|version| version.resource_version.clone())
    };
    index.apply_object(&configmap("x"), &Presence::Absent, now);
    let affected = index.apply_object(&configmap("x"), &version("2"), now);
    assert_eq!(affected, Affected { at_once: vec![workload("a")], ..Affected::default() });
    change(&mut index, "x", "3", 1, now);
    assert_eq!(first_seen(&index).as_deref(), Some("2"));
    // A version that no pod can have started with does not count.
    index.not_startable(&configmap("x"), &ConfigVersion::new("u", "2"));
    assert_eq!(first_seen(&index), None);
    change(&mut index, "x", "4", 2, now);
    assert_eq!(first_seen(&index).as_deref(), Some("4"));
    // Nor is one forgotten that was deleted before it was recorded.
    index.apply_object(&configmap("x"), &Presence::Absent, now);
    index.apply_object(&configmap("x"), &version("5"), now);
    assert_eq!(first_seen(&index).as_deref(), Some("4"));
}

#[test]
fn c5_2_no_namespace_has_more_than_a_third_of_the_room_and_all_together_no_more_than_there_is() {
    let (mut index, now) = (Index::new(WINDOW, true, 9), Instant::now());
    let listing_in = |namespace: &str, lists| listing(lists).placed_in(namespace);
    let mut apply = |workload: Arc<WorkloadRef>, lists| {
        index.apply_workload(&workload, listing_in(&workload.namespace, lists), now).0
    };
    assert_eq!(apply(of("greedy", "a"), "a,b,c,d"), Applied::NoRoom);
    assert_eq!(apply(of("greedy", "b"), "a,b,c"), Applied::Managed);
    assert_eq!(apply(of("greedy", "c"), "a,b,c"), Applied::Managed, "they are there already");
    assert_eq!(apply(of("greedy", "d"), "d"), Applied::NoRoom);
    assert_eq!(apply(of("second", "a"), "a,b,c"), Applied::Managed);
    assert_eq!(apply(of("third", "a"), "a,b"), Applied::Managed);
    assert_eq!(apply(of("fourth", "a"), "a,b"), Applied::NoRoom);
    assert_eq!(apply(of("fourth", "a"), "a"), Applied::Managed);
    // A workload that is deleted makes room.
    index.delete_workload(&of("second", "a"));
    assert_eq!(
        index.apply_workload(&of("fourth", "b"), listing_in("fourth", "a,b,c"), now).0,
        Applied::Managed
    );
    // One that no longer fits is dropped as a whole.
    assert_eq!(
        index.apply_workload(&of("fourth", "b"), listing_in("fourth", "a,b,c,d"), now).0,
        Applied::NoRoom
    );
    assert!(!index.contains(&of("fourth", "b")));
}

#[test]
fn c3_4_what_only_the_template_requires_matters_when_it_comes_or_goes() {
    let (mut index, now) = (new_index(), Instant::now());
    index.apply_workload(&workload("a"), requiring("x", "needed"), now);
    index.learn(&configmap("needed"), version("1"), None);
    assert_eq!(index.apply_object(&configmap("needed"), &version("2"), now), Affected::default());
    let affected = index.apply_object(&configmap("needed"), &Presence::Absent, now);
    assert_eq!(affected, Affected { at_once: vec![workload("a")], ..Affected::default() });
}

#[test]
fn c3_1_a_workload_is_due_when_its_references_have_been_quiet_for_the_window() {
    let (mut index, now) = settled();
    change(&mut index, "x", "2", 1, now);
    assert_eq!(index.due(&workload("a")), Some(now + WINDOW));
    let later = now + Duration::from_secs(1);
    change(&mut index, "y", "2", 1, later);
    assert_eq!(index.due(&workload("a")), Some(later + WINDOW));
}

#[test]
fn c3_1_a_workload_is_due_after_a_settle_window_of_its_own() {
    let (mut index, now) = settled();
    let object = serde_json::json!({"metadata": {"annotations": {CONFIGMAPS: "x", SETTLE_WINDOW: "1m"}}});
    index.apply_workload(&workload("own"), read(&object), now);
    change(&mut index, "x", "2", 1, now);
    assert_eq!(index.due(&workload("a")), Some(now + WINDOW));
    assert_eq!(index.due(&workload("own")), Some(now + Duration::from_mins(1)));
}

#[test]
fn c3_1_a_steady_stream_of_changes_is_cut_off_after_five_windows() {
    let (mut index, now) = settled();
    for step in 0..30 {
        let at = now + Duration::from_secs(step);
        change(&mut index, "x", &format!("s{step}"), u8::try_from(step % 2).unwrap() + 1, at);
        let due = index.due(&workload("a")).unwrap();
        assert!(due <= now + WINDOW * 5, "{step}");
        if step < 8 {
            assert_eq!(due, at + WINDOW);
        }
    }
    // Once reconciled, the next change starts a window of its own.
    let reconciled = now + Duration::from_secs(30);
    index.settled(&workload("a"), reconciled);
    let at = now + Duration::from_secs(31);
    change(&mut index, "x", "last", 5, at);
    assert_eq!(index.due(&workload("a")), Some(at + WINDOW));
}

#[test]
fn a_change_during_a_reconcile_is_not_taken_for_settled() {
    let (mut index, now) = settled();
    change(&mut index, "x", "2", 1, now + Duration::from_secs(1));
    index.settled(&workload("a"), now);
    assert!(index.snapshot(&workload("a")).unwrap().references.iter().any(|r| r.is_recent));
}

#[test]
fn the_first_event_of_an_object_has_its_users_reconciled_again() {
    let (mut index, now) = (new_index(), Instant::now());
    index.apply_workload(&workload("a"), listing("x"), now);
    let affected = index.apply_object(&configmap("x"), &version("1"), now);
    assert_eq!(affected, Affected { at_once: vec![workload("a")], ..Affected::default() });
}

#[test]
fn what_a_read_found_does_not_override_what_a_watch_said() {
    let (mut index, now) = settled();
    index.apply_object(&configmap("x"), &Presence::Absent, now);
    index.learn(&configmap("x"), version("1"), digest(0));
    let snapshot = index.snapshot(&workload("a")).unwrap();
    assert_eq!(snapshot.references[0].presence, Some(Presence::Absent));
}

#[test]
fn c5_7_what_a_relist_does_not_list_any_more_is_gone() {
    let (mut index, _) = settled();
    let everywhere = Coverage { kind: ConfigKind::ConfigMap, namespace: None };
    index.begin_objects(&everywhere);
    index.list_object(&everywhere, &configmap("y"));
    assert_eq!(index.end_objects(&everywhere), [configmap("x")]);

    let elsewhere = Coverage { kind: DEPLOYMENT, namespace: Some("other".into()) };
    index.begin_workloads(&elsewhere);
    assert!(index.end_workloads(&elsewhere).is_empty());
    let here = Coverage { kind: DEPLOYMENT, namespace: Some("ns".into()) };
    index.begin_workloads(&here);
    assert_eq!(index.end_workloads(&here), [workload("a")]);
}

#[test]
fn c5_2_a_namespace_cannot_take_the_room_of_another_by_references_into_it() {
    use pod_reloader_core::reference::{Keys, References};
    let (mut index, now) = (Index::new(WINDOW, true, 9), Instant::now());
    let following = |names: &[&str]| Workload {
        references: References::default()
            .following(names.iter().map(|name| (ConfigRef::configmap("victim", *name), Keys::All))),
        ..Workload::default()
    };
    let (first, _) = index.apply_workload(&of("greedy", "a"), following(&["a", "b", "c"]), now);
    let (second, _) = index.apply_workload(&of("greedy", "b"), following(&["d", "e", "f"]), now);
    let (of_victim, _) = index.apply_workload(&of("victim", "w"), following(&["own"]), now);
    assert_eq!((first, second, of_victim), (Applied::Managed, Applied::NoRoom, Applied::Managed));
    // What others go on using is charged to them.
    let (shared, _) = index.apply_workload(&of("victim", "x"), following(&["a", "b"]), now);
    index.delete_workload(&of("greedy", "a"));
    let (again, _) = index.apply_workload(&of("greedy", "b"), following(&["d", "e", "f"]), now);
    let (fourth, _) = index.apply_workload(&of("victim", "y"), following(&["c"]), now);
    assert_eq!((shared, again, fourth), (Applied::Managed, Applied::Managed, Applied::NoRoom));
    assert_eq!(index.namespace_count(), 2);
    for (namespace, name) in [("greedy", "b"), ("victim", "w"), ("victim", "x")] {
        index.delete_workload(&of(namespace, name));
    }
    assert_eq!((index.namespace_count(), index.object_count()), (0, 0));
    let (room, _) = index.apply_workload(&of("victim", "y"), following(&["c", "d", "e"]), now);
    assert_eq!(room, Applied::Managed, "nothing is charged any more");
}

/// One of its users can have seen what it held meanwhile, by the webhook, without any read of the reconciler's.
#[test]
fn c3_10_content_that_is_back_after_the_object_was_gone_is_news() {
    let (mut index, now) = settled();
    index.apply_object(&configmap("x"), &Presence::Absent, now);
    index.apply_object(&configmap("x"), &version("2"), now);
    index.settled(&workload("a"), now);
    assert_eq!(change(&mut index, "x", "3", 0, now), [workload("a")]);
}
