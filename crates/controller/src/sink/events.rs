//! Facts in Events on the workloads (5.8).
//!
//! Written one by one rather than by kube's `Recorder`, which folds repeats into one Event with the first one's
//! note: each reload has to name the references that changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::{BoxFuture, FutureExt};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_k8s::FIELD_MANAGER;
use pod_reloader_k8s::fair::FairSemaphore;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::Sink;
use crate::conditions::Condition;
use crate::fact::{Fact, Subject};
use crate::metrics::Metrics;

/// The API server takes notes of up to 1 KiB.
const MAX_NOTE: usize = 1000;
/// Events must not delay patches: few at once, and not for long.
const CONCURRENT_EVENTS: usize = 8;
/// Events of one namespace that wait; more are given up at once, so that they do not pile up.
const MAX_WAITING_OF_NAMESPACE: usize = 500;
/// And of all. What namespaces have in excess of their share is given up before that of other namespaces.
const MAX_WAITING: usize = 4_000;
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before an Event is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// An Event that could not be written by then is given up, so that they do not pile up.
const EVENT_DEADLINE: Duration = Duration::from_mins(5);
const REPORTER: &str = "pod-reloader";

/// Writes Events in the background.
pub(super) struct Events {
    client: Client,
    /// Names this replica.
    instance: String,
    slots: FairSemaphore,
    under_way: TaskTracker,
    waiting: Waiting,
    metrics: Metrics,
}

impl Sink for Events {
    /// Writes an Event. One that meets a passing failure is tried again until [`EVENT_DEADLINE`]; what cannot be written
    /// is logged and counted, nothing else: the work itself is done.
    fn publish(&self, subject: &Subject, fact: &Fact) {
        let Some(form) = Form::of(fact) else { return };
        let (workload, reason) = (subject.workload.clone(), form.reason);
        let Some(waiting) = self.waiting.enter(&workload.namespace) else {
            self.metrics.count_event_error();
            tracing::debug!(%workload, reason, "too many Events wait: this one is given up");
            return;
        };
        let api = Api::<Event>::namespaced(self.client.clone(), &workload.namespace);
        let event = self.event(subject, &form, fact.to_string());
        let (slots, metrics) = (self.slots.clone(), self.metrics.clone());
        self.under_way.spawn(async move {
            let _waiting = waiting;
            let error = match timeout(EVENT_DEADLINE, write_event(&api, &event, &slots)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            metrics.count_event_error();
            tracing::warn!(%workload, reason, error, "cannot write an Event");
        });
    }

    /// Waits briefly for pending Events; the rest continue in the background.
    fn flush(&self) -> BoxFuture<'_, ()> {
        self.under_way.close();
        async { timeout(EVENT_TIMEOUT, self.under_way.wait()).await.unwrap_or_default() }.boxed()
    }
}

impl Events {
    pub(super) fn new(client: Client, instance: String, metrics: Metrics) -> Self {
        Self {
            client,
            instance,
            slots: FairSemaphore::new(CONCURRENT_EVENTS),
            under_way: TaskTracker::new(),
            waiting: Waiting::default(),
            metrics,
        }
    }

    fn event(&self, subject: &Subject, form: &Form, mut note: String) -> Event {
        let WorkloadRef { kind, namespace, name } = &subject.workload;
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
            type_: Some(form.event_type.into()),
            reason: Some(form.reason.into()),
            action: Some(form.action.into()),
            note: Some(note),
            regarding: Some(ObjectReference {
                api_version: Some(kind.api_version()),
                kind: Some(kind.as_str().into()),
                namespace: Some(namespace.clone()),
                name: Some(name.clone()),
                uid: subject.uid.clone(),
                resource_version: subject.resource_version.clone(),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(REPORTER.into()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

/// The fixed words of an Event.
struct Form {
    event_type: &'static str,
    reason: &'static str,
    action: &'static str,
}

impl Form {
    /// `None` if the fact leaves no Event.
    fn of(fact: &Fact) -> Option<Self> {
        let warning = |reason, action| Some(Self { event_type: "Warning", reason, action });
        match fact {
            // SAP's word for a reload.
            Fact::Reloaded(_) => {
                Some(Self { event_type: "Normal", reason: "ConfigurationChanged", action: "Reload" })
            }
            Fact::KeyReplaced => warning("KeyReplaced", "Record"),
            _ => fact.condition().and_then(|condition| warning(condition.as_str(), action(condition))),
        }
    }
}

/// What the operator does about a condition.
const fn action(condition: Condition) -> &'static str {
    match condition {
        Condition::ReloadDeferred | Condition::PatchRefused | Condition::ReferenceUnreadable => "Wait",
        Condition::InvalidReference
        | Condition::NoRoom
        | Condition::ReferenceNotFound
        | Condition::TooManyReferences
        | Condition::SecretsNotFollowed => "LeaveOut",
        Condition::AnotherInstallation => "StandDown",
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
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
