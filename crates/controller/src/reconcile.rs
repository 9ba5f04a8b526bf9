//! One look at one workload: compare, and write what differs.

use std::collections::BTreeSet;
use std::sync::Arc;

use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::{
    Cause, Decision, Live, Lookup, Lookups, Occasion, Question, Verdict, decide, needs_content,
};
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::observed::Observed;
use pod_reloader_core::patch::{NoRoom, Target};
use pod_reloader_core::reference::{ConfigName, ConfigRef, WorkloadRef};
use pod_reloader_k8s::connect::REQUEST_TIMEOUT;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::objects::WorkloadObject;
use pod_reloader_k8s::reader::{ConfigReader, Depth};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::events::{Reason, Recorder};
use crate::index::{Presence, Snapshot, View};
use crate::live::LiveReads;
use crate::metrics::Metrics;
use crate::tidings::{Tiding, join, reload_note};
use crate::unanswered::{Sent, Unanswered};
use crate::write::{Writer, Written};

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
    pub(crate) metrics: Metrics,
    /// Bounds what talks to the API server at once.
    pub(crate) slots: Semaphore,
    /// Workloads that failed before need one of these first, which are fewer, so that they hold up no others (5.5).
    pub(crate) retry_slots: Semaphore,
}

/// How a look ended.
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
}

/// What a look found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    /// The workload as it was read or written last, and when, if it is newer than the snapshot.
    pub(crate) refreshed: Option<(WorkloadObject, Instant)>,
    /// Which versions of the references were seen.
    pub(crate) learned: Vec<(ConfigRef, Presence)>,
}

impl Reconciler {
    /// From now on no look gets as far as a request; those that are making one go on.
    pub(crate) fn begin_nothing_more(&self) {
        self.slots.close();
        self.retry_slots.close();
    }

    /// The workload is no longer ours.
    pub(crate) fn forget(&self, reference: &WorkloadRef) {
        self.recorder.forget(reference);
        self.unanswered.forget(reference);
    }

    /// Looks at a workload. `failures` is how often that failed in a row.
    pub(crate) async fn reconcile(&self, snapshot: Snapshot, failures: u32) -> Report {
        let began = Instant::now();
        let mut report = Report { outcome: Outcome::Done, refreshed: None, learned: vec![] };
        report.outcome = self.look(&snapshot, failures, &mut report).await;
        self.metrics.observe_reconcile(began.elapsed());
        report
    }

    async fn look(&self, snapshot: &Snapshot, failures: u32, report: &mut Report) -> Outcome {
        // Without the key nothing is decided; when it comes, every workload is looked at again.
        let Some(key) = self.key.get() else { return Outcome::Done };
        self.warn_of_bad_names(&snapshot.view);

        // From memory first: that is all that most looks need.
        let depth = self.depth(&snapshot.view);
        let remembered = self.remembered(&key, snapshot, depth);
        match self.ask(&key, &snapshot.view, &remembered).verdict {
            // There is no room to record it, and that was told.
            Verdict::Record(observed)
                if record_target(&snapshot.view, observed.as_ref()).0.is_met_by(&snapshot.view.workload) =>
            {
                return Outcome::Done;
            }
            Verdict::Keep if snapshot.view.workload.trigger.is_none() => {
                let settled = [Reason::ReloadDeferred, Reason::PatchRefused, Reason::NoRoom];
                self.recorder.resolve(&snapshot.view.reference, &settled);
                self.tell_late(&snapshot.view);
                return Outcome::Done;
            }
            Verdict::Reload { .. } | Verdict::Defer { .. } if Instant::now() < snapshot.settled_at => {
                return Outcome::SettleUntil(snapshot.settled_at);
            }
            _ => {}
        }

        let _retry_slot = match failures {
            0 => None,
            _ => match self.retry_slots.acquire().await {
                Ok(slot) => Some(slot),
                Err(_) => return Outcome::Done,
            },
        };
        let Ok(_slot) = self.slots.acquire().await else { return Outcome::Done };
        // It may have been replaced while this waited for its turn.
        let Some(key) = self.key.get() else { return Outcome::Done };
        let (outcome, tidings) = self.act(&key, snapshot, report).await;
        for Tiding { view, reason, note } in tidings {
            match reason {
                Reason::ConfigurationChanged | Reason::KeyReplaced => {
                    self.recorder.tell(&view, reason, note);
                }
                Reason::ReloadDeferred => {
                    if self.recorder.warn_once(&view, reason, note) {
                        self.metrics.count_deferred();
                    }
                }
                _ => {
                    self.recorder.warn_once(&view, reason, note);
                }
            }
        }
        outcome
    }

