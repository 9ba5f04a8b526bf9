//! The task that owns index and queue: takes news from the watches, starts looks at workloads, takes their reports.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::Event;
use kube::{Client, Resource};
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::reference::{ConfigKind, ConfigName, ConfigRef, WorkloadKind, WorkloadRef};
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::metrics::Metrics as ApiMetrics;
use pod_reloader_k8s::objects::{ConfigMeta, Scope, WorkloadObject};
use pod_reloader_k8s::reader::ConfigReader;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::events::Recorder;
use crate::index::{Affected, Coverage, Index, Presence, View};
use crate::live::LiveReads;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::reconcile::{Outcome, Reconciler, Report};
use crate::unanswered::Unanswered;
use crate::watch::{News, watch_all};
use crate::write::Writer;

/// What the reconciler needs.
#[derive(Clone)]
pub struct Settings {
    /// For watches, reads and writes.
    pub client: Client,
    /// Reads config objects; shared with the webhook.
    pub reader: Arc<ConfigReader>,
    /// The digest key.
    pub key: KeyReader,
    /// How hashes are made.
    pub mode: HashMode,
    /// Where to watch.
    pub scope: Scope,
    /// How long a workload's references must have been quiet before a reload (3.1); zero for at once.
    pub settle_window: Duration,
    /// Patches under way at once (5.6).
    pub max_concurrent_patches: usize,
    /// Names this replica in Events.
    pub instance: String,
    /// Counters of the reconciler.
    pub metrics: Metrics,
    /// Counters of API requests.
    pub api_metrics: ApiMetrics,
}

/// Runs the reconciler until `stop` is cancelled; looks that are under way are then finished, but nothing is begun.
pub async fn run(settings: Settings, stop: CancellationToken) {
    let mut controller = Controller::new(&settings);
    let mut news = watch_all(&settings.client, &settings.scope);
    let mut key = settings.key.clone();
    tracing::info!("the reconciler runs");
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(news) = news.next() => controller.take(news),
            (reference, failures) = controller.queue.next() => controller.start(&reference, failures),
            Some(report) = controller.running.join_next() => controller.finish(report),
            () = key.changed() => controller.look_at_all(),
        }
        controller.show();
    }
    // What waits for its turn is given up, what is half done is finished.
    controller.reconciler.begin_nothing_more();
    while controller.running.join_next().await.is_some() {}
    controller.reconciler.recorder.finish().await;
    tracing::info!("the reconciler stopped");
}

/// A look at a workload that is over.
struct Look {
    /// What it began with.
    view: Arc<View>,
    began: Instant,
    report: Report,
}

struct Controller {
    index: Index,
    queue: Queue,
    running: JoinSet<Look>,
    reconciler: Arc<Reconciler>,
    metrics: Metrics,
}

impl Controller {
    fn new(settings: &Settings) -> Self {
        let reconciler = Reconciler {
            mode: settings.mode,
            key: settings.key.clone(),
            reader: settings.reader.clone(),
            live: LiveReads::new(settings.reader.clone()),
            writer: Writer::new(settings.client.clone(), settings.api_metrics.clone()),
            recorder: Recorder::new(
                settings.client.clone(),
                settings.instance.clone(),
                settings.metrics.clone(),
            ),
            unanswered: Unanswered::default(),
            metrics: settings.metrics.clone(),
            slots: Semaphore::new(settings.max_concurrent_patches),
            retry_slots: Semaphore::new((settings.max_concurrent_patches / 4).max(1)),
        };
        Self {
            index: Index::new(settings.settle_window),
            queue: Queue::default(),
            running: JoinSet::new(),
            reconciler: Arc::new(reconciler),
            metrics: settings.metrics.clone(),
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Workload(coverage, event) => self.take_workload(&coverage, event),
            News::Object(coverage, event) => self.take_object(&coverage, event),
            News::Failure(kind, error) => {
                self.metrics.count_watch_error(kind);
                tracing::warn!(kind, %error, "a watch failed and starts again");
            }
        }
    }

    fn take_workload(&mut self, coverage: &Coverage<WorkloadKind>, event: Event<WorkloadObject>) {
        match event {
            Event::Init => self.index.begin_workloads(coverage),
            Event::InitApply(object) | Event::Apply(object) => {
                let Some(reference) = object.reference(coverage.kind) else { return };
                self.index.list_workload(coverage, &reference);
                self.workload_is(&reference, object, Instant::now());
                // Every workload event is compared anew (5.3).
                self.look_now(&reference);
            }
            Event::Delete(object) => {
                if let Some(reference) = object.reference(coverage.kind) {
                    self.workload_is_gone(&reference);
                }
            }
            Event::InitDone => {
                for reference in self.index.end_workloads(coverage) {
                    self.workload_is_gone(&reference);
                }
            }
        }
    }

