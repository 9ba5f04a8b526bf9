//! Answers one admission request.

use std::sync::Arc;

use pod_reloader_core::admission::{Admission, Baseline, classify};
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::{Cause, Context, FirstSeen, Input, Verdict};
use pod_reloader_core::patch::Target;
use pod_reloader_core::workload::Workload;
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::evaluate::{Live, Tolerance, evaluate};
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_k8s::reader::ConfigReader;
use tokio::sync::watch;

use crate::caller::{Caller, Turns};
use crate::fact::NewHash;
use crate::metrics::{Metrics, Outcome};
use crate::prepare::{Open, Plan, Prepared};
use crate::review::Response;
use crate::warning;

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
                self.metrics.count_request(kind.label(), &operation, outcome);
                response
            }
            Plan::Open(open) => {
                let (response, outcome) = self.admit_workload(&open, caller).await;
                self.metrics.count_request(open.kind.label(), &operation, outcome);
                response
            }
        };
        (uid, response)
    }

    async fn admit_workload(&self, open: &Open, caller: &Caller) -> (Response, Outcome) {
        let Open { new, old, .. } = open;
        // Another namespace is ignored, as one that is not among `--namespaces`; nothing in it is read.
        let selector = &self.scope.namespace_selector;
        let reader = self.reader.on_behalf_of(&caller.peer);
        let is_selected = reader.is_selected(&open.namespace, selector, caller.deadline).await;
        if is_selected == Ok(false) {
            return (Response::default(), Outcome::LeftAlone);
        }
        let answer = match classify(new.hash_mode(self.mode), new, old.as_ref(), || open.template_changed) {
            Admission::LeaveAlone => return (Response::default(), Outcome::LeftAlone),
            Admission::Restore(baseline) => Answer::keep(baseline, Outcome::Restored, None),
            Admission::Decide(baseline, _) if is_selected.is_err() => {
                let warning = warning::left_to_reconciler("the namespace's labels could not be read");
                Answer::keep(baseline, Outcome::Undecided, Some(warning))
            }
            Admission::Decide(baseline, context) => {
                self.decide(&reader, &open.namespace, new, baseline, context, caller).await
            }
        };
        let (target, left_out) = answer.target.fitted_to(new);
        let mut warnings = answer.warnings;
        if new.is_managed() {
            warnings.extend(warning::bad_names(&new.references));
            warnings.extend(warning::mistakes(&new.mistakes));
            warnings.extend(warning::versions(&new.references, new.hash_mode(self.mode)));
            warnings.extend(warning::left_out(&new.references));
            warnings.extend(warning::settle_window(new.settle_window));
            warnings.extend(warning::secrets(&new.references, self.scope.secrets));
        }
        warnings.extend(left_out.into_iter().map(warning::no_room));
        if let Some(hash) = &target.hash {
            NewHash { open, hash, causes: &answer.causes }.publish(&self.metrics);
        }
        (Response { patch: target.admission_patch(open.kind, new), warnings }, answer.outcome)
    }

    async fn decide(
        &self,
        reader: &ConfigReader,
        namespace: &str,
        new: &Workload,
        baseline: Baseline<'_>,
        context: Context,
        caller: &Caller,
    ) -> Answer {
        let undecided =
            |why: &str| Answer::keep(baseline, Outcome::Undecided, Some(warning::left_to_reconciler(why)));
        let Some(key) = self.key.get() else {
            return undecided("the digest key is not known");
        };
        let references = new.references.objects().len();
        let Some(_turn) = self.turns.take(caller, namespace, references).await else {
            return undecided("too many requests at once from one address");
        };
        let input = Input {
            mode: new.hash_mode(self.mode),
            key: &key,
            namespace,
            references: &new.references,
            uses: &new.template.uses,
            baseline,
            first_seen: &FirstSeen::new(),
            tolerates_unknown: false,
            context,
            moves_hash: new.action.moves_hash(),
        };
        let source = Live { reader, deadline: caller.deadline };
        // The reconciler would decide without what stays unreadable, too, and make a second revision of it.
        let evaluation = evaluate(&input, &source, Tolerance::Lasting).await;
        // Another key may have come into force meanwhile; what was made with the old one must not be disclosed.
        if self.key.get().as_deref() != Some(&*key) {
            return undecided("the digest key is being replaced");
        }
        let decision = evaluation.decision;
        if let Verdict::Undecided(objects) = &decision.verdict {
            let warning = warning::unreadable(objects, &evaluation.reads);
            let mut answer = Answer::keep(baseline, Outcome::Undecided, Some(warning));
            answer.warnings.extend(warning::missing(&new.references, &evaluation.reads.lookups));
            return answer;
        }
        let mut warnings = vec![];
        if !decision.unknown.is_empty() {
            warnings.push(warning::not_covered(&decision.unknown, &evaluation.reads));
        }
        warnings.extend(warning::missing(&new.references, &evaluation.reads.lookups));
        warnings.extend(warning::ignored(&new.references, &evaluation.reads.lookups));
        Answer {
            outcome: Outcome::Decided,
            target: decision.verdict.target(namespace, baseline),
            causes: decision.verdict.reload_causes().to_vec(),
            warnings,
        }
    }
}

impl Answer {
    fn keep(baseline: Baseline<'_>, outcome: Outcome, warning: Option<String>) -> Self {
        Self {
            outcome,
            target: Target::of(baseline),
            causes: vec![],
            warnings: warning.into_iter().collect(),
        }
    }
}
