//! The task that owns index, queue and gate: consumes changes from the watches, starts reconciles, handles their results.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::Client;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::digest::Digest;
use pod_reloader_core::reference::{ConfigRef, WorkloadRef};
use pod_reloader_core::workload::Idle;
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::metrics::Metrics as ApiMetrics;
use pod_reloader_k8s::objects::{Scope, WorkloadObject};
use pod_reloader_k8s::reader::ConfigReader;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::compare::{Comparison, Comparisons};
use crate::conditions::Condition;
use crate::fact::{Fact, Subject};
use crate::first_lists::FirstLists;
use crate::gate::Gate;
use crate::index::{Affected, Applied, Index, Presence, View};
use crate::live::LiveReads;
use crate::metrics::Metrics;
use crate::opt_ins::OptIns;
use crate::queue::Queue;
use crate::reconciler::{Reconciler, Report};
use crate::recreation::{Progress, StandIns};
use crate::rivals::Rivals;
use crate::selection::Selection;
use crate::sink::Publisher;
use crate::unconfirmed::UnconfirmedPatches;
use crate::watch::{Relister, Steering, Watches};
use crate::write::Writer;

mod opting_in;
mod reconciling;
mod recreating;
mod updates;

use opting_in::Relists;

/// Workloads that follow nothing any more whose record is taken off at once.
const CONCURRENT_DROPS: usize = 4;
/// Bytes of the budget for each config object that workloads refer to: it takes about this much in the index, and the
/// budget is three sixteenths of the memory limit.
const BUDGET_BYTES_PER_OBJECT: usize = 400;

/// What the reconciler needs.
#[derive(Clone)]
pub struct Settings {
    /// For watches, reads and writes.
    pub client: Client,
    /// Reads config objects; shared with the webhook.
    pub reader: Arc<ConfigReader>,
    /// The memory that may be used.
    pub budget: Budget,
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
    /// Identity of this replica in Events.
    pub instance: String,
    /// Counters of the reconciler.
    pub metrics: Metrics,
    /// Counters of API requests.
    pub api_metrics: ApiMetrics,
}

/// Runs the reconciler until `stop` is cancelled. Workloads that wait are then dropped, and running reconciles
/// complete; if that takes too long, this may be dropped at any time.
pub async fn run(settings: Settings, stop: CancellationToken) {
    let (steering, first_lists) = (Steering::new(), FirstLists::of(&settings.scope, Instant::now()));
    let (mut watches, relister) = Watches::start(
        &settings.client,
        &settings.reader,
        &settings.scope,
        &settings.metrics.watches,
        &steering,
        first_lists.objects_wait(),
    );
    let mut controller = Controller::new(&settings, steering, first_lists, relister);
    let mut key = settings.key.clone();
    tracing::info!("the reconciler runs");
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(update) = watches.next() => controller.take(update),
            (workload, failures) = controller.queue.next() => controller.start(&workload, failures),
            Some(done) = controller.running.join_next() => controller.finish(done),
            () = key.changed() => controller.key_changed(),
        }
        controller.start_comparisons();
        controller.start_relists();
        controller.admit();
        controller.reconciler.facts.make_way(controller.gate.is_pressed());
        controller.show();
    }
    drop(watches);
    controller.gate.close();
    while let Some(done) = controller.running.join_next().await {
        controller.finish(done);
    }
    controller.reconciler.facts.flush().await;
    tracing::info!("the reconciler stopped");
}

/// The result of a task that ran beside the controller.
enum Done {
    Reconciled {
        /// What it began with.
        view: Arc<View>,
        began: Instant,
        report: Box<Report>,
    },
    Compared(ConfigRef, Option<Digest>),
    /// A stand-in did what it could.
    Recreated(Arc<WorkloadRef>, Progress),
    /// What was recorded of a workload that follows nothing any more is gone, or stays for now.
    Dropped,
    /// The workloads of that namespace were listed once more.
    Relisted {
        namespace: String,
        is_complete: bool,
    },
}

struct Controller {
    index: Index,
    selection: Selection,
    opt_ins: OptIns,
    relister: Relister,
    relists: Relists,
    steering: Steering,
    first_lists: FirstLists,
    queue: Queue,
    gate: Gate,
    comparisons: Comparisons,
    stand_ins: StandIns,
    running: JoinSet<Done>,
    reconciler: Arc<Reconciler>,
    metrics: Metrics,
}

impl Controller {
    fn new(settings: &Settings, steering: Steering, first_lists: FirstLists, relister: Relister) -> Self {
        let (client, budget) = (&settings.client, &settings.budget);
        let metrics = settings.metrics.clone();
        let opt_ins = OptIns::new(&settings.scope);
        let reconciler = Reconciler {
            mode: settings.mode,
            key: settings.key.clone(),
            reader: settings.reader.clone(),
            live: LiveReads::new(settings.reader.clone()),
            writer: Writer::new(
                client.clone(),
                budget.clone(),
                &settings.scope,
                opt_ins.clone(),
                settings.api_metrics.clone(),
            ),
            opt_ins: opt_ins.clone(),
            drops: Semaphore::new(CONCURRENT_DROPS),
            facts: Publisher::new(settings),
            unconfirmed: UnconfirmedPatches::default(),
            rivals: Rivals::default(),
            namespaces: AtomicUsize::new(0),
            metrics: metrics.clone(),
        };
        let max_objects = budget.total() / BUDGET_BYTES_PER_OBJECT;
        let controller = Self {
            selection: Selection::new(&settings.scope),
            opt_ins,
            relister,
            relists: Relists::default(),
            steering,
            first_lists,
            index: Index::new(settings.settle_window, settings.mode == HashMode::Content, max_objects),
            queue: Queue::default(),
            gate: Gate::new(settings.max_concurrent_patches),
            comparisons: Comparisons::default(),
            stand_ins: StandIns::default(),
            running: JoinSet::new(),
            reconciler: Arc::new(reconciler),
            metrics,
        };
        controller.begin_workloads();
        controller
    }

