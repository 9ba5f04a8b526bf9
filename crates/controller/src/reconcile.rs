//! Reconciles one workload: compares desired and current annotations and patches the difference.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pod_reloader_core::admission::Baseline;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::{Cause, Decision, Verdict};
use pod_reloader_core::digest::{Digest, DigestKey};
use pod_reloader_core::lookup::{ConfigVersion, Depth, Lookup, Query};
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::observed::Observed;
use pod_reloader_core::patch::Target;
use pod_reloader_core::reference::{Keys, WorkloadRef};
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::objects::WorkloadObject;
use pod_reloader_k8s::reader::ConfigReader;
use tokio::time::Instant;

use crate::evaluate::{deferral, learned};
use crate::events::{Reason, Recorder};
use crate::index::{Presence, Snapshot, View};
use crate::live::LiveReads;
use crate::metrics::Metrics;
use crate::rivals::{Claim, Rivals};
use crate::tidings::{Tiding, join, reload_note};
use crate::unanswered::{Sent, Unanswered};
use crate::write::{Guarding, Writer, Written};

/// Conflicts in a row before the workload has to wait its turn again.
const MAX_CONFLICTS: u32 = 5;

/// What all reconciles share.
pub(crate) struct Reconciler {
    pub(crate) mode: HashMode,
    pub(crate) key: KeyReader,
    pub(crate) reader: Arc<ConfigReader>,
    pub(crate) live: LiveReads,
    pub(crate) writer: Writer,
    pub(crate) recorder: Recorder,
    pub(crate) unanswered: Unanswered,
    pub(crate) rivals: Rivals,
    /// In how many namespaces there are workloads of ours.
    pub(crate) namespaces: AtomicUsize,
    pub(crate) metrics: Metrics,
}

/// How a reconcile ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing more to do until something changes.
    Done,
    /// A reload is due, once the references have settled.
    SettleUntil(Instant),
    /// The workload is no longer there.
    Gone,
    /// Another attempt is needed, after a backoff.
    Failed,
    /// All was done that could be, without what could not be read: another attempt is needed, but changes of the other
    /// references need not wait for it.
    Partial,
}

/// What a reconcile found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    /// The workload as it was read or written last, and when, if it is newer than the snapshot.
    pub(crate) refreshed: Option<(WorkloadObject, Instant)>,
    /// What was seen of the references.
    pub(crate) learned: Vec<Learned>,
}

/// Something that was seen of a config object.
#[derive(Debug)]
pub(crate) enum Learned {
    /// It was there in that version, or was absent.
    Read(ConfigRef, Presence, Option<Digest>),
    /// That version lacks a key that a template requires.
    NotStartable(ConfigRef, ConfigVersion),
}

impl Reconciler {
    /// The workload is no longer ours.
    pub(crate) fn forget(&self, reference: &WorkloadRef) {
        self.recorder.forget(reference);
        self.unanswered.forget(reference);
        self.rivals.forget(reference);
    }

    /// Reconciles a workload. `failures` is how often that failed in a row.
    pub(crate) async fn reconcile(&self, snapshot: Snapshot, failures: u32) -> Report {
        let began = Instant::now();
        let mut report = Report { outcome: Outcome::Done, refreshed: None, learned: vec![] };
        // It may have been replaced while this waited for its turn.
        if let Some(key) = self.key.get() {
            let (outcome, tidings) = self.act(&key, &snapshot, failures, &mut report).await;
            report.outcome = outcome;
            self.publish(tidings);
        }
        self.metrics.observe_reconcile(began.elapsed());
        report
    }

    /// What the content of an object is now, after a watch told of another version at `not_before`.
    pub(crate) async fn read_digest(&self, object: &ConfigRef, not_before: Instant) -> Option<Digest> {
        let key = self.key.get()?;
        let query = Query { object: object.clone(), depth: Depth::Content(Keys::All) };
        match self.live.read(&key, &query, not_before).await {
            Ok(Lookup::Found(found)) => found.digest(&key, &Keys::All),
            Ok(Lookup::Absent | Lookup::Unknown | Lookup::Unfollowed) | Err(_) => None,
        }
    }