    /// Reads live, decides, writes; again on a conflict, from fresh state.
    async fn act(&self, key: &DigestKey, snapshot: &Snapshot, report: &mut Report) -> (Outcome, Vec<Tiding>) {
        let mut view = snapshot.view.clone();
        let mut not_before =
            snapshot.changed_at.map_or(view.received, |changed_at| changed_at.max(view.received));
        for _ in 0..MAX_CONFLICTS {
            let live = self.read_live(key, &view, snapshot, not_before, report).await;
            let decision = self.ask(key, &view, &live);
            // What was decided with a key that is no longer in force must not be written; every workload is looked at
            // again with the new one.
            if self.key.get().as_deref() != Some(key) {
                return (Outcome::Done, vec![]);
            }
            match self.carry_out(&view, snapshot, &decision, report).await {
                Step::End(outcome, tidings) => return (outcome, tidings),
                Step::Conflict => {}
            }
            let asked_at = Instant::now();
            match self.writer.get(&view.reference).await {
                Ok(None) => return (Outcome::Gone, vec![]),
                Ok(Some(object)) => {
                    let workload = object.workload.clone();
                    report.refreshed = Some((object, asked_at));
                    if !workload.is_cared_for() {
                        return (Outcome::Done, vec![]);
                    }
                    let reference = view.reference.clone();
                    view = Arc::new(View { reference, workload, received: asked_at });
                    // The version just read may have been written in the light of newer configuration.
                    not_before = Instant::now();
                }
                Err(error) => {
                    tracing::warn!(workload = %view.reference, error, "cannot read a workload");
                    return (Outcome::Failed, vec![]);
                }
            }
        }
        tracing::debug!(workload = %view.reference, "too many conflicts in a row");
        (Outcome::Failed, vec![])
    }

