//! The reconciler's writes: one guarded patch of annotations (5.5).

use std::collections::HashMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::SystemTime;

use http::{HeaderValue, header};
use http_body_util::BodyExt;
use kube::api::{GetParams, Patch, PatchParams};
use kube::client::Body;
use kube::core::{Request, Status};
use kube::{Client, Resource};
use pod_reloader_core::guard::Guard;
use pod_reloader_core::kind::KindRef;
use pod_reloader_core::patch::Target;
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_core::selector::Selector;
use pod_reloader_core::workload::{PodTemplate, Workload};
use pod_reloader_k8s::FIELD_MANAGER;
use pod_reloader_k8s::budget::{Budget, Reservation};
use pod_reloader_k8s::connect::REQUEST_TIMEOUT;
use pod_reloader_k8s::metrics::Metrics as ApiMetrics;
use pod_reloader_k8s::objects::{Scope, WorkloadObject};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::index::View;
use crate::opt_ins::OptIns;

mod acting;
mod jobs;
mod namespaces;

pub(crate) use acting::Acting;
pub(crate) use jobs::Propagation;

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
    /// The workload changed or was deleted since the decision: decide again.
    Conflict,
    /// The workload's namespace is being deleted.
    Gone,
    /// The API server or a policy refuses it. The text is for the owner.
    Refused(String),
    /// So it does the Job that the change asks for.
    JobRefused(String),
    /// The Job that the change asks for is there; the workload itself is not written.
    JobMade,
    /// Something passing.
    Failed(WriteError),
}

/// Why a workload could not be read or patched; another attempt may do better.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    Api(kube::Error),
    #[error("no answer in time")]
    Timeout,
    #[error(transparent)]
    Request(kube::core::request::Error),
    #[error("the API server sent something that is no workload")]
    NoWorkload,
    /// What is not known to be selected is not written.
    #[error("cannot read the labels of its namespace")]
    UnknownNamespace,
}

/// How a patch is kept from overwriting what it was not decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guarding {
    /// By the version of the whole object.
    Version,
    /// By tests on what the decision read alone: other controllers write the object all the time.
    Inputs,
}

/// An answer's body, with its room in the budget.
struct Text {
    json: String,
    /// When the API server wrote it, by its own clock.
    date: Option<SystemTime>,
    _room: Option<Reservation>,
}

/// How room in the budget is made for an answer that turns out to be large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// So many times its size is reserved.
    Times(usize),
    /// It has been reserved along with that of another answer: a reader that holds a part must not wait for more.
    Covered,
}

/// Reads and patches workloads.
pub(crate) struct Writer {
    client: Client,
    budget: Budget,
    metrics: ApiMetrics,
    namespace_selector: Selector,
    object_selector: Selector,
    opt_ins: OptIns,
    living_namespaces: Mutex<HashMap<String, Instant>>,
}

impl Writer {
    pub(crate) fn new(
        client: Client,
        budget: Budget,
        scope: &Scope,
        opt_ins: OptIns,
        metrics: ApiMetrics,
    ) -> Self {
        Self {
            client,
            budget,
            metrics,
            namespace_selector: scope.namespace_selector.clone(),
            object_selector: scope.object_selector.clone(),
            opt_ins,
            living_namespaces: Mutex::default(),
        }
    }

    /// The workload as it is now; `Ok(None)` if it is gone, or no longer selected.
    pub(crate) async fn get(&self, workload: &WorkloadRef) -> Result<Option<WorkloadObject>, WriteError> {
        let found = self.get_text(workload, Room::Times(1)).await?;
        let found = found.filter(|text| self.object_selector.matches_json(&text.json));
        found.map(|text| parse(workload.kind, &text)).transpose()
    }

    /// Whether a workload with that JSON text is selected (1.6).
    pub(crate) fn selects(&self, json: &str) -> bool {
        self.object_selector.matches_json(json)
    }

