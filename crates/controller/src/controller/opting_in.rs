//! What becomes of workloads when their namespace's label, or a mark on a config object, comes or goes (7.4): they are
//! listed once more, since of those that followed nothing so far none is kept.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kube::Resource;
use pod_reloader_core::dialect::own::Auto;
use pod_reloader_core::kind::KindRef;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_core::workload::{Idle, Workload};
use pod_reloader_k8s::objects::{NamespaceMeta, WorkloadObject};
use tokio::time::{Instant, sleep};

use super::{Controller, Done};
use crate::index::View;
use crate::watch::{Change, Coverage};

/// Namespaces that are listed at once.
const MAX_RELISTS: usize = 4;
/// Between two lists of one namespace, whatever happens there.
const PAUSE: Duration = Duration::from_millis(500);
/// If more namespaces than this wait, as after a start, one list of the whole cluster is less.
const MANY: usize = 16;
/// Between two such lists: tenants with many namespaces could ask for one all the time.
const WHOLE_PAUSE: Duration = Duration::from_mins(1);

/// The namespaces whose workloads are to be listed once more.
#[derive(Debug, Default)]
pub(crate) struct Relists {
    /// In the order in which they are wanted, each once.
    wanted: VecDeque<String>,
    running: HashMap<String, Running>,
    /// When all workloads were listed instead.
    whole_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Running {
    /// Something happened there since the list began.
    again: bool,
    /// What was deleted since then: the list may be older.
    deleted: HashSet<WorkloadRef>,
}

impl Relists {
    fn want(&mut self, namespace: &str) {
        match self.running.get_mut(namespace) {
            Some(running) => running.again = true,
            None if self.wanted.iter().any(|it| it == namespace) => {}
            None => self.wanted.push_back(namespace.to_owned()),
        }
    }

    /// Whether so many wait that all workloads are to be listed instead. Then none waits any more.
    fn are_many(&mut self, now: Instant) -> bool {
        let is_due = self.whole_at.is_none_or(|at| now.duration_since(at) >= WHOLE_PAUSE);
        let are_many = self.wanted.len() > MANY && is_due;
        if are_many {
            self.wanted.clear();
            self.whole_at = Some(now);
        }
        are_many
    }

    fn next(&mut self) -> Option<String> {
        if self.running.len() >= MAX_RELISTS {
            return None;
        }
        let namespace = self.wanted.pop_front()?;
        self.running.insert(namespace.clone(), Running::default());
        Some(namespace)
    }

    fn done(&mut self, namespace: &str) {
        if self.running.remove(namespace).is_some_and(|running| running.again) {
            self.wanted.push_back(namespace.to_owned());
        }
    }

    /// The workload is gone.
    pub(crate) fn deleted(&mut self, workload: &WorkloadRef) {
        if let Some(running) = self.running.get_mut(&workload.namespace) {
            running.deleted.insert(workload.clone());
        }
    }

    fn was_deleted(&self, workload: &WorkloadRef) -> bool {
        self.running.get(&workload.namespace).is_some_and(|running| running.deleted.contains(workload))
    }
}

impl Controller {
    pub(super) fn take_label(&mut self, coverage: &Coverage<()>, change: &Change<NamespaceMeta>) {
        let name = |namespace: &NamespaceMeta| namespace.meta().name.clone().unwrap_or_default();
        let label = |namespace: &NamespaceMeta, auto, coverage| {
            let name = name(namespace);
            self.opt_ins.lock().label(&name, auto, coverage).then_some(name)
        };
        let changed: Vec<_> = match change {
            Change::ListBegins => {
                self.opt_ins.lock().begin_labels(coverage);
                vec![]
            }
            Change::Listed(namespace) => {
                label(namespace, namespace.auto(), Some(coverage)).into_iter().collect()
            }
            Change::Applied(namespace) => label(namespace, namespace.auto(), None).into_iter().collect(),
            Change::Deleted(namespace) => label(namespace, Auto::Off, None).into_iter().collect(),
            Change::ListEnds => self.opt_ins.lock().end_labels(coverage),
            Change::ListFailed => {
                self.opt_ins.lock().labels_failed(coverage);
                vec![]
            }
        };
        for namespace in changed {
            self.relist(&namespace);
        }
        self.begin_workloads();
    }