    async fn carry_out(
        &self,
        view: &Arc<View>,
        snapshot: &Snapshot,
        decision: &Decision,
        report: &mut Report,
    ) -> Step {
        let workload = &view.workload;
        let (target, causes) = match &decision.verdict {
            Verdict::Undecided(_) => return Step::End(Outcome::Failed, vec![]),
            Verdict::Reload { .. } | Verdict::Defer { .. } if Instant::now() < snapshot.settled_at => {
                return Step::End(Outcome::SettleUntil(snapshot.settled_at), vec![]);
            }
            Verdict::Defer { missing, causes } => {
                let note = format!(
                    "reload put off until {} is there, which the pod template requires ({})",
                    join(missing),
                    join(causes)
                );
                return Step::End(Outcome::Done, vec![Tiding::new(view, Reason::ReloadDeferred, note)]);
            }
            Verdict::Keep => {
                self.tell_late(view);
                let (hash, observed) = (workload.template.config_hash.clone(), workload.observed.clone());
                (Target { hash, observed }, &[][..])
            }
            Verdict::Record(observed) => (
                Target {
                    hash: workload.template.config_hash.clone(),
                    observed: observed.as_ref().map(Observed::to_annotation),
                },
                &[][..],
            ),
            Verdict::Reload { hash, observed, causes } => (
                Target {
                    hash: Some(hash.as_str().to_owned()),
                    observed: observed.as_ref().map(Observed::to_annotation),
                },
                &causes[..],
            ),
        };
        let (target, left_out) = target.fitted_to(workload);
        let mut tidings: Vec<_> =
            left_out.into_iter().map(|no_room| Tiding::no_room(view, no_room)).collect();
        let trigger = causes.first().map(Cause::label);
        let count = |result| match trigger {
            Some(trigger) => self.metrics.count_reload(view.reference.kind, trigger, result),
            None => self.metrics.count_record(result),
        };

        match self.writer.write(view, &target).await {
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
                    let (old_hash, hash) = (workload.template.config_hash.clone(), target.hash);
                    self.unanswered.remember(&view.reference, Sent { old_hash, hash, trigger, note });
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
                self.unanswered.forget(&view.reference);
                self.recorder.resolve(&view.reference, &[Reason::ReloadDeferred, Reason::PatchRefused]);
                if decision.key_was_replaced {
                    let note =
                        "the digest key was replaced: what changed while the old one was lost cannot be seen";
                    tidings.push(Tiding::new(view, Reason::KeyReplaced, note.to_owned()));
                }
                if trigger.is_some() {
                    let note = reload_note(causes, snapshot);
                    log_reload(view, workload.template.config_hash.as_deref(), target.hash.as_deref(), &note);
                    if let Some(changed_at) = snapshot.changed_at {
                        self.metrics.observe_change_to_patch(changed_at.elapsed());
                    }
                    tidings.push(Tiding::reload(view, &note));
                } else {
                    tracing::info!(workload = %view.reference, "recorded the observed configuration");
                }
                Step::End(Outcome::Done, tidings)
            }
        }
    }

    /// Tells of a reload that was carried out although the patch got no answer.
    fn tell_late(&self, view: &Arc<View>) {
        let Some(sent) = self.unanswered.take_if_carried_out(view) else { return };
        self.metrics.count_reload(view.reference.kind, sent.trigger, "success");
        log_reload(view, sent.old_hash.as_deref(), sent.hash.as_deref(), &sent.note);
        let Tiding { view, reason, note } = Tiding::reload(view, &sent.note);
        self.recorder.tell(&view, reason, note);
    }

    fn warn_of_bad_names(&self, view: &View) {
        let bad = view.workload.references.bad_names();
        if bad.is_empty() {
            self.recorder.resolve(&view.reference, &[Reason::InvalidReference]);
        } else {
            let note = format!("not valid as a name and left out: {}", join(bad));
            self.recorder.warn_once(view, Reason::InvalidReference, note);
        }
    }

    fn depth(&self, view: &View) -> Depth {
        let workload = &view.workload;
        if needs_content(self.mode, workload.template.config_hash.as_deref(), workload.observed.as_deref()) {
            Depth::Content
        } else {
            Depth::Version
        }
    }

    fn ask(&self, key: &DigestKey, view: &View, live: &Lookups) -> Decision {
        decide(&Question {
            mode: self.mode,
            key,
            namespace: &view.reference.namespace,
            references: &view.workload.references,
            uses: &view.workload.template.uses,
            hash: view.workload.template.config_hash.as_deref(),
            observed: view.workload.observed.as_deref(),
            live,
            superseded: &BTreeSet::new(),
            tolerates_unknown: false,
            occasion: Occasion::Standing,
        })
    }

    /// What the watches and earlier reads tell, without a request.
    fn remembered(&self, key: &DigestKey, snapshot: &Snapshot, depth: Depth) -> Lookups {
        let namespace = &snapshot.view.reference.namespace;
        let references = snapshot.references.iter();
        references
            .map(|reference| {
                let lookup = match &reference.presence {
                    None => Lookup::Unknown,
                    Some(Presence::Absent) => Lookup::Absent,
                    Some(Presence::Version { uid, resource_version }) => {
                        let object = ConfigRef::new(namespace, reference.name.clone());
                        let digest = self.reader.remembered_digest(key, &object, uid, resource_version);
                        if depth == Depth::Content && digest.is_none() {
                            Lookup::Unknown
                        } else {
                            let (uid, resource_version) = (uid.clone(), resource_version.clone());
                            Lookup::Known(Live { uid, resource_version, digest, keys: None })
                        }
                    }
                };
                (reference.name.clone(), lookup)
            })
            .collect()
    }

    /// What the API server says now of the references. Of objects that the template only requires, what the watches
    /// said or, where they said nothing yet, whether they exist.
    async fn read_live(
        &self,
        key: &DigestKey,
        view: &View,
        snapshot: &Snapshot,
        not_before: Instant,
        report: &mut Report,
    ) -> Lookups {
        let namespace = &view.reference.namespace;
        let names: Vec<ConfigName> = view.workload.references.names().into_iter().cloned().collect();
        let depth = self.depth(view);
        let mut live = self.live.read_all(key, namespace, names, depth, not_before).await;
        for (name, lookup) in &live {
            let presence = match lookup {
                Lookup::Unknown => continue,
                Lookup::Absent => Presence::Absent,
                Lookup::Known(Live { uid, resource_version, .. }) => {
                    Presence::Version { uid: uid.clone(), resource_version: resource_version.clone() }
                }
            };
            report.learned.push((ConfigRef::new(namespace, name.clone()), presence));
        }
        // Only a reload that could have to wait asks for more.
        if !matches!(self.ask(key, view, &live).verdict, Verdict::Reload { .. }) {
            return live;
        }
        let required: Vec<_> = view
            .workload
            .template
            .uses
            .required()
            .filter(|name| !live.contains_key(*name))
            .cloned()
            .collect();
        for name in required {
            let known = snapshot.references.iter().find(|reference| reference.name == name);
            let is_absent = match known.and_then(|reference| reference.presence.as_ref()) {
                Some(presence) => *presence == Presence::Absent,
                None => self.is_missing(namespace, &name, report).await,
            };
            if is_absent {
                live.insert(name, Lookup::Absent);
            }
        }
        live
    }

    /// Asks whether an object is missing that the template requires and that no watch told of yet.
    async fn is_missing(&self, namespace: &str, name: &ConfigName, report: &mut Report) -> bool {
        let object = ConfigRef::new(namespace, name.clone());
        let is_missing = self.reader.exists(&object, REQUEST_TIMEOUT).await == Some(false);
        if is_missing {
            report.learned.push((object, Presence::Absent));
        }
        is_missing
    }
}

/// What recording that would make of the annotations, as far as there is room.
fn record_target(view: &View, observed: Option<&Observed>) -> (Target, Vec<NoRoom>) {
    let hash = view.workload.template.config_hash.clone();
    Target { hash, observed: observed.map(Observed::to_annotation) }.fitted_to(&view.workload)
}

fn log_reload(view: &View, old_hash: Option<&str>, new_hash: Option<&str>, note: &str) {
    tracing::info!(
        workload = %view.reference,
        references = join(view.workload.references.names()),
        old_hash = old_hash.unwrap_or("none"),
        new_hash = new_hash.unwrap_or("none"),
        "reloaded: {note}"
    );
}

enum Step {
    End(Outcome, Vec<Tiding>),
    Conflict,
}
