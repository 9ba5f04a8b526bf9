//! The course of a reconcile, in reading order:
//!
//! 1. [`Controller::start`] evaluates the workload from memory, which is all that most reconciles need;
//! 2. [`Controller::admit`] lets it pass the gate when its turn comes;
//! 3. [`Reconciler::reconcile`] evaluates it from live reads, beside the controller, and
//! 4. applies what was decided; on a conflict 3 and 4 begin again. [`Controller::finish_reconcile`] takes what was found
//!    back into index and queue.

use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_k8s::evaluate::Evaluation;
use pod_reloader_k8s::objects::WorkloadObject;
use tokio::time::Instant;

use super::{Controller, Done};
use crate::apply::Attempt;
use crate::evaluate::{FromMemory, learned};
use crate::fact::Fact;
use crate::index::{Presence, Snapshot, View};
use crate::jitter;
use crate::reconciler::{Learned, Outcome, Reconciler, Report};
use crate::write::Guarding;

/// Conflicts in a row before the workload has to wait its turn again.
const MAX_CONFLICTS: u32 = 16;

impl Controller {
    /// Step 1: a workload is due. It is evaluated from memory, and if that does not suffice it waits at the gate.
    pub(super) fn start(&mut self, workload: &Arc<WorkloadRef>, failures: u32) {
        let now = Instant::now();
        if self.start_stand_in(workload) {
            return;
        }
        let Some(snapshot) = self.index.snapshot(workload) else {
            self.queue.done(workload, None);
            return;
        };
        if let Some(until) = self.first_lists.wait_of(&snapshot, &self.index, now) {
            self.queue.put_off(workload, until);
            return;
        }
        match self.reconciler.evaluate_from_memory(&snapshot) {
            FromMemory::Done(learned) => {
                for learned in learned {
                    self.learn(learned);
                }
                self.index.settled(workload, now);
                self.queue.done(workload, None);
            }
            FromMemory::SettleUntil(at) => self.queue.done(workload, Some(at)),
            FromMemory::Ask => self.gate.wait(workload, failures > 0, now),
        }
    }

    /// Step 2: starts the workloads that the gate lets pass.
    pub(super) fn admit(&mut self) {
        while let Some(workload) = self.gate.admit(Instant::now()) {
            // What was seen while it waited counts.
            let Some(snapshot) = self.index.snapshot(&workload) else {
                self.gate.leave(&workload, Instant::now());
                self.queue.done(&workload, None);
                continue;
            };
            let failures = self.queue.failures(&workload);
            let reconciler = self.reconciler.clone();
            let began = Instant::now();
            self.running.spawn(async move {
                let report = Box::new(reconciler.reconcile(&snapshot, failures).await);
                Done::Reconciled { view: snapshot.view, began, report }
            });
        }
    }
}

/// Before the next ones.
const CONFLICT_PAUSE: Duration = Duration::from_millis(250);

/// What an attempt is made from: the snapshot at first, after a conflict what was read again.
struct Basis {
    view: Arc<View>,
    guarding: Guarding,
    /// Reads that began earlier do not count.
    not_before: Instant,
}

impl Basis {
    fn of(snapshot: &Snapshot) -> Self {
        let view = snapshot.view.clone();
        let mut not_before =
            snapshot.changed_at.map_or(view.received, |changed_at| changed_at.max(view.received));
        if snapshot.settled_at <= Instant::now() {
            // What was read before the window was over may have changed without a watch having reported it yet.
            not_before = not_before.max(snapshot.settled_at);
        }
        Self { view, guarding: Guarding::Version, not_before }
    }

    /// From here on other controllers' writes do not matter, unless they change what the decision is made from.
    fn fresh(view: View) -> Self {
        // The version just read may have been written in the light of newer configuration.
        Self { view: Arc::new(view), guarding: Guarding::Inputs, not_before: Instant::now() }
    }
}

impl Reconciler {
    /// Steps 3 and 4, beside the controller. `failures` is how often they failed in a row.
    pub(crate) async fn reconcile(&self, snapshot: &Snapshot, failures: u32) -> Report {
        let began = Instant::now();
        let report = match self.key.get() {
            Some(key) => self.reconcile_live(&key, snapshot, failures).await,
            // It may have been replaced while this waited for its turn.
            None => Report::new(Outcome::Done),
        };
        self.metrics.observe_reconcile(began.elapsed());
        report
    }

