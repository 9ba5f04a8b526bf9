//! The first lists after a start, in the order that leaves nothing to be asked for: in each namespace the workloads first,
//! and then the config objects, of which only those are kept that workloads refer to (5.2). A workload whose references
//! are yet to be listed waits for that, instead of reading each: ten thousand workloads that are all right cause no read.
//!
//! A list that is silent is not waited for for long, and one that fails not at all: what it would have told can be read,
//! and what nobody watches meanwhile may change unseen.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::kind::{self, KindRef};
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_k8s::scope::Scope;
use tokio::time::Instant;

use crate::index::Snapshot;
use crate::watch::Coverage;

/// How long the config objects' lists wait while those of the workloads say nothing.
pub(crate) const OBJECTS_WAIT: Duration = Duration::from_secs(2);
/// How long workloads wait while no list says anything.
const WORKLOADS_WAIT: Duration = Duration::from_secs(15);
/// How often the config objects' streams are told that the workloads' lists go on.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(crate) struct FirstLists {
    /// Those that have neither ended nor failed, and the same of config objects.
    workloads: HashSet<Coverage<KindRef>>,
    objects: HashSet<Coverage<ConfigKind>>,
    /// When the wait is over if no list says anything before.
    until: Instant,
    told: Instant,
    /// The workloads that wait.
    waiting: HashSet<Arc<WorkloadRef>>,
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
        Self {
            workloads: workloads.collect(),
            objects: objects.collect(),
            until: now + WORKLOADS_WAIT,
            told: now,
            waiting: HashSet::new(),
        }
    }

    /// A list goes on. Returns whether the streams of config objects are to be told so.
    pub(crate) fn go_on(&mut self, now: Instant) -> bool {
        if !self.objects.is_empty() {
            self.until = now + WORKLOADS_WAIT;
        }
        let tell = !self.workloads.is_empty() && now.duration_since(self.told) >= TELL_EVERY;
        if tell {
            self.told = now;
        }
        tell
    }

    /// A list of workloads has ended or failed. Returns whether it was the last that the config objects there wait for.
    pub(crate) fn workloads_are_over(&mut self, coverage: &Coverage<KindRef>) -> bool {
        let is_there = |other: &Coverage<KindRef>| other.namespace == coverage.namespace;
        self.workloads.remove(coverage) && !self.workloads.iter().any(is_there)
    }

    /// A list of config objects has ended or failed. Returns the workloads that may have waited for it.
    pub(crate) fn objects_are_over(&mut self, coverage: &Coverage<ConfigKind>) -> Vec<Arc<WorkloadRef>> {
        if !self.objects.remove(coverage) {
            return vec![];
        }
        let is_over = self.objects.is_empty() || coverage.namespace.is_none();
        let is_there = |namespace: &str| coverage.namespace.as_deref() == Some(namespace);
        self.waiting.extract_if(|workload| is_over || is_there(&workload.namespace)).collect()
    }

    /// Until when the workload waits to be reconciled: a list is yet to tell of one of its references.
    pub(crate) fn wait_of(&mut self, snapshot: &Snapshot, now: Instant) -> Option<Instant> {
        let mut unseen = snapshot.references.iter().filter(|reference| reference.presence.is_none());
        let waits = now < self.until
            && !self.objects.is_empty()
            && unseen.any(|reference| self.will_tell_of(&reference.object));
        if waits {
            self.waiting.insert(snapshot.view.workload_ref.clone());
        }
        waits.then_some(self.until)
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

    fn coverage<K>(kind: K, namespace: Option<&str>) -> Coverage<K> {
        Coverage { kind, namespace: namespace.map(str::to_owned) }
    }

    #[tokio::test(start_paused = true)]
    async fn c5_4_what_is_yet_to_be_listed_is_waited_for_and_nothing_else() {
        let now = Instant::now();
        let mut lists = FirstLists::of(&Scope::default(), now);
        let (map, secret) = (ConfigRef::configmap("shop", "a"), ConfigRef::secret("shop", "b"));
        let unknown = snapshot(&[(map.clone(), Some(Presence::Absent)), (secret, None)]);
        let known = snapshot(&[(map, Some(Presence::Absent))]);
        assert_eq!(lists.wait_of(&unknown, now), Some(now + WORKLOADS_WAIT));
        assert_eq!(lists.wait_of(&known, now), None);
        assert_eq!(lists.wait_of(&unknown, now + WORKLOADS_WAIT), None, "not for ever");
        assert!(!lists.go_on(now) && lists.go_on(now + WORKLOADS_WAIT));
        assert!(lists.wait_of(&unknown, now + WORKLOADS_WAIT).is_some(), "a list goes on");
        let waited = [unknown.view.workload_ref.clone()];
        assert_eq!(lists.objects_are_over(&coverage(ConfigKind::ConfigMap, None)), waited);
        assert!(lists.wait_of(&unknown, now).is_some());
        assert_eq!(lists.objects_are_over(&coverage(ConfigKind::Secret, None)), waited);
        assert_eq!(lists.wait_of(&unknown, now), None, "it was created since, and a watch will tell");
        assert!(lists.objects_are_over(&coverage(ConfigKind::Secret, None)).is_empty(), "a relist is none");

        let other = Scope { namespaces: Some(["other".to_owned()].into()), ..Scope::default() };
        assert_eq!(FirstLists::of(&other, now).wait_of(&unknown, now), None, "no list tells of it");
    }

    #[tokio::test(start_paused = true)]
    async fn c5_4_each_namespace_waits_for_its_own_lists() {
        let namespaces = ["other", "shop"].map(str::to_owned);
        let scope = Scope { namespaces: Some(namespaces.into()), ..Scope::default() };
        let now = Instant::now();
        let mut lists = FirstLists::of(&scope, now);
        let [first, second, last] = kind::BUILT_IN;
        for kind in [first, second, first] {
            assert!(!lists.workloads_are_over(&coverage(kind, Some("shop"))));
        }
        assert!(lists.workloads_are_over(&coverage(last, Some("shop"))));
        assert!(!lists.workloads_are_over(&coverage(last, Some("shop"))), "a relist is none of them");

        let unknown = snapshot(&[(ConfigRef::configmap("shop", "a"), None)]);
        assert!(lists.wait_of(&unknown, now).is_some());
        assert!(lists.objects_are_over(&coverage(ConfigKind::ConfigMap, Some("other"))).is_empty());
        assert_eq!(lists.objects_are_over(&coverage(ConfigKind::ConfigMap, Some("shop"))).len(), 1);
    }
}
