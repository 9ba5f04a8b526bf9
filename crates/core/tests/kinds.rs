//! 1.1, 9.1: every kind of workload is read, compared and patched by what its data says. A kind that is added to the
//! lists is tested here without another line.

mod support;

use pod_reloader_core::admission::{Admission, classify};
use pod_reloader_core::annotation::CONFIG_HASH;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::dialect::sap::CONFIGMAPS;
use pod_reloader_core::guard::Guard;
use pod_reloader_core::kind::{BUILT_IN, KindRef, Kinds, PRESETS, Shape, argo};
use pod_reloader_core::patch::Target;
use pod_reloader_core::template::{Need, TemplateUses};
use pod_reloader_core::template_diff::differs;
use pod_reloader_core::workload::{NoTemplate, PodTemplate, Workload};
use serde_json::{Value, json};
use support::cm;
use support::manifest::apply_guarded;

/// Those with a pod template: built in, of the presets, and of a user's own.
fn templated() -> Vec<KindRef> {
    let presets = PRESETS.iter().flat_map(|preset| preset.kinds.iter().copied());
    BUILT_IN
        .into_iter()
        .chain(presets)
        .chain([own("example.com/v1/servers:Server=spec.pods.main.template")])
        .collect()
}

/// One with a map of annotations alone.
fn mapped() -> KindRef {
    own("example.com/v1/databases:Database=annotations:spec.pods.annotations")
}

fn own(text: &str) -> KindRef {
    let kinds = Kinds::with(&[text.parse().expect("a kind")]).expect("one kind");
    kinds.iter().last().expect("a kind with a name")
}

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
    for kind in templated() {
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
                // An empty object is on the way, or a template without anything.
                let is_there =
                    cut.pointer(kind.template_pointer(&[]).as_str()).is_some_and(|it| !it.is_null());
                let none = PodTemplate { steps: workload.template.steps, ..PodTemplate::default() };
                assert_eq!(workload.template, none, "{kind:?}: {cut}");
                assert_eq!(workload.template.steps == kind.template.len(), is_there, "{kind:?}: {cut}");
                let expected = (!is_there && !BUILT_IN.contains(&kind)).then_some(NoTemplate::Missing);
                assert_eq!(workload.no_template, expected, "{kind:?}: {cut}");
                assert!(workload.references.opted_in(), "{kind:?}: {cut}");
            }
        }
    }
}

