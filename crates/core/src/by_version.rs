//! The decision by SAP's rules, for `--hash=version` (2.4).

use crate::compare::Facts;
use crate::decide::{Cause, Context, Input, Verdict};
use crate::dialect::sap;
use crate::lookup::Lookups;
use crate::observed::{Observed, Seen};

/// Decides from uid and resource version, with a valid observed-config honoured until the content changes.
pub(crate) fn by_version(
    input: &Input<'_>,
    known: &Lookups,
    facts: &Facts<'_>,
    observed: Option<&Observed>,
) -> Verdict {
    let Input { namespace, references, .. } = input;
    if references.list_nothing() {
        // What is only followed neither sets nor changes it.
        return Verdict::Keep;
    }
    let Some(hash) = sap::version_hash(namespace, references.listed(), known) else {
        return Verdict::Undecided(references.listed().cloned().collect());
    };
    let observed = observed.filter(|observed| observed.is_comparable(input.key));
    let mut causes = match (input.baseline.hash, observed) {
        (None, _) => vec![Cause::NoHash],
        (Some(present), None) if hash == *present => vec![],
        (Some(present), None) if is_as_written(input, known, present) => match input.context {
            Context::Steady => vec![],
            Context::Rollout => vec![Cause::Adopted],
        },
        (Some(_), None) => vec![Cause::Unwatched],
        (Some(_), Some(observed)) => {
            let (records, mut causes) = facts.compare(observed);
            // Nothing is recorded in this mode: what appears has to count now, or its next change would be missed.
            let was_absent =
                |object| observed.records.get(object).is_some_and(|record| record.seen == Seen::Absent);
            let appeared = records
                .iter()
                .filter(|(object, record)| record.seen != Seen::Absent && was_absent(object))
                .filter(|(object, _)| !facts.is_superseded(object));
            causes.extend(appeared.map(|(object, _)| Cause::Appeared(object.clone())));
            causes
        }
    };
    if causes.is_empty() {
        // A stale observed-config is removed.
        let is_stale = input.baseline.observed.is_some() && observed.is_none();
        return if is_stale { Verdict::Observe(None) } else { Verdict::Keep };
    }
    causes.sort();
    causes.dedup();
    Verdict::Reload { hash, observed: None, causes }
}

/// Whether SAP's pod-reloader set that hash over an untidy list. It stays until the next change or rollout: taking
/// over restarts nothing (2.5).
fn is_as_written(input: &Input<'_>, known: &Lookups, hash: &str) -> bool {
    sap::version_hash_as_written(input.namespace, input.references, known).is_some_and(|saps| saps == *hash)
}
