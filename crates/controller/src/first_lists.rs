//! The first lists after a start, in the order that leaves nothing to be asked for: the workloads first, and then the
//! config objects, of which only those are kept that workloads refer to (5.2). A workload whose references are yet to be
//! listed waits for that, instead of reading each: ten thousand workloads that are all right cause no read.
//!
//! None of it is waited for for long: a list may fail, or take its time, and what it would have told can be read.

use std::collections::HashSet;
use std::time::Duration;

use pod_reloader_core::kind::{self, KindRef};
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_k8s::scope::Scope;
use tokio::time::Instant;

use crate::index::Snapshot;
use crate::watch::Coverage;

/// How long the config objects' lists wait for those of the workloads.
pub(crate) const OBJECTS_WAIT: Duration = Duration::from_secs(5);
/// How long workloads wait for the config objects' lists, from the start on.
const WORKLOADS_WAIT: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Debug)]
pub(crate) struct FirstLists {
    workloads: HashSet<Coverage<KindRef>>,
    objects: HashSet<Coverage<ConfigKind>>,
    until: Instant,
}

impl FirstLists {
    /// All of a start, which is now.
    pub(crate) fn of(scope: &Scope, now: Instant) -> Self {
        let secrets = scope.secrets.then_some(ConfigKind::Secret);
        let kinds = || std::iter::once(ConfigKind::ConfigMap).chain(secrets);
        let namespaces = scope.coverages();
        let workloads = namespaces.iter().flat_map(|namespace| {
            kind::BUILT_IN.into_iter().map(|kind| Coverage { kind, namespace: namespace.clone() })
        });
        let objects = namespaces
            .iter()
            .flat_map(|namespace| kinds().map(|kind| Coverage { kind, namespace: namespace.clone() }));
        Self { workloads: workloads.collect(), objects: objects.collect(), until: now + WORKLOADS_WAIT }
    }

    /// A list of workloads is complete. Returns whether it is the last of them.
    pub(crate) fn workloads_listed(&mut self, coverage: &Coverage<KindRef>) -> bool {
        self.workloads.remove(coverage) && self.workloads.is_empty()
    }

    /// A list of config objects is complete.
    pub(crate) fn objects_listed(&mut self, coverage: &Coverage<ConfigKind>) {
        self.objects.remove(coverage);
    }

    /// Until when the workload waits to be reconciled: a list is yet to tell of one of its references.
    pub(crate) fn wait_of(&self, snapshot: &Snapshot, now: Instant) -> Option<Instant> {
        let is_unknown = || {
            let mut unseen = snapshot.references.iter().filter(|reference| reference.presence.is_none());
            unseen.any(|reference| self.will_tell_of(&reference.object))
        };
        (now < self.until && !self.objects.is_empty() && is_unknown()).then_some(self.until)
    }

    fn will_tell_of(&self, object: &ConfigRef) -> bool {
        self.objects.iter().any(|coverage| coverage.contains(&object.kind, &object.namespace))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pod_reloader_core::workload::Workload;

    use super::*;
    use crate::index::{Presence, ReferenceState, View};

    fn snapshot(references: &[(ConfigRef, Option<Presence>)]) -> Snapshot {
        let now = Instant::now();
        let workload_ref = pod_reloader_core::reference::WorkloadRef {
            kind: kind::apps::DEPLOYMENT,
            namespace: "shop".into(),
            name: "app".into(),
        };
        let view =
            View { workload_ref: Arc::new(workload_ref), workload: Workload::default(), received: now };
        let references = references.iter().map(|(object, presence)| ReferenceState {
            object: object.clone(),
            presence: presence.clone(),
            is_reference: true,
            is_recent: false,
            first_seen: None,
        });
        Snapshot { view: Arc::new(view), references: references.collect(), settled_at: now, changed_at: None }
    }

    #[tokio::test(start_paused = true)]
    async fn c5_7_what_is_yet_to_be_listed_is_waited_for_and_nothing_else() {
        let now = Instant::now();
        let mut lists = FirstLists::of(&Scope::default(), now);
        let (map, secret) = (ConfigRef::configmap("shop", "a"), ConfigRef::secret("shop", "b"));
        let unknown = snapshot(&[(map.clone(), Some(Presence::Absent)), (secret.clone(), None)]);
        let known = snapshot(&[(map.clone(), Some(Presence::Absent))]);
        assert_eq!(lists.wait_of(&unknown, now), Some(now + WORKLOADS_WAIT));
        assert_eq!(lists.wait_of(&known, now), None);
        assert_eq!(lists.wait_of(&unknown, now + WORKLOADS_WAIT), None, "not for ever");
        lists.objects_listed(&Coverage { kind: ConfigKind::ConfigMap, namespace: None });
        assert!(lists.wait_of(&unknown, now).is_some());
        lists.objects_listed(&Coverage { kind: ConfigKind::Secret, namespace: None });
        assert_eq!(lists.wait_of(&unknown, now), None, "it was created since, and a watch will tell");

        let one = Scope { namespaces: Some(["other".to_owned()].into()), ..Scope::default() };
        assert_eq!(FirstLists::of(&one, now).wait_of(&unknown, now), None, "no list tells of it");
    }

    #[tokio::test(start_paused = true)]
    async fn c5_7_the_last_list_of_workloads_is_noticed_once() {
        let mut lists = FirstLists::of(&Scope::default(), Instant::now());
        let all = kind::BUILT_IN.map(|kind| Coverage { kind, namespace: None });
        let (last, before) = all.split_last().unwrap();
        for coverage in before {
            assert!(!lists.workloads_listed(coverage));
        }
        assert!(!lists.workloads_listed(&before[0]), "a relist is none of them");
        assert!(lists.workloads_listed(last));
        assert!(!lists.workloads_listed(last));
    }
}