    /// The workload is as it should be.
    pub(crate) fn all_is_right(&self, view: &Arc<View>) {
        let settled =
            [Reason::ReloadDeferred, Reason::PatchRefused, Reason::NoRoom, Reason::ReferenceUnreadable];
        self.recorder.resolve(&view.reference, &settled);
        self.report_unconfirmed(view);
    }

    /// Whether another installation keeps writing this workload, or others of its namespace: then this one, which came
    /// later, leaves them alone.
    fn is_contested(&self, view: &Arc<View>, key: &DigestKey, decision: &Decision) -> bool {
        let now = Instant::now();
        if self.rivals.is_contested(&view.reference.namespace, now) {
            return true;
        }
        // Only a foreign key can be a rival's.
        let Some(observed) = decision.key_was_replaced.then(|| foreign_record(view, key)).flatten() else {
            return false;
        };
        let namespaces = self.namespaces.load(Ordering::Relaxed);
        let claim = self.rivals.found(&view.reference, &observed.key_id, namespaces, now);
        if claim == Claim::Open {
            return false;
        }
        let note = "another installation of pod-reloader writes this workload, too: this one leaves its namespace alone. \
                    Give them different namespaces, or remove one";
        self.recorder.warn_once(view, Reason::AnotherInstallation, note.to_owned());
        if claim == Claim::ContestedWidely {
            self.key.stand_down();
        }
        true
    }

    /// Reads live, decides, writes; again on a conflict, from fresh state.
    async fn act(
        &self,
        key: &DigestKey,
        snapshot: &Snapshot,
        failures: u32,
        report: &mut Report,
    ) -> (Outcome, Vec<Tiding>) {
        let mut view = snapshot.view.clone();
        let mut guarding = Guarding::Version;
        let mut not_before =
            snapshot.changed_at.map_or(view.received, |changed_at| changed_at.max(view.received));
        if snapshot.settled_at <= Instant::now() {
            // What was read before the window was over may have changed without a watch having told of it yet.
            not_before = not_before.max(snapshot.settled_at);
        }
        for _ in 0..MAX_CONFLICTS {
            let evaluation = self.evaluate_live(key, &view, snapshot, not_before, failures).await;
            report.learned.extend(learned(&view, key, &evaluation));
            // Another replica may have recorded it with a key that this one has not heard of yet.
            if evaluation.decision.key_was_replaced && !self.key.is_confirmed(view.received).await {
                return (Outcome::Failed, vec![]);
            }
            // What was decided with a key that is no longer in force must not be written; every workload is reconciled
            // again with the new one.
            if self.key.get().as_deref() != Some(key) {
                return (Outcome::Done, vec![]);
            }
            if self.is_contested(&view, key, &evaluation.decision) {
                return (Outcome::Done, vec![]);
            }
            self.warn_of_references(&view, &evaluation);
            match self.apply(&view, snapshot, &evaluation.decision, guarding, report).await {
                Step::End(Outcome::Done, tidings) if evaluation.reads.unreadable().len() > 0 => {
                    return (Outcome::Partial, tidings);
                }
                Step::End(outcome, tidings) => return (outcome, tidings),
                Step::Conflict => {}
            }
            let asked_at = Instant::now();
            // From here on, what others write beside us does not matter, only what the decision is made from.
            guarding = Guarding::Inputs;
            let fresh = match self.writer.get(&view.reference).await {
                Ok(None) => return (Outcome::Gone, vec![]),
                Ok(Some(fresh)) => fresh,
                Err(error) => {
                    tracing::warn!(workload = %view.reference, error, "cannot read a workload");
                    return (Outcome::Failed, vec![]);
                }
            };
            let workload = fresh.workload.clone();
            report.refreshed = Some((fresh, asked_at));
            if !workload.is_cared_for() {
                return (Outcome::Done, vec![]);
            }
            view = Arc::new(View { reference: view.reference.clone(), workload, received: asked_at });
            // The version just read may have been written in the light of newer configuration.
            not_before = Instant::now();
        }
        tracing::debug!(workload = %view.reference, "too many conflicts in a row");
        (Outcome::Failed, vec![])
    }

