//! Whether another installation writes the same workloads.
//!
//! An observed-config that was made with a foreign key is recorded again, as after the loss of a key (2.5). If the same
//! foreign key is there again soon, it is not lost: an installation goes on writing it that was there before us, since
//! it was us who took the workload over. The first installation sees the same thing only if we write it once more,
//! which we do not: so it is the later one that stands down.
//!
//! It leaves the namespace alone in which it saw that, and stands down as a whole only if that is so in half of the
//! namespaces in which it has workloads: a tenant who can write a foreign key into one workload harms their own
//! namespace alone. After a while it tries again: the other one may be gone.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pod_reloader_core::decide::Decision;
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::observed::Observed;
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_k8s::key::STAND_DOWN;
use tokio::time::Instant;

use crate::fact::Fact;
use crate::index::View;
use crate::reconciler::Reconciler;

/// Workloads remembered at most. A few of each namespace are enough to notice.
const MAX: usize = 1000;
/// A foreign key that comes back later has another cause. Much shorter than [`STAND_DOWN`]: after that all starts over,
/// for the other installation, too.
const MEMORY: Duration = Duration::from_mins(10);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rivals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The workloads that were taken over from another key: from which, and when.
    taken: HashMap<WorkloadRef, (String, Instant)>,
    /// The namespaces that are left alone, and until when.
    contested: HashMap<String, Instant>,
}

/// What a foreign key on a workload means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing yet: it may be a key that was lost.
    Open,
    /// Another installation is at work in that namespace, which is left alone.
    Contested,
    /// It is so in half of the namespaces, this one included: the whole installation should stand down.
    ContestedWidely,
}

impl Rivals {
    /// The workload's observed-config was made with that key, and is ours now.
    pub(crate) fn took_over(&self, workload: &WorkloadRef, key_id: &str, now: Instant) {
        let mut state = self.state();
        if state.taken.len() >= MAX {
            state.taken.retain(|_, (_, at)| now.duration_since(*at) < MEMORY);
        }
        if state.taken.len() < MAX {
            state.taken.insert(workload.clone(), (key_id.to_owned(), now));
        }
    }

    /// The workload has a foreign key. `namespaces` is in how many we have workloads.
    pub(crate) fn found(
        &self,
        workload: &WorkloadRef,
        key_id: &str,
        namespaces: usize,
        now: Instant,
    ) -> Claim {
        let mut state = self.state();
        let is_back = state
            .taken
            .get(workload)
            .is_some_and(|(taken, at)| taken == key_id && now.duration_since(*at) < MEMORY);
        if !is_back {
            return Claim::Open;
        }
        state.contested.insert(workload.namespace.clone(), now + STAND_DOWN);
        state.contested.retain(|_, until| *until > now);
        if state.contested.len() * 2 >= namespaces { Claim::ContestedWidely } else { Claim::Contested }
    }

    /// Whether the namespace is left alone.
    pub(crate) fn is_contested(&self, namespace: &str, now: Instant) -> bool {
        self.state().contested.get(namespace).is_some_and(|until| *until > now)
    }

    /// How many namespaces are left alone.
    pub(crate) fn contested(&self, now: Instant) -> usize {
        self.state().contested.values().filter(|until| **until > now).count()
    }

    /// All starts over: the installation stands down, or is up again.
    pub(crate) fn reset(&self) {
        *self.state() = State::default();
    }

    pub(crate) fn forget(&self, workload: &WorkloadRef) {
        self.state().taken.remove(workload);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reconciler {
    /// Whether another installation keeps writing this workload, or others of its namespace: then this one, which came
    /// later, leaves them alone.
    pub(crate) fn is_contested(&self, view: &View, key: &DigestKey, decision: &Decision) -> bool {
        let now = Instant::now();
        if self.rivals.is_contested(&view.workload_ref.namespace, now) {
            return true;
        }
        // Only a foreign key can be a rival's.
        let Some(observed) = decision.key_was_replaced.then(|| foreign_record(view, key)).flatten() else {
            return false;
        };
        let namespaces = self.namespaces.load(Ordering::Relaxed);
        let claim = self.rivals.found(&view.workload_ref, &observed.key_id, namespaces, now);
        if claim == Claim::Open {
            return false;
        }
        self.publish(view, &Fact::AnotherInstallation);
        if claim == Claim::ContestedWidely {
            self.key.stand_down();
        }
        true
    }
}

/// What is recorded of the workload with another key than ours.
pub(crate) fn foreign_record(view: &View, key: &DigestKey) -> Option<Observed> {
    let workload = &view.workload;
    let hash = workload.template.config_hash.as_deref();
    let observed = Observed::parse(workload.observed.as_deref()?, &view.workload_ref.namespace, hash)?;
    (!observed.is_comparable(key)).then_some(observed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_reloader_core::kind::apps::DEPLOYMENT;

    fn workload(namespace: &str) -> WorkloadRef {
        WorkloadRef { kind: DEPLOYMENT, namespace: namespace.into(), name: "web".into() }
    }

    #[test]
    fn c2_5_a_foreign_key_that_comes_back_soon_is_an_installation_that_was_there_first() {
        let (rivals, now) = (Rivals::default(), Instant::now());
        assert_eq!(rivals.found(&workload("a"), "k1", 1, now), Claim::Open);
        rivals.took_over(&workload("a"), "k1", now);
        assert_eq!(rivals.found(&workload("a"), "k2", 1, now), Claim::Open, "another key");
        assert_eq!(rivals.found(&workload("b"), "k1", 1, now), Claim::Open, "another workload");
        assert_eq!(rivals.found(&workload("a"), "k1", 1, now + MEMORY), Claim::Open, "long ago");
        assert_eq!(rivals.found(&workload("a"), "k1", 1, now), Claim::ContestedWidely);
    }

    #[test]
    fn c2_5_who_writes_in_one_namespace_of_many_stops_us_there_alone_and_not_for_ever() {
        let (rivals, now) = (Rivals::default(), Instant::now());
        for (i, namespace) in ["a", "b", "c"].into_iter().enumerate() {
            rivals.took_over(&workload(namespace), "k1", now);
            let expected = if i < 2 { Claim::Contested } else { Claim::ContestedWidely };
            assert_eq!(rivals.found(&workload(namespace), "k1", 6, now), expected, "{namespace}");
        }
        assert!(rivals.is_contested("a", now) && !rivals.is_contested("d", now));
        assert!(!rivals.is_contested("a", now + STAND_DOWN));
        rivals.reset();
        assert_eq!(rivals.contested(now), 0);
    }
}
