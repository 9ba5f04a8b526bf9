//! `recreate`: a Job that runs is deleted, with its pods, and made anew under its name.
//!
//! In between it would be there nowhere, and be lost with a process that ends. So a *stand-in* is made first: a Job with the
//! same spec, suspended, whose annotation has all that the Job is made of again, and a second one how far that is
//! ([`Phase`]). Whoever leads sees it, deletes the Job, makes it anew once it is gone, and deletes the stand-in. What it says
//! is signed with the installation's key: it could have Jobs made and deleted for somebody who may only edit them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::job::{digest, name_for, some_of, text};
use super::{Action, Change, Plan};
use crate::annotation::{OBSERVED_CONFIG, RECREATES, RECREATES_PHASE};
use crate::digest::DigestKey;
use crate::observed::Observed;

/// What the API server puts on the pods of a Job, and takes from nobody, but where the selector is the user's.
const OWN_LABELS: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];
/// Stands before the version of a Job that is deleted.
const DELETING_VERSION: &str = "deleting ";
/// The API server's own finalizers, which stand for ways of deleting.
const DELETING: [&str; 2] = ["foregroundDeletion", "orphan"];
/// The conditions of a Job that has ended, ...
const ENDED: [&str; 2] = ["Complete", "Failed"];
/// ... or of which it is decided how it ends.
pub(crate) const ENDS: [&str; 4] = ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"];
/// What a stand-in has otherwise, so that it neither runs nor comes to an end by itself, ...
const OTHERWISE: [&str; 4] = ["suspend", "parallelism", "activeDeadlineSeconds", "ttlSecondsAfterFinished"];
/// ... and what must not be the same for two Jobs.
const SELECTOR: [&str; 2] = ["selector", "manualSelector"];
/// What a name leaves free: pods of indexed Jobs are called after their Job and their number.
const SPARE: usize = 12;

pub(super) struct Recreate;

impl Action for Recreate {
    fn name(&self) -> &'static str {
        "recreate"
    }

    fn plan(&self, job: &Value, change: &Change<'_>) -> Plan {
        Plan { job: Some(stand_in(job, change)), restarts: true, ..Plan::default() }
    }
}

/// How far a stand-in is. Each phase is written before what it stands for is begun or given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The Job has not been touched: if it is gone, its owner deleted it.
    Begun,
    /// The Job is being deleted, and is to be made anew.
    Deleting,
    /// It has been made anew.
    Made,
}

impl Phase {
    /// That of a stand-in.
    pub fn of(stand_in: &Value) -> Self {
        match annotations(stand_in).and_then(|all| all.get(RECREATES_PHASE)?.as_str()) {
            Some(phase) if phase.starts_with(DELETING_VERSION) => Self::Deleting,
            Some(Self::MADE) => Self::Made,
            _ => Self::Begun,
        }
    }

    /// What is written before that version of the Job is deleted. A leader that sees another version, and gives the stand-in up
    /// because of it, cannot do so any more then; nor can one whose stand-in is gone delete the Job.
    pub fn deleting(resource_version: &str) -> String {
        format!("{DELETING_VERSION}{resource_version}")
    }

    /// What is written once the Job has been made anew.
    pub const MADE: &str = "made";
}

/// What a stand-in says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recreation {
    /// The Job that is to be made anew, ...
    pub name: String,
    /// ... if it still is this one, ...
    pub uid: String,
    /// ... and says the same ([`said_by`]).
    pub said: String,
    /// What changed, for the owner.
    pub why: String,
    /// observed-config as of that change.
    observed: Option<String>,
    /// Its metadata, as far as it is the user's.
    metadata: Map<String, Value>,
    /// The members of its spec that the stand-in has otherwise.
    spec: Map<String, Value>,
    /// The labels of its pods that the stand-in has otherwise.
    labels: Map<String, Value>,
    /// The installation's signature; empty while it is made.
    #[serde(default)]
    signature: String,
}

