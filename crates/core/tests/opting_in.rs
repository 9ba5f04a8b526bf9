//! 3.22 and 3.24 to 3.27: what is followed comes and goes with words, labels and marks, and none of that
//! restarts anything.

mod support;

#[path = "support/shop.rs"]
mod shop;
#[path = "support/town.rs"]
mod town;

use Outcome::{NotOurs, Nothing, Recorded, Reloaded};
use pod_reloader_core::decide::Cause::NoHash;
use pod_reloader_core::dialect::own::{AUTO, Auto, EXCLUDE_CONFIGMAPS};
use pod_reloader_core::dialect::sap::CONFIGMAPS;
use serde_json::json;
use shop::{
    changed, container, expect_followed, expect_not_followed, followed, managed_anyway, plain, put, running,
};
use support::{cm, secret};
use town::{FOLLOW, IGNORE, Outcome, Town, UNMARKED};

#[test]
fn c3_24_opting_in_by_the_lists_gives_the_template_its_hash() {
    let mut town = running(plain());
    assert_eq!(town.reconcile(), NotOurs);
    assert!(town.write(plain().annotated(CONFIGMAPS, "conf")), "the write itself carries it");
    assert!(town.hash().is_some());
    assert_eq!(town.reconcile(), Nothing);
    let mut unseen = self::running(plain().annotated(CONFIGMAPS, "conf"));
    assert_eq!(unseen.reconcile(), Reloaded(vec![NoHash]));
}

/// The ways to be opted in without a write of the template, each with what it has followed.
fn opt_in(town: &mut Town, way: usize) -> &'static [&'static str] {
    let (both, conf, login) =
        (&["configmap/conf", "secret/login"][..], &["configmap/conf"][..], &["secret/login"][..]);
    match way {
        0 => {
            assert!(!town.write(town.manifest.clone().annotated(AUTO, "true")));
            both
        }
        1 => {
            assert!(!town.write(town.manifest.clone().annotated(AUTO, "secrets")));
            login
        }
        2 => {
            town.label = Auto::Both;
            both
        }
        3 => {
            town.label = Auto::ConfigMaps;
            conf
        }
        4 => {
            town.mark(&cm("conf"), FOLLOW);
            conf
        }
        _ => {
            town.mark(&secret("login"), FOLLOW);
            login
        }
    }
}

#[test]
fn c3_25_opting_in_in_any_other_way_is_recorded_and_the_next_change_that_counts_is_one_reload() {
    for way in 0..6 {
        let mut town = running(plain());
        let expected = opt_in(&mut town, way);
        assert_eq!((town.reconcile(), town.hash()), (Recorded, None), "{way}");
        assert_eq!(followed(&town), expected, "{way}");
        put(&mut town, "1", "2");
        assert_eq!((town.reconcile(), town.hash()), (Nothing, None), "{way}: another key");
        put(&mut town, "2", "2");
        let has_conf = expected.contains(&"configmap/conf");
        assert_eq!(town.reconcile(), if has_conf { changed(&cm("conf")) } else { Nothing }, "{way}");
        town.put(&secret("login"), &[("user", "v")]);
        let has_login = expected.contains(&"secret/login");
        assert_eq!(town.reconcile(), if has_login { changed(&secret("login")) } else { Nothing }, "{way}");
    }
}

#[test]
fn c3_25_the_hash_comes_with_the_owners_next_rollout_and_c3_22_nothing_is_left_to_do() {
    for way in 0..6 {
        let mut town = running(plain());
        opt_in(&mut town, way);
        assert_eq!(town.reconcile(), Recorded);
        let records = town.records();
        assert!(!town.write(town.manifest.clone().annotated("note", "n")), "{way}: no rollout of theirs");
        assert_eq!(town.hash(), None);
        assert!(town.write(town.manifest.clone().template_annotated("theirs", "1")));
        assert!(town.hash().is_some(), "{way}");
        assert_eq!((town.reconcile(), town.records()), (Nothing, records), "{way}");
    }
}

#[test]
fn c3_25_a_create_gets_its_hash_at_once() {
    for (value, label) in [("true", Auto::Off), ("secrets", Auto::Off), ("", Auto::Both), ("", Auto::Secrets)]
    {
        let mut town = running(if value.is_empty() { plain() } else { plain().annotated(AUTO, value) });
        town.label = label;
        town.create();
        assert!(town.hash().is_some(), "{value} {label:?}");
        assert_eq!(town.reconcile(), Nothing, "{value} {label:?}");
    }
    let mut out = running(plain().annotated(AUTO, "false"));
    out.label = Auto::Both;
    out.create();
    assert_eq!((out.hash(), out.reconcile()), (None, NotOurs));
}

/// One that the workload had under lists once, say: what it stands for nobody knows.
#[test]
fn c3_25_a_hash_that_is_there_already_is_kept() {
    for way in 0..6 {
        let mut town = running(plain().hash(&"0".repeat(64)));
        opt_in(&mut town, way);
        assert_eq!((town.reconcile(), town.hash()), (Recorded, Some("0".repeat(64))), "{way}");
        assert_eq!(town.reconcile(), Nothing, "{way}");
        assert!(town.write(town.manifest.clone().template_annotated("theirs", "1")));
        assert_ne!(town.hash(), Some("0".repeat(64)), "3.22: their rollout carries the proper one");
        assert_eq!(town.reconcile(), Nothing, "{way}");
    }
}

