//! Answers one admission request.

use std::collections::BTreeSet;
use std::sync::Arc;

use pod_reloader_core::admission::{Admission, Baseline, classify};
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::{Cause, Lookup, Lookups, Occasion, Question, Verdict, needs_content};
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::patch::Target;
use pod_reloader_core::rotation::decide_rotating;
use pod_reloader_core::workload::Workload;
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_k8s::reader::{ConfigReader, Depth};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::caller::{Caller, Turns};
use crate::metrics::{Metrics, Outcome};
use crate::prepare::{Open, Plan, Prepared};
use crate::review::Response;
use crate::warning;

/// Objects that the template requires beside the listed ones: no more of them are asked for (4.2).
const MAX_REQUIRED: usize = 1000;
/// Causes that a log line names.
const MAX_LOGGED: usize = 20;

/// What requests are answered from.
pub struct Admitter {
    /// Reads config objects from the API server.
    pub reader: Arc<ConfigReader>,
    /// The digest key; without it nothing is decided.
    pub key: KeyReader,
    /// The name our own requests are authenticated as, once it is known.
    pub own_user: watch::Receiver<Option<String>>,
    /// How hashes are made.
    pub mode: HashMode,
    /// Which namespaces and workloads are ours.
    pub scope: Scope,
    /// Bounds the bodies in memory.
    pub budget: Budget,
    /// Bounds the reads that callers cause.
    pub turns: Turns,
    /// Counters.
    pub metrics: Metrics,
}

/// What the annotations should become, and how that was found.
struct Answer {
    outcome: Outcome,
    target: Target,
    causes: Vec<Cause>,
    warnings: Vec<String>,
}

impl Admitter {
    /// Answers a request before the deadline, with the uid to give back. Never denies, never fails.
    pub(crate) async fn admit(&self, prepared: Prepared, caller: &Caller) -> (String, Response) {
        let Prepared { uid, operation, plan } = prepared;
        let response = match plan {
            Plan::UnknownKind(kind) => {
                self.metrics.count_request("other", &operation, Outcome::LeftAlone);
                let warning = format!("pod-reloader: registered for a kind it does not know: {kind}");
                Response { warnings: vec![warning], ..Response::default() }
            }
            Plan::Answered(kind, outcome, response) => {
                self.metrics.count_request(kind.as_str(), &operation, outcome);
                response
            }
            Plan::Open(open) => {
                let (response, outcome) = self.admit_workload(&open, caller).await;
                self.metrics.count_request(open.kind.as_str(), &operation, outcome);
                response
            }
        };
        (uid, response)
    }

    async fn admit_workload(&self, open: &Open, caller: &Caller) -> (Response, Outcome) {
        let Open { new, old, .. } = open;
        // Another namespace is left alone, as one that is not among `--namespaces`; whatever it holds is not read.
        let selector = &self.scope.namespace_selector;
        let reader = self.reader.on_behalf_of(&caller.peer);
        let is_selected = reader.is_selected(&open.namespace, selector, caller.deadline).await;
        if is_selected == Ok(false) {
            return (Response::default(), Outcome::LeftAlone);
        }
        let answer = match classify(self.mode, new, old.as_ref(), || open.template_changed) {
            Admission::LeaveAlone => return (Response::default(), Outcome::LeftAlone),
            Admission::Restore(baseline) => Answer::keep(baseline, Outcome::Restored, None),
            Admission::Decide(baseline, _) if is_selected.is_err() => {
                let warning = warning::left_to_reconciler("the namespace's labels could not be read");
                Answer::keep(baseline, Outcome::Undecided, Some(warning))
            }
            Admission::Decide(baseline, occasion) => {
                self.decide(&reader, &open.namespace, new, baseline, occasion, caller).await
            }
        };
        let (target, left_out) = answer.target.fitted_to(new);
        let mut warnings = answer.warnings;
        if new.is_cared_for() {
            warnings.extend(warning::bad_names(&new.references));
            warnings.extend(warning::left_out(&new.references));
            warnings.extend(warning::settle_window(new.settle_window));
            warnings.extend(warning::secrets(&new.references, self.scope.secrets));
        }
        warnings.extend(left_out.into_iter().map(warning::no_room));
        if let (Some(cause), Some(hash)) = (answer.causes.first(), &target.hash) {
            let causes: Vec<String> =
                answer.causes.iter().take(MAX_LOGGED).map(ToString::to_string).collect();
            let name = open.name.as_deref().unwrap_or("(to be generated)");
            let old_hash = old.as_ref().and_then(|old| old.template.config_hash.as_deref()).unwrap_or("none");
            tracing::info!(
                kind = open.kind.as_str(), namespace = open.namespace, name, old_hash, new_hash = %hash,
                dry_run = open.dry_run, causes = causes.join(", "), "the webhook set the config hash"
            );
            if !open.dry_run {
                self.metrics.count_hash_set(open.kind.as_str(), cause.label());
            }
        }
        (Response { patch: target.admission_patch(open.kind, new), warnings }, answer.outcome)
    }

