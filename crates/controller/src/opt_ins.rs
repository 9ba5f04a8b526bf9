//! Who opts in for workloads that need not say so themselves (7.4): the labels of namespaces, and marks on config objects.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pod_reloader_core::dialect::own::Auto;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::surroundings::Surroundings;
use pod_reloader_core::workload::Workload;
use pod_reloader_k8s::scope::Scope;

use crate::watch::Coverage;

/// So many marked objects count, and a third of them in one namespace: names alone are kept of them.
const MAX_MARKED: usize = 30_000;

/// See the module. Clones share what is known: reconciles read a workload again, and have to follow what the index does.
#[derive(Clone, Debug)]
pub(crate) struct OptIns(Arc<Mutex<OptInState>>);

impl OptIns {
    pub(crate) fn new(scope: &Scope) -> Self {
        Self(Arc::new(Mutex::new(OptInState::new(scope))))
    }

    /// Has a workload follow what its surroundings have it follow.
    pub(crate) fn surround(&self, workload: Workload, namespace: &str) -> Workload {
        self.lock().surround(workload, namespace)
    }

    /// What is known, to be changed or asked.
    pub(crate) fn lock(&self) -> MutexGuard<'_, OptInState> {
        // Held for single updates, none of which panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known.
#[derive(Debug)]
pub(crate) struct OptInState {
    scope: Scope,
    /// The namespaces with a label that counts.
    labels: HashMap<String, Auto>,
    /// What a list of them under way has not named yet, of each watch.
    unlisted_labels: HashMap<Coverage<()>, HashSet<String>>,
    /// The watches whose first list is not over.
    awaited: HashSet<Coverage<()>>,
    /// The marked objects of each namespace.
    marked: HashMap<Arc<str>, BTreeSet<ConfigRef>>,
    marked_count: usize,
    unlisted_marks: HashMap<Coverage<ConfigKind>, HashSet<ConfigRef>>,
}

impl OptInState {
    fn new(scope: &Scope) -> Self {
        // Of named ones there may be very many, and each is asked for by itself: nothing waits for these.
        let is_awaited = scope.namespace_labels && scope.namespaces.is_none();
        Self {
            awaited: is_awaited.then_some(Coverage { kind: (), namespace: None }).into_iter().collect(),
            scope: scope.clone(),
            labels: HashMap::new(),
            unlisted_labels: HashMap::new(),
            marked: HashMap::new(),
            marked_count: 0,
            unlisted_marks: HashMap::new(),
        }
    }

    /// Whether every namespace's label has been listed, or cannot be.
    pub(crate) fn is_complete(&self) -> bool {
        self.awaited.is_empty()
    }

    fn surround(&self, workload: Workload, namespace: &str) -> Workload {
        let label = self.labels.get(namespace).copied().unwrap_or_default();
        let marked = self.marked.get(namespace);
        let recorded =
            if self.scope.object_marks { workload.recorded_as_followed() } else { BTreeSet::new() };
        if label == Auto::Off && marked.is_none() && recorded.is_empty() {
            return workload;
        }
        let is_marked = |object: &ConfigRef| marked.is_some_and(|marked| marked.contains(object));
        let may_be_marked = |object: &ConfigRef| recorded.contains(object) || is_marked(object);
        workload.surrounded_by(&Surroundings { namespace: label, may_be_marked: &may_be_marked })
    }

    /// The label of a namespace; `coverage` if a list says so. Returns whether it is another than before.
    pub(crate) fn label(&mut self, namespace: &str, auto: Auto, coverage: Option<&Coverage<()>>) -> bool {
        if let Some(unlisted) = coverage.and_then(|coverage| self.unlisted_labels.get_mut(coverage)) {
            unlisted.remove(namespace);
        }
        let auto = if self.scope.heeds_label_of(namespace) { auto } else { Auto::Off };
        let before = if auto == Auto::Off {
            self.labels.remove(namespace)
        } else {
            self.labels.insert(namespace.to_owned(), auto)
        };
        before.unwrap_or_default() != auto
    }

    pub(crate) fn begin_labels(&mut self, coverage: &Coverage<()>) {
        let covered = self.labels.keys().filter(|namespace| coverage.contains(&(), namespace));
        self.unlisted_labels.insert(coverage.clone(), covered.cloned().collect());
    }

    /// Returns the namespaces that have no label any more.
    pub(crate) fn end_labels(&mut self, coverage: &Coverage<()>) -> Vec<String> {
        self.awaited.remove(coverage);
        let gone = self.unlisted_labels.remove(coverage).unwrap_or_default();
        gone.into_iter().filter(|namespace| self.labels.remove(namespace).is_some()).collect()
    }

    /// The labels cannot be listed now: nothing waits for them.
    pub(crate) fn labels_failed(&mut self, coverage: &Coverage<()>) {
        self.awaited.remove(coverage);
    }