#[test]
fn c3_26_what_is_followed_appears_and_vanishes_silently_by_marks_labels_and_exclude_lists() {
    type Turn = fn(&mut Town);
    let turns: [(Turn, Turn); 5] = [
        (|town| town.mark(&cm("conf"), FOLLOW), |town| town.mark(&cm("conf"), UNMARKED)),
        (|town| town.label = Auto::Both, |town| town.label = Auto::Off),
        (|town| town.label = Auto::ConfigMaps, |town| town.label = Auto::Secrets),
        (
            |town| assert!(!town.write(town.manifest.clone().annotated(AUTO, "true"))),
            |town| assert!(!town.write(town.manifest.clone().annotated(AUTO, "secrets"))),
        ),
        (
            |town| {
                let on = town.manifest.clone().annotated(AUTO, "true");
                assert!(!town.write(on.annotated(EXCLUDE_CONFIGMAPS, "c")));
            },
            |town| assert!(!town.write(town.manifest.clone().annotated(EXCLUDE_CONFIGMAPS, "c*"))),
        ),
    ];
    for (at, (appear, vanish)) in turns.into_iter().enumerate() {
        let mut town = managed_anyway();
        for round in 0..3 {
            appear(&mut town);
            assert_eq!(town.reconcile(), Recorded, "{at}");
            expect_followed(&mut town, &format!("followed {round}"));
            vanish(&mut town);
            assert_eq!(town.reconcile(), Recorded, "{at}");
            expect_not_followed(&mut town, &format!("not followed {round}"));
        }
    }
}

/// The hash of other times is kept when a workload is adopted, and pods do not run with what it stands for.
#[test]
fn c3_3_a_change_back_to_what_a_kept_hash_stands_for_is_a_reload_as_well() {
    let mut town = running(plain().annotated(AUTO, "configmaps"));
    town.create();
    let of_the_first = town.hash();
    assert!(!town.write(town.manifest.clone().annotated(AUTO, "false")));
    put(&mut town, "2", "1");
    assert!(town.write(town.manifest.clone().template_annotated("theirs", "1")), "pods run with the second");
    assert!(!town.write(town.manifest.clone().annotated(AUTO, "configmaps")));
    assert_eq!((town.reconcile(), town.hash()), (Recorded, of_the_first.clone()), "adopted");
    put(&mut town, "1", "1");
    assert_eq!(town.reconcile(), changed(&cm("conf")));
    assert_ne!(town.hash(), of_the_first, "pods that run with the second are to be rolled out");
}

#[test]
fn c3_26_where_nothing_else_is_followed_the_last_mark_takes_observed_config_along() {
    for (has_hash, is_ignored) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut town = running(plain());
        town.mark(&cm("conf"), FOLLOW);
        assert_eq!(town.reconcile(), Recorded);
        if has_hash {
            put(&mut town, "2", "1");
            assert_eq!(town.reconcile(), changed(&cm("conf")));
        }
        let hash = town.hash();
        town.mark(&cm("conf"), if is_ignored { IGNORE } else { UNMARKED });
        assert_eq!((town.reconcile(), town.records().len(), town.hash()), (Recorded, 0, hash));
        put(&mut town, "3", "3");
        assert_eq!(town.reconcile(), NotOurs);
        town.mark(&cm("conf"), FOLLOW);
        assert_eq!(town.reconcile(), Recorded, "adopted again");
        expect_followed(&mut town, "4");
    }
}

#[test]
fn c3_27_a_new_volume_another_key_or_one_use_less_comes_with_its_hash_in_the_owners_rollout() {
    let volume = |name: &str| json!([{"name": "v", "configMap": {"name": name}}]);
    let mut with_volume = container();
    with_volume["volumeMounts"] = json!([{"name": "v", "mountPath": "/m"}]);
    let mut other_key = container();
    other_key["env"][0]["valueFrom"]["configMapKeyRef"]["key"] = json!("other");
    let mut one_less = container();
    one_less["envFrom"] = json!([]);
    for (template, expected) in [
        (json!({"containers": [with_volume], "volumes": volume("new")}), 3),
        (json!({"containers": [with_volume], "volumes": volume("conf")}), 2),
        (json!({"containers": [other_key]}), 2),
        (json!({"containers": [one_less]}), 1),
    ] {
        for label in [Auto::Off, Auto::Both] {
            let words = if label == Auto::Off { plain().annotated(AUTO, "true") } else { plain() };
            let mut town = running(words);
            town.label = label;
            town.put(&cm("new"), &[("a", "1")]);
            town.create();
            let hash = town.hash();
            let write = town.manifest.clone().at("/spec/template/spec", template.clone());
            assert!(town.write(write));
            assert!(town.hash().is_some() && town.hash() != hash, "{template} {label:?}");
            assert_eq!((followed(&town).len(), town.reconcile()), (expected, Nothing), "{template}");
            put(&mut town, "1", "2");
            let counts = expected != 3 && expected != 1;
            assert_eq!(town.reconcile(), if counts { changed(&cm("conf")) } else { Nothing }, "{template}");
        }
    }
}