    async fn decide(
        &self,
        reader: &ConfigReader,
        namespace: &str,
        new: &Workload,
        baseline: Baseline<'_>,
        occasion: Occasion,
        caller: &Caller,
    ) -> Answer {
        let deadline = caller.deadline;
        let Baseline { hash, observed } = baseline;
        let undecided =
            |why: &str| Answer::keep(baseline, Outcome::Undecided, Some(warning::left_to_reconciler(why)));
        let Some(key) = self.key.get() else {
            return undecided("the digest key is not known");
        };
        let names: Vec<_> = new.references.names().into_iter().cloned().collect();
        let Some(_turn) = self.turns.take(caller, namespace, names.len()).await else {
            return undecided("too many requests at once from one address");
        };
        let depth = if needs_content(self.mode, hash, observed) { Depth::Content } else { Depth::Version };
        let mut reads = reader.read_all(&key, namespace, names, depth, deadline).await;
        if hash.is_some() && self.mode == HashMode::Content {
            let missing = self.required_beside(reader, namespace, new, &reads.lookups, deadline).await;
            reads.lookups.extend(missing);
        }
        // Another key may have come into force meanwhile; what was made with the old one must not be told.
        if self.key.get().as_deref() != Some(&*key) {
            return undecided("the digest key is being replaced");
        }
        let question = Question {
            mode: self.mode,
            key: &key,
            namespace,
            references: &new.references,
            uses: &new.template.uses,
            hash,
            observed,
            live: &reads.lookups,
            superseded: &BTreeSet::new(),
            // The reconciler would decide without them, too, and make a second revision of it.
            tolerates_unknown: reads.only_lasting(),
            occasion,
        };
        let under = |former: &DigestKey| self.reader.under(&key, former, namespace, &reads.lookups);
        let decision = decide_rotating(&question, under);
        let is_undecided = matches!(decision.verdict, Verdict::Undecided(_));
        let mut answer = match decision.verdict {
            Verdict::Undecided(names) => {
                let warning = warning::unreadable(names.len(), &reads.unreadable);
                Answer::keep(baseline, Outcome::Undecided, Some(warning))
            }
            // Never on the owner's rollout; if it were, waiting would be right.
            Verdict::Defer { .. } | Verdict::Keep => Answer::keep(baseline, Outcome::Decided, None),
            Verdict::Record(observed) => Answer {
                outcome: Outcome::Decided,
                target: Target {
                    hash: hash.map(str::to_owned),
                    observed: observed.map(|observed| observed.to_annotation()),
                },
                causes: vec![],
                warnings: vec![],
            },
            Verdict::Reload { hash, observed, causes } => Answer {
                outcome: Outcome::Decided,
                target: Target {
                    hash: Some(hash.as_str().to_owned()),
                    observed: observed.map(|observed| observed.to_annotation()),
                },
                causes,
                warnings: vec![],
            },
        };
        if !is_undecided && !decision.unknown.is_empty() {
            answer.warnings.push(warning::not_covered(decision.unknown.len(), &reads.unreadable));
        }
        answer.warnings.extend(warning::missing(&new.references, &new.template.uses, &reads.lookups));
        answer
    }

    /// Which of the objects exist that the template requires and the lists do not name. It matters only where a
    /// listed one is absent: its digest stays recorded while new pods have to wait for something else.
    async fn required_beside(
        &self,
        reader: &ConfigReader,
        namespace: &str,
        new: &Workload,
        listed: &Lookups,
        deadline: Instant,
    ) -> Lookups {
        if !listed.values().any(|lookup| *lookup == Lookup::Absent) {
            return Lookups::new();
        }
        let required = new.template.uses.required().filter(|name| !listed.contains_key(*name));
        let required: Vec<_> = required.take(MAX_REQUIRED).cloned().collect();
        reader.exist_all(namespace, required, deadline).await.lookups
    }
}

impl Answer {
    fn keep(baseline: Baseline<'_>, outcome: Outcome, warning: Option<String>) -> Self {
        Self {
            outcome,
            target: Target {
                hash: baseline.hash.map(str::to_owned),
                observed: baseline.observed.map(str::to_owned),
            },
            causes: vec![],
            warnings: warning.into_iter().collect(),
        }
    }
}
