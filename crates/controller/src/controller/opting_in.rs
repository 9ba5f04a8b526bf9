//! What becomes of workloads when their namespace's label, or a mark on a config object, comes or goes (7.4): they are
//! listed once more, since of those that followed nothing so far none is kept.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Resource;
use pod_reloader_core::dialect::own::Auto;
use pod_reloader_core::kind::KindRef;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_k8s::objects::{NamespaceMeta, WorkloadObject};
use tokio::time::{Instant, sleep};

use super::{Controller, Done};
use crate::watch::{Change, Coverage};

/// Namespaces that are listed at once.
const MAX_RELISTS: usize = 4;
/// Between two lists of one namespace, whatever happens there.
const PAUSE: Duration = Duration::from_millis(500);
/// If more namespaces than this wait, as after a start, one list of the whole cluster is less.
const MANY: usize = 16;

/// The namespaces whose workloads are to be listed once more.
#[derive(Debug, Default)]
pub(crate) struct Relists {
    wanted: BTreeSet<String>,
    running: HashMap<String, Running>,
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
            None => drop(self.wanted.insert(namespace.to_owned())),
        }
    }

    /// Whether so many wait that all workloads are to be listed instead. Then none waits any more.
    fn are_many(&mut self) -> bool {
        let are_many = self.wanted.len() > MANY;
        if are_many {
            self.wanted.clear();
        }
        are_many
    }

    fn next(&mut self) -> Option<String> {
        if self.running.len() >= MAX_RELISTS {
            return None;
        }
        let namespace = self.wanted.pop_first()?;
        self.running.insert(namespace.clone(), Running::default());
        Some(namespace)
    }

    fn done(&mut self, namespace: &str) {
        if self.running.remove(namespace).is_some_and(|running| running.again) {
            self.wanted.insert(namespace.to_owned());
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

    pub(super) fn start_relists(&mut self) {
        if self.relists.are_many() {
            return self.steering.relist();
        }
        while let Some(namespace) = self.relists.next() {
            let relister = self.relister.clone();
            self.running.spawn(async move {
                relister.relist(namespace.clone()).await;
                sleep(PAUSE).await;
                Done::Relisted(namespace)
            });
        }
    }

    pub(super) fn relisted(&mut self, namespace: &str) {
        self.relists.done(namespace);
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
        assert!(!relists.are_many());
        relists.want("one-more");
        assert!(relists.are_many() && !relists.are_many() && relists.wanted.is_empty());
    }
}
