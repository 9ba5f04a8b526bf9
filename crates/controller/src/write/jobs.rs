//! Jobs that are made and deleted (9.4).

use kube::Resource;
use kube::api::{DeleteParams, ListParams, Patch, PostParams, Preconditions, PropagationPolicy};
use kube::core::Request;
use pod_reloader_core::annotation::{OBSERVED_CONFIG, RECREATES_PHASE};
use pod_reloader_core::kind::batch::JOB;
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_core::workload::Workload;
use pod_reloader_k8s::FIELD_MANAGER;
use pod_reloader_k8s::objects::WorkloadObject;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Room, WriteError, Writer, Written, patch_request};

/// What the API server says where an admission webhook cannot be asked whether it would let something pass.
pub(super) const NO_DRY_RUN: &str = "does not support dry run";
/// So many Jobs are looked at at once.
const PAGE: u32 = 100;
/// The reason of a status that says that there is such a name already.
const ALREADY_EXISTS: &str = "AlreadyExists";

/// When a Job is gone that is deleted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Propagation {
    /// Once its pods are.
    Foreground,
    /// At once.
    Background,
}

impl Writer {
    /// Makes a Job in that namespace. One of the same name is the same: an attempt before this one made it.
    pub(crate) async fn make_job(&self, namespace: &str, job: &Value) -> Result<(), Written> {
        self.post_job(namespace, job, false).await
    }

    /// Whether the API server and all policies would take that Job, if there were none of its name: that is looked at last.
    pub(crate) async fn would_take_job(&self, namespace: &str, job: &Value) -> Result<(), Written> {
        match self.post_job(namespace, job, true).await {
            // Nobody can ask a webhook with side effects.
            Err(Written::JobRefused(why)) if why.contains(NO_DRY_RUN) => Ok(()),
            result => result,
        }
    }

    async fn post_job(&self, namespace: &str, job: &Value, dry_run: bool) -> Result<(), Written> {
        let failed = |error| Written::Failed(WriteError::Request(error));
        let body = serde_json::to_vec(job)
            .map_err(|error| failed(kube::core::request::Error::SerializeBody(error)))?;
        let params = PostParams { dry_run, field_manager: Some(FIELD_MANAGER.into()) };
        let request = Request::new(WorkloadObject::url_path(&JOB, Some(namespace))).create(&params, body);
        let request = self.request(namespace, request.map_err(failed)?, Room::Times(1));
        let operation = if dry_run { "try_job" } else { "create_job" };
        match self.call(operation, request).await {
            Ok(_) => Ok(()),
            Err(WriteError::Api(kube::Error::Api(status))) if status.reason == ALREADY_EXISTS => Ok(()),
            Err(error) => Err(refused_or_failed(error)),
        }
    }

