//! Answers one admission request.

use std::collections::BTreeSet;
use std::sync::Arc;

use pod_reloader_core::admission::{Admission, Baseline, classify};
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::{Cause, Occasion, Question, Verdict, decide, needs_content};
use pod_reloader_core::patch::Target;
use pod_reloader_core::reference::{WorkloadKind, is_valid_namespace};
use pod_reloader_core::template_diff;
use pod_reloader_core::workload::Workload;
use pod_reloader_k8s::FIELD_MANAGER;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_k8s::reader::{ConfigReader, Depth};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::{Metrics, Outcome};
use crate::review::{Request, Response};
use crate::warning;

/// References that are read for one request at most; a longer list is left to the reconciler (4.2).
const MAX_READS: usize = 500;

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
    /// The namespaces we may read.
    pub scope: Scope,
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
    /// Answers a request before the deadline. Never denies, never fails.
    pub async fn admit(&self, request: &Request<'_>, deadline: Instant) -> Response {
        let Some(kind) = workload_kind(request) else {
            self.metrics.count_request("other", &request.operation, Outcome::LeftAlone);
            let kind =
                request.kind.kind.chars().filter(char::is_ascii_alphanumeric).take(40).collect::<String>();
            let warning = format!("pod-reloader: registered for a kind it does not know: {kind}");
            return Response { warnings: vec![warning], ..Response::default() };
        };
        let (response, outcome) = self.admit_workload(request, kind, deadline).await;
        self.metrics.count_request(kind.as_str(), &request.operation, outcome);
        response
    }

    async fn admit_workload(
        &self,
        request: &Request<'_>,
        kind: WorkloadKind,
        deadline: Instant,
    ) -> (Response, Outcome) {
        let is_subresource = request.sub_resource.as_deref().is_some_and(|name| !name.is_empty());
        if is_subresource || !matches!(request.operation.as_str(), "CREATE" | "UPDATE") {
            return (Response::default(), Outcome::LeftAlone);
        }
        if self.is_own_patch(request) {
            return (Response::default(), Outcome::OwnPatch);
        }
        let (new, old) = match read_objects(request) {
            Ok(objects) => objects,
            Err(unreadable) => {
                let warnings = vec![format!("pod-reloader: cannot read the {unreadable}; it is left alone")];
                return (Response { warnings, ..Response::default() }, Outcome::LeftAlone);
            }
        };
        let namespace = request.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let Some(namespace) = namespace.or(new.namespace.as_deref()) else {
            let warnings = vec!["pod-reloader: the request names no namespace; it is left alone".to_owned()];
            return (Response { warnings, ..Response::default() }, Outcome::LeftAlone);
        };
        // It becomes part of paths that are asked for with our rights.
        if !is_valid_namespace(namespace) {
            let warnings =
                vec!["pod-reloader: the request's namespace is no valid name; it is left alone".to_owned()];
            return (Response { warnings, ..Response::default() }, Outcome::LeftAlone);
        }
        if !self.scope.contains(namespace) {
            return (Response::default(), Outcome::LeftAlone);
        }

        let template_changed = || match (request.old_object, request.object) {
            (Some(old), Some(new)) => template_diff::differs(old.get(), new.get()),
            _ => true,
        };
        let answer = match classify(self.mode, &new, old.as_ref(), template_changed) {
            Admission::LeaveAlone => return (Response::default(), Outcome::LeftAlone),
            Admission::Restore(baseline) => Answer::keep(baseline, Outcome::Restored, None),
            Admission::Decide(baseline, occasion) => {
                self.decide(namespace, &new, baseline, occasion, deadline).await
            }
        };

        let (target, left_out) = answer.target.fitted_to(&new);
        let mut warnings = answer.warnings;
        if new.is_cared_for() {
            warnings.extend(warning::bad_names(&new.references));
        }
        warnings.extend(left_out.into_iter().map(warning::no_room));
        if let (false, Some(hash)) = (answer.causes.is_empty(), &target.hash) {
            let causes: Vec<String> = answer.causes.iter().map(ToString::to_string).collect();
            let name = request.name.as_deref().or(new.name.as_deref()).unwrap_or("(to be generated)");
            let old_hash = old.as_ref().and_then(|old| old.template.config_hash.as_deref()).unwrap_or("none");
            let dry_run = request.dry_run.unwrap_or_default();
            tracing::info!(
                kind = kind.as_str(), namespace, name, old_hash, new_hash = %hash, dry_run,
                causes = causes.join(", "), "the webhook set the config hash"
            );
            if !dry_run && let Some(cause) = answer.causes.first() {
                self.metrics.count_hash_set(kind.as_str(), cause.label());
            }
        }
        (Response { patch: target.admission_patch(&new), warnings }, answer.outcome)
    }

    async fn decide(
        &self,
        namespace: &str,
        new: &Workload,
        baseline: Baseline<'_>,
        occasion: Occasion,
        deadline: Instant,
    ) -> Answer {
        let Baseline { hash, observed } = baseline;
        let undecided =
            |why: &str| Answer::keep(baseline, Outcome::Undecided, Some(warning::left_to_reconciler(why)));
        let Some(key) = self.key.get() else {
            return undecided("the digest key is not known");
        };
        let names: Vec<_> = new.references.names().into_iter().cloned().collect();
        if names.len() > MAX_READS {
            return undecided(&format!("{} references are more than {MAX_READS}", names.len()));
        }
        let depth = if needs_content(self.mode, hash, observed) { Depth::Content } else { Depth::Version };
        let live = self.reader.read_all(&key, namespace, names, depth, deadline).await;
        // Another key may have come into force meanwhile; what was made with the old one must not be told.
        if self.key.get().as_deref() != Some(&*key) {
            return undecided("the digest key is being replaced");
        }
        let decision = decide(&Question {
            mode: self.mode,
            key: &key,
            namespace,
            references: &new.references,
            uses: &new.template.uses,
            hash,
            observed,
            live: &live,
            superseded: &BTreeSet::new(),
            tolerates_unknown: false,
            occasion,
        });
        let unknown = warning::unknown(&decision.verdict);
        match decision.verdict {
            Verdict::Undecided(_) => Answer::keep(baseline, Outcome::Undecided, unknown),
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
        }
    }

    /// The reconciler's patches pass as they are, also those of other replicas: they share the user name (4.3).
    fn is_own_patch(&self, request: &Request<'_>) -> bool {
        let own_user = self.own_user.borrow();
        let user = request.user_info.as_ref().and_then(|user| user.username.as_deref());
        let manager = request.options.as_ref().and_then(|options| options.field_manager.as_deref());
        own_user.is_some()
            && user == own_user.as_deref()
            && manager == Some(FIELD_MANAGER)
            && request.operation == "UPDATE"
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

fn workload_kind(request: &Request<'_>) -> Option<WorkloadKind> {
    let is_apps_v1 = request.kind.group == "apps" && request.kind.version == "v1";
    WorkloadKind::from_kind(&request.kind.kind).filter(|_| is_apps_v1)
}

/// The new object and, on an UPDATE, the old one; the error names what could not be read.
fn read_objects(request: &Request<'_>) -> Result<(Workload, Option<Workload>), &'static str> {
    let read = |object: Option<&RawValue>| serde_json::from_str::<Workload>(object?.get()).ok();
    let new = read(request.object).ok_or("object")?;
    let old = match request.operation.as_str() {
        "UPDATE" => Some(read(request.old_object).ok_or("old object")?),
        _ => None,
    };
    Ok((new, old))
}