    /// Reads live, decides, writes; again on a conflict, from fresh state.
    async fn reconcile_live(&self, key: &DigestKey, snapshot: &Snapshot, failures: u32) -> Report {
        let mut report = Report::new(Outcome::Failed);
        let mut basis = Basis::of(snapshot);
        for _ in 0..MAX_CONFLICTS {
            let Basis { view, guarding, not_before } = &basis;
            let evaluation = self.evaluate_live(key, view, snapshot, *not_before, failures).await;
            report.learned.extend(learned(view, key, &evaluation));
            if let Some(outcome) = self.must_not_write(key, view, &evaluation).await {
                return report.ended(outcome);
            }
            self.warn_of_references(view, &evaluation);
            match self.apply(view, snapshot, &evaluation.decision, *guarding).await {
                Attempt::Over(outcome, written) => {
                    if let Some(object) = written {
                        report.refreshed = Some((*object, Instant::now()));
                    }
                    let is_partial = outcome == Outcome::Done && evaluation.reads.unreadable().len() > 0;
                    return report.ended(if is_partial { Outcome::Partial } else { outcome });
                }
                Attempt::Conflict => {}
            }
            let asked_at = Instant::now();
            let fresh = match self.read_again(view).await {
                Ok(fresh) => fresh,
                Err(outcome) => return report.ended(outcome),
            };
            let workload_ref = view.workload_ref.clone();
            let workload = self.opt_ins.surround(fresh.workload.clone(), &workload_ref.namespace);
            report.refreshed = Some((fresh, asked_at));
            if !workload.is_managed() {
                return report.ended(Outcome::Done);
            }
            basis = Basis::fresh(View { workload_ref, workload, received: asked_at });
        }
        tracing::debug!(workload = %basis.view.workload_ref, "too many conflicts in a row");
        // No failure: longer and longer pauses would have somebody who writes all the time win for good.
        report.ended(Outcome::SettleUntil(Instant::now() + CONFLICT_PAUSE))
    }

    /// How the reconcile ends at once if it is not, or no longer, this installation's or this key's to write.
    async fn must_not_write(&self, key: &DigestKey, view: &View, evaluation: &Evaluation) -> Option<Outcome> {
        // Another replica may have recorded it with a key that this one has not heard of yet.
        if evaluation.decision.key_was_replaced && !self.key.is_confirmed(view.received).await {
            return Some(Outcome::Failed);
        }
        // What was decided with a key that is no longer in force must not be written; every workload is reconciled
        // again with the new one.
        if self.key.get().as_deref() != Some(key) {
            return Some(Outcome::Done);
        }
        self.is_contested(view, key, &evaluation.decision).then_some(Outcome::Done)
    }

    /// The workload as it is after a conflict; an outcome if there is nothing to go on with.
    async fn read_again(&self, view: &View) -> Result<WorkloadObject, Outcome> {
        match self.writer.get(&view.workload_ref).await {
            Ok(Some(fresh)) => Ok(fresh),
            Ok(None) => Err(Outcome::Gone),
            Err(error) => {
                self.publish(view, &Fact::WorkloadUnreadable { error: error.to_string() });
                Err(Outcome::Failed)
            }
        }
    }
}

impl Controller {
    fn learn(&mut self, learned: Learned) {
        match learned {
            Learned::Read(object, presence, digest) => self.index.learn(&object, presence, digest),
            Learned::NotStartable(object, version) => self.index.not_startable(&object, &version),
        }
    }

    /// The end: what was found is put into the index, and the queue gets the time to go on.
    pub(super) fn finish_reconcile(&mut self, view: &Arc<View>, began: Instant, report: Report) {
        let workload = view.workload_ref.clone();
        self.gate.leave(&workload, Instant::now());
        if let Some((object, received)) = report.refreshed
            && self.index.is_latest(view)
        {
            self.workload_is(&workload, object, received);
        }
        // After the workload, whose references may have changed.
        for learned in report.learned {
            if let Learned::Read(object, Presence::Version(_), _) = &learned
                && report.outcome == Outcome::Done
            {
                self.index.recorded(object, &workload);
            }
            self.learn(learned);
        }
        match report.outcome {
            Outcome::Done => {
                self.index.settled(&workload, began);
                self.queue.done(&workload, None);
            }
            Outcome::SettleUntil(at) => self.queue.done(&workload, Some(at)),
            Outcome::Gone => self.queue.done(&workload, None),
            outcome @ (Outcome::Failed | Outcome::Partial) => {
                self.queue.failed(&workload, Instant::now(), jitter::fraction(), outcome == Outcome::Partial);
            }
        }
    }
}