    /// Everything that the API server has of it; `Ok(None)` if it is gone.
    pub(crate) async fn read_json(&self, workload: &WorkloadRef) -> Result<Option<Value>, WriteError> {
        // The text, and what it is parsed into.
        let Some(text) = self.get_text(workload, Room::Times(5)).await? else { return Ok(None) };
        serde_json::from_str(&text.json).map(Some).map_err(|_| WriteError::NoWorkload)
    }

    async fn get_text(&self, workload: &WorkloadRef, room: Room) -> Result<Option<Text>, WriteError> {
        let WorkloadRef { kind, namespace, name } = workload;
        let request = Request::new(WorkloadObject::url_path(kind, Some(namespace)))
            .get(name, &GetParams::default())
            .map_err(|error| WriteError::Api(kube::Error::BuildRequest(error)))?;
        match self.call("get_workload", self.request(namespace, request, room)).await {
            Ok(text) => Ok(Some(text)),
            Err(WriteError::Api(kube::Error::Api(status))) if status.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the workload these annotations, if it still is what the decision was made from.
    pub(crate) async fn write(&self, view: &View, target: &Target, guarding: Guarding) -> Written {
        if target.is_met_by(&view.workload) {
            return Written::Nothing;
        }
        if let Err(ended) = self.is_ours(&view.workload_ref.namespace).await {
            return ended;
        }
        // A watch may be late with the label that has it followed.
        if self.opt_ins.follow_more(&view.workload, &view.workload_ref.namespace) {
            return Written::Conflict;
        }
        match guarding {
            Guarding::Version => self.write_version(view, target).await,
            Guarding::Inputs => self.write_inputs(view, target).await,
        }
    }

    async fn write_version(&self, view: &View, target: &Target) -> Written {
        let Some(patch) = target.merge_patch(view.workload_ref.kind, &view.workload) else {
            return Written::Nothing;
        };
        match patch_request(&view.workload_ref, &Patch::Merge(&patch), false) {
            Ok(request) => self.send_patch(view, request, Room::Times(1)).await,
            Err(error) => Written::Failed(WriteError::Request(error)),
        }
    }

    /// Reads the workload once more: its text, and what decisions are made from, which has to be what this one was made
    /// from. `times` is how many times its size it takes in memory.
    async fn read_same(&self, view: &View, times: usize) -> Result<(Text, Workload), Written> {
        let text = match self.get_text(&view.workload_ref, Room::Times(times)).await {
            Ok(Some(text)) if self.object_selector.matches_json(&text.json) => text,
            Ok(_) => return Err(Written::Conflict),
            Err(error) => return Err(Written::Failed(error)),
        };
        let object = parse(view.workload_ref.kind, &text).map_err(Written::Failed)?;
        let workload = self.opt_ins.surround(object.workload, &view.workload_ref.namespace);
        if has_same_inputs(&workload, &view.workload) { Ok((text, workload)) } else { Err(Written::Conflict) }
    }

    /// With tests on what the decision read, which hold the text against what is there then.
    async fn write_inputs(&self, view: &View, target: &Target) -> Written {
        let (text, workload) = match self.read_same(view, 2).await {
            Ok(same) => same,
            Err(ended) => return ended,
        };
        let Ok(mut guard) = Guard::of(view.workload_ref.kind, &text.json) else {
            return Written::Failed(WriteError::NoWorkload);
        };
        if !self.object_selector.is_empty() {
            guard = guard.with_all_labels();
        }
        let Some(patch) = target.guarded_patch(&workload, &guard) else { return Written::Nothing };
        match patch_request(&view.workload_ref, &Patch::Merge(()), false) {
            Ok(mut request) => {
                // The patch is text already: it carries values as the API server wrote them.
                request.headers_mut().insert(header::CONTENT_TYPE, JSON_PATCH);
                let written = self.send_patch(view, request.map(|_| patch.into_bytes()), Room::Covered).await;
                // The API server does not always say that it was a test that failed: what has changed would tell.
                let is_refused = matches!(written, Written::Refused(_));
                if is_refused && matches!(self.read_same(view, 1).await, Err(Written::Conflict)) {
                    return Written::Conflict;
                }
                written
            }
            Err(error) => Written::Failed(WriteError::Request(error)),
        }
    }

    async fn send_patch(&self, view: &View, request: http::Request<Vec<u8>>, room: Room) -> Written {
        let request = self.request(&view.workload_ref.namespace, request, room);
        match self.call("patch_workload", request).await.and_then(|text| parse(view.workload_ref.kind, &text))
        {
            Ok(object) => Written::Done(Box::new(object)),
            // Whether it is gone or a policy answers so is found out by reading it.
            Err(WriteError::Api(kube::Error::Api(status)))
                if status.is_conflict() || status.is_not_found() || is_failed_test(&status) =>
            {
                Written::Conflict
            }
            // What a user has to act on: policies, which may answer with any code, quotas, validation.
            Err(WriteError::Api(kube::Error::Api(status)))
                if (400..500).contains(&status.code) && !matches!(status.code, 408 | 429) =>
            {
                Written::Refused(status.message.clone())
            }
            Err(error) => Written::Failed(error),
        }
    }

    async fn request(
        &self,
        namespace: &str,
        request: http::Request<Vec<u8>>,
        room: Room,
    ) -> Result<Text, kube::Error> {
        let response = self.client.send(request.map(Body::from)).await?;
        let (head, mut body) = response.into_parts();
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let mut bytes = Vec::with_capacity(length.unwrap_or_default().min(SMALL_ANSWER));
        let mut reserved = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let size = bytes.len() + data.len();
            if size > MAX_ANSWER {
                return Err(kube::Error::Service("the answer is too large".into()));
            }
            if let Room::Times(times) = room
                && size > SMALL_ANSWER
                && reserved.is_none()
            {
                let expected = length.unwrap_or(LARGE_ANSWER) * times;
                reserved = Some(self.budget.reserve(namespace, expected).await);
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
        let date = head.headers.get(header::DATE);
        let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        Ok(Text { json, date, _room: reserved })
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, WriteError> {
        match timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                self.metrics.count_error(operation, &error);
                Err(WriteError::Api(error))
            }
            Err(_) => {
                self.metrics.count_timeout(operation);
                Err(WriteError::Timeout)
            }
        }
    }
}

/// The request that patches a workload.
fn patch_request<P: serde::Serialize + std::fmt::Debug>(
    workload: &WorkloadRef,
    patch: &Patch<P>,
    dry_run: bool,
) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
    let WorkloadRef { kind, namespace, name } = workload;
    let params = PatchParams { dry_run, field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    Request::new(WorkloadObject::url_path(kind, Some(namespace))).patch(name, &params, patch)
}

fn parse(kind: KindRef, text: &Text) -> Result<WorkloadObject, WriteError> {
    WorkloadObject::read(kind, &text.json).map_err(|_| WriteError::NoWorkload)
}

/// Whether a decision from one version of a workload holds for the other, too: all but the version and the room for
/// annotations is the same.
fn has_same_inputs(one: &Workload, other: &Workload) -> bool {
    let with_version_of_other = Workload {
        namespace: other.namespace.clone(),
        name: other.name.clone(),
        resource_version: other.resource_version.clone(),
        annotations: other.annotations,
        template: PodTemplate { annotations: other.template.annotations, ..one.template.clone() },
        ..one.clone()
    };
    with_version_of_other == *other
}

/// Whether a JSON Patch was refused because one of its tests failed, as against a policy that answers with the same code.
fn is_failed_test(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let texts = causes.map(|cause| cause.message.as_str()).chain([status.message.as_str()]);
    status.code == 422
        && texts.into_iter().any(|text| text.contains("testing ") || text.contains("test operation"))
}
