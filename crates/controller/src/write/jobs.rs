//! Jobs that are made and deleted (9.4).

use kube::Resource;
use kube::api::{DeleteParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::Request;
use pod_reloader_core::kind::batch::JOB;
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_k8s::FIELD_MANAGER;
use pod_reloader_k8s::objects::WorkloadObject;
use serde_json::Value;

use super::{Room, WriteError, Writer, Written};

/// The reason of a status that says that there is such a name already.
const ALREADY_EXISTS: &str = "AlreadyExists";

impl Writer {
    /// Makes a Job in that namespace. One of the same name is the same: an attempt before this one made it.
    pub(crate) async fn make_job(&self, namespace: &str, job: &Value) -> Result<(), Written> {
        let failed = |error| Written::Failed(WriteError::Request(error));
        let body = serde_json::to_vec(job)
            .map_err(|error| failed(kube::core::request::Error::SerializeBody(error)))?;
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let request = Request::new(WorkloadObject::url_path(&JOB, Some(namespace))).create(&params, body);
        let request = self.request(namespace, request.map_err(failed)?, Room::Times(1));
        match self.call("create_job", request).await {
            Ok(_) => Ok(()),
            Err(WriteError::Api(kube::Error::Api(status))) if status.reason == ALREADY_EXISTS => Ok(()),
            Err(WriteError::Api(kube::Error::Api(status)))
                if (400..500).contains(&status.code) && !matches!(status.code, 408 | 409 | 429) =>
            {
                Err(Written::JobRefused(status.message.clone()))
            }
            Err(error) => Err(Written::Failed(error)),
        }
    }

    /// Deletes a Job, if it still is that one in that version (any, if that is `None`). It stays there until its pods are
    /// gone. [`Written::Conflict`] if it is another one now, [`Written::Gone`] if it is not there.
    pub(crate) async fn delete_job(
        &self,
        job: &WorkloadRef,
        uid: &str,
        resource_version: Option<&str>,
    ) -> Written {
        let preconditions = Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: resource_version.map(str::to_owned),
        };
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let url = WorkloadObject::url_path(&JOB, Some(&job.namespace));
        let request = match Request::new(url).delete(&job.name, &params) {
            Ok(request) => request,
            Err(error) => return Written::Failed(WriteError::Request(error)),
        };
        match self.call("delete_job", self.request(&job.namespace, request, Room::Times(1))).await {
            Ok(_) => Written::Nothing,
            Err(WriteError::Api(kube::Error::Api(status))) if status.is_not_found() => Written::Gone,
            Err(WriteError::Api(kube::Error::Api(status))) if status.is_conflict() => Written::Conflict,
            Err(WriteError::Api(kube::Error::Api(status))) if status.is_forbidden() => {
                Written::JobRefused(status.message.clone())
            }
            Err(error) => Written::Failed(error),
        }
    }
}
