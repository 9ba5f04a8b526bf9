//! 5.5: patches that are guarded by tests on what the decision read.

mod support;

use pod_reloader_core::annotation::{CONFIG_HASH, OBSERVED_CONFIG};
use pod_reloader_core::dialect::sap::{CONFIGMAPS, DISABLED, IGNORED, SECRETS};
use pod_reloader_core::guard::Guard;
use pod_reloader_core::kind::apps::DEPLOYMENT;
use pod_reloader_core::patch::Target;
use pod_reloader_core::workload::Workload;
use serde_json::{Value, json};
use support::manifest::{Manifest, apply_guarded};

fn target() -> Target {
    Target { hash: Some("h".into()), observed: Some("o".into()) }
}

fn patch_for(manifest: &Manifest) -> String {
    let text = manifest.0.to_string();
    let guard = Guard::of(DEPLOYMENT, &text).expect("a workload");
    target().guarded_patch(&manifest.read(), &guard).expect("something differs")
}

/// A manifest with all that a decision reads.
fn full() -> Manifest {
    let mut manifest = Manifest::listing("a,b")
        .annotated(SECRETS, "s")
        .observed("before")
        .trigger("t")
        .labelled("app", "web")
        .hash("before");
    manifest.0["metadata"]["uid"] = json!("u");
    manifest
}

type Edit = dyn Fn(&mut Value);

fn edited(manifest: &Manifest, edit: &Edit) -> Manifest {
    let mut manifest = manifest.clone();
    edit(&mut manifest.0);
    manifest
}

fn remove(map: &mut Value, key: &str) {
    map.as_object_mut().expect("a map").remove(key);
}

fn shapes() -> Vec<Manifest> {
    vec![
        full(),
        full().labelled(IGNORED, "false").labelled(DISABLED, ""),
        Manifest::listing("a"),
        Manifest::new(),
        Manifest::new().without("/spec/template", "metadata"),
        Manifest::new().at("/spec/template/metadata", Value::Null),
        Manifest::listing("a")
            .at("/spec/template/metadata", json!({"creationTimestamp": null, "annotations": null})),
        Manifest::new().at("/metadata", json!({"name": "web", "annotations": null, "labels": null})),
        Manifest::new().without("/spec/template", "spec"),
        Manifest::listing("a \u{e9}\n\"<>&~/"),
    ]
}

#[test]
fn c1_6_where_workloads_are_selected_by_labels_a_patch_is_guarded_by_all_of_them() {
    for manifest in shapes() {
        let text = manifest.0.to_string();
        let guard = Guard::of(DEPLOYMENT, &text).expect("a workload").with_all_labels();
        let patch = target().guarded_patch(&manifest.read(), &guard).expect("something differs");
        apply_guarded(&mut manifest.clone().0, &patch).expect("nothing moved");
        let mut relabelled = edited(&manifest, &|it| it["metadata"]["labels"] = json!({"team": "another"}));
        assert!(apply_guarded(&mut relabelled.0, &patch).is_err(), "{patch}");
    }
}

#[test]
fn c5_5_a_guarded_patch_makes_the_same_edits_as_an_unguarded_one() {
    for manifest in shapes() {
        let mut expected = manifest.clone();
        json_patch::patch(&mut expected.0, &target().admission_patch(DEPLOYMENT, &manifest.read()))
            .expect("it applies");
        let mut patched = manifest.clone();
        apply_guarded(&mut patched.0, &patch_for(&manifest)).expect("nothing moved");
        assert_eq!(patched, expected);
        assert!(target().is_met_by(&patched.read()));
    }
}

