//! Which workloads may be read and written now: the slots of `--max-concurrent-patches`, in fair shares for each
//! namespace (5.6).
//!
//! Synchronous and without I/O; the controller owns it. A workload that has something to do waits here until it may
//! begin. Namespaces take turns, and what each may have under way at once follows from how it has gone so far:
//!
//! - it begins with [`FIRST_SHARE`] slots, and gains one with each reconcile that was quick, up to all but a reserve
//!   that is kept for other namespaces;
//! - while one of its reconciles takes longer than [`SLOW`] (a policy webhook there hangs, say), and after one did, it
//!   has a single slot, and all such namespaces together have half of the slots;
//! - workloads that failed before take a quarter of their namespace's share, so that they do not hold up the rest of it
//!   (5.5).
//!
//! It is the only place that knows which workloads may be patched now. The queue knows when a workload is due, and
//! [`crate::rivals`] whether this installation may write it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::reference::WorkloadRef;
use tokio::time::Instant;

/// What a namespace may have under way at first.
const FIRST_SHARE: usize = 2;
/// A reconcile that takes longer is slow because of its namespace, or of the API server.
const SLOW: Duration = Duration::from_secs(3);
/// A namespace without a reconcile for this long starts over.
const MEMORY: Duration = Duration::from_mins(2);

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    slots: usize,
    namespaces: HashMap<String, Namespace>,
    /// Those with workloads waiting; the first is next.
    turns: VecDeque<String>,
    running: HashMap<Arc<WorkloadRef>, Running>,
    is_closed: bool,
}

#[derive(Debug)]
struct Namespace {
    fresh: VecDeque<Arc<WorkloadRef>>,
    retries: VecDeque<Arc<WorkloadRef>>,
    running: usize,
    running_retries: usize,
    share: usize,
    is_slow: bool,
    last_used: Instant,
}

#[derive(Debug)]
struct Running {
    since: Instant,
    is_retry: bool,
}

impl Gate {
    pub(crate) fn new(slots: usize) -> Self {
        let slots = slots.max(1);
        Self {
            slots,
            namespaces: HashMap::new(),
            turns: VecDeque::new(),
            running: HashMap::new(),
            is_closed: false,
        }
    }

    /// Admits no workload any more.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// A workload wants to begin; `is_retry` if it failed before. It must be neither waiting nor running.
    pub(crate) fn wait(&mut self, workload: &Arc<WorkloadRef>, is_retry: bool, now: Instant) {
        let namespace = self.namespaces.entry(workload.namespace.clone()).or_insert_with(|| Namespace {
            fresh: VecDeque::new(),
            retries: VecDeque::new(),
            running: 0,
            running_retries: 0,
            share: FIRST_SHARE,
            is_slow: false,
            last_used: now,
        });
        if !namespace.is_waiting() {
            self.turns.push_back(workload.namespace.clone());
        }
        let line = if is_retry { &mut namespace.retries } else { &mut namespace.fresh };
        line.push_back(workload.clone());
    }

    /// The next workload that may begin; it counts as running until [`Gate::leave`].
    pub(crate) fn admit(&mut self, now: Instant) -> Option<Arc<WorkloadRef>> {
        if self.is_closed || self.running.len() >= self.slots {
            return None;
        }
        self.notice_slow(now);
        for _ in 0..self.turns.len() {
            let name = self.turns.pop_front()?;
            let admitted = self.admit_from(&name, now);
            if self.namespaces.get(&name).is_some_and(Namespace::is_waiting) {
                self.turns.push_back(name);
            }
            if admitted.is_some() {
                return admitted;
            }
        }
        None
    }