    async fn apply(
        &self,
        view: &Arc<View>,
        snapshot: &Snapshot,
        decision: &Decision,
        guarding: Guarding,
        report: &mut Report,
    ) -> Step {
        let workload = &view.workload;
        match &decision.verdict {
            Verdict::Undecided(_) => return Step::End(Outcome::Failed, vec![]),
            Verdict::Reload { .. } | Verdict::Defer { .. } if Instant::now() < snapshot.settled_at => {
                return Step::End(Outcome::SettleUntil(snapshot.settled_at), vec![]);
            }
            Verdict::Defer { missing, causes } => {
                let note = deferral(missing, causes);
                return Step::End(Outcome::Done, vec![Tiding::new(view, Reason::ReloadDeferred, note)]);
            }
            Verdict::Keep => self.report_unconfirmed(view),
            Verdict::Observe(_) | Verdict::Reload { .. } => {}
        }
        let target = decision.verdict.target(&view.reference.namespace, Baseline::of(workload));
        let causes = decision.verdict.reload_causes();
        let (target, left_out) = target.fitted_to(workload);
        let tidings: Vec<_> = left_out.into_iter().map(|no_room| Tiding::no_room(view, no_room)).collect();
        let written = self.writer.write(view, &target, guarding).await;
        let attempt = Attempt { view, snapshot, decision, target, causes };
        self.after_write(&attempt, written, tidings, report)
    }

    fn after_write(
        &self,
        attempt: &Attempt<'_>,
        written: Written,
        mut tidings: Vec<Tiding>,
        report: &mut Report,
    ) -> Step {
        let Attempt { view, snapshot, target, causes, .. } = attempt;
        let trigger = causes.first().map(Cause::label);
        let count = |result| match trigger {
            Some(trigger) => self.metrics.count_reload(view.reference.kind, trigger, result),
            None => self.metrics.count_record(result),
        };
        match written {
            Written::Nothing => Step::End(Outcome::Done, tidings),
            Written::Gone => Step::End(Outcome::Gone, vec![]),
            Written::Conflict => {
                count("conflict");
                Step::Conflict
            }
            Written::Failed(error) => {
                count("error");
                tracing::warn!(workload = %view.reference, error, "cannot patch a workload; trying again later");
                if let Some(trigger) = trigger {
                    let note = reload_note(causes, snapshot);
                    let old_hash = view.workload.template.config_hash.clone();
                    let sent = Sent { old_hash, hash: target.hash.clone(), trigger, note };
                    self.unanswered.remember(&view.reference, sent);
                }
                Step::End(Outcome::Failed, tidings)
            }
            Written::Refused(why) => {
                count("refused");
                let note = format!("the patch of the config annotations is refused: {why}");
                tidings.push(Tiding::new(view, Reason::PatchRefused, note));
                Step::End(Outcome::Failed, tidings)
            }
            Written::Done(object) => {
                let written = object.workload.template.config_hash.clone();
                report.refreshed = Some((*object, Instant::now()));
                if written != target.hash {
                    count("undone");
                    let note =
                        "the config hash was patched, but another admission plugin undid it".to_owned();
                    tidings.push(Tiding::new(view, Reason::PatchRefused, note));
                    return Step::End(Outcome::Failed, tidings);
                }
                count("success");
                tidings.extend(self.after_success(attempt));
                Step::End(Outcome::Done, tidings)
            }
        }
    }