    /// A config object is there, marked or not; `coverage` if a list says so.
    pub(super) fn take_mark(
        &mut self,
        object: &ConfigRef,
        is_marked: bool,
        coverage: Option<&Coverage<ConfigKind>>,
    ) {
        if self.opt_ins.lock().mark(object, is_marked, coverage) {
            self.relist(&object.namespace);
        }
    }

    fn relist(&mut self, namespace: &str) {
        // The first list of workloads is yet to come.
        if self.steering.has_begun() {
            self.relists.want(namespace);
        }
    }

    /// What is recorded of a workload that follows nothing any more would count if it opted in again (3.25). The webhook takes
    /// it off where it sees the write.
    pub(super) fn drop_record_of_others(
        &mut self,
        workload_ref: &Arc<WorkloadRef>,
        workload: &Workload,
        received: Instant,
    ) {
        let is_over = matches!(workload.idle, Some(Idle::Finished | Idle::Controlled));
        let is_ours = workload.is_managed() || workload.is_ignored || workload.is_deleting || is_over;
        // Of a kind that the webhook does not see, nobody else takes off what lists had recorded.
        let is_recorded = if workload_ref.kind.is_reviewed() {
            !workload.recorded_as_followed().is_empty()
        } else {
            workload.observed.is_some()
        };
        if is_ours || !is_recorded {
            return;
        }
        let (workload_ref, workload) = (workload_ref.clone(), workload.clone());
        let reconciler = self.reconciler.clone();
        self.running.spawn(async move {
            reconciler.drop_record(&View { workload_ref, workload, received }).await;
            Done::Dropped
        });
    }

    pub(super) fn start_relists(&mut self) {
        if self.relists.are_many(Instant::now()) {
            return self.steering.relist();
        }
        while let Some(namespace) = self.relists.next() {
            let relister = self.relister.clone();
            self.running.spawn(async move {
                let is_complete = relister.relist(namespace.clone()).await;
                sleep(PAUSE).await;
                Done::Relisted { namespace, is_complete }
            });
        }
    }

    pub(super) fn relisted(&mut self, namespace: &str, is_complete: bool) {
        self.relists.done(namespace);
        if !is_complete {
            // It took its time to fail.
            self.relists.want(namespace);
        }
    }

    /// A workload as a list of its namespace has it, which may be older than what the watch reported.
    pub(super) fn take_relisted(&mut self, coverage: &Coverage<KindRef>, change: Change<WorkloadObject>) {
        let Change::Listed(object) = change else { return };
        let Some(workload) = object.reference(coverage.kind).map(Arc::new) else { return };
        let is_outdated = self.relists.was_deleted(&workload)
            || self.index.is_newer(&workload, object.workload.resource_version.as_deref());
        if !is_outdated && self.selection.contains(&workload.namespace) {
            self.workload_is(&workload, object, Instant::now());
            self.reconcile_now(&workload);
        }
    }
}

#[cfg(test)]
mod tests {
    use pod_reloader_core::kind::apps::DEPLOYMENT;

    use super::*;

    #[test]
    fn c7_4_a_namespace_is_listed_once_at_a_time_and_again_if_something_happened_meanwhile() {
        let mut relists = Relists::default();
        for namespace in ["a", "b", "a", "c", "d", "e"] {
            relists.want(namespace);
        }
        let begun: Vec<_> = std::iter::from_fn(|| relists.next()).collect();
        assert_eq!(begun, ["a", "b", "c", "d"]);
        relists.want("a");
        let gone = WorkloadRef { kind: DEPLOYMENT, namespace: "a".into(), name: "web".into() };
        relists.deleted(&gone);
        assert!(relists.was_deleted(&gone));
        relists.done("b");
        assert_eq!(relists.next().as_deref(), Some("e"));
        relists.done("a");
        assert_eq!(relists.next().as_deref(), Some("a"));
        assert!(!relists.was_deleted(&gone), "this list has seen that");
        relists.done("a");
        assert_eq!(relists.next(), None);

        (0..MANY).for_each(|i| relists.want(&format!("n-{i}")));
        let now = Instant::now();
        assert!(!relists.are_many(now));
        relists.want("one-more");
        assert!(relists.are_many(now) && relists.wanted.is_empty());
        (0..=MANY).for_each(|i| relists.want(&format!("n-{i}")));
        assert!(!relists.are_many(now) && relists.are_many(now + WHOLE_PAUSE));
    }
}
