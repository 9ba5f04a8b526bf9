//! Which namespaces are selected by their labels (1.6). Of those that are not, no workload is kept; only that there are
//! some, so that they are listed again once their namespace is selected.

use std::collections::{HashMap, HashSet};

use pod_reloader_k8s::scope::Scope;

use crate::watch::Coverage;

/// So many names of namespaces are kept of which workloads were passed over.
const MAX_PASSED_OVER: usize = 10_000;

/// What follows from a change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    /// Workloads were passed over that are wanted now: all are to be listed again.
    Relist,
    /// These namespaces are no longer selected.
    Left(Vec<String>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Selection {
    /// `None`: all.
    selected: Option<HashSet<String>>,
    passed_over: PassedOver,
    /// What a list under way has not named yet, of each watch.
    unlisted: HashMap<Coverage<()>, HashSet<String>>,
    /// The watches whose first list is not complete.
    awaited: HashSet<Coverage<()>>,
}

#[derive(Debug, Default)]
struct PassedOver {
    namespaces: HashSet<String>,
    /// There were too many to be kept.
    and_more: bool,
}

impl Selection {
    pub(crate) fn new(scope: &Scope) -> Self {
        let is_limited = !scope.namespace_selector.is_empty();
        let all = scope.coverages().into_iter().map(|namespace| Coverage { kind: (), namespace });
        Self {
            selected: is_limited.then(HashSet::new),
            passed_over: PassedOver::default(),
            unlisted: HashMap::new(),
            awaited: if is_limited { all.collect() } else { HashSet::new() },
        }
    }

    /// Whether every namespace has been listed or asked for.
    pub(crate) fn is_complete(&self) -> bool {
        self.awaited.is_empty()
    }

    pub(crate) fn contains(&self, namespace: &str) -> bool {
        self.selected.as_ref().is_none_or(|selected| selected.contains(namespace))
    }

    /// A workload of that namespace is not kept.
    pub(crate) fn pass_over(&mut self, namespace: &str) {
        let PassedOver { namespaces, and_more } = &mut self.passed_over;
        if namespaces.len() < MAX_PASSED_OVER {
            namespaces.insert(namespace.to_owned());
        } else {
            *and_more |= !namespaces.contains(namespace);
        }
    }

    pub(crate) fn begin_list(&mut self, coverage: &Coverage<()>) {
        let Some(selected) = &self.selected else { return };
        let is_covered = |namespace: &&String| coverage.contains(&(), namespace);
        let unlisted = selected.iter().filter(is_covered).cloned().collect();
        self.unlisted.insert(coverage.clone(), unlisted);
    }

    /// The namespace has the labels; `coverage` if a list says so.
    pub(crate) fn select(&mut self, namespace: &str, coverage: Option<&Coverage<()>>) -> Effect {
        let Some(selected) = &mut self.selected else { return Effect::Nothing };
        if let Some(unlisted) = coverage.and_then(|coverage| self.unlisted.get_mut(coverage)) {
            unlisted.remove(namespace);
        }
        if !selected.insert(namespace.to_owned()) {
            return Effect::Nothing;
        }
        if self.passed_over.namespaces.remove(namespace) || self.passed_over.and_more {
            Effect::Relist
        } else {
            Effect::Nothing
        }
    }

    /// The namespace is gone, or has other labels.
    pub(crate) fn deselect(&mut self, namespace: &str) -> Effect {
        let was_selected = self.selected.as_mut().is_some_and(|selected| selected.remove(namespace));
        if was_selected { Effect::Left(vec![namespace.to_owned()]) } else { Effect::Nothing }
    }

    pub(crate) fn end_list(&mut self, coverage: &Coverage<()>) -> Effect {
        self.awaited.remove(coverage);
        let Some(selected) = &mut self.selected else { return Effect::Nothing };
        let left: Vec<_> = self.unlisted.remove(coverage).unwrap_or_default().into_iter().collect();
        for namespace in &left {
            selected.remove(namespace);
        }
        if left.is_empty() { Effect::Nothing } else { Effect::Left(left) }
    }
}

#[cfg(test)]
mod tests {
    use pod_reloader_core::selector::Selector;

    use super::*;

    const ALL: Coverage<()> = Coverage { kind: (), namespace: None };

    fn only(namespace: &str) -> Coverage<()> {
        Coverage { kind: (), namespace: Some(namespace.to_owned()) }
    }

    fn selection(namespaces: Option<&[&str]>) -> Selection {
        Selection::new(&Scope {
            namespaces: namespaces.map(|names| names.iter().map(ToString::to_string).collect()),
            namespace_selector: Selector::parse("team=shop").unwrap(),
            ..Scope::default()
        })
    }

    #[test]
    fn c1_6_without_a_selector_every_namespace_is_selected() {
        let mut all = Selection::new(&Scope::default());
        assert!(all.is_complete() && all.contains("shop"));
        all.begin_list(&ALL);
        assert_eq!(all.end_list(&ALL), Effect::Nothing);
        assert_eq!((all.deselect("shop"), all.contains("shop")), (Effect::Nothing, true));
    }

    #[test]
    fn c1_6_workloads_are_listed_again_only_where_some_were_passed_over() {
        let mut selection = selection(None);
        selection.begin_list(&ALL);
        assert!(!selection.is_complete());
        assert_eq!(selection.select("shop", Some(&ALL)), Effect::Nothing);
        assert_eq!(selection.end_list(&ALL), Effect::Nothing);
        assert!(selection.is_complete() && selection.contains("shop") && !selection.contains("other"));

        selection.pass_over("other");
        assert_eq!(selection.select("new", None), Effect::Nothing, "it had no workloads yet");
        assert_eq!(selection.select("other", None), Effect::Relist);
        assert_eq!(selection.select("other", None), Effect::Nothing);
        assert_eq!(selection.deselect("other"), Effect::Left(vec!["other".into()]));
        assert_eq!(selection.deselect("other"), Effect::Nothing);
        assert_eq!(selection.select("other", None), Effect::Nothing, "nothing was passed over since");
    }

    #[test]
    fn c1_6_what_a_list_does_not_name_is_no_longer_selected() {
        let mut selection = selection(Some(&["a", "b"]));
        for namespace in ["a", "b"] {
            let coverage = only(namespace);
            assert!(!selection.is_complete());
            selection.begin_list(&coverage);
            selection.select(namespace, Some(&coverage));
            assert_eq!(selection.end_list(&coverage), Effect::Nothing);
        }
        assert!(selection.is_complete());
        let a = only("a");
        selection.begin_list(&a);
        assert_eq!(selection.end_list(&a), Effect::Left(vec!["a".into()]));
        assert!(!selection.contains("a") && selection.contains("b"));
    }

    #[test]
    fn c1_6_only_so_many_names_are_kept_of_namespaces_that_are_passed_over() {
        let mut selection = selection(None);
        (0..2 * MAX_PASSED_OVER).for_each(|i| selection.pass_over(&format!("n-{i}")));
        assert_eq!(selection.passed_over.namespaces.len(), MAX_PASSED_OVER);
        assert_eq!(selection.select(&format!("n-{}", 2 * MAX_PASSED_OVER - 1), None), Effect::Relist);
    }
}
