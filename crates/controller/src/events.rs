//! Kubernetes Events on workloads (5.8).
//!
//! Written one by one rather than by kube's `Recorder`, which folds repeats into one Event with the first one's
//! note: each reload has to name the references that changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_core::workload::Workload;
use pod_reloader_k8s::FIELD_MANAGER;
use pod_reloader_k8s::fair::FairSemaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::index::View;
use crate::metrics::Metrics;

/// The API server takes notes of up to 1 KiB.
const MAX_NOTE: usize = 1000;
/// Events must not delay patches: few at once, and not for long.
const CONCURRENT_EVENTS: usize = 8;
/// Events of one namespace that wait; more are given up at once, so that they do not pile up.
const MAX_WAITING_OF_NAMESPACE: usize = 500;
/// And of all. What namespaces have in excess of their share is given up before that of others.
const MAX_WAITING: usize = 4_000;
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before an Event is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An Event that could not be written by then is given up, so that they do not pile up.
const EVENT_PATIENCE: Duration = Duration::from_mins(5);
const REPORTER: &str = "pod-reloader";

/// What an Event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// A reload; SAP's word for it.
    ConfigurationChanged,
    /// A reload waits for something that the template requires.
    ReloadDeferred,
    /// A listed name that Kubernetes would refuse.
    InvalidReference,
    /// observed-config was made with a key that is lost.
    KeyReplaced,
    /// The API server or a policy refuses the patch, or undoes it.
    PatchRefused,
    /// The annotations would become too large.
    NoRoom,
    /// A reference cannot be read: forbidden, too large, or failing again and again.
    ReferenceUnreadable,
    /// A listed name that does not exist and that the template does not use.
    ReferenceNotFound,
    /// There is no memory for this workload's references.
    TooManyReferences,
    /// Another installation writes this workload.
    AnotherInstallation,
    /// Secrets are listed, and none are followed.
    SecretsNotFollowed,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigurationChanged => "ConfigurationChanged",
            Self::ReloadDeferred => "ReloadDeferred",
            Self::InvalidReference => "InvalidReference",
            Self::KeyReplaced => "KeyReplaced",
            Self::PatchRefused => "PatchRefused",
            Self::NoRoom => "NoRoom",
            Self::ReferenceUnreadable => "ReferenceUnreadable",
            Self::ReferenceNotFound => "ReferenceNotFound",
            Self::TooManyReferences => "TooManyReferences",
            Self::AnotherInstallation => "AnotherInstallation",
            Self::SecretsNotFollowed => "SecretsNotFollowed",
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::ConfigurationChanged => "Reload",
            Self::ReloadDeferred | Self::PatchRefused | Self::ReferenceUnreadable => "Wait",
            Self::InvalidReference
            | Self::NoRoom
            | Self::ReferenceNotFound
            | Self::TooManyReferences
            | Self::SecretsNotFollowed => "LeaveOut",
            Self::AnotherInstallation => "StandDown",
            Self::KeyReplaced => "Record",
        }
    }

    const fn is_warning(self) -> bool {
        !matches!(self, Self::ConfigurationChanged)
    }
}

/// Writes Events, beside the work: whoever tells something does not wait for it.
pub(crate) struct Recorder {
    client: Client,
    instance: String,
    slots: FairSemaphore,
    under_way: TaskTracker,
    waiting: Waiting,
    metrics: Metrics,
    /// The warnings that stand, so that each is told once.
    told: Mutex<HashMap<WorkloadRef, HashMap<Reason, String>>>,
}

impl Recorder {
    /// `instance` names this replica.
    pub(crate) fn new(client: Client, instance: String, metrics: Metrics) -> Self {
        let slots = FairSemaphore::new(CONCURRENT_EVENTS);
        Self {
            client,
            instance,
            slots,
            under_way: TaskTracker::new(),
            waiting: Waiting::default(),
            metrics,
            told: Mutex::default(),
        }
    }

