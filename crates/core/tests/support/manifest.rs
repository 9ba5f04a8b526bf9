//! Workloads as JSON.

use pod_reloader_core::annotation;
use pod_reloader_core::dialect::sap;
use pod_reloader_core::kind::apps::DEPLOYMENT;
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
        Self::new().annotated(sap::CONFIGMAPS, configmaps)
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
        Workload::read(DEPLOYMENT, &self.0.to_string()).expect("a workload")
    }
}

/// Applies a guarded patch by the API server's rules (evanphx/json-patch): a test for `null` passes on a missing
/// member, and nothing does where the parent is missing.
pub fn apply_guarded(object: &mut Value, operations: &str) -> Result<(), String> {
    for operation in serde_json::from_str::<Vec<Value>>(operations).expect("operations") {
        let path = operation["path"].as_str().expect("a path");
        if operation["op"] == "test" {
            let parent = path.rsplit_once('/').expect("a parent").0;
            if object.pointer(parent).and_then(Value::as_object).is_none() {
                return Err(format!("{parent} is missing"));
            }
            if object.pointer(path).unwrap_or(&Value::Null) != &operation["value"] {
                return Err(format!("{path} is another"));
            }
        } else {
            let edit: json_patch::Patch = serde_json::from_value(json!([operation])).expect("an edit");
            json_patch::patch(object, &edit).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}
