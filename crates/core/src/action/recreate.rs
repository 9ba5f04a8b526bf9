//! `recreate`: a Job that runs is deleted, with its pods, and made anew under its name.
//!
//! In between it would be there nowhere, and be lost with a process that ends. So a *stand-in* is made first: a Job with the
//! same spec, suspended, whose annotation has all that the Job is made of again. Whoever leads sees it, deletes the Job,
//! makes it anew once it is gone, and deletes the stand-in. What it says is signed with the installation's key: it could
//! have Jobs made and deleted for somebody who may only edit them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::job::{name_for, some_of, text};
use super::{Action, Change, Plan};
use crate::annotation::{OBSERVED_CONFIG, RECREATES};
use crate::digest::DigestKey;

/// What the API server puts on the pods of a Job, and takes from nobody, but where the selector is the user's.
const OWN_LABELS: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];
/// The conditions of a Job that has ended.
pub(crate) const ENDS: [&str; 2] = ["Complete", "Failed"];
/// The API server's own finalizers, which stand for ways of deleting.
const DELETING: [&str; 2] = ["foregroundDeletion", "orphan"];

pub(super) struct Recreate;

impl Action for Recreate {
    fn name(&self) -> &'static str {
        "recreate"
    }

    fn plan(&self, job: &Value, change: &Change<'_>) -> Option<Plan> {
        let stand_in = stand_in(job, change);
        let done = format!("The Job is deleted and made anew (by {})", text(&stand_in, "/metadata/name"));
        Some(Plan { job: Some(stand_in), patch: None, restarts: true, done })
    }
}

/// What a stand-in says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recreation {
    /// The Job that is to be made anew, ...
    pub name: String,
    /// ... if it still is this one.
    pub uid: String,
    /// Its metadata, as far as it is the user's.
    metadata: Map<String, Value>,
    /// The members of its spec that the stand-in has otherwise.
    spec: Map<String, Value>,
    /// The installation's signature; empty while it is made.
    #[serde(default)]
    signature: String,
}

fn stand_in(job: &Value, change: &Change<'_>) -> Value {
    let (name, uid) = (text(job, "/metadata/name"), text(job, "/metadata/uid"));
    let namespace = text(job, "/metadata/namespace");
    let stand_in = name_for(name, uid, change);
    let mut metadata =
        some_of(job.get("metadata"), &["labels", "annotations", "ownerReferences", "finalizers"]);
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        match change.after {
            Some(observed) => annotations.insert(OBSERVED_CONFIG.into(), json!(observed)),
            None => annotations.remove(OBSERVED_CONFIG),
        };
    }
    if let Some(finalizers) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
        finalizers.retain(|it| !it.as_str().is_some_and(|it| DELETING.contains(&it)));
    }
    let mut spec = job.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
    let has_own_selector = spec.get("manualSelector") == Some(&Value::Bool(true));
    let otherwise: &[&str] =
        if has_own_selector { &["suspend", "selector", "manualSelector"] } else { &["suspend"] };
    let kept = some_of(job.get("spec"), otherwise);
    spec.remove("selector");
    spec.remove("manualSelector");
    spec.insert("suspend".into(), json!(true));
    if !has_own_selector && let Some(labels) = template_labels(&mut spec) {
        labels.retain(|label, _| !OWN_LABELS.contains(&label.as_str()));
    }
    let mut recreation =
        Recreation { name: name.into(), uid: uid.into(), metadata, spec: kept, signature: String::new() };
    recreation.signature = recreation.signature(change.key, namespace, &stand_in);
    let annotation = serde_json::to_string(&recreation).expect("it is JSON");
    let mut metadata =
        json!({"name": stand_in, "namespace": namespace, "annotations": {RECREATES: annotation}});
    // Without them otherwise: what works by the Job's labels, as queues do, must not take it for one.
    if change.keeps_labels
        && let Some(labels) = recreation.metadata.get("labels")
    {
        metadata["labels"] = labels.clone();
    }
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
}

fn template_labels(spec: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    spec.get_mut("template")?.get_mut("metadata")?.get_mut("labels")?.as_object_mut()
}

impl Recreation {
    /// Reads what a stand-in says. `None` if it is none, or none that this installation made.
    pub fn of(stand_in: &Value, key: &DigestKey) -> Option<Self> {
        let recreation = stand_in.get("metadata")?.get("annotations")?.get(RECREATES)?.as_str()?;
        let recreation: Self = serde_json::from_str(recreation).ok()?;
        let (namespace, name) = (text(stand_in, "/metadata/namespace"), text(stand_in, "/metadata/name"));
        let is_ours = |key: &DigestKey| recreation.signature(key, namespace, name) == recreation.signature;
        std::iter::once(key).chain(key.former()).any(is_ours).then_some(recreation)
    }

    /// The Job that is made of it.
    pub fn successor(self, stand_in: &Value) -> Value {
        let mut metadata = self.metadata;
        metadata.insert("name".into(), json!(self.name));
        metadata.insert("namespace".into(), json!(text(stand_in, "/metadata/namespace")));
        let mut spec = stand_in.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
        for member in ["suspend", "selector"] {
            spec.remove(member);
        }
        // Those of the stand-in; with a selector of the user's own such labels may be the user's as well.
        let its_own = [text(stand_in, "/metadata/name"), text(stand_in, "/metadata/uid")];
        if let Some(labels) = template_labels(&mut spec) {
            let is_its_own = |value: &Value| value.as_str().is_some_and(|value| its_own.contains(&value));
            labels.retain(|label, value| !OWN_LABELS.contains(&label.as_str()) || !is_its_own(value));
        }
        spec.extend(self.spec);
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
    }

    /// Over all that it says, and where.
    fn signature(&self, key: &DigestKey, namespace: &str, stand_in: &str) -> String {
        let unsigned = Self { signature: String::new(), ..self.clone() };
        let mut sum = key.sum("pod-reloader recreation 1");
        sum.field(namespace.as_bytes());
        sum.field(stand_in.as_bytes());
        sum.field(&serde_json::to_vec(&unsigned).expect("it is JSON"));
        URL_SAFE_NO_PAD.encode(sum.finish())
    }
}

/// How a Job has ended: by its condition `Complete` or `Failed`; `None` while it has not.
pub fn end_of(job: &Value) -> Option<&'static str> {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .filter(|condition| text(condition, "/status") == "True")
        .find_map(|condition| ENDS.into_iter().find(|end| *end == text(condition, "/type")))
}