    fn admit_from(&mut self, name: &str, now: Instant) -> Option<Arc<WorkloadRef>> {
        let slow_running: usize = self.namespaces.values().filter(|n| n.is_slow).map(|n| n.running).sum();
        let may_be_slow = slow_running < (self.slots / 2).max(1);
        let share_limit = self.slots - self.reserve();
        let namespace = self.namespaces.get_mut(name)?;
        let share = if namespace.is_slow { 1 } else { namespace.share.min(share_limit) };
        if namespace.running >= share || (namespace.is_slow && !may_be_slow) {
            return None;
        }
        let retry_share = (share / 4).max(1);
        let (workload, is_retry) = match namespace.fresh.pop_front() {
            Some(workload) => (workload, false),
            None if namespace.running_retries < retry_share => (namespace.retries.pop_front()?, true),
            None => return None,
        };
        if !namespace.is_waiting() {
            // The room that a burst took.
            namespace.fresh.shrink_to_fit();
            namespace.retries.shrink_to_fit();
        }
        namespace.running += 1;
        namespace.running_retries += usize::from(is_retry);
        namespace.last_used = now;
        self.running.insert(workload.clone(), Running { since: now, is_retry });
        Some(workload)
    }

    /// Slots that no single namespace can have. With very few there is none to spare.
    fn reserve(&self) -> usize {
        self.slots / 4
    }

    /// A workload that was let in is done.
    pub(crate) fn leave(&mut self, workload: &WorkloadRef, now: Instant) {
        let Some(Running { since, is_retry }) = self.running.remove(workload) else { return };
        let share_limit = self.slots - self.reserve();
        if let Some(namespace) = self.namespaces.get_mut(&workload.namespace) {
            namespace.running -= 1;
            namespace.running_retries -= usize::from(is_retry);
            namespace.last_used = now;
            namespace.is_slow = now.duration_since(since) > SLOW;
            namespace.share = if namespace.is_slow { 1 } else { (namespace.share + 1).min(share_limit) };
        }
        self.namespaces.retain(|_, namespace| {
            namespace.is_waiting()
                || namespace.running > 0
                || now.duration_since(namespace.last_used) < MEMORY
        });
    }

    /// Whether workloads wait to be patched, or are, in a namespace that is not slow: what is less urgent is to make way
    /// for these. One that hangs may do so for hours.
    pub(crate) fn is_pressed(&self) -> bool {
        let is_quick = |name: &str| self.namespaces.get(name).is_some_and(|namespace| !namespace.is_slow);
        self.running.keys().any(|workload| is_quick(&workload.namespace))
            || self.turns.iter().any(|name| is_quick(name))
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.namespaces.values().map(|namespace| namespace.fresh.len() + namespace.retries.len()).sum()
    }

    fn notice_slow(&mut self, now: Instant) {
        for (workload, running) in &self.running {
            if now.duration_since(running.since) > SLOW
                && let Some(namespace) = self.namespaces.get_mut(&workload.namespace)
            {
                namespace.is_slow = true;
                namespace.share = 1;
            }
        }
    }
}