    fn after_success(&self, attempt: &Attempt<'_>) -> Vec<Tiding> {
        let Attempt { view, snapshot, decision, target, causes } = attempt;
        let mut tidings = vec![];
        self.unanswered.forget(&view.reference);
        self.recorder.resolve(&view.reference, &[Reason::ReloadDeferred, Reason::PatchRefused]);
        if decision.key_was_replaced {
            if let Some(key) = self.key.get()
                && let Some(observed) = foreign_record(view, &key)
            {
                self.rivals.took_over(&view.reference, &observed.key_id, Instant::now());
            }
            let note = "the digest key was replaced: what changed while the old one was lost cannot be seen";
            tidings.push(Tiding::new(view, Reason::KeyReplaced, note.to_owned()));
        }
        if causes.is_empty() {
            tracing::info!(workload = %view.reference, "recorded the observed configuration");
            return tidings;
        }
        let note = reload_note(causes, snapshot);
        log_reload(view, view.workload.template.config_hash.as_deref(), target.hash.as_deref(), &note);
        if let Some(took) = change_to_patch(causes, snapshot) {
            self.metrics.observe_change_to_patch(took);
        }
        tidings.push(Tiding::reload(view, &note));
        tidings
    }

    fn publish(&self, tidings: Vec<Tiding>) {
        for Tiding { view, reason, note } in tidings {
            match reason {
                Reason::ConfigurationChanged | Reason::KeyReplaced => self.recorder.tell(&view, reason, note),
                Reason::ReloadDeferred => {
                    if self.recorder.warn_once(&view, reason, note) {
                        self.metrics.count_deferred();
                    }
                }
                _ => drop(self.recorder.warn_once(&view, reason, note)),
            }
        }
    }

    /// Reports a reload whose patch response was lost.
    fn report_unconfirmed(&self, view: &Arc<View>) {
        let Some(sent) = self.unanswered.take_if_carried_out(view) else { return };
        self.metrics.count_reload(view.reference.kind, sent.trigger, "success");
        log_reload(view, sent.old_hash.as_deref(), sent.hash.as_deref(), &sent.note);
        let Tiding { view, reason, note } = Tiding::reload(view, &sent.note);
        self.recorder.tell(&view, reason, note);
    }
}

/// A write, and what it was decided from.
struct Attempt<'a> {
    view: &'a Arc<View>,
    snapshot: &'a Snapshot,
    decision: &'a Decision,
    target: Target,
    causes: &'a [Cause],
}

/// What is recorded of the workload with another key than ours.
fn foreign_record(view: &View, key: &DigestKey) -> Option<Observed> {
    let workload = &view.workload;
    let hash = workload.template.config_hash.as_deref();
    let observed = Observed::parse(workload.observed.as_deref()?, &view.reference.namespace, hash)?;
    (!observed.is_comparable(key)).then_some(observed)
}

/// How long the change took to be patched, if it is a change that the watches told of: healing drift is none.
fn change_to_patch(causes: &[Cause], snapshot: &Snapshot) -> Option<Duration> {
    let is_of_content = |cause: &Cause| {
        matches!(cause, Cause::Changed(_) | Cause::Appeared(_) | Cause::Disappeared(_))
            && snapshot
                .references
                .iter()
                .any(|reference| Some(&reference.object) == cause.reference() && reference.is_recent)
    };
    causes.iter().any(is_of_content).then(|| snapshot.changed_at.map(|at| at.elapsed())).flatten()
}

fn log_reload(view: &View, old_hash: Option<&str>, new_hash: Option<&str>, note: &str) {
    tracing::info!(
        workload = %view.reference,
        references = join(view.workload.references.objects()),
        old_hash = old_hash.unwrap_or("none"),
        new_hash = new_hash.unwrap_or("none"),
        "reloaded: {note}"
    );
}

enum Step {
    End(Outcome, Vec<Tiding>),
    Conflict,
}
