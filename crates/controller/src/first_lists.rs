//! The first lists after a start, in the order that leaves nothing to be asked for: the workloads first, and then the
//! config objects, of which only those are kept that workloads refer to (5.2). A workload whose references are yet to be
//! listed waits for that, instead of reading each: ten thousand workloads that are all right cause no read.
//!
//! What nobody watches may change unseen, and a change has to be seen in time. So the config objects' lists wait for
//! [`OBJECTS_WAIT`] at most, however the workloads' lists go on, and workloads wait for [`WORKLOADS_WAIT`] at most, and
//! only for lists that will tell of their references. A list that fails is not waited for. Where namespaces are listed
//! one by one, that would be an order among very many lists: there nothing waits.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::kind::KindRef;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_k8s::scope::Scope;
use tokio::time::Instant;

use crate::index::{Index, Snapshot};

/// How long the config objects' lists wait for those of the workloads.
const OBJECTS_WAIT: Duration = Duration::from_secs(2);
/// How long workloads wait for the config objects' lists, from the start on.
const WORKLOADS_WAIT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct FirstLists {
    /// The kinds whose list has neither ended nor failed: of one that is not there it ends at once.
    workloads: HashSet<KindRef>,
    objects: HashSet<ConfigKind>,
    /// Of these, the kinds whose list is under way.
    begun: HashSet<ConfigKind>,
    until: Instant,
    /// The workloads that wait.
    waiting: HashSet<Arc<WorkloadRef>>,
}

impl FirstLists {
    /// All of a start, which is now.
    pub(crate) fn of(scope: &Scope, now: Instant) -> Self {
        // Elsewhere each kind has many lists.
        let is_ordered = scope.namespaces.is_none();
        let secrets = scope.secrets.then_some(ConfigKind::Secret);
        let objects = std::iter::once(ConfigKind::ConfigMap).chain(secrets);
        Self {
            workloads: scope.kinds.iter().filter(|_| is_ordered).collect(),
            objects: objects.filter(|_| is_ordered).collect(),
            begun: HashSet::new(),
            until: now + WORKLOADS_WAIT,
            waiting: HashSet::new(),
        }
    }

    /// How long the config objects' lists wait for those of the workloads; `None` if they do not.
    pub(crate) fn objects_wait(&self) -> Option<Duration> {
        (!self.workloads.is_empty()).then_some(OBJECTS_WAIT)
    }

    /// A list of workloads has ended or failed. Returns whether it is the last of them.
    pub(crate) fn workloads_are_over(&mut self, kind: KindRef) -> bool {
        self.workloads.remove(&kind) && self.workloads.is_empty()
    }

    /// A list of config objects has begun: of what is referred to later, it may have told already.
    pub(crate) fn objects_begin(&mut self, kind: ConfigKind) {
        self.begun.insert(kind);
    }

    /// A list of config objects has ended or failed. Returns the workloads that wait.
    pub(crate) fn objects_are_over(&mut self, kind: ConfigKind) -> HashSet<Arc<WorkloadRef>> {
        if self.objects.remove(&kind) { std::mem::take(&mut self.waiting) } else { HashSet::new() }
    }

    /// Until when the workload waits to be reconciled: a list is yet to tell of one of its references.
    pub(crate) fn wait_of(&mut self, snapshot: &Snapshot, index: &Index, now: Instant) -> Option<Instant> {
        let will_be_told_of = |object: &ConfigRef| {
            self.objects.contains(&object.kind)
                && (!self.begun.contains(&object.kind) || index.is_unlisted(object))
        };
        let mut unseen = snapshot.references.iter().filter(|reference| reference.presence.is_none());
        if now >= self.until || !unseen.any(|reference| will_be_told_of(&reference.object)) {
            return None;
        }
        self.waiting.insert(snapshot.view.workload_ref.clone());
        Some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use pod_reloader_core::dialect::sap::CONFIGMAPS;
    use pod_reloader_core::kind;
    use pod_reloader_core::workload::Workload;

    use super::*;
    use crate::index::{Presence, ReferenceState, View};
    use crate::watch::Coverage;

    fn snapshot(references: &[(ConfigRef, Option<Presence>)]) -> Snapshot {
        let now = Instant::now();
        let kind = kind::apps::DEPLOYMENT;
        let workload_ref = WorkloadRef { kind, namespace: "shop".into(), name: "app".into() };
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
    async fn c5_4_what_is_yet_to_be_listed_is_waited_for_and_nothing_else() {
        let now = Instant::now();
        let index = Index::new(Duration::ZERO, true, 100);
        let mut lists = FirstLists::of(&Scope::default(), now);
        let (map, secret) = (ConfigRef::configmap("shop", "a"), ConfigRef::secret("shop", "b"));
        let unknown = snapshot(&[(map.clone(), Some(Presence::Absent)), (secret, None)]);
        let known = snapshot(&[(map, Some(Presence::Absent))]);
        assert_eq!(lists.wait_of(&unknown, &index, now), Some(now + WORKLOADS_WAIT));
        assert_eq!(lists.wait_of(&known, &index, now), None);
        assert_eq!(lists.wait_of(&unknown, &index, now + WORKLOADS_WAIT), None, "not for ever");
        let waited = HashSet::from([unknown.view.workload_ref.clone()]);
        assert_eq!(lists.objects_are_over(ConfigKind::ConfigMap), waited);
        assert!(lists.wait_of(&unknown, &index, now).is_some());
        lists.objects_begin(ConfigKind::Secret);
        assert_eq!(lists.wait_of(&unknown, &index, now), None, "it is new: the list may have told of it");
        assert_eq!(lists.objects_are_over(ConfigKind::Secret), waited);
        assert!(lists.objects_are_over(ConfigKind::Secret).is_empty(), "a relist is none");

        let one = Scope { namespaces: Some(["shop".to_owned()].into()), ..Scope::default() };
        let mut lists = FirstLists::of(&one, now);
        assert_eq!((lists.objects_wait(), lists.wait_of(&unknown, &index, now)), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn c5_4_what_a_list_under_way_has_not_named_yet_is_waited_for() {
        let now = Instant::now();
        let mut index = Index::new(Duration::ZERO, true, 100);
        let mut lists = FirstLists::of(&Scope::default(), now);
        let object = ConfigRef::configmap("shop", "a");
        let unknown = snapshot(&[(object.clone(), None)]);
        let workload = format!(r#"{{"metadata":{{"annotations":{{"{CONFIGMAPS}":"a"}}}}}}"#);
        let workload = Workload::read(kind::apps::DEPLOYMENT, &workload).unwrap().placed_in("shop");
        index.apply_workload(&unknown.view.workload_ref, workload, now);
        let coverage = Coverage { kind: ConfigKind::ConfigMap, namespace: None };
        index.begin_objects(&coverage);
        lists.objects_begin(ConfigKind::ConfigMap);
        assert!(lists.wait_of(&unknown, &index, now).is_some());
        index.list_object(&coverage, &object);
        assert!(lists.wait_of(&unknown, &index, now).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn c5_4_the_last_list_of_workloads_is_noticed_once() {
        let mut lists = FirstLists::of(&Scope::default(), Instant::now());
        let [first, second, last] = kind::BUILT_IN;
        for kind in [first, second, first] {
            assert!(!lists.workloads_are_over(kind));
        }
        assert!(lists.workloads_are_over(last));
        assert!(!lists.workloads_are_over(last), "a relist is none of them");
    }
}