#[test]
fn c4_6_what_stands_on_the_way_to_the_template_twice_or_is_no_object_is_an_error() {
    for kind in templated() {
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
    for kind in templated() {
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
    for kind in templated() {
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
    for kind in templated() {
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
    for kind in templated() {
        assert!((kind.health)(&manifest(kind).to_string()).is_ok(), "{kind:?}");
        assert!((kind.health)("[").is_err(), "{kind:?}");
    }
}

/// The object of a kind with a map of annotations, as an owner writes it who has this at the map's first member.
fn bare(spec: &Value) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Database",
        "metadata": {"name": "db", "namespace": "shop", "uid": "u", "resourceVersion": "7",
            "annotations": {CONFIGMAPS: "settings"}},
        "spec": spec,
    })
}

#[test]
fn c9_1_the_hash_of_a_kind_without_a_template_is_patched_into_its_map() {
    let kind = mapped();
    assert_eq!(kind.shape, Shape::Annotations);
    for (spec, expected) in [
        (json!(null), json!({"pods": {"annotations": {CONFIG_HASH: "h"}}})),
        (json!({"size": 3}), json!({"size": 3, "pods": {"annotations": {CONFIG_HASH: "h"}}})),
        (json!({"pods": null}), json!({"pods": {"annotations": {CONFIG_HASH: "h"}}})),
        (json!({"pods": {}}), json!({"pods": {"annotations": {CONFIG_HASH: "h"}}})),
        (json!({"pods": {"annotations": null}}), json!({"pods": {"annotations": {CONFIG_HASH: "h"}}})),
        (
            json!({"pods": {"annotations": {"a": "b"}}}),
            json!({"pods": {"annotations": {"a": "b", CONFIG_HASH: "h"}}}),
        ),
        (
            json!({"pods": {"annotations": {CONFIG_HASH: "x"}}}),
            json!({"pods": {"annotations": {CONFIG_HASH: "h"}}}),
        ),
    ] {
        let before = bare(&spec);
        let workload = read(kind, &before);
        assert!(workload.is_managed(), "{before}");
        let mut wanted = bare(&expected);
        wanted["metadata"]["annotations"]["pod-reloader.cs.sap.com/observed-config"] = json!("o");

        let mut admitted = before.clone();
        json_patch::patch(&mut admitted, &target().admission_patch(kind, &workload)).expect("it applies");
        assert_eq!(admitted, wanted);

        let mut merged = before.clone();
        json_patch::merge(&mut merged, &target().merge_patch(kind, &workload).expect("it differs"));
        assert_eq!(merged, wanted);

        let text = before.to_string();
        let guard = Guard::of(kind, &text).expect("a workload");
        let patch = target().guarded_patch(&workload, &guard).expect("it differs");
        let mut guarded = before.clone();
        apply_guarded(&mut guarded, &patch).expect("nothing moved");
        assert_eq!(guarded, wanted);
        assert!(target().is_met_by(&read(kind, &guarded)));

        // Another has written the map since.
        let mut moved = before.clone();
        moved["spec"]["pods"]["annotations"][CONFIG_HASH] = json!("another");
        assert!(apply_guarded(&mut moved, &patch).is_err(), "{moved}");
    }
    for spec in [json!({"pods": {"annotations": []}}), json!({"pods": 1}), json!([])] {
        assert!(Workload::read(kind, &bare(&spec).to_string()).is_err(), "{spec}");
        assert!(Guard::of(kind, &bare(&spec).to_string()).is_err(), "{spec}");
    }
}

#[test]
fn c9_1_of_a_kind_without_a_template_all_counts_that_is_around_the_map() {
    let kind = mapped();
    let many: serde_json::Map<_, _> = (0..100).map(|i| (format!("field{i}"), json!(i))).collect();
    let with_many = |pods: Value| {
        let mut spec = Value::Object(many.clone());
        spec["pods"] = pods;
        spec
    };
    for (old, new, expected) in [
        (json!(null), json!({"pods": {"annotations": {CONFIG_HASH: "h"}}}), false),
        (json!({}), json!({"pods": {"annotations": {CONFIG_HASH: "h"}}}), false),
        (json!({"pods": {"annotations": {CONFIG_HASH: "h"}}}), json!({"pods": {}}), false),
        (json!({"size": 1}), json!({"size": 1, "pods": {"annotations": {CONFIG_HASH: "h"}}}), false),
        (with_many(json!({})), with_many(json!({"annotations": {CONFIG_HASH: "h"}})), false),
        (json!({"size": 1}), json!({"size": 2}), true),
        (json!({"pods": {"image": "a"}}), json!({"pods": {"image": "b"}}), true),
        (json!({"pods": {"annotations": {"a": "b"}}}), json!({"pods": {"annotations": {"a": "c"}}}), true),
        (json!({}), json!({"pods": {"annotations": {"a": "b", CONFIG_HASH: "h"}}}), true),
        // What is in another place of that name is not ours.
        (json!({}), json!({"annotations": {CONFIG_HASH: "h"}}), true),
    ] {
        assert_eq!(differs(kind, &bare(&old).to_string(), &bare(&new).to_string()), expected, "{old} {new}");
        assert_eq!(differs(kind, &bare(&new).to_string(), &bare(&old).to_string()), expected, "{new} {old}");
    }
    let mut beside = bare(&json!({}));
    beside["status"] = json!({"phase": "Ready"});
    assert!(!differs(kind, &bare(&json!({})).to_string(), &beside.to_string()));
}

#[test]
fn c9_2_a_workload_whose_template_another_object_has_is_left_alone() {
    let kind = argo::ROLLOUT;
    let with = manifest(kind);
    let mut without = with.clone();
    without["spec"] = json!({"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}});
    let mut both = with.clone();
    both["spec"]["workloadRef"] = without["spec"]["workloadRef"].clone();
    let mut null = with.clone();
    null["spec"]["workloadRef"] = Value::Null;
    for (manifest, expected) in [
        (&with, None),
        (&null, None),
        (&without, Some(NoTemplate::Elsewhere)),
        (&both, Some(NoTemplate::Elsewhere)),
    ] {
        let workload = read(kind, manifest);
        assert_eq!(workload.no_template, expected, "{manifest}");
        assert_eq!(workload.is_managed(), expected.is_none(), "{manifest}");
        let is_left_alone = |old: Option<&Workload>| {
            classify(HashMode::Content, &workload, old, || true) == Admission::LeaveAlone
        };
        assert_eq!(is_left_alone(None), expected.is_some(), "{manifest}");
        assert_eq!(is_left_alone(Some(&read(kind, &with))), expected.is_some(), "{manifest}");
        assert_eq!(is_left_alone(Some(&read(kind, &without))), expected.is_some(), "{manifest}");
    }
}