/// Tells what its users have said about a Job from anything else: its spec and its metadata, but for what is recorded on it.
pub fn said_by(job: &Value) -> String {
    let mut metadata = metadata(job);
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(OBSERVED_CONFIG);
    }
    digest(&[&json!(metadata).to_string(), &job.get("spec").unwrap_or(&Value::Null).to_string()])
}

fn metadata(job: &Value) -> Map<String, Value> {
    let mut metadata =
        some_of(job.get("metadata"), &["labels", "annotations", "ownerReferences", "finalizers"]);
    if let Some(finalizers) = metadata.get_mut("finalizers").and_then(Value::as_array_mut) {
        finalizers.retain(|it| !it.as_str().is_some_and(|it| DELETING.contains(&it)));
    }
    metadata
}

fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("annotations")?.as_object()
}

fn stand_in(job: &Value, change: &Change<'_>) -> Value {
    let (name, uid) = (text(job, "/metadata/name"), text(job, "/metadata/uid"));
    let namespace = text(job, "/metadata/namespace");
    // One at a time: what has changed meanwhile, be it the Job or the configuration, is for the next one.
    let stand_in = name_for(name, SPARE, &[uid, change.key.id()]);
    let mut metadata = metadata(job);
    // It names the object that it is on, which is yet to be.
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(OBSERVED_CONFIG);
    }
    let mut spec = job.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
    let has_own_selector = spec.get("manualSelector") == Some(&Value::Bool(true));
    let selector: &[&str] = if has_own_selector { &SELECTOR } else { &[] };
    let kept = some_of(job.get("spec"), &[&OTHERWISE, selector].concat());
    for member in OTHERWISE.iter().chain(&SELECTOR) {
        spec.remove(*member);
    }
    // Whoever has it run, no pod starts.
    spec.extend([("suspend".to_owned(), json!(true)), ("parallelism".to_owned(), json!(0))]);
    let mut own_labels = Map::new();
    if let Some(labels) = template_labels(&mut spec) {
        for label in OWN_LABELS {
            own_labels.extend(labels.remove_entry(label).filter(|_| has_own_selector));
        }
    }
    let mut recreation = Recreation {
        name: name.into(),
        uid: uid.into(),
        said: said_by(job),
        why: change.why.to_owned(),
        observed: change.after.map(str::to_owned),
        metadata,
        spec: kept,
        labels: own_labels,
        signature: String::new(),
    };
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
        let recreation: Self = serde_json::from_str(annotations(stand_in)?.get(RECREATES)?.as_str()?).ok()?;
        let (namespace, name) = (text(stand_in, "/metadata/namespace"), text(stand_in, "/metadata/name"));
        let is_ours = |key: &DigestKey| recreation.signature(key, namespace, name) == recreation.signature;
        std::iter::once(key).chain(key.former()).any(is_ours).then_some(recreation)
    }

    /// The Job that is made of it.
    pub fn successor(&self, stand_in: &Value) -> Value {
        let mut metadata = self.metadata.clone();
        metadata.insert("name".into(), json!(self.name));
        metadata.insert("namespace".into(), json!(text(stand_in, "/metadata/namespace")));
        let mut spec = stand_in.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
        for member in OTHERWISE.iter().chain(&SELECTOR) {
            spec.remove(*member);
        }
        if let Some(labels) = template_labels(&mut spec) {
            labels.retain(|label, _| !OWN_LABELS.contains(&label.as_str()));
            labels.extend(self.labels.clone());
        }
        spec.extend(self.spec.clone());
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
    }

    /// observed-config for that Job, once it has a uid.
    pub fn observed_of(&self, namespace: &str, uid: &str) -> Option<String> {
        let observed = Observed::parse(self.observed.as_deref()?, namespace, Some(&self.uid))?;
        Some(Observed { hash: Some(uid.to_owned()), ..observed }.to_annotation(namespace))
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
    let is_true = |condition: &&Value| text(condition, "/status") == "True";
    conditions
        .into_iter()
        .flatten()
        .filter(is_true)
        .find_map(|condition| ENDED.into_iter().find(|end| *end == text(condition, "/type")))
}
