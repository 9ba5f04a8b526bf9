//! Writes the Events of the backlog, and those again that met a passing failure.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_k8s::FIELD_MANAGER;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::Form;
use super::backlog::{Backlog, Next};
use crate::fact::Subject;
use crate::metrics::Metrics;

/// The API server takes notes of up to 1 KiB.
const MAX_NOTE: usize = 1000;
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before an Event is tried again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// An Event that could not be written so long after its first attempt is given up.
const EVENT_DEADLINE: Duration = Duration::from_mins(5);
const REPORTER: &str = "pod-reloader";

/// An Event that is yet to be written.
pub(super) struct Waiting {
    subject: Subject,
    form: Form,
    note: String,
    /// When it happened.
    at: SystemTime,
    first_attempt: Option<Instant>,
    pause: Duration,
}

impl Waiting {
    pub(super) fn new(subject: &Subject, form: Form, mut note: String) -> Self {
        if note.len() > MAX_NOTE {
            note.truncate(note.floor_char_boundary(MAX_NOTE));
            note.push_str(" ...");
        }
        note.shrink_to_fit();
        let subject = subject.clone();
        Self { subject, form, note, at: SystemTime::now(), first_attempt: None, pause: FIRST_PAUSE }
    }

    fn namespace(&self) -> &str {
        &self.subject.workload.namespace
    }

    /// About what it takes in memory.
    fn bytes(&self) -> usize {
        let Subject { workload, uid, resource_version } = &self.subject;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        size_of::<Self>()
            + self.note.len()
            + workload.namespace.len()
            + workload.name.len()
            + text(uid)
            + text(resource_version)
    }

    fn event(&self, instance: &str) -> Event {
        let WorkloadRef { kind, namespace, name } = &self.subject.workload;
        let since_epoch = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let prefix: String = name.chars().take(220).collect();
        Event {
            metadata: ObjectMeta {
                namespace: Some(namespace.clone()),
                name: Some(format!("{}.{:x}", prefix.trim_end_matches(['.', '-']), since_epoch.as_nanos())),
                ..ObjectMeta::default()
            },
            event_time: Timestamp::try_from(self.at).ok().map(MicroTime),
            type_: Some(self.form.event_type.into()),
            reason: Some(self.form.reason.into()),
            action: Some(self.form.action.into()),
            note: Some(self.note.clone()),
            regarding: Some(ObjectReference {
                api_version: Some(kind.api_version()),
                kind: Some(kind.as_str().into()),
                namespace: Some(namespace.clone()),
                name: Some(name.clone()),
                uid: self.subject.uid.clone(),
                resource_version: self.subject.resource_version.clone(),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(REPORTER.into()),
            reporting_instance: Some(instance.to_owned()),
            ..Event::default()
        }
    }
}

/// See the module.
pub(super) struct Writer {
    client: Client,
    /// Names this replica.
    instance: String,
    metrics: Metrics,
    backlog: Mutex<Backlog<Waiting>>,
    /// Something about the backlog is new.
    news: Notify,
    has_ended: AtomicBool,
    tasks: TaskTracker,
}

/// What came of an attempt.
enum Attempt {
    Written,
    Refused(String),
    Failed,
}

impl Writer {
    pub(super) fn new(client: Client, instance: String, metrics: Metrics) -> Self {
        Self {
            client,
            instance,
            metrics,
            backlog: Mutex::default(),
            news: Notify::new(),
            has_ended: false.into(),
            tasks: TaskTracker::new(),
        }
    }

    /// Begins to write.
    pub(super) fn start(self: &Arc<Self>) {
        self.tasks.spawn(self.clone().run());
    }

    pub(super) fn add(&self, waiting: Waiting) {
        let (namespace, bytes) = (waiting.namespace().to_owned(), waiting.bytes());
        let refused = self.backlog().push(&namespace, waiting, bytes, Instant::now());
        match refused {
            Ok(()) => self.news.notify_one(),
            Err(Waiting { subject, form, .. }) => {
                self.metrics.count_event_error();
                let (workload, reason) = (subject.workload, form.reason);
                tracing::debug!(%workload, reason, "too many Events wait: this one is given up");
            }
        }
    }

    /// See [`super::Sink::make_way`].
    pub(super) fn make_way(&self, makes_way: bool) {
        if self.backlog().make_way(makes_way) {
            self.news.notify_one();
        }
    }

    /// No Event is added any more.
    pub(super) fn end(&self) {
        self.make_way(false);
        self.has_ended.store(true, Ordering::Relaxed);
        self.news.notify_one();
    }

    /// Waits briefly for what is left.
    pub(super) async fn flush(&self) {
        self.end();
        self.tasks.close();
        timeout(EVENT_TIMEOUT, self.tasks.wait()).await.unwrap_or_default();
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog<Waiting>> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out what may be written, until nothing is left and nothing will come.
    async fn run(self: Arc<Self>) {
        loop {
            let next = self.backlog().next(Instant::now());
            match next {
                Next::Write(waiting) => {
                    self.tasks.spawn(self.clone().write(waiting));
                }
                Next::Wait(until) => {
                    let has_ended = self.has_ended.load(Ordering::Relaxed);
                    if has_ended && self.backlog().is_empty() {
                        return;
                    }
                    match until {
                        // Whatever is new is looked at.
                        Some(until) => timeout_at(until, self.news.notified()).await.unwrap_or_default(),
                        None => self.news.notified().await,
                    }
                }
            }
        }
    }

    async fn write(self: Arc<Self>, mut waiting: Waiting) {
        let first_attempt = *waiting.first_attempt.get_or_insert_with(Instant::now);
        let attempt = self.attempt(&waiting).await;
        let namespace = waiting.namespace().to_owned();
        self.backlog().done(&namespace);
        self.news.notify_one();
        let (workload, reason) = (&waiting.subject.workload, waiting.form.reason);
        let error = match attempt {
            Attempt::Written => None,
            Attempt::Refused(why) => Some(why),
            Attempt::Failed if first_attempt.elapsed() + waiting.pause < EVENT_DEADLINE => {
                sleep(waiting.pause).await;
                waiting.pause = (waiting.pause * 2).min(MAX_PAUSE);
                self.backlog().again(&namespace, waiting, Instant::now());
                self.news.notify_one();
                return;
            }
            Attempt::Failed => Some("no answer in time".to_owned()),
        };
        if let Some(error) = error {
            self.metrics.count_event_error();
            tracing::warn!(%workload, reason, error, "cannot write an Event");
        }
        self.backlog().forget(&namespace, waiting.bytes());
        self.news.notify_one();
    }

    async fn attempt(&self, waiting: &Waiting) -> Attempt {
        let api = Api::<Event>::namespaced(self.client.clone(), waiting.namespace());
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        match timeout(EVENT_TIMEOUT, api.create(&params, &waiting.event(&self.instance))).await {
            Ok(Ok(_)) => Attempt::Written,
            // By an attempt whose answer was lost.
            Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => Attempt::Written,
            Ok(Err(kube::Error::Api(status)))
                if (400..500).contains(&status.code) && !matches!(status.code, 408 | 429) =>
            {
                Attempt::Refused(kube::Error::Api(status).to_string())
            }
            Ok(Err(_)) | Err(_) => Attempt::Failed,
        }
    }
}
