//! JSON of the objects that histories are made of.

use pod_reloader_core::kind::apps::DEPLOYMENT;
use pod_reloader_core::kind::{Actions, Health, Kind, KindRef, Shape};
use serde_json::{Value, json};

/// A kind that has no pod template, but a map of annotations that its controller gives to the pods.
pub const GADGET: KindRef = KindRef::of(&Kind {
    group: "example.com",
    version: "v1",
    kind: "Gadget",
    label: "Gadget.example.com",
    plural: "gadgets",
    template: &["spec", "pods", "annotations"],
    shape: Shape::Annotations,
    template_elsewhere: None,
    actions: &Actions::ROLLED_OUT,
    ends: false,
    health: |_| Ok(Health::Healthy),
});

/// A `ConfigMap` with those entries.
pub fn config_map(namespace: &str, name: &str, data: &[(&str, &str)]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name},
        "data": map(data),
    })
}

/// A `Secret` of type `Opaque` with those entries, which are encoded here.
pub fn secret(namespace: &str, name: &str, data: &[(&str, &str)]) -> Value {
    let data: Value = data.iter().map(|(key, value)| ((*key).to_owned(), json!(base64(value)))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"namespace": namespace, "name": name},
        "data": data,
    })
}

/// A workload of that kind with those annotations, whose container uses nothing.
pub fn workload(kind: KindRef, namespace: &str, name: &str, annotations: &[(&str, &str)]) -> Value {
    let mut workload = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"namespace": namespace, "name": name, "annotations": map(annotations)},
        "spec": {"selector": {"matchLabels": {"app": name}}},
    });
    if kind.shape == Shape::Annotations {
        return workload;
    }
    let template = kind.template.iter().fold(&mut workload, |parent, member| &mut parent[*member]);
    *template = json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "example.com/app:1"}]},
    });
    workload
}

/// A `Deployment` with those annotations.
pub fn deployment(namespace: &str, name: &str, annotations: &[(&str, &str)]) -> Value {
    workload(DEPLOYMENT, namespace, name, annotations)
}

/// A `Deployment` that lists those names (comma-separated) in SAP's annotations.
pub fn listing(namespace: &str, name: &str, config_maps: &str, secrets: &str) -> Value {
    let mut annotations = vec![];
    if !config_maps.is_empty() {
        annotations.push(("pod-reloader.cs.sap.com/configmaps", config_maps));
    }
    if !secrets.is_empty() {
        annotations.push(("pod-reloader.cs.sap.com/secrets", secrets));
    }
    deployment(namespace, name, &annotations)
}

/// Has the workload's container read the whole object by `envFrom`.
#[must_use]
pub fn with_env_from(mut workload: Value, kind: &str, name: &str, is_optional: bool) -> Value {
    let source = if kind == "Secret" { "secretRef" } else { "configMapRef" };
    let container = &mut workload["spec"]["template"]["spec"]["containers"][0];
    let entry = json!({ source: {"name": name, "optional": is_optional} });
    match container["envFrom"].as_array_mut() {
        Some(entries) => entries.push(entry),
        None => container["envFrom"] = json!([entry]),
    }
    workload
}

fn map(entries: &[(&str, &str)]) -> Value {
    entries.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect()
}

fn base64(text: &str) -> String {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
