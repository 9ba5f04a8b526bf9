//! Writes what was decided, and publishes what came of it.

use std::time::Duration;

use pod_reloader_core::action::Plan;
use pod_reloader_core::admission::Baseline;
use pod_reloader_core::cause::Cause;
use pod_reloader_core::decide::{Decision, Verdict};
use pod_reloader_core::patch::Target;
use pod_reloader_k8s::objects::WorkloadObject;
use tokio::time::Instant;

use crate::conditions::Condition;
use crate::fact::{Acted, Fact, PatchFailure, Reload, join};
use crate::index::{Snapshot, View};
use crate::reconciler::{Outcome, Reconciler};
use crate::rivals::foreign_record;
use crate::write::{Acting, Guarding, Written};

/// When a workload that is in no state for what is to be done is looked at again, if nothing happens to it before.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What came of an attempt to apply a decision.
pub(crate) enum Attempt {
    /// The reconcile is over. With it comes the workload as it was written, if it was.
    Over(Outcome, Option<Box<WorkloadObject>>),
    /// The workload changed since it was decided on: decide again.
    Conflict,
}

/// What the annotations should become. Without causes it is no reload.
struct Intent<'a> {
    target: Target,
    causes: &'a [Cause],
}

impl Reconciler {
    /// Applies a decision, if there is anything to write and the time for it has come.
    pub(crate) async fn apply(
        &self,
        view: &View,
        snapshot: &Snapshot,
        decision: &Decision,
        guarding: Guarding,
    ) -> Attempt {
        let Intent { target, causes } = match self.intend(view, snapshot, decision) {
            Ok(intent) => intent,
            Err(outcome) => return Attempt::Over(outcome, None),
        };
        let (target, left_out) = target.fitted_to(&view.workload);
        let (written, plan) = match &decision.verdict {
            Verdict::Act { .. } => match self.act(view, snapshot, &target, causes).await {
                Acting::Waits => {
                    self.publish(view, &Fact::JobWaits);
                    return Attempt::Over(Outcome::SettleUntil(Instant::now() + LOOK_AGAIN), None);
                }
                Acting::Over(written, plan) => (written, plan),
            },
            _ => (self.writer.write(view, &target, guarding).await, None),
        };
        if !matches!(written, Written::Conflict | Written::Gone) {
            for no_room in left_out {
                self.publish(view, &Fact::NoRoom(no_room));
            }
        }
        let reload = || {
            let reload = (!causes.is_empty()).then(|| reload(view, snapshot, &target, causes));
            reload.map(|reload| Reload { acted: plan.map(|plan| acted(plan, &target)), ..reload })
        };
        let failed = |failure| {
            let cause = causes.first().map(Cause::label);
            self.publish(view, &Fact::PatchFailed { cause, failure });
        };
        match written {
            // Of a Job that was made the rest is a stand-in's.
            Written::Nothing | Written::JobMade => Attempt::Over(Outcome::Done, None),
            Written::Gone => Attempt::Over(Outcome::Gone, None),
            Written::Conflict => {
                failed(PatchFailure::Conflict);
                Attempt::Conflict
            }
            Written::Failed(error) => {
                failed(PatchFailure::Error(error.to_string()));
                // What was not planned yet was not carried out.
                let is_rollout = !matches!(decision.verdict, Verdict::Act { .. });
                if let Some(reload) = reload().filter(|reload| is_rollout || reload.acted.is_some()) {
                    self.unconfirmed.remember(&view.workload_ref, reload);
                }
                Attempt::Over(Outcome::Failed, None)
            }
            Written::Refused(why) => {
                failed(PatchFailure::Refused);
                self.publish(view, &Fact::PatchRefused { why });
                Attempt::Over(Outcome::Failed, None)
            }
            Written::JobRefused(why) => {
                failed(PatchFailure::Refused);
                self.publish(view, &Fact::JobRefused { why });
                Attempt::Over(Outcome::Failed, None)
            }
            Written::Done(object) if object.workload.template.config_hash != target.hash => {
                failed(PatchFailure::Undone);
                self.publish(view, &Fact::PatchUndone);
                Attempt::Over(Outcome::Failed, Some(object))
            }
            Written::Done(object) => {
                self.succeeded(view, decision, reload());
                Attempt::Over(Outcome::Done, Some(object))
            }
        }
    }

