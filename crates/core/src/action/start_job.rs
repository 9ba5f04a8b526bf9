//! `start-job`: a `CronJob` runs once, now, as `kubectl create job --from` has it run.

use serde_json::{Map, Value, json};

use super::job::{name_for, some_of, text};
use super::{Action, Change, Plan};

/// What kubectl marks such a Job with.
const INSTANTIATE: &str = "cronjob.kubernetes.io/instantiate";

pub(super) struct StartJob;

impl Action for StartJob {
    fn name(&self) -> &'static str {
        "start-job"
    }

    /// One that is suspended starts nothing. One whose Jobs must not run beside each other waits until none does; its status
    /// names only those that it started itself, so whoever carries the plan out looks for them.
    fn plan(&self, cron_job: &Value, change: &Change<'_>) -> Plan {
        if cron_job.pointer("/spec/suspend") == Some(&Value::Bool(true)) {
            let done = "No Job is started, since this CronJob is suspended".into();
            return Plan { patch: Some(json!({})), done, ..Plan::default() };
        }
        let is_alone = matches!(text(cron_job, "/spec/concurrencyPolicy"), "Forbid" | "Replace");
        let job = job(cron_job, change);
        let done = format!("Job {} is started", text(&job, "/metadata/name"));
        Plan { job: Some(job), is_alone, patch: Some(json!({})), restarts: true, done }
    }
}

fn job(cron_job: &Value, change: &Change<'_>) -> Value {
    let (name, uid) = (text(cron_job, "/metadata/name"), text(cron_job, "/metadata/uid"));
    let template = cron_job.pointer("/spec/jobTemplate");
    let mut metadata =
        some_of(template.and_then(|template| template.get("metadata")), &["labels", "annotations"]);
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if !annotations.is_object() {
        *annotations = Value::Object(Map::new());
    }
    annotations[INSTANTIATE] = json!("manual");
    let [before, after] = change.parts();
    metadata.insert("name".into(), json!(name_for(name, 0, &[uid, &before, &after])));
    metadata.insert("namespace".into(), json!(text(cron_job, "/metadata/namespace")));
    // It does not block the CronJob's deletion: the right to have it so is another one.
    let owner =
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": name, "uid": uid, "controller": true});
    metadata.insert("ownerReferences".into(), json!([owner]));
    let spec = template.and_then(|template| template.get("spec"));
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
}
