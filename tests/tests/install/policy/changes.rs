//! Changes of a workload that are not the operator's to make, as merge patches.

use pod_reloader_e2e::objects::{CONFIG_HASH, CONFIGMAPS, IGNORED, KindRef, OBSERVED_CONFIG};
use serde_json::{Value, json};

use super::attempts::{HASH, OTHER_HASH};

/// Changes of a workload by merge patches; each with what it is.
pub(super) fn merges() -> Vec<(&'static str, Value)> {
    let container = |fields: Value| {
        let mut container = json!({"name": "main", "image": "example.invalid/app:1"});
        for (key, value) in fields.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        json!({"spec": {"template": {"spec": {"containers": [container]}}}})
    };
    let pod = |fields: Value| json!({"spec": {"template": {"spec": fields}}});
    let on_template = |fields: Value| json!({"spec": {"template": {"metadata": fields}}});
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}]);
    vec![
        ("image", container(json!({"image": "example.invalid/evil:1"}))),
        ("env", container(json!({"env": [{"name": "A", "value": "b"}]}))),
        ("command", container(json!({"command": ["sh"]}))),
        ("privileges", container(json!({"securityContext": {"allowPrivilegeEscalation": true}}))),
        (
            "a second container",
            json!({"spec": {"template": {"spec": {"containers": [
                {"name": "main", "image": "example.invalid/app:1"}, {"name": "evil", "image": "example.invalid/evil:1"}
            ]}}}}),
        ),
        ("service account", pod(json!({"serviceAccountName": "admin"}))),
        ("host network", pod(json!({"hostNetwork": true}))),
        ("volumes", pod(json!({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}))),
        (
            "init containers",
            pod(json!({"initContainers": [{"name": "evil", "image": "example.invalid/evil:1"}]})),
        ),
        ("grace period", pod(json!({"terminationGracePeriodSeconds": 1}))),
        ("template labels", on_template(json!({"labels": {"app": "app", "evil": "true"}}))),
        ("another template annotation", on_template(json!({"annotations": {"example.com/evil": "true"}}))),
        ("a changed template annotation", on_template(json!({"annotations": {"example.com/note": "ours"}}))),
        ("a removed template annotation", on_template(json!({"annotations": {"example.com/note": null}}))),
        ("no template annotations", on_template(json!({"annotations": null}))),
        ("SAP's other name on the template", on_template(json!({"annotations": {OBSERVED_CONFIG: "{}"}}))),
        ("a hash that is none", on_template(json!({"annotations": {CONFIG_HASH: "$(evil)"}}))),
        ("a hash in upper case", on_template(json!({"annotations": {CONFIG_HASH: HASH.to_uppercase()}}))),
        ("a hash and more", on_template(json!({"annotations": {CONFIG_HASH: format!("{HASH}\n{HASH}")}}))),
        ("a short hash", on_template(json!({"annotations": {CONFIG_HASH: "0123"}}))),
        ("no hash", on_template(json!({"annotations": {CONFIG_HASH: null}}))),
        ("finalizers of the template", on_template(json!({"finalizers": ["example.com/evil"]}))),
        ("labels", json!({"metadata": {"labels": {"evil": "true"}}})),
        ("a removed label", json!({"metadata": {"labels": {"team": null}}})),
        ("the label that excludes", json!({"metadata": {"labels": {IGNORED: "true"}}})),
        ("another annotation", json!({"metadata": {"annotations": {"example.com/evil": "true"}}})),
        ("a changed annotation", json!({"metadata": {"annotations": {"example.com/note": "ours"}}})),
        ("a removed annotation", json!({"metadata": {"annotations": {"example.com/note": null}}})),
        ("the lists", json!({"metadata": {"annotations": {CONFIGMAPS: "other"}}})),
        ("no lists", json!({"metadata": {"annotations": {CONFIGMAPS: null}}})),
        ("SAP's trigger", json!({"metadata": {"annotations": {CONFIG_HASH: HASH}}})),
        ("finalizers", json!({"metadata": {"finalizers": ["example.com/evil"]}})),
        ("owners", json!({"metadata": {"ownerReferences": owner}})),
        ("nobody who applied", json!({"metadata": {"managedFields": [{}]}})),
        (
            "a change behind an allowed one",
            json!({
                "metadata": {"annotations": {OBSERVED_CONFIG: "{\"v\":1}"}, "labels": {"evil": "true"}},
                "spec": {"template": {"metadata": {"annotations": {CONFIG_HASH: OTHER_HASH}}}}
            }),
        ),
    ]
}

/// What is particular to a kind.
pub(super) fn merges_of(kind: KindRef) -> Vec<(&'static str, Value)> {
    match kind.kind {
        "Deployment" => vec![
            ("replicas", json!({"spec": {"replicas": 0}})),
            ("paused", json!({"spec": {"paused": true}})),
            ("strategy", json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}})),
            ("minReadySeconds", json!({"spec": {"minReadySeconds": 9}})),
            ("revisionHistoryLimit", json!({"spec": {"revisionHistoryLimit": 0}})),
            // On a DaemonSet the API server keeps it.
            (
                "DaemonSets' annotation",
                json!({"metadata": {"annotations": {"deprecated.daemonset.template.generation": "9"}}}),
            ),
            ("progressDeadlineSeconds", json!({"spec": {"progressDeadlineSeconds": 9}})),
        ],
        "StatefulSet" => vec![
            ("replicas", json!({"spec": {"replicas": 0}})),
            ("ordinals", json!({"spec": {"ordinals": {"start": 5}}})),
            (
                "updateStrategy",
                json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}}),
            ),
        ],
        "DaemonSet" => vec![
            (
                "updateStrategy",
                json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}}),
            ),
            ("minReadySeconds", json!({"spec": {"minReadySeconds": 9}})),
        ],
        _ => vec![],
    }
}