    /// Whether a Job runs that the workload controls, other than `made`, which may be there from an attempt before this one.
    /// Of those that the workload did not start itself its status says nothing.
    pub(super) async fn has_running_job(
        &self,
        namespace: &str,
        workload: &Workload,
        made: &Value,
    ) -> Result<bool, WriteError> {
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let request = Request::new(WorkloadObject::url_path(&JOB, Some(namespace))).list(&params);
            let request = request.map_err(WriteError::Request)?;
            let page = self.call("list_jobs", self.request(namespace, request, Room::Times(2))).await?;
            let page: Page = serde_json::from_str(&page.json).map_err(|_| WriteError::NoWorkload)?;
            let is_its = |job: &PageItem| {
                if made.pointer("/metadata/name").and_then(Value::as_str) == Some(&job.metadata.name) {
                    return false;
                }
                let mut owners = job.metadata.owner_references.iter().flatten();
                owners
                    .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == workload.uid.as_ref())
            };
            let is_over = |job: &PageItem| {
                let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
                conditions.any(|it| it.status == "True" && matches!(&*it.name, "Complete" | "Failed"))
            };
            if page.items.iter().any(|job| is_its(job) && !is_over(job)) {
                return Ok(true);
            }
            match page.metadata.next {
                Some(next) if !next.is_empty() => params = params.continue_token(&next),
                _ => return Ok(false),
            }
        }
    }

    /// Says on a stand-in how far it is, if it still is in that version. Returns the version that it has then.
    pub(crate) async fn mark(
        &self,
        stand_in: &WorkloadRef,
        resource_version: &str,
        phase: &str,
    ) -> Result<String, Written> {
        let patch = json!({"metadata": {
            "resourceVersion": resource_version,
            "annotations": {RECREATES_PHASE: phase},
        }});
        self.patch_job(stand_in, &patch).await
    }

    /// Records on a Job that has just been made anew what it was made for.
    pub(crate) async fn record_on(
        &self,
        job: &WorkloadRef,
        uid: &str,
        observed: &str,
    ) -> Result<(), Written> {
        let patch = json!({"metadata": {"uid": uid, "annotations": {OBSERVED_CONFIG: observed}}});
        self.patch_job(job, &patch).await.map(drop)
    }

    async fn patch_job(&self, job: &WorkloadRef, patch: &Value) -> Result<String, Written> {
        let request = patch_request(job, &Patch::Merge(patch), false)
            .map_err(|error| Written::Failed(WriteError::Request(error)))?;
        match self.call("patch_job", self.request(&job.namespace, request, Room::Times(1))).await {
            Ok(text) => {
                let version =
                    WorkloadObject::read(JOB, &text.json).ok().and_then(|it| it.workload.resource_version);
                version.ok_or(Written::Failed(WriteError::NoWorkload))
            }
            Err(WriteError::Api(kube::Error::Api(status)))
                if status.is_conflict() || status.is_not_found() =>
            {
                Err(Written::Conflict)
            }
            Err(error) => Err(refused_or_failed(error)),
        }
    }

    /// Deletes a Job, if it still is that one in that version. [`Written::Conflict`] if it is another one now,
    /// [`Written::Gone`] if it is not there.
    pub(crate) async fn delete_job(
        &self,
        job: &WorkloadRef,
        uid: &str,
        resource_version: &str,
        propagation: Propagation,
    ) -> Result<(), Written> {
        self.ask_to_delete(job, uid, resource_version, propagation, false).await
    }

    /// Whether the API server and all policies would let it be deleted.
    pub(crate) async fn would_delete_job(
        &self,
        job: &WorkloadRef,
        uid: &str,
        resource_version: &str,
    ) -> Result<(), Written> {
        match self.ask_to_delete(job, uid, resource_version, Propagation::Foreground, true).await {
            Err(Written::JobRefused(why)) if why.contains(NO_DRY_RUN) => Ok(()),
            result => result,
        }
    }

    async fn ask_to_delete(
        &self,
        job: &WorkloadRef,
        uid: &str,
        resource_version: &str,
        propagation: Propagation,
        dry_run: bool,
    ) -> Result<(), Written> {
        let preconditions =
            Preconditions { uid: Some(uid.to_owned()), resource_version: Some(resource_version.to_owned()) };
        let params = DeleteParams {
            dry_run,
            propagation_policy: Some(match propagation {
                Propagation::Foreground => PropagationPolicy::Foreground,
                Propagation::Background => PropagationPolicy::Background,
            }),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let url = WorkloadObject::url_path(&JOB, Some(&job.namespace));
        let request = Request::new(url)
            .delete(&job.name, &params)
            .map_err(|error| Written::Failed(WriteError::Request(error)))?;
        let operation = if dry_run { "try_delete_job" } else { "delete_job" };
        match self.call(operation, self.request(&job.namespace, request, Room::Times(1))).await {
            Ok(_) => Ok(()),
            Err(WriteError::Api(kube::Error::Api(status))) if status.is_not_found() => Err(Written::Gone),
            Err(WriteError::Api(kube::Error::Api(status))) if status.is_conflict() => Err(Written::Conflict),
            Err(error) => Err(refused_or_failed(error)),
        }
    }
}

/// What a user has to act on, or something passing.
fn refused_or_failed(error: WriteError) -> Written {
    match error {
        WriteError::Api(kube::Error::Api(status))
            if (400..500).contains(&status.code) && !matches!(status.code, 408 | 409 | 429) =>
        {
            Written::JobRefused(status.message)
        }
        error => Written::Failed(error),
    }
}

/// As much of a list of Jobs as says whether one runs.
#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    #[serde(default)]
    items: Vec<PageItem>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct PageItem {
    metadata: PageItemMetadata,
    status: Option<PageItemStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageItemMetadata {
    name: String,
    owner_references: Option<Vec<Owner>>,
}

#[derive(Deserialize)]
struct Owner {
    uid: String,
    controller: Option<bool>,
}

#[derive(Deserialize)]
struct PageItemStatus {
    conditions: Option<Vec<PageCondition>>,
}

#[derive(Deserialize)]
struct PageCondition {
    #[serde(rename = "type")]
    name: String,
    status: String,
}
