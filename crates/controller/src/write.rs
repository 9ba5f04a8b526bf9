//! The reconciler's writes: one guarded patch of annotations (5.5).

use std::collections::HashMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use pod_reloader_core::patch::Target;
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_k8s::FIELD_MANAGER;
use pod_reloader_k8s::connect::REQUEST_TIMEOUT;
use pod_reloader_k8s::metrics::Metrics as ApiMetrics;
use pod_reloader_k8s::objects::WorkloadObject;
use tokio::time::{Instant, timeout};

use crate::index::View;

/// How long it is believed that a namespace is not being deleted.
const NAMESPACE_MAX_AGE: Duration = Duration::from_secs(2);

/// What became of a patch.
pub(crate) enum Written {
    /// The object as it is now.
    Done(Box<WorkloadObject>),
    /// Nothing differed.
    Nothing,
    /// The workload changed or went since the decision: decide again.
    Conflict,
    /// The workload's namespace is going.
    Gone,
    /// The API server or a policy refuses it. The text is for the owner.
    Refused(String),
    /// Something passing; the text is for the log.
    Failed(String),
}

/// Reads and patches workloads.
pub(crate) struct Writer {
    client: Client,
    metrics: ApiMetrics,
    living_namespaces: Mutex<HashMap<String, Instant>>,
}

impl Writer {
    pub(crate) fn new(client: Client, metrics: ApiMetrics) -> Self {
        Self { client, metrics, living_namespaces: Mutex::default() }
    }

    /// The workload as it is now; `Ok(None)` if it is gone.
    pub(crate) async fn get(&self, reference: &WorkloadRef) -> Result<Option<WorkloadObject>, String> {
        let WorkloadRef { kind, namespace, name } = reference;
        let api = Api::<WorkloadObject>::namespaced_with(self.client.clone(), namespace, kind);
        match self.call("get_workload", api.get_opt(name)).await {
            Ok(object) => Ok(object),
            Err(Failure::Api(error)) => Err(error.to_string()),
            Err(Failure::Timeout) => Err("no answer in time".into()),
        }
    }

    /// Gives the workload these annotations, if it still is the version in `view`.
    pub(crate) async fn write(&self, view: &View, target: &Target) -> Written {
        let Some(patch) = target.merge_patch(&view.workload) else { return Written::Nothing };
        let WorkloadRef { kind, namespace, name } = &view.reference;
        if self.is_terminating(namespace).await {
            return Written::Gone;
        }
        let api = Api::<WorkloadObject>::namespaced_with(self.client.clone(), namespace, kind);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        match self.call("patch_workload", api.patch(name, &params, &Patch::Merge(&patch))).await {
            Ok(object) => Written::Done(Box::new(object)),
            Err(Failure::Timeout) => Written::Failed("no answer in time".into()),
            // Whether it is gone or a policy answers so is found out by reading it.
            Err(Failure::Api(kube::Error::Api(status))) if status.is_conflict() || status.is_not_found() => {
                Written::Conflict
            }
            // What a person has to look at: policies, which may answer with any code, quotas, validation.
            Err(Failure::Api(kube::Error::Api(status)))
                if (400..500).contains(&status.code) && !matches!(status.code, 408 | 429) =>
            {
                Written::Refused(status.message.clone())
            }
            Err(Failure::Api(error)) => Written::Failed(error.to_string()),
        }
    }

    /// Whether the namespace is being deleted (1.5). If it cannot be asked, it is taken to live.
    async fn is_terminating(&self, namespace: &str) -> bool {
        let is_living = |at: &Instant| at.elapsed() < NAMESPACE_MAX_AGE;
        if self.living().get(namespace).is_some_and(is_living) {
            return false;
        }
        let api = Api::<Namespace>::all(self.client.clone());
        let asked_at = Instant::now();
        let is_terminating = match self.call("get_namespace", api.get_metadata_opt(namespace)).await {
            Ok(Some(meta)) => meta.meta().deletion_timestamp.is_some(),
            Ok(None) => true,
            Err(_) => false,
        };
        if !is_terminating {
            let mut living = self.living();
            living.retain(|_, at| is_living(at));
            living.insert(namespace.to_owned(), asked_at);
        }
        is_terminating
    }

    fn living(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.living_namespaces.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        match timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.metrics.count_error(operation, &error);
                Err(Failure::Api(error))
            }
            Err(_) => {
                self.metrics.count_timeout(operation);
                Err(Failure::Timeout)
            }
        }
    }
}

enum Failure {
    Api(kube::Error),
    Timeout,
}