    /// Does what the workload has done about a change, with the key that the decision was made with.
    async fn act(&self, view: &View, snapshot: &Snapshot, target: &Target, causes: &[Cause]) -> Acting {
        let Some(key) = self.key.get() else { return Acting::Over(Written::Conflict, None) };
        self.writer.act(view, target, &key, &changes(causes, snapshot)).await
    }

    /// What to write; an outcome if nothing is to be written now.
    fn intend<'a>(
        &self,
        view: &View,
        snapshot: &Snapshot,
        decision: &'a Decision,
    ) -> Result<Intent<'a>, Outcome> {
        match &decision.verdict {
            Verdict::Undecided(_) => return Err(Outcome::Failed),
            Verdict::Reload { .. } | Verdict::Act { .. } | Verdict::Defer { .. }
                if Instant::now() < snapshot.settled_at =>
            {
                return Err(Outcome::SettleUntil(snapshot.settled_at));
            }
            Verdict::Defer { missing, causes } => {
                self.publish(view, &Fact::deferred(missing, causes));
                return Err(Outcome::Done);
            }
            Verdict::Keep => self.report_unconfirmed(view),
            Verdict::Observe(_) | Verdict::Reload { .. } | Verdict::Act { .. } => {}
        }
        let baseline = Baseline::of(&view.workload);
        let target = decision.verdict.target(&view.workload_ref.namespace, baseline);
        Ok(Intent { target, causes: decision.verdict.reload_causes() })
    }

    /// The workload is patched: reloaded, or its observed configuration recorded.
    fn succeeded(&self, view: &View, decision: &Decision, reload: Option<Reload>) {
        self.unconfirmed.forget(&view.workload_ref);
        self.facts.resolve(&view.workload_ref, &[Condition::ReloadDeferred, Condition::PatchRefused]);
        if decision.key_was_replaced {
            if let Some(key) = self.key.get()
                && let Some(observed) = foreign_record(view, &key)
            {
                self.rivals.took_over(&view.workload_ref, &observed.key_id, Instant::now());
            }
            self.publish(view, &Fact::KeyReplaced);
        }
        self.publish(view, &reload.map_or(Fact::Recorded, Fact::Reloaded));
    }

    /// Publishes a reload whose patch response was lost.
    pub(crate) fn report_unconfirmed(&self, view: &View) {
        let Some(reload) = self.unconfirmed.take_if_carried_out(view) else { return };
        // When it was carried out is not known.
        let reload = Reload { references: references(view), since_change: None, ..reload };
        self.publish(view, &Fact::Reloaded(reload));
    }
}

fn reload(view: &View, snapshot: &Snapshot, target: &Target, causes: &[Cause]) -> Reload {
    Reload {
        acted: None,
        causes: causes.to_vec(),
        changes: changes(causes, snapshot),
        old_hash: view.workload.template.config_hash.clone(),
        new_hash: target.hash.clone(),
        references: references(view),
        since_change: since_change(causes, snapshot),
    }
}

fn acted(plan: Plan, target: &Target) -> Acted {
    Acted { done: plan.done, restarts: plan.restarts, observed: target.observed.clone() }
}

fn references(view: &View) -> Vec<String> {
    view.workload.references.objects().into_iter().map(ToString::to_string).collect()
}

/// Names what changed. Where the annotations cannot tell, what the watches saw can.
fn changes(causes: &[Cause], snapshot: &Snapshot) -> String {
    let seen: Vec<_> =
        snapshot.references.iter().filter(|r| r.is_reference && r.is_recent).map(|r| &r.object).collect();
    let is_vague = causes.iter().all(|cause| *cause == Cause::Unwatched);
    if is_vague && !seen.is_empty() { format!("{} changed", join(seen)) } else { join(causes) }
}

/// How long ago the change was, if it is a change that the watches reported: healing drift is none.
fn since_change(causes: &[Cause], snapshot: &Snapshot) -> Option<Duration> {
    let is_of_content = |cause: &Cause| {
        matches!(cause, Cause::Changed(_) | Cause::Appeared(_) | Cause::Disappeared(_))
            && snapshot
                .references
                .iter()
                .any(|reference| Some(&reference.object) == cause.reference() && reference.is_recent)
    };
    causes.iter().any(is_of_content).then(|| snapshot.changed_at.map(|at| at.elapsed())).flatten()
}
