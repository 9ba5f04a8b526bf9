//! The decision by SAP's rules, for `--hash=version` (2.4).

use crate::compare::Facts;
use crate::config_hash::ConfigHash;
use crate::decide::{Cause, Occasion, Question, Verdict, valid_observed};
use crate::observed::Record;

/// Decides from uid and resource version, with a valid observed-config honoured until the content changes.
pub(crate) fn by_version(question: &Question<'_>, facts: &Facts<'_>) -> Verdict {
    let Question { namespace, references, live, .. } = question;
    let Some(hash) = ConfigHash::of_versions(namespace, references.listed(), live) else {
        return Verdict::Undecided(references.listed().to_vec());
    };
    let observed = valid_observed(question.hash, question.observed)
        .filter(|observed| observed.is_comparable(question.key));
    let mut causes = match (question.hash, &observed) {
        (None, _) => vec![Cause::NoHash],
        (Some(present), None) if hash == *present => vec![],
        (Some(present), None) if is_as_written(question, present) => match question.occasion {
            Occasion::Standing => vec![],
            Occasion::OwnersRollout => vec![Cause::Proper],
        },
        (Some(_), None) => vec![Cause::Unwatched],
        (Some(_), Some(observed)) => {
            let (records, mut causes) = facts.compare(observed);
            // Nothing is recorded in this mode: what appears has to count now, or its next change would be missed.
            let appeared = records.iter().filter(|(name, record)| {
                **record != Record::Absent && observed.records.get(*name) == Some(&Record::Absent)
            });
            let appeared = appeared.filter(|(name, _)| !facts.is_superseded(name));
            causes.extend(appeared.map(|(name, _)| Cause::Appeared(name.clone())));
            causes
        }
    };
    if causes.is_empty() {
        // An observed-config that stands for nothing has no business here.
        let is_stale = question.observed.is_some() && observed.is_none();
        return if is_stale { Verdict::Record(None) } else { Verdict::Keep };
    }
    causes.sort();
    causes.dedup();
    Verdict::Reload { hash, observed: None, causes }
}

/// Whether SAP's pod-reloader set that hash over an untidy list. It stays until the next change or rollout: taking
/// over restarts nothing (2.5).
fn is_as_written(question: &Question<'_>, hash: &str) -> bool {
    ConfigHash::of_versions_as_written(question.namespace, question.references, question.live)
        .is_some_and(|saps| saps == *hash)
}
