//! Workloads as JSON.

use pod_reloader_core::annotation;
use pod_reloader_core::workload::Workload;
use serde_json::{Map, Value, json};

/// A `Deployment` under construction.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest(pub Value);

impl Manifest {
    /// As small as the API server would hand it out.
    pub fn new() -> Self {
        Self(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": super::NAMESPACE, "resourceVersion": "7"},
            "spec": {
                "replicas": 1,
                "template": {"metadata": {}, "spec": {"containers": [{"name": "main", "image": "i"}]}}
            }
        }))
    }

    /// Opted in by that list of `ConfigMap`s.
    pub fn listing(configmaps: &str) -> Self {
        Self::new().annotated(annotation::CONFIGMAPS, configmaps)
    }

    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = json!(value);
        self
    }

    pub fn labelled(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = json!(value);
        self
    }

    pub fn observed(self, value: &str) -> Self {
        self.annotated(annotation::OBSERVED_CONFIG, value)
    }

    pub fn trigger(self, value: &str) -> Self {
        self.annotated(annotation::CONFIG_HASH, value)
    }

    pub fn hash(self, value: &str) -> Self {
        self.template_annotated(annotation::CONFIG_HASH, value)
    }

    pub fn template_annotated(mut self, key: &str, value: &str) -> Self {
        self.0["spec"]["template"]["metadata"]["annotations"][key] = json!(value);
        self
    }

    pub fn deleting(mut self) -> Self {
        self.0["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        self
    }

    /// Puts any value at a place such as `/metadata/annotations`.
    pub fn at(mut self, pointer: &str, value: Value) -> Self {
        *self.0.pointer_mut(pointer).expect("the place exists") = value;
        self
    }

    /// Takes a member away.
    pub fn without(mut self, parent: &str, member: &str) -> Self {
        let parent = self.0.pointer_mut(parent).and_then(Value::as_object_mut);
        parent.and_then(|parent: &mut Map<_, _>| parent.remove(member)).expect("it is there");
        self
    }

    /// As it comes over the wire.
    pub fn read(&self) -> Workload {
        serde_json::from_str(&self.0.to_string()).expect("a workload")
    }
}
