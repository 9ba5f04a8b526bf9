//! Decisions while the digest key is being replaced on purpose (2.2): what was recorded with the former key is held
//! against what is there under that key, so that no change is missed, and then recorded with the new one.

use std::collections::BTreeMap;

use crate::config_hash::ConfigHash;
use crate::decide::{Cause, Decision, Lookup, Lookups, Question, Verdict, decide, valid_observed};
use crate::digest::DigestKey;
use crate::observed::{Observed, Record};
use crate::reference::ConfigName;

type Records = BTreeMap<ConfigName, Record>;

/// As [`decide`], also for a workload that is recorded with a former key. `under` gives the same lookups with digests of
/// that key; one that is not known is left out of them.
pub fn decide_rotating(question: &Question<'_>, under: impl Fn(&DigestKey) -> Lookups) -> Decision {
    let former = question.key.former();
    match valid_observed(question.hash, question.observed) {
        Some(observed) if !observed.is_comparable(question.key) => {
            match former.iter().find(|former| observed.is_comparable(former)) {
                Some(former) => by_former(question, former, &under(former)),
                None => decide(question),
            }
        }
        None if question.hash.is_some() => {
            let decision = decide(question);
            if !is_unwatched(&decision.verdict) {
                return decision;
            }
            // The hash may be of a former key, and stand for what is there.
            former
                .iter()
                .map(|former| by_former(question, former, &under(former)))
                .find(|decision| matches!(decision.verdict, Verdict::Record(Some(_))))
                .unwrap_or(decision)
        }
        _ => decide(question),
    }
}

fn is_unwatched(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Reload { causes, .. } | Verdict::Defer { causes, .. } if causes.contains(&Cause::Unwatched))
}

fn by_former(question: &Question<'_>, former: &DigestKey, live: &Lookups) -> Decision {
    let decision = decide(&Question { key: former, live, ..*question });
    let translation = Translation { question, former: live };
    let anew = |hash: &str, records| {
        Some(Observed { key_id: question.key.id().to_owned(), hash: hash.to_owned(), records })
    };
    let verdict = match decision.verdict {
        // Something is gone or cannot be read, whose digest of the new key nobody can tell: it stays comparable for as long
        // as the former key is kept.
        Verdict::Keep => match valid_observed(question.hash, question.observed) {
            Some(before) => match translation.of_all(&before.records) {
                Some(records) => Verdict::Record(anew(&before.hash, records)),
                None => Verdict::Keep,
            },
            None => Verdict::Keep,
        },
        Verdict::Record(Some(before)) => match translation.of_all(&before.records) {
            Some(records) => Verdict::Record(anew(&before.hash, records)),
            None => Verdict::Record(Some(before)),
        },
        Verdict::Reload { hash, observed: Some(before), causes } => match translation.of_all(&before.records)
        {
            Some(records) => {
                let hash = ConfigHash::of_content(question.key, question.namespace, &records);
                let observed = anew(hash.as_str(), records);
                Verdict::Reload { hash, observed, causes }
            }
            // What cannot be read would otherwise be reloaded for once it can be.
            None => Verdict::Reload { hash, observed: Some(before), causes },
        },
        other => other,
    };
    Decision { verdict, ..decision }
}

struct Translation<'a> {
    question: &'a Question<'a>,
    /// What is there, in digests of the former key.
    former: &'a Lookups,
}

impl Translation<'_> {
    fn of_all(&self, records: &Records) -> Option<Records> {
        records.iter().map(|(name, record)| Some((name.clone(), self.of(name, *record)?))).collect()
    }

    /// The record with the new key; `None` if what it stands for is not there.
    fn of(&self, name: &ConfigName, record: Record) -> Option<Record> {
        let Record::Digest(digest) = record else { return Some(record) };
        match (self.former.get(name), self.question.live.get(name)) {
            (Some(Lookup::Known(former)), Some(Lookup::Known(live))) if former.digest == Some(digest) => {
                live.digest.map(Record::Digest)
            }
            _ => None,
        }
    }
}
