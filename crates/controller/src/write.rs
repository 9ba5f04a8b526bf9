//! The reconciler's writes: one guarded patch of annotations (5.5).

use std::collections::HashMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use http::{HeaderValue, header};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, GetParams, Patch, PatchParams};
use kube::client::Body;
use kube::core::{Request, Status};
use kube::{Client, Resource};
use pod_reloader_core::guard::Guard;
use pod_reloader_core::patch::Target;
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_k8s::FIELD_MANAGER;
use pod_reloader_k8s::budget::{Budget, Reservation};
use pod_reloader_k8s::connect::REQUEST_TIMEOUT;
use pod_reloader_k8s::metrics::Metrics as ApiMetrics;
use pod_reloader_k8s::objects::WorkloadObject;
use tokio::time::{Instant, timeout};

use crate::index::View;

/// How long it is believed that a namespace is not being deleted.
const NAMESPACE_MAX_AGE: Duration = Duration::from_secs(2);
/// Answers up to this size are taken as they come; for larger ones there has to be room in the budget.
const SMALL_ANSWER: usize = 64 * 1024;
/// The largest workload: 1.5 MiB are stored, JSON can be some more, and managed fields come on top.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// What an answer that turns out to be large is taken to have.
const LARGE_ANSWER: usize = 3 * 1024 * 1024;

const JSON_PATCH: HeaderValue = HeaderValue::from_static("application/json-patch+json");

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

/// A workload as it was read, with the text that guards a patch of it.
pub(crate) struct Guarded {
    pub(crate) object: WorkloadObject,
    text: Text,
}

/// An answer's body, with its room in the budget.
struct Text {
    json: String,
    _room: Option<Reservation>,
}

/// Reads and patches workloads.
pub(crate) struct Writer {
    client: Client,
    budget: Budget,
    metrics: ApiMetrics,
    living_namespaces: Mutex<HashMap<String, Instant>>,
}

impl Writer {
    pub(crate) fn new(client: Client, budget: Budget, metrics: ApiMetrics) -> Self {
        Self { client, budget, metrics, living_namespaces: Mutex::default() }
    }

    /// The workload as it is now; `Ok(None)` if it is gone.
    pub(crate) async fn get_guarded(&self, reference: &WorkloadRef) -> Result<Option<Guarded>, String> {
        let WorkloadRef { kind, namespace, name } = reference;
        let request = Request::new(WorkloadObject::url_path(kind, Some(namespace)))
            .get(name, &GetParams::default())
            .map_err(|error| error.to_string())?;
        match self.call("get_workload", self.request(namespace, request)).await {
            Ok(text) => match serde_json::from_str(&text.json) {
                Ok(object) => Ok(Some(Guarded { object, text })),
                Err(_) => Err("the API server sent something that is no workload".into()),
            },
            Err(Failure::Api(kube::Error::Api(status))) if status.is_not_found() => Ok(None),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Gives the workload these annotations, if it still is the version in `view` or, with `guarded` (of that version,
    /// too), if it still says all that the decision was made from.
    pub(crate) async fn write(&self, view: &View, target: &Target, guarded: Option<&Guarded>) -> Written {
        let WorkloadRef { kind, namespace, name } = &view.reference;
        let api = Request::new(WorkloadObject::url_path(kind, Some(namespace)));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let guard = guarded.and_then(|guarded| Guard::of(&guarded.text.json).ok());
        let request = if let Some(guard) = &guard {
            let Some(patch) = target.guarded_patch(&view.workload, guard) else { return Written::Nothing };
            // The patch is text already: it carries values as the API server wrote them.
            api.patch(name, &params, &Patch::Merge(())).map(|mut request| {
                request.headers_mut().insert(header::CONTENT_TYPE, JSON_PATCH);
                request.map(|_| patch.into_bytes())
            })
        } else {
            let Some(patch) = target.merge_patch(&view.workload) else { return Written::Nothing };
            api.patch(name, &params, &Patch::Merge(&patch))
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => return Written::Failed(error.to_string()),
        };
        if self.is_terminating(namespace).await {
            return Written::Gone;
        }
        let answer = self.call("patch_workload", self.request(namespace, request)).await;
        match answer.map(|text| serde_json::from_str(&text.json)) {
            Ok(Ok(object)) => Written::Done(Box::new(object)),
            Ok(Err(_)) => Written::Failed("the API server sent something that is no workload".into()),
            // Whether it is gone or a policy answers so is found out by reading it.
            Err(Failure::Api(kube::Error::Api(status))) if status.is_conflict() || status.is_not_found() => {
                Written::Conflict
            }
            Err(Failure::Api(kube::Error::Api(status))) if guard.is_some() && is_failed_test(&status) => {
                Written::Conflict
            }
            // What a person has to look at: policies, which may answer with any code, quotas, validation.
            Err(Failure::Api(kube::Error::Api(status)))
                if (400..500).contains(&status.code) && !matches!(status.code, 408 | 429) =>
            {
                Written::Refused(status.message.clone())
            }
            Err(failure) => Written::Failed(failure.to_string()),
        }
    }

    async fn request(&self, namespace: &str, request: http::Request<Vec<u8>>) -> Result<Text, kube::Error> {
        let response = self.client.send(request.map(Body::from)).await?;
        let (head, mut body) = response.into_parts();
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let mut bytes = Vec::with_capacity(length.unwrap_or_default().min(SMALL_ANSWER));
        let mut room = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let size = bytes.len() + data.len();
            if size > MAX_ANSWER {
                return Err(kube::Error::Service("the answer is too large".into()));
            }
            if size > SMALL_ANSWER && room.is_none() {
                room = Some(self.budget.reserve(namespace, length.unwrap_or(LARGE_ANSWER)).await);
            }
            bytes.extend_from_slice(&data);
        }
        if !head.status.is_success() {
            let status = serde_json::from_slice::<Status>(&bytes).unwrap_or_else(|_| {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
                Status::failure(&text, "").with_code(head.status.as_u16())
            });
            return Err(kube::Error::Api(Box::new(status.with_code(head.status.as_u16()))));
        }
        let json = String::from_utf8(bytes).map_err(kube::Error::FromUtf8)?;
        Ok(Text { json, _room: room })
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

/// Whether a JSON Patch was refused because one of its tests failed, as against a policy that answers with the same code.
fn is_failed_test(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let texts = causes.map(|cause| cause.message.as_str()).chain([status.message.as_str()]);
    status.code == 422
        && texts.into_iter().any(|text| text.contains("testing ") || text.contains("test operation"))
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Api(kube::Error),
    #[error("no answer in time")]
    Timeout,
}