    /// Writes an Event. One that meets a passing failure is tried again for [`EVENT_PATIENCE`]; what cannot be written is
    /// logged and counted, nothing else: the work itself is done.
    pub(crate) fn tell(&self, view: &View, reason: Reason, note: String) {
        let reference = view.reference.clone();
        let Some(waiting) = self.waiting.enter(&reference.namespace) else {
            self.metrics.count_event_error();
            tracing::debug!(workload = %reference, reason = reason.as_str(), "too many Events wait: this one is given up");
            return;
        };
        let api = Api::<Event>::namespaced(self.client.clone(), &reference.namespace);
        let event = self.event(view, reason, note);
        let (slots, metrics) = (self.slots.clone(), self.metrics.clone());
        self.under_way.spawn(async move {
            let _waiting = waiting;
            let error = match timeout(EVENT_PATIENCE, write_event(&api, &event, &slots)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            metrics.count_event_error();
            tracing::warn!(workload = %reference, reason = reason.as_str(), error, "cannot write an Event");
        });
    }

    /// Waits until all that was told is written, but not for long: what is left goes on as long as the process does.
    pub(crate) async fn finish(&self) {
        self.under_way.close();
        timeout(EVENT_TIMEOUT, self.under_way.wait()).await.unwrap_or_default();
    }

    /// Writes a warning about a workload of which nothing else is kept, likewise.
    pub(crate) fn warn_of(
        &self,
        reference: &WorkloadRef,
        uid: Option<String>,
        reason: Reason,
        note: String,
    ) -> bool {
        let workload = Workload { uid, ..Workload::default() };
        let view = View { reference: reference.clone(), workload, received: Instant::now() };
        self.warn_once(&view, reason, note)
    }

    /// Writes a warning, unless the same one stands already.
    pub(crate) fn warn_once(&self, view: &View, reason: Reason, note: String) -> bool {
        self.warn_about(view, reason, note.clone(), note)
    }

    /// Writes a warning, unless one about the same stands already: the note may tell of details that vary.
    pub(crate) fn warn_about(&self, view: &View, reason: Reason, about: String, note: String) -> bool {
        let before = self.told().entry(view.reference.clone()).or_default().insert(reason, about.clone());
        if reason == Reason::ReferenceUnreadable && before.is_none() {
            self.metrics.unreadable.inc();
        }
        let is_news = before != Some(about);
        if is_news {
            if reason == Reason::SecretsNotFollowed {
                // Said once at the start, and not of every workload.
                tracing::debug!(workload = %view.reference, reason = reason.as_str(), "{note}");
            } else {
                tracing::warn!(workload = %view.reference, reason = reason.as_str(), "{note}");
            }
            self.tell(view, reason, note);
        }
        is_news
    }

    /// Whether exactly that warning stands.
    pub(crate) fn stands(&self, reference: &WorkloadRef, reason: Reason, note: &str) -> bool {
        self.told().get(reference).and_then(|told| told.get(&reason)).is_some_and(|told| told == note)
    }

    /// The warning no longer stands.
    pub(crate) fn resolve(&self, reference: &WorkloadRef, reasons: &[Reason]) {
        let mut told = self.told();
        let Some(of_workload) = told.get_mut(reference) else { return };
        for reason in reasons {
            if of_workload.remove(reason).is_some() && *reason == Reason::ReferenceUnreadable {
                self.metrics.unreadable.dec();
            }
        }
        if of_workload.is_empty() {
            told.remove(reference);
        }
    }

    /// The workload is no longer ours.
    pub(crate) fn forget(&self, reference: &WorkloadRef) {
        let told = self.told().remove(reference);
        if told.is_some_and(|told| told.contains_key(&Reason::ReferenceUnreadable)) {
            self.metrics.unreadable.dec();
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, HashMap<WorkloadRef, HashMap<Reason, String>>> {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn event(&self, view: &View, reason: Reason, mut note: String) -> Event {
        let WorkloadRef { kind, namespace, name } = &view.reference;
        if note.len() > MAX_NOTE {
            let end = (0..=MAX_NOTE).rev().find(|end| note.is_char_boundary(*end)).unwrap_or_default();
            note.truncate(end);
            note.push_str(" ...");
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let prefix: String = name.chars().take(220).collect();
        Event {
            metadata: ObjectMeta {
                namespace: Some(namespace.clone()),
                name: Some(format!("{}.{:x}", prefix.trim_end_matches(['.', '-']), since_epoch.as_nanos())),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            type_: Some(if reason.is_warning() { "Warning" } else { "Normal" }.into()),
            reason: Some(reason.as_str().into()),
            action: Some(reason.action().into()),
            note: Some(note),
            regarding: Some(ObjectReference {
                api_version: Some(kind.api_version()),
                kind: Some(kind.as_str().into()),
                namespace: Some(namespace.clone()),
                name: Some(name.clone()),
                uid: view.workload.uid.clone(),
                resource_version: view.workload.resource_version.clone(),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(REPORTER.into()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

/// How many Events of each namespace wait.
#[derive(Clone, Debug, Default)]
struct Waiting(Arc<Mutex<HashMap<String, usize>>>);

/// One of them.
struct Waits {
    of: Waiting,
    namespace: String,
}

impl Waiting {
    /// `None` if there are too many.
    fn enter(&self, namespace: &str) -> Option<Waits> {
        let mut counts = self.counts();
        let all: usize = counts.values().sum();
        let count = counts.get(namespace).copied().unwrap_or_default();
        // With very many namespaces there is still room for the first of each.
        if count >= MAX_WAITING_OF_NAMESPACE || (all >= MAX_WAITING && count > 0) {
            return None;
        }
        counts.insert(namespace.to_owned(), count + 1);
        Some(Waits { of: self.clone(), namespace: namespace.to_owned() })
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut counts = self.of.counts();
        if let Some(count) = counts.get_mut(&self.namespace) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.namespace);
            }
        }
    }
}

async fn write_event(api: &Api<Event>, event: &Event, slots: &FairSemaphore) -> Result<(), kube::Error> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    let mut pause = FIRST_PAUSE;
    loop {
        let answer = {
            // In turns over namespaces: a policy webhook that hangs in one must not hold up the Events of others.
            let _slot = slots.acquire(namespace, 1).await;
            timeout(EVENT_TIMEOUT, api.create(&params, event)).await
        };
        match answer {
            Ok(Ok(_)) => return Ok(()),
            // By an attempt whose answer was lost.
            Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => return Ok(()),
            Ok(Err(kube::Error::Api(status)))
                if (400..500).contains(&status.code) && !matches!(status.code, 408 | 429) =>
            {
                return Err(kube::Error::Api(status));
            }
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