    fn take_object(&mut self, coverage: &Coverage<ConfigKind>, event: Event<ConfigMeta>) {
        let reference = |object: &ConfigMeta| {
            let meta = object.meta();
            let name = ConfigName { kind: coverage.kind, name: meta.name.clone()? };
            Some(ConfigRef::new(meta.namespace.clone()?, name))
        };
        match event {
            Event::Init => self.index.begin_objects(coverage),
            Event::InitApply(object) | Event::Apply(object) => {
                let Some(name) = reference(&object) else { return };
                self.index.list_object(coverage, &name);
                let meta = object.meta();
                let uid = meta.uid.clone().unwrap_or_default();
                let resource_version = meta.resource_version.clone().unwrap_or_default();
                self.object_is(&name, &Presence::Version { uid, resource_version });
            }
            Event::Delete(object) => {
                if let Some(name) = reference(&object) {
                    self.object_is(&name, &Presence::Absent);
                }
            }
            Event::InitDone => {
                for name in self.index.end_objects(coverage) {
                    self.object_is(&name, &Presence::Absent);
                }
            }
        }
    }

    fn workload_is(&mut self, reference: &WorkloadRef, object: WorkloadObject, received: Instant) {
        let (is_ours, orphans) = self.index.apply_workload(reference, object.workload, received);
        if !is_ours {
            self.reconciler.forget(reference);
        }
        for orphan in orphans {
            self.reconciler.reader.forget(&orphan);
        }
    }

    fn workload_is_gone(&mut self, reference: &WorkloadRef) {
        for orphan in self.index.delete_workload(reference) {
            self.reconciler.reader.forget(&orphan);
        }
        self.reconciler.forget(reference);
    }

    fn object_is(&mut self, object: &ConfigRef, presence: &Presence) {
        let now = Instant::now();
        let Affected { to_settle, at_once } = self.index.apply_object(object, presence, now);
        for reference in to_settle {
            let due = self.index.due(&reference).unwrap_or(now);
            self.queue.schedule(&reference, due);
        }
        for reference in at_once {
            self.look_now(&reference);
        }
    }

    fn look_now(&mut self, reference: &WorkloadRef) {
        if self.index.snapshot(reference).is_some() {
            self.queue.schedule(reference, Instant::now());
        }
    }

    fn look_at_all(&mut self) {
        let all: Vec<_> = self.index.workloads().cloned().collect();
        for reference in all {
            self.queue.schedule(&reference, Instant::now());
        }
    }

    fn start(&mut self, reference: &WorkloadRef, failures: u32) {
        let Some(snapshot) = self.index.snapshot(reference) else {
            self.queue.done(reference, None);
            return;
        };
        let reconciler = self.reconciler.clone();
        let began = Instant::now();
        self.running.spawn(async move {
            let view = snapshot.view.clone();
            let report = reconciler.reconcile(snapshot, failures).await;
            Look { view, began, report }
        });
    }

    fn finish(&mut self, look: Result<Look, JoinError>) {
        let Look { view, began, report } = match look {
            Ok(look) => look,
            Err(error) if error.is_cancelled() => return,
            // A bug: the process ends and starts anew rather than go on with a workload that is never looked at.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let reference = view.reference.clone();
        if let Some((object, received)) = report.refreshed
            && self.index.is_latest(&view)
        {
            self.workload_is(&reference, object, received);
        }
        // After the workload, whose references may be others now.
        for (object, presence) in report.learned {
            self.index.learn(&object, presence);
        }
        match report.outcome {
            Outcome::Done => {
                self.index.settled(&reference, began);
                self.queue.done(&reference, None);
            }
            Outcome::SettleUntil(at) => self.queue.done(&reference, Some(at)),
            Outcome::Gone => self.queue.done(&reference, None),
            Outcome::Failed => {
                let jitter = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
                self.queue.failed(&reference, Instant::now(), jitter);
            }
        }
    }

    fn show(&self) {
        let size = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.workloads.set(size(self.index.workload_count()));
        self.metrics.references.set(size(self.index.object_count()));
        self.metrics.queued.set(size(self.queue.len()));
    }
}