    /// Whether the object is marked; `coverage` if a list says so. Returns whether it is marked only now.
    pub(crate) fn mark(
        &mut self,
        object: &ConfigRef,
        is_marked: bool,
        coverage: Option<&Coverage<ConfigKind>>,
    ) -> bool {
        if let Some(unlisted) = coverage.and_then(|coverage| self.unlisted_marks.get_mut(coverage)) {
            unlisted.remove(object);
        }
        let of_namespace = self.marked.get(&object.namespace);
        let is_known = of_namespace.is_some_and(|marked| marked.contains(object));
        if is_known == is_marked || !self.scope.object_marks {
            return false;
        }
        if !is_marked {
            self.unmark(object);
            return false;
        }
        let count = of_namespace.map_or(0, BTreeSet::len);
        if self.marked_count >= MAX_MARKED || count >= MAX_MARKED / 3 {
            tracing::warn!(%object, namespace = &*object.namespace, "too many marked objects: this one is left out");
            return false;
        }
        self.marked_count += 1;
        self.marked.entry(object.namespace.clone()).or_default().insert(object.clone())
    }

    fn unmark(&mut self, object: &ConfigRef) {
        let Some(marked) = self.marked.get_mut(&object.namespace) else { return };
        self.marked_count -= usize::from(marked.remove(object));
        if marked.is_empty() {
            self.marked.remove(&object.namespace);
        }
    }

    pub(crate) fn begin_marks(&mut self, coverage: &Coverage<ConfigKind>) {
        let all = self.marked.values().flatten();
        let covered = all.filter(|object| coverage.contains(&object.kind, &object.namespace));
        self.unlisted_marks.insert(coverage.clone(), covered.cloned().collect());
    }

    /// What was not listed is gone, and its mark with it.
    pub(crate) fn end_marks(&mut self, coverage: &Coverage<ConfigKind>) {
        for object in self.unlisted_marks.remove(coverage).unwrap_or_default() {
            self.unmark(&object);
        }
    }
}

#[cfg(test)]
mod tests {
    use pod_reloader_core::kind::apps::DEPLOYMENT;

    use super::*;

    const ALL: Coverage<()> = Coverage { kind: (), namespace: None };
    const SECRETS: Coverage<ConfigKind> = Coverage { kind: ConfigKind::Secret, namespace: None };

    fn followed(opt_ins: &OptInState, namespace: &str) -> Vec<String> {
        let json = r#"{"spec": {"template": {"spec": {"containers": [{"envFrom":
            [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}]}]}}}}"#;
        let workload = Workload::read(DEPLOYMENT, json).unwrap().placed_in(namespace);
        let workload = opt_ins.surround(workload, namespace);
        workload.references.objects().into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn c7_4_labels_count_until_they_go_and_never_in_the_systems_namespace() {
        let mut opt_ins = OptInState::new(&Scope::default());
        assert!(!opt_ins.is_complete());
        opt_ins.begin_labels(&ALL);
        assert!(opt_ins.label("shop", Auto::Secrets, Some(&ALL)));
        assert!(!opt_ins.label("kube-system", Auto::Both, Some(&ALL)));
        assert!(opt_ins.end_labels(&ALL).is_empty() && opt_ins.is_complete());
        assert_eq!(followed(&opt_ins, "shop"), ["secret/b"]);
        assert!(followed(&opt_ins, "kube-system").is_empty() && followed(&opt_ins, "other").is_empty());
        assert!(opt_ins.label("shop", Auto::Both, None) && !opt_ins.label("shop", Auto::Both, None));
        assert_eq!(followed(&opt_ins, "shop").len(), 2);
        opt_ins.begin_labels(&ALL);
        assert_eq!(opt_ins.end_labels(&ALL), ["shop"]);
        assert!(followed(&opt_ins, "shop").is_empty());
    }

    #[test]
    fn c7_4_marks_count_where_their_objects_are_and_go_with_them() {
        let mut opt_ins = OptInState::new(&Scope { namespace_labels: false, ..Scope::default() });
        assert!(opt_ins.is_complete());
        let object = ConfigRef::secret("shop", "b");
        assert!(opt_ins.mark(&object, true, None) && !opt_ins.mark(&object, true, None));
        assert!(!opt_ins.mark(&ConfigRef::configmap("shop", "a"), false, None));
        assert_eq!(followed(&opt_ins, "shop"), ["secret/b"]);
        assert!(followed(&opt_ins, "other").is_empty());
        opt_ins.begin_marks(&SECRETS);
        opt_ins.mark(&object, true, Some(&SECRETS));
        opt_ins.end_marks(&SECRETS);
        assert_eq!(followed(&opt_ins, "shop"), ["secret/b"]);
        opt_ins.begin_marks(&SECRETS);
        opt_ins.end_marks(&SECRETS);
        assert!(followed(&opt_ins, "shop").is_empty());
        assert_eq!((opt_ins.marked.len(), opt_ins.marked_count), (0, 0));
    }

    #[test]
    fn c5_2_one_namespace_cannot_take_the_room_of_all_for_its_marks() {
        let mut opt_ins = OptInState::new(&Scope::default());
        let marked = (0..MAX_MARKED)
            .filter(|i| opt_ins.mark(&ConfigRef::secret("greedy", format!("s-{i}")), true, None));
        assert_eq!(marked.count(), MAX_MARKED / 3);
        assert!(opt_ins.mark(&ConfigRef::secret("shop", "b"), true, None));
    }
}
