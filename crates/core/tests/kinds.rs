//! 1.1: every kind of workload is read, compared and patched by what its data says. A kind that is added to the list is
//! tested here without another line.

mod support;

use pod_reloader_core::annotation::CONFIG_HASH;
use pod_reloader_core::dialect::sap::CONFIGMAPS;
use pod_reloader_core::guard::Guard;
use pod_reloader_core::kind::{BUILT_IN, KindRef};
use pod_reloader_core::patch::Target;
use pod_reloader_core::template::{Need, TemplateUses};
use pod_reloader_core::template_diff::differs;
use pod_reloader_core::workload::Workload;
use serde_json::{Value, json};
use support::cm;
use support::manifest::apply_guarded;

/// A workload whose pod template, which is where the kind says, requires the `ConfigMap` that it lists.
fn manifest(kind: KindRef) -> Value {
    let mut manifest = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7",
            "annotations": {CONFIGMAPS: "settings"}},
    });
    *template(kind, &mut manifest) = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "envFrom": [{"configMapRef": {"name": "settings"}}]}]},
    });
    manifest
}

fn template(kind: KindRef, manifest: &mut Value) -> &mut Value {
    kind.template.iter().fold(manifest, |parent, member| &mut parent[*member])
}

fn read(kind: KindRef, manifest: &Value) -> Workload {
    Workload::read(kind, &manifest.to_string()).expect("a workload")
}

fn target() -> Target {
    Target { hash: Some("h".into()), observed: Some("o".into()) }
}

#[test]
fn c1_1_every_kind_is_read_with_the_template_that_it_has() {
    for kind in BUILT_IN {
        let mut manifest = manifest(kind);
        template(kind, &mut manifest)["metadata"]["annotations"][CONFIG_HASH] = json!("h");
        let workload = read(kind, &manifest);
        assert!(workload.is_managed() && workload.template.has_metadata, "{kind:?}");
        assert_eq!(workload.template.config_hash.as_deref(), Some("h"), "{kind:?}");
        let mut uses = TemplateUses::default();
        uses.read_all(cm("settings"), Need::Required);
        assert_eq!(workload.template.uses, uses, "{kind:?}");
        // Wherever the path ends early, there is none.
        for end in 0..kind.template.len() {
            for nothing in [json!(null), json!({})] {
                let mut cut = manifest.clone();
                let parent =
                    kind.template[..end].iter().fold(&mut cut, |parent, member| &mut parent[*member]);
                parent[kind.template[end]] = nothing;
                let workload = read(kind, &cut);
                assert_eq!(workload.template, Workload::default().template, "{kind:?}: {cut}");
                assert!(workload.references.opted_in(), "{kind:?}: {cut}");
            }
        }
    }
}

#[test]
fn c4_6_what_stands_on_the_way_to_the_template_twice_or_is_no_object_is_an_error() {
    for kind in BUILT_IN {
        let [first, ..] = kind.template else { panic!("{kind:?}") };
        for text in [
            format!(r#"{{"{first}":{{}},"{first}":{{}}}}"#),
            format!(r#"{{"{first}":[]}}"#),
            format!(r#"{{"{first}":1}}"#),
            r#"{"metadata":{},"metadata":{}}"#.to_owned(),
            "[]".to_owned(),
            "null".to_owned(),
            "{} x".to_owned(),
        ] {
            assert!(Workload::read(kind, &text).is_err(), "{kind:?}: {text}");
            assert!(Guard::of(kind, &text).is_err(), "{kind:?}: {text}");
        }
    }
}

#[test]
fn c2_1_the_hash_of_every_kind_is_patched_into_its_template() {
    for kind in BUILT_IN {
        for without_metadata in [false, true] {
            let mut before = manifest(kind);
            if without_metadata {
                template(kind, &mut before)["metadata"] = Value::Null;
            }
            let workload = read(kind, &before);
            let mut expected = before.clone();
            expected["metadata"]["annotations"]["pod-reloader.cs.sap.com/observed-config"] = json!("o");
            template(kind, &mut expected)["metadata"]["annotations"][CONFIG_HASH] = json!("h");

            let mut admitted = before.clone();
            json_patch::patch(&mut admitted, &target().admission_patch(kind, &workload)).expect("it applies");
            assert_eq!(admitted, expected, "{kind:?}");

            let mut merged = before.clone();
            json_patch::merge(&mut merged, &target().merge_patch(kind, &workload).expect("it differs"));
            assert_eq!(merged, expected, "{kind:?}");

            let text = before.to_string();
            let guard = Guard::of(kind, &text).expect("a workload");
            let patch = target().guarded_patch(&workload, &guard).expect("it differs");
            let mut guarded = before.clone();
            apply_guarded(&mut guarded, &patch).expect("nothing moved");
            assert_eq!(guarded, expected, "{kind:?}");
            assert!(target().is_met_by(&read(kind, &guarded)), "{kind:?}");
        }
    }
}

#[test]
fn c5_5_a_guarded_patch_of_every_kind_fails_on_another_template() {
    for kind in BUILT_IN {
        let before = manifest(kind);
        let text = before.to_string();
        let guard = Guard::of(kind, &text).expect("a workload");
        let patch = target().guarded_patch(&read(kind, &before), &guard).expect("it differs");
        let mut other = before.clone();
        template(kind, &mut other)["spec"]["containers"][0]["image"] = json!("another");
        assert!(apply_guarded(&mut other, &patch).is_err(), "{kind:?}");
        let mut hashed = before.clone();
        template(kind, &mut hashed)["metadata"]["annotations"][CONFIG_HASH] = json!("another");
        assert!(apply_guarded(&mut hashed, &patch).is_err(), "{kind:?}");
    }
}

#[test]
fn c4_3_the_templates_of_every_kind_are_compared_without_our_hash() {
    for kind in BUILT_IN {
        let before = manifest(kind);
        let is_other = |edit: &dyn Fn(&mut Value)| {
            let mut after = before.clone();
            edit(template(kind, &mut after));
            differs(kind, &before.to_string(), &after.to_string())
        };
        assert!(!is_other(&|_| {}), "{kind:?}");
        assert!(!is_other(&|it| it["metadata"]["annotations"][CONFIG_HASH] = json!("h")), "{kind:?}");
        assert!(is_other(&|it| it["metadata"]["annotations"]["restartedAt"] = json!("now")), "{kind:?}");
        assert!(is_other(&|it| it["spec"]["containers"][0]["image"] = json!("another")), "{kind:?}");
        let mut beside = before.clone();
        beside["metadata"]["labels"] = json!({"a": "b"});
        assert!(!differs(kind, &before.to_string(), &beside.to_string()), "{kind:?}");
    }
}

#[test]
fn the_health_of_every_kind_is_read_from_an_object_without_a_status() {
    for kind in BUILT_IN {
        assert!((kind.health)(&manifest(kind).to_string()).is_ok(), "{kind:?}");
        assert!((kind.health)("[").is_err(), "{kind:?}");
    }
}
