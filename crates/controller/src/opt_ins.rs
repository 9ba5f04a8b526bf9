//! Who opts in for workloads that need not say so themselves (7.4): the labels of namespaces, and marks on config objects.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pod_reloader_core::dialect::own::Auto;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::Reference;
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

    /// Whether a version of a workload follows less than it would by what is known now of its namespace's label: then
    /// nothing may be dropped of what is recorded.
    pub(crate) fn follow_more(&self, workload: &Workload, namespace: &str) -> bool {
        let label = self.lock().label_of(namespace);
        let follows = |it: &Reference| it.needs_mark && label.includes(it.object.kind);
        workload.open_to.is_some()
            && label != Auto::Off
            && (!workload.references.opted_in() || workload.references.all().into_values().any(follows))
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
    /// Where labels have been listed, or asked for: elsewhere what is recorded stays followed, whatever the label is.
    known: HashSet<Coverage<()>>,
    /// Namespaces in which something stays followed for that reason.
    held: HashSet<String>,
    /// The labels of namespaces that were asked for before a write, and that the watch has not told of yet.
    asked: HashMap<String, Auto>,
    is_full: bool,
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
            known: HashSet::new(),
            held: HashSet::new(),
            asked: HashMap::new(),
            is_full: false,
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

    fn surround(&mut self, workload: Workload, namespace: &str) -> Workload {
        let label = self.label_of(namespace);
        let recorded = workload.recorded_as_followed();
        if label == Auto::Off && !self.marked.contains_key(namespace) && recorded.is_empty() {
            return workload;
        }
        let is_known = self.knows_label_of(namespace);
        if !is_known && !recorded.is_empty() {
            self.held.insert(namespace.to_owned());
        }
        let marked = self.marked.get(namespace);
        let is_marked = |object: &ConfigRef| marked.is_some_and(|marked| marked.contains(object));
        let is_recorded = |object: &ConfigRef| recorded.contains(object);
        workload.surrounded_by(&Surroundings {
            namespace: label,
            is_followed: &|object| !is_known && is_recorded(object),
            may_be_marked: &|object| is_recorded(object) || is_marked(object),
        })
    }

    fn label_of(&self, namespace: &str) -> Auto {
        let label = self.labels.get(namespace).or_else(|| self.asked.get(namespace));
        label.copied().unwrap_or_default()
    }

    fn knows_label_of(&self, namespace: &str) -> bool {
        let of_it = Coverage { kind: (), namespace: Some(namespace.to_owned()) };
        !self.scope.heeds_label_of(namespace)
            || self.known.contains(&Coverage { kind: (), namespace: None })
            || self.known.contains(&of_it)
    }

    /// The label of a namespace, as it says when it is asked before a write: a watch may be late.
    pub(crate) fn asked(&mut self, namespace: &str, label: Option<&str>) {
        let auto = label.and_then(Auto::parse).filter(|_| self.scope.heeds_label_of(namespace));
        let auto = auto.unwrap_or_default();
        if auto != Auto::Off && self.label_of(namespace) != auto {
            self.asked.insert(namespace.to_owned(), auto);
        }
    }

    /// The label of a namespace; `coverage` if a list says so. Returns whether it is another than before.
    pub(crate) fn label(&mut self, namespace: &str, auto: Auto, coverage: Option<&Coverage<()>>) -> bool {
        if let Some(unlisted) = coverage.and_then(|coverage| self.unlisted_labels.get_mut(coverage)) {
            unlisted.remove(namespace);
        }
        let auto = if self.scope.heeds_label_of(namespace) { auto } else { Auto::Off };
        let asked = self.asked.remove(namespace).unwrap_or(auto);
        let before = if auto == Auto::Off {
            self.labels.remove(namespace)
        } else {
            self.labels.insert(namespace.to_owned(), auto)
        };
        before.unwrap_or_default() != auto || asked != auto
    }

    pub(crate) fn begin_labels(&mut self, coverage: &Coverage<()>) {
        let covered = self.labels.keys().filter(|namespace| coverage.contains(&(), namespace));
        self.unlisted_labels.insert(coverage.clone(), covered.cloned().collect());
    }

    /// Returns the namespaces that have no label any more, and those in which something stayed followed since that was not
    /// known.
    pub(crate) fn end_labels(&mut self, coverage: &Coverage<()>) -> Vec<String> {
        self.awaited.remove(coverage);
        self.known.insert(coverage.clone());
        // The list is newer, or the next write asks again.
        self.asked.retain(|namespace, _| !coverage.contains(&(), namespace));
        let gone = self.unlisted_labels.remove(coverage).unwrap_or_default();
        let gone = gone.into_iter().filter(|namespace| self.labels.remove(namespace).is_some());
        let held = self.held.extract_if(|namespace| coverage.contains(&(), namespace));
        gone.chain(held).collect()
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
            if !std::mem::replace(&mut self.is_full, true) {
                tracing::warn!(namespace = &*object.namespace, "too many marked objects: some are left out");
            }
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

    fn followed(opt_ins: &mut OptInState, namespace: &str) -> Vec<String> {
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
        assert_eq!(followed(&mut opt_ins, "shop"), ["secret/b"]);
        assert!(
            followed(&mut opt_ins, "kube-system").is_empty() && followed(&mut opt_ins, "other").is_empty()
        );
        assert!(opt_ins.label("shop", Auto::Both, None) && !opt_ins.label("shop", Auto::Both, None));
        assert_eq!(followed(&mut opt_ins, "shop").len(), 2);
        opt_ins.begin_labels(&ALL);
        assert_eq!(opt_ins.end_labels(&ALL), ["shop"]);
        assert!(followed(&mut opt_ins, "shop").is_empty());
    }

    #[test]
    fn c7_4_marks_count_where_their_objects_are_and_go_with_them() {
        let mut opt_ins = OptInState::new(&Scope { namespace_labels: false, ..Scope::default() });
        assert!(opt_ins.is_complete());
        let object = ConfigRef::secret("shop", "b");
        assert!(opt_ins.mark(&object, true, None) && !opt_ins.mark(&object, true, None));
        assert!(!opt_ins.mark(&ConfigRef::configmap("shop", "a"), false, None));
        assert_eq!(followed(&mut opt_ins, "shop"), ["secret/b"]);
        assert!(followed(&mut opt_ins, "other").is_empty());
        opt_ins.begin_marks(&SECRETS);
        opt_ins.mark(&object, true, Some(&SECRETS));
        opt_ins.end_marks(&SECRETS);
        assert_eq!(followed(&mut opt_ins, "shop"), ["secret/b"]);
        opt_ins.begin_marks(&SECRETS);
        opt_ins.end_marks(&SECRETS);
        assert!(followed(&mut opt_ins, "shop").is_empty());
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