#[test]
fn c5_5_whatever_the_decision_read_is_tested() {
    let edits: [(&str, &Edit); 15] = [
        ("another object of that name", &|o| o["metadata"]["uid"] = json!("v")),
        ("a list", &|o| o["metadata"]["annotations"][CONFIGMAPS] = json!("a,b,c")),
        ("a list goes", &|o| remove(&mut o["metadata"]["annotations"], SECRETS)),
        ("both go", &|o| remove(&mut o["metadata"], "annotations")),
        ("observed-config", &|o| o["metadata"]["annotations"][OBSERVED_CONFIG] = json!("newer")),
        ("observed-config goes", &|o| remove(&mut o["metadata"]["annotations"], OBSERVED_CONFIG)),
        ("SAP's trigger", &|o| o["metadata"]["annotations"][CONFIG_HASH] = json!("u")),
        ("ignored", &|o| o["metadata"]["labels"][IGNORED] = json!("true")),
        ("disabled", &|o| o["metadata"]["labels"][DISABLED] = json!("true")),
        ("deleted", &|o| o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
        ("the hash", &|o| o["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH] = json!("newer")),
        ("the hash goes", &|o| remove(&mut o["spec"]["template"]["metadata"]["annotations"], CONFIG_HASH)),
        ("the template's metadata goes", &|o| remove(&mut o["spec"]["template"], "metadata")),
        ("the template", &|o| o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j")),
        ("another use", &|o| {
            o["spec"]["template"]["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "a"}}]);
        }),
    ];
    for (what, edit) in edits {
        let mut moved = edited(&full(), edit);
        assert!(apply_guarded(&mut moved.0, &patch_for(&full())).is_err(), "{what}");
    }

    // What was not there is tested for not being there.
    let bare = Manifest::listing("a");
    let edits: [&Edit; 5] = [
        &|o| o["metadata"]["annotations"][SECRETS] = json!("s"),
        &|o| o["metadata"]["annotations"][OBSERVED_CONFIG] = json!("newer"),
        &|o| o["metadata"]["annotations"][CONFIG_HASH] = json!("t"),
        &|o| o["metadata"]["labels"] = json!({IGNORED: "true"}),
        &|o| o["spec"]["template"]["metadata"]["annotations"] = json!({CONFIG_HASH: "newer"}),
    ];
    for (n, edit) in edits.into_iter().enumerate() {
        let mut moved = edited(&bare, edit);
        assert!(apply_guarded(&mut moved.0, &patch_for(&bare)).is_err(), "{n}");
    }
}

#[test]
fn c5_5_what_others_write_all_the_time_is_not_in_the_way() {
    let patch = patch_for(&full());
    let mut moved = edited(&full(), &|o| {
        o["metadata"]["resourceVersion"] = json!("8");
        o["metadata"]["generation"] = json!(9);
        o["metadata"]["labels"]["loop"] = json!("3");
        o["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("4");
        o["spec"]["replicas"] = json!(7);
        o["spec"]["template"]["metadata"]["annotations"]["restartedAt"] = json!("now");
        o["status"] = json!({"replicas": 1});
    });
    apply_guarded(&mut moved.0, &patch).expect("none of it was read");
    assert!(target().is_met_by(&moved.read()));
    assert_eq!(moved.0["spec"]["replicas"], 7);
}

/// The API server compares strings and numbers byte by byte with its own encoding, which escapes `<`, `>` and `&`.
#[test]
fn c5_5_tests_hold_the_api_servers_own_spelling() {
    let text = r#"{"metadata":{"annotations":{"pod-reloader.cs.sap.com/configmaps":"a\u0026b"}},
        "spec":{"template":{"metadata":{},"spec":{"containers":[{"args":["a \u003c b \u003e c"],"x":1.50}]}}}}"#;
    let workload = Workload::read(DEPLOYMENT, text).unwrap();
    let patch = target().guarded_patch(&workload, &Guard::of(DEPLOYMENT, text).unwrap()).unwrap();
    assert!(patch.contains(r#""value":"a\u0026b""#), "{patch}");
    assert!(patch.contains(r#"{"containers":[{"args":["a \u003c b \u003e c"],"x":1.50}]}"#), "{patch}");
}

#[test]
fn c5_4_nothing_to_do_is_no_guarded_patch() {
    let manifest = Manifest::listing("a").hash("h").observed("o");
    let text = manifest.0.to_string();
    assert_eq!(target().guarded_patch(&manifest.read(), &Guard::of(DEPLOYMENT, &text).unwrap()), None);
}

#[test]
fn c4_6_what_is_no_workload_gives_no_guard() {
    for text in
        ["", "[]", r#"{"metadata":{"labels":[]}}"#, r#"{"metadata":{"annotations":"x"}}"#, r#"{"spec":1}"#]
    {
        assert!(Guard::of(DEPLOYMENT, text).is_err(), "{text}");
    }
    assert!(Guard::of(DEPLOYMENT, "{}").is_ok());
}
