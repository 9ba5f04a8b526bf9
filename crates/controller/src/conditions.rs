//! The active conditions, so that each is published once while it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pod_reloader_core::reference::WorkloadRef;

use crate::fact::Fact;

/// A state of a workload that a user has to act on, and that lasts until it is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    /// A reload waits for something that the template requires.
    ReloadDeferred,
    /// A listed name that Kubernetes would refuse.
    InvalidReference,
    /// The API server or a policy refuses the patch, or undoes it.
    PatchRefused,
    /// The annotations would become too large.
    NoRoom,
    /// A reference cannot be read.
    ReferenceUnreadable,
    /// A listed name that does not exist and that the template does not use.
    ReferenceNotFound,
    /// There is no memory for this workload's references.
    TooManyReferences,
    /// Another installation writes this workload.
    AnotherInstallation,
    /// Secrets are listed, and none are followed.
    SecretsNotFollowed,
}

impl Condition {
    /// Its name in Events and in the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ReloadDeferred => "ReloadDeferred",
            Self::InvalidReference => "InvalidReference",
            Self::PatchRefused => "PatchRefused",
            Self::NoRoom => "NoRoom",
            Self::ReferenceUnreadable => "ReferenceUnreadable",
            Self::ReferenceNotFound => "ReferenceNotFound",
            Self::TooManyReferences => "TooManyReferences",
            Self::AnotherInstallation => "AnotherInstallation",
            Self::SecretsNotFollowed => "SecretsNotFollowed",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The active conditions of each workload, a few at most, by what identifies them. A tree, since it gives back the room
    /// of thousands that are resolved.
    standing: BTreeMap<WorkloadRef, Vec<(Condition, String)>>,
    counts: HashMap<Condition, usize>,
}

impl Conditions {
    /// Whether the fact is new: not a condition, or one that is not active yet.
    pub(crate) fn begin(&self, workload: &WorkloadRef, fact: &Fact) -> bool {
        let Some(condition) = fact.condition() else { return true };
        let identity = fact.identity();
        let mut state = self.state();
        let of_workload = state.standing.entry(workload.clone()).or_default();
        if let Some((_, before)) = of_workload.iter_mut().find(|(active, _)| *active == condition) {
            let is_new = *before != identity;
            *before = identity;
            return is_new;
        }
        of_workload.reserve_exact(1);
        of_workload.push((condition, identity));
        *state.counts.entry(condition).or_default() += 1;
        true
    }

    /// Whether exactly that condition is active.
    pub(crate) fn is_active(&self, workload: &WorkloadRef, fact: &Fact) -> bool {
        let state = self.state();
        let standing = state.standing.get(workload).zip(fact.condition());
        standing.is_some_and(|(standing, condition)| standing.contains(&(condition, fact.identity())))
    }

    /// These conditions of the workload are over, if they were active.
    pub(crate) fn resolve(&self, workload: &WorkloadRef, conditions: &[Condition]) {
        let mut state = self.state();
        let Some(standing) = state.standing.get_mut(workload) else { return };
        let over: Vec<_> = standing.extract_if(.., |(active, _)| conditions.contains(active)).collect();
        if standing.is_empty() {
            state.standing.remove(workload);
        }
        state.count_down(over);
    }

    /// The workload is no longer ours.
    pub(crate) fn forget(&self, workload: &WorkloadRef) {
        let mut state = self.state();
        let over = state.standing.remove(workload).unwrap_or_default();
        state.count_down(over);
    }

    /// How many workloads have the condition.
    pub(crate) fn count(&self, condition: Condition) -> usize {
        self.state().counts.get(&condition).copied().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count_down(&mut self, over: Vec<(Condition, String)>) {
        for (condition, _) in over {
            if let Some(count) = self.counts.get_mut(&condition) {
                *count -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::Unreadable;
    use pod_reloader_core::kind::apps::DEPLOYMENT;

    fn workload(name: &str) -> WorkloadRef {
        WorkloadRef { kind: DEPLOYMENT, namespace: "ns".into(), name: name.into() }
    }

    fn refused(why: &str) -> Fact {
        Fact::PatchRefused { why: why.into() }
    }

    fn unreadable(name: &str, why: &str) -> Fact {
        Fact::ReferencesUnreadable(vec![Unreadable { name: name.into(), why: why.into() }])
    }

    #[test]
    fn c5_8_a_condition_is_new_once_while_it_stands_and_again_if_it_is_another() {
        let conditions = Conditions::default();
        assert!(conditions.begin(&workload("a"), &refused("quota")));
        assert!(!conditions.begin(&workload("a"), &refused("quota")));
        assert!(conditions.begin(&workload("b"), &refused("quota")), "another workload");
        assert!(conditions.begin(&workload("a"), &refused("policy")));
        assert!(conditions.is_active(&workload("a"), &refused("policy")));
        assert!(!conditions.is_active(&workload("a"), &refused("quota")));
        conditions.resolve(&workload("a"), &[Condition::PatchRefused, Condition::NoRoom]);
        assert!(!conditions.is_active(&workload("a"), &refused("policy")));
        assert!(conditions.begin(&workload("a"), &refused("policy")));
    }

    #[test]
    fn c5_8_details_that_vary_make_no_other_condition() {
        let conditions = Conditions::default();
        assert!(conditions.begin(&workload("a"), &unreadable("secret/x", "timeout")));
        assert!(!conditions.begin(&workload("a"), &unreadable("secret/x", "forbidden")));
        assert!(conditions.begin(&workload("a"), &unreadable("secret/y", "forbidden")));
        assert!(conditions.begin(&workload("a"), &Fact::SecretsNotFollowed { count: 1 }));
        assert!(!conditions.begin(&workload("a"), &Fact::SecretsNotFollowed { count: 2 }));
    }

    #[test]
    fn what_is_over_at_once_is_always_new() {
        let conditions = Conditions::default();
        assert!(conditions.begin(&workload("a"), &Fact::KeyReplaced));
        assert!(conditions.begin(&workload("a"), &Fact::KeyReplaced));
        assert!(!conditions.is_active(&workload("a"), &Fact::KeyReplaced));
    }

    #[test]
    fn workloads_are_counted_for_as_long_as_the_condition_stands() {
        let conditions = Conditions::default();
        let count = || conditions.count(Condition::ReferenceUnreadable);
        conditions.begin(&workload("a"), &unreadable("secret/x", ""));
        conditions.begin(&workload("a"), &unreadable("secret/y", ""));
        conditions.begin(&workload("b"), &unreadable("secret/x", ""));
        assert_eq!(count(), 2);
        conditions.resolve(&workload("a"), &[Condition::ReferenceUnreadable]);
        conditions.resolve(&workload("a"), &[Condition::ReferenceUnreadable]);
        assert_eq!(count(), 1);
        conditions.forget(&workload("b"));
        conditions.forget(&workload("b"));
        assert_eq!(count(), 0);
    }
}
