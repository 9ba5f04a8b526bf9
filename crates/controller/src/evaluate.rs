//! What should happen to a workload: first from memory, which is all that most reconciles need, then from the API server.

use std::cell::LazyCell;

use futures::FutureExt;
use pod_reloader_core::admission::Baseline;
use pod_reloader_core::decide::{Context, FirstSeen, Input, Verdict};
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::lookup::Lookup;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::observed::Observed;
use pod_reloader_core::reference::Keys;
use pod_reloader_k8s::evaluate::{Evaluation, Tolerance, evaluate};
use tokio::time::Instant;

use crate::fact::Fact;
use crate::index::{Presence, Snapshot, View};
use crate::reconciler::{Learned, Reconciler};
use crate::sources::{Memory, Shared, first_seen};

/// A reference that could not be read in so many attempts no longer holds up the others.
const TOLERANT_AFTER: u32 = 4;

/// What an evaluation from memory finds.
#[derive(Debug)]
pub(crate) enum FromMemory {
    /// All is right, or nothing can be done now; with what was seen of config objects.
    Done(Vec<Learned>),
    /// A reload is due, once the references have settled.
    SettleUntil(Instant),
    /// The API server has to be asked.
    Ask,
}

impl Reconciler {
    /// Evaluates a workload without a request.
    pub(crate) fn evaluate_from_memory(&self, snapshot: &Snapshot) -> FromMemory {
        // Without the key nothing is decided; when it comes, every workload is reconciled again.
        let Some(key) = self.key.get() else { return FromMemory::Done(vec![]) };
        let view = &snapshot.view;
        self.warn_of_lists(view);
        if self.rivals.is_contested(&view.workload_ref.namespace, Instant::now()) {
            return FromMemory::Done(vec![]);
        }
        let first_seen = first_seen(snapshot);
        let input = self.input(&key, view, &first_seen);
        let memory = Memory { reader: &self.reader, snapshot };
        // It waits for nothing.
        let Some(evaluation) = evaluate(&input, &memory, Tolerance::None).now_or_never() else {
            return FromMemory::Ask;
        };
        let verdict = &evaluation.decision.verdict;
        let (target, _) = verdict.target(input.namespace, input.baseline).fitted_to(&view.workload);
        // The webhook remembers what it reads in the same place: the index may hear of content here first.
        let done = || FromMemory::Done(learned(view, &key, &evaluation));
        match verdict {
            // There is no room to record it, and that was reported.
            Verdict::Observe(_) if target.is_met_by(&view.workload) => done(),
            Verdict::Keep if view.workload.sap_trigger.is_none() => {
                self.all_is_right(view);
                done()
            }
            Verdict::Reload { .. } | Verdict::Act { .. } | Verdict::Defer { .. }
                if Instant::now() < snapshot.settled_at =>
            {
                FromMemory::SettleUntil(snapshot.settled_at)
            }
            // That was found out from live reads, and nothing has changed since.
            Verdict::Defer { missing, causes }
                if self.facts.is_active(&view.workload_ref, &Fact::deferred(missing, causes)) =>
            {
                done()
            }
            _ => FromMemory::Ask,
        }
    }

    /// Evaluates a workload from what the API server says at `not_before` or later. `failures` is how often this failed
    /// in a row.
    pub(crate) async fn evaluate_live(
        &self,
        key: &DigestKey,
        view: &View,
        snapshot: &Snapshot,
        not_before: Instant,
        failures: u32,
    ) -> Evaluation {
        let first_seen = first_seen(snapshot);
        let input = self.input(key, view, &first_seen);
        let source = Shared { reads: &self.live, reader: &self.reader, snapshot, not_before };
        let tolerance = if failures >= TOLERANT_AFTER { Tolerance::All } else { Tolerance::Lasting };
        evaluate(&input, &source, tolerance).await
    }

    fn input<'a>(&self, key: &'a DigestKey, view: &'a View, first_seen: &'a FirstSeen) -> Input<'a> {
        Input {
            mode: view.workload.hash_mode(self.mode),
            key,
            namespace: &view.workload_ref.namespace,
            references: &view.workload.references,
            uses: &view.workload.template.uses,
            baseline: Baseline::of(&view.workload),
            first_seen,
            tolerates_unknown: false,
            context: Context::Steady,
            moves_hash: view.workload.action.moves_hash(),
        }
    }
}

/// What an evaluation of that workload from live reads finds of config objects.
pub(crate) fn learned(view: &View, key: &DigestKey, evaluation: &Evaluation) -> Vec<Learned> {
    let references = view.workload.references.all();
    let baseline = Baseline::of(&view.workload);
    let namespace = &view.workload_ref.namespace;
    // Without a witness here, a rewrite after a start would count as a change of content.
    let recorded = LazyCell::new(|| {
        let observed = Observed::parse(baseline.observed?, namespace, baseline.hash)?;
        observed.is_comparable(key).then_some(observed)
    });
    let mut learned = vec![];
    for (object, lookup) in &evaluation.reads.lookups {
        match lookup {
            Lookup::Unknown | Lookup::Unfollowed => {}
            Lookup::Absent => learned.push(Learned::Read(object.clone(), Presence::Absent, None)),
            // The watches report what is only required.
            Lookup::Found(found) => {
                if references.contains_key(object) {
                    let presence = Presence::Version(found.version.clone().into());
                    // Whether content moved is compared over all keys, whichever of them each workload follows.
                    let proven = || recorded.as_ref()?.proven(key, object, &Keys::All, &found.version);
                    let digest = found.digest(key, &Keys::All).or_else(proven);
                    learned.push(Learned::Read(object.clone(), presence, digest));
                }
            }
        }
    }
    for object in &evaluation.decision.incomplete {
        if let Some(Lookup::Found(found)) = evaluation.reads.lookups.get(object) {
            learned.push(Learned::NotStartable(object.clone(), found.version.clone()));
        }
    }
    learned
}

/// Listed names that do not exist and that the template does not name either: typos, maybe.
pub(crate) fn not_found<'e>(view: &View, evaluation: &'e Evaluation) -> Vec<&'e ConfigRef> {
    let lookups = evaluation.reads.lookups.iter();
    lookups
        .filter(|(object, lookup)| {
            **lookup == Lookup::Absent && view.workload.template.uses.need(object).is_none()
        })
        .map(|(object, _)| object)
        .collect()
}