impl Namespace {
    fn is_waiting(&self) -> bool {
        !self.fresh.is_empty() || !self.retries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_reloader_core::kind::apps::DEPLOYMENT;

    fn workload(namespace: &str, i: usize) -> Arc<WorkloadRef> {
        Arc::new(WorkloadRef { kind: DEPLOYMENT, namespace: namespace.into(), name: format!("w{i}") })
    }

    fn fill(gate: &mut Gate, namespace: &str, count: usize, now: Instant) {
        (0..count).for_each(|i| gate.wait(&workload(namespace, i), false, now));
    }

    fn admit_all(gate: &mut Gate, now: Instant) -> Vec<Arc<WorkloadRef>> {
        std::iter::from_fn(|| gate.admit(now)).collect()
    }

    #[test]
    fn c5_6_one_namespace_alone_soon_has_all_slots_but_a_reserve() {
        let (mut gate, now) = (Gate::new(16), Instant::now());
        fill(&mut gate, "big", 100, now);
        let mut most = 0;
        let mut running = admit_all(&mut gate, now);
        assert_eq!(running.len(), FIRST_SHARE);
        let mut done = 0;
        while let Some(workload) = running.pop() {
            gate.leave(&workload, now);
            done += 1;
            running.extend(admit_all(&mut gate, now));
            most = most.max(running.len());
        }
        assert_eq!((most, done, gate.waiting()), (12, 100, 0));
    }

    #[test]
    fn c5_6_what_hangs_has_nothing_make_way_for_it() {
        let (mut gate, start) = (Gate::new(16), Instant::now());
        assert!(!gate.is_pressed());
        fill(&mut gate, "hangs", 10, start);
        assert!(gate.is_pressed());
        admit_all(&mut gate, start);
        let later = start + SLOW + Duration::from_millis(1);
        admit_all(&mut gate, later);
        assert!(!gate.is_pressed());
        fill(&mut gate, "shop", 1, later);
        assert!(gate.is_pressed());
    }

    #[test]
    fn c5_6_a_namespace_that_hangs_leaves_room_for_others_and_then_has_one_slot() {
        let (mut gate, start) = (Gate::new(16), Instant::now());
        fill(&mut gate, "hangs", 1000, start);
        // It was quick until now.
        for _ in 0..20 {
            for workload in admit_all(&mut gate, start) {
                gate.leave(&workload, start);
            }
        }
        let hanging = admit_all(&mut gate, start);
        assert_eq!(hanging.len(), 12);
        gate.wait(&workload("other", 0), false, start);
        assert_eq!(gate.admit(start), Some(workload("other", 0)), "nothing waits for it");
        gate.leave(&workload("other", 0), start);

        let later = start + Duration::from_secs(10);
        for workload in &hanging {
            gate.leave(workload, later);
        }
        let again = admit_all(&mut gate, later);
        assert_eq!(again.len(), 1);
        // It recovers with the first that is quick.
        gate.leave(&again[0], later);
        assert!(admit_all(&mut gate, later).len() > 1);
    }

    #[test]
    fn c5_6_many_namespaces_that_hang_have_half_of_the_slots_at_most() {
        let (mut gate, mut now) = (Gate::new(16), Instant::now());
        for i in 0..40 {
            fill(&mut gate, &format!("hangs-{i}"), 5, now);
        }
        let mut running = admit_all(&mut gate, now);
        for _ in 0..10 {
            now += Duration::from_secs(10);
            for workload in &running {
                gate.leave(workload, now);
            }
            running = admit_all(&mut gate, now);
        }
        gate.wait(&workload("other", 0), false, now);
        assert_eq!(gate.admit(now), Some(workload("other", 0)));
    }

    #[test]
    fn c5_6_namespaces_take_turns() {
        let (mut gate, now) = (Gate::new(4), Instant::now());
        fill(&mut gate, "a", 10_000, now);
        fill(&mut gate, "b", 3, now);
        let mut order = vec![];
        while let Some(workload) = gate.admit(now) {
            order.push(workload.namespace.clone());
            gate.leave(&workload, now);
            if order.len() == 6 {
                break;
            }
        }
        assert_eq!(order, ["a", "b", "a", "b", "a", "b"]);
    }

    #[test]
    fn c5_5_workloads_that_failed_before_hold_up_no_others_of_their_namespace() {
        let (mut gate, now) = (Gate::new(16), Instant::now());
        (0..50).for_each(|i| gate.wait(&workload("ns", i), true, now));
        assert_eq!(admit_all(&mut gate, now).len(), 1);
        gate.wait(&workload("ns", 50), false, now);
        assert_eq!(gate.admit(now), Some(workload("ns", 50)));
    }

    #[test]
    fn a_single_slot_serves_all_in_turn() {
        let (mut gate, now) = (Gate::new(1), Instant::now());
        fill(&mut gate, "a", 2, now);
        fill(&mut gate, "b", 1, now);
        let first = admit_all(&mut gate, now);
        assert_eq!(first, [workload("a", 0)]);
        gate.leave(&first[0], now);
        assert_eq!(admit_all(&mut gate, now), [workload("b", 0)]);
        gate.close();
        gate.leave(&workload("b", 0), now);
        assert_eq!(gate.admit(now), None);
    }
}