    /// Has the workloads listed once it is known where they are wanted, and where namespaces opt in for them.
    fn begin_workloads(&self) {
        if self.selection.is_complete() && self.opt_ins.lock().is_complete() {
            self.steering.begin();
        }
    }

    fn workload_is(&mut self, workload: &Arc<WorkloadRef>, object: WorkloadObject, received: Instant) {
        if object.workload.idle == Some(Idle::StandIn) {
            return self.stand_in_is(workload, object.workload.is_deleting);
        }
        let uid = object.workload.uid.clone();
        let surrounded = self.opt_ins.surround(object.workload, &workload.namespace);
        self.drop_record_of_others(workload, &surrounded, received);
        let (applied, orphans) = self.index.apply_workload(workload, surrounded, received);
        match applied {
            Applied::Managed => {
                self.reconciler.facts.resolve(workload, &[Condition::TooManyReferences]);
            }
            Applied::Unmanaged => self.reconciler.forget(workload),
            Applied::NoRoom => {
                // Nothing else is kept of it.
                let subject = Subject { workload: WorkloadRef::clone(workload), uid, resource_version: None };
                self.reconciler.facts.publish(&subject, &Fact::LeftOut);
            }
        }
        for orphan in orphans {
            self.reconciler.reader.forget(&orphan);
        }
    }

    fn workload_is_gone(&mut self, workload: &WorkloadRef) {
        self.relists.deleted(workload);
        self.wake_stand_ins(workload);
        for orphan in self.index.delete_workload(workload) {
            self.reconciler.reader.forget(&orphan);
        }
        self.reconciler.forget(workload);
    }

    fn object_is(&mut self, object: &ConfigRef, presence: &Presence) {
        let now = Instant::now();
        let Affected { to_settle, at_once, compare } = self.index.apply_object(object, presence, now);
        self.reconcile_when_settled(to_settle);
        for workload in at_once {
            self.reconcile_now(&workload);
        }
        if compare {
            self.comparisons.ask(object);
        }
    }

    fn start_comparisons(&mut self) {
        while let Some(Comparison { object, at }) = self.comparisons.next(Instant::now()) {
            let reconciler = self.reconciler.clone();
            self.running.spawn(async move {
                sleep_until(at).await;
                let digest = reconciler.read_digest(&object, at).await;
                Done::Compared(object, digest)
            });
        }
    }

    fn reconcile_now(&mut self, workload: &WorkloadRef) {
        if let Some(workload) = self.index.known(workload) {
            self.queue.schedule(&workload, Instant::now());
        }
    }

    fn reconcile_when_settled(&mut self, workloads: Vec<Arc<WorkloadRef>>) {
        for workload in workloads {
            let due = self.index.due(&workload).unwrap_or_else(Instant::now);
            self.queue.schedule(&workload, due);
        }
    }

    fn key_changed(&mut self) {
        self.index.forget_digests();
        self.reconciler.rivals.reset();
        let mut all: Vec<_> = self.index.workloads().cloned().collect();
        all.extend(self.stand_ins.reconsider());
        for workload in all {
            self.queue.schedule(&workload, Instant::now());
        }
    }

    fn finish(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Reconciled { view, began, report }) => self.finish_reconcile(&view, began, *report),
            Ok(Done::Compared(object, digest)) => {
                // Another version that was seen while this was read is compared by the next read.
                let is_behind = self.comparisons.done(&object);
                let to_settle = self.index.compare_object(&object, digest, is_behind);
                self.reconcile_when_settled(to_settle);
            }
            Ok(Done::Dropped) => {}
            Ok(Done::Recreated(stand_in, progress)) => self.recreated(&stand_in, progress),
            Ok(Done::Relisted { namespace, is_complete }) => self.relisted(&namespace, is_complete),
            Err(error) if error.is_cancelled() => {}
            // A bug: the process ends and is restarted rather than go on with a workload that is never reconciled.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn show(&self) {
        let size = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.workloads.set(size(self.index.workload_count()));
        self.metrics.references.set(size(self.index.object_count()));
        self.metrics.queued.set(size(self.queue.len()));
        let unreadable = self.reconciler.facts.count(Condition::ReferenceUnreadable);
        self.metrics.unreadable.set(size(unreadable));
        self.metrics.contested.set(size(self.reconciler.rivals.contested(Instant::now())));
        self.reconciler.namespaces.store(self.index.namespace_count(), Ordering::Relaxed);
    }
}
