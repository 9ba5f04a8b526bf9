//! When to reconcile which workload: one entry each, never two reconciles of one workload at once, backoff of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::reference::WorkloadRef;
use tokio::time::{Instant, sleep_until};

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_mins(1);
/// Between two reconciles of a workload that can be completed in part only.
const PARTIAL_PAUSE: Duration = Duration::from_secs(2);

/// A keyed delay queue. Trees, since they give back the room of entries that are gone.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// What is waiting, in the order in which it is due.
    due: BTreeSet<(Instant, Arc<WorkloadRef>)>,
    slots: BTreeMap<Arc<WorkloadRef>, Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// When it is due, if it is waiting.
    due: Option<Instant>,
    is_running: bool,
    /// Asked for while it was running.
    again_at: Option<Instant>,
    failures: u32,
    /// Until then it is not reconciled after a failure, whatever happens to it.
    not_before: Option<Instant>,
}

impl Queue {
    /// Asks for a reconcile of the workload at that time, or earlier if that was asked for already.
    pub(crate) fn schedule(&mut self, workload: &Arc<WorkloadRef>, at: Instant) {
        let slot = self.slots.entry(workload.clone()).or_default();
        let at = slot.not_before.map_or(at, |not_before| at.max(not_before));
        if slot.is_running {
            slot.again_at = Some(slot.again_at.map_or(at, |earlier| earlier.min(at)));
            return;
        }
        if let Some(due) = slot.due {
            if due <= at {
                return;
            }
            self.due.remove(&(due, workload.clone()));
        }
        slot.due = Some(at);
        self.due.insert((at, workload.clone()));
    }

    /// The next workload that is due; it counts as running until [`Queue::done`] or [`Queue::failed`]. With it comes
    /// how often it failed in a row. Pending while the queue is empty.
    pub(crate) async fn next(&mut self) -> (Arc<WorkloadRef>, u32) {
        // The caller selects over other sources and asks again after each.
        let Some((at, _)) = self.due.first() else { return pending().await };
        if *at > Instant::now() {
            sleep_until(*at).await;
        }
        let Some((_, workload)) = self.due.pop_first() else { return pending().await };
        let slot = self.slots.entry(workload.clone()).or_default();
        slot.due = None;
        slot.is_running = true;
        (workload, slot.failures)
    }

    /// The reconcile is over; another one follows at `again_at`, if given, or if one was asked for meanwhile.
    pub(crate) fn done(&mut self, workload: &Arc<WorkloadRef>, again_at: Option<Instant>) {
        self.finish(workload, again_at, |slot| {
            slot.failures = 0;
            slot.not_before = None;
        });
    }

    /// The workload is not reconciled now, but at that time; one that failed before still counts as such.
    pub(crate) fn put_off(&mut self, workload: &Arc<WorkloadRef>, at: Instant) {
        self.finish(workload, Some(at), |_| ());
    }

    /// The reconcile failed; the next one follows after a backoff that grows with every failure. `jitter` is from 0 to
    /// 1. If all was done that could be (`is_partial`), it waits for a moment only.
    pub(crate) fn failed(
        &mut self,
        workload: &Arc<WorkloadRef>,
        now: Instant,
        jitter: f64,
        is_partial: bool,
    ) {
        let failures = self.slots.get(workload).map_or(0, |slot| slot.failures);
        let backoff = FIRST_BACKOFF.saturating_mul(1 << failures.min(16)).min(MAX_BACKOFF);
        let at = now + backoff.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 2.0);
        self.finish(workload, Some(at), |slot| {
            slot.failures = failures.saturating_add(1);
            slot.not_before = Some(if is_partial { at.min(now + PARTIAL_PAUSE) } else { at });
        });
    }

    fn finish(
        &mut self,
        workload: &Arc<WorkloadRef>,
        again_at: Option<Instant>,
        update: impl FnOnce(&mut Slot),
    ) {
        let Some(slot) = self.slots.get_mut(workload) else { return };
        slot.is_running = false;
        update(slot);
        let asked_at = slot.again_at.take();
        let next = [asked_at, again_at].into_iter().flatten().min();
        match next {
            Some(at) => self.schedule(workload, at),
            None if slot.due.is_none() => drop(self.slots.remove(workload)),
            None => {}
        }
    }

    /// How often the workload failed in a row.
    pub(crate) fn failures(&self, workload: &WorkloadRef) -> u32 {
        self.slots.get(workload).map_or(0, |slot| slot.failures)
    }

    /// Workloads that are waiting or running.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_reloader_core::kind::apps::DEPLOYMENT;

    fn workload(name: &str) -> Arc<WorkloadRef> {
        Arc::new(WorkloadRef { kind: DEPLOYMENT, namespace: "ns".into(), name: name.into() })
    }

    fn after(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn one_entry_per_workload_at_the_earliest_time_asked_for() {
        let (mut queue, began) = (Queue::default(), Instant::now());
        queue.schedule(&workload("a"), after(10));
        queue.schedule(&workload("b"), after(3));
        queue.schedule(&workload("a"), after(2));
        queue.schedule(&workload("a"), after(20));
        assert_eq!(queue.next().await.0, workload("a"));
        assert_eq!(began.elapsed().as_secs(), 2);
        assert_eq!(queue.next().await.0, workload("b"));
        queue.done(&workload("a"), None);
        queue.done(&workload("b"), None);
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_workload_is_not_started_twice_and_not_forgotten() {
        let mut queue = Queue::default();
        queue.schedule(&workload("a"), after(0));
        queue.next().await;
        queue.schedule(&workload("a"), after(1));
        queue.schedule(&workload("b"), after(5));
        assert_eq!(queue.next().await.0, workload("b"));
        queue.done(&workload("a"), None);
        assert_eq!(queue.next().await.0, workload("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn c5_5_what_is_put_off_still_counts_as_failed() {
        let (mut queue, began) = (Queue::default(), Instant::now());
        queue.schedule(&workload("a"), after(0));
        queue.next().await;
        queue.failed(&workload("a"), began, 0.0, false);
        let (a, _) = queue.next().await;
        queue.put_off(&a, began + Duration::from_secs(10));
        let (a, failures) = queue.next().await;
        assert_eq!((failures, began.elapsed().as_secs()), (1, 10));
        queue.done(&a, None);
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn c5_5_failures_back_off_and_events_do_not_cut_the_backoff_short() {
        let mut queue = Queue::default();
        let mut waits = vec![];
        queue.schedule(&workload("a"), after(0));
        for failures in 0..12 {
            assert_eq!(queue.next().await.1, failures);
            let began = Instant::now();
            queue.failed(&workload("a"), began, 0.0, false);
            queue.schedule(&workload("a"), began);
            let (due, count) = queue.next().await;
            waits.push(began.elapsed().as_millis());
            queue.done(&due, None);
            assert_eq!(count, failures + 1);
            // As if it had failed all along.
            queue.slots.entry(due.clone()).or_default().failures = count;
            queue.schedule(&due, Instant::now());
        }
        assert_eq!(waits[..4], [250, 500, 1000, 2000]);
        assert_eq!(*waits.last().unwrap(), 60_000);
    }
}
