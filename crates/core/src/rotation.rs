//! Decisions while the digest key is being replaced on purpose (2.2): what was recorded with the former key is compared
//! with what is there under that key, so that no change is missed, and then recorded with the new one.

use crate::config_hash::ConfigHash;
use crate::decide::{Cause, Decision, Input, OrLacking, Verdict, decide_under_one_key};
use crate::digest::DigestKey;
use crate::lookup::{Depth, Found, Lookup, Lookups, Query};
use crate::name::ConfigRef;
use crate::observed::{Observed, Record, Records, Seen};

/// Decides under the key in force, or under the former one that a workload is recorded with.
pub(crate) fn decide_rotating(input: &Input<'_>, known: &Lookups) -> OrLacking<Decision> {
    let former = input.key.former();
    match input.valid_observed() {
        Some(observed) if !observed.is_comparable(input.key) => {
            match former.iter().find(|former| observed.is_comparable(former)) {
                Some(former) => by_former(input, former, known),
                None => decide_under_one_key(input, known),
            }
        }
        None if input.baseline.hash.is_some() => {
            let decision = decide_under_one_key(input, known)?;
            if !is_unwatched(&decision.verdict) {
                return Ok(decision);
            }
            // The hash may be of a former key, and stand for what is there.
            for former in former {
                let by_former = by_former(input, former, known)?;
                if matches!(by_former.verdict, Verdict::Observe(Some(_))) {
                    return Ok(by_former);
                }
            }
            Ok(decision)
        }
        _ => decide_under_one_key(input, known),
    }
}

fn is_unwatched(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Reload { causes, .. } | Verdict::Act { causes, .. } | Verdict::Defer { causes, .. }
            if causes.contains(&Cause::Unwatched)
    )
}

fn by_former(input: &Input<'_>, former: &DigestKey, known: &Lookups) -> OrLacking<Decision> {
    let decision = decide_under_one_key(&Input { key: former, ..*input }, known)?;
    let translation = Translation { input, former, known };
    let verdict = match decision.verdict {
        // Something is gone or cannot be read, whose digest under the new key cannot be computed: it stays comparable
        // for as long as the former key is kept.
        Verdict::Keep => match input.valid_observed() {
            Some(before) => match translation.of_all(&before.records)? {
                Some(records) => Verdict::Observe(Some(translation.observed(before.hash, records))),
                None => Verdict::Keep,
            },
            None => Verdict::Keep,
        },
        Verdict::Observe(Some(before)) => match translation.of_all(&before.records)? {
            Some(records) => Verdict::Observe(Some(translation.observed(before.hash, records))),
            None => Verdict::Observe(Some(before)),
        },
        Verdict::Reload { hash, observed: Some(before), causes } => {
            match translation.of_all(&before.records)? {
                Some(records) => {
                    let hash = ConfigHash::of_content(input.key, input.namespace, &records);
                    let observed = translation.observed(Some(hash.as_str().to_owned()), records);
                    Verdict::Reload { hash, observed: Some(observed), causes }
                }
                // What cannot be read would otherwise be reloaded for once it can be.
                None => Verdict::Reload { hash, observed: Some(before), causes },
            }
        }
        Verdict::Act { observed: before, causes } => {
            let records = translation.of_all(&before.records)?;
            let observed = match records {
                Some(records) => translation.observed(before.hash, records),
                None => before,
            };
            Verdict::Act { observed, causes }
        }
        other => other,
    };
    Ok(Decision { verdict, ..decision })
}

struct Translation<'a> {
    input: &'a Input<'a>,
    former: &'a DigestKey,
    known: &'a Lookups,
}

impl Translation<'_> {
    /// The records with the new key; `None` if what one of them stands for is not there. A witness tells that nothing
    /// changed, but not what the digest is under the new key: that content has to be known.
    fn of_all(&self, records: &Records) -> OrLacking<Option<Records>> {
        let (mut translated, mut lacking) = (Records::new(), vec![]);
        for (object, record) in records {
            if self.is_unread(object, record) {
                lacking.push(Query { object: object.clone(), depth: Depth::Content(record.keys.clone()) });
                continue;
            }
            let Some(record) = self.of(object, record) else { return Ok(None) };
            translated.insert(object.clone(), record);
        }
        if lacking.is_empty() { Ok(Some(translated)) } else { Err(lacking) }
    }

    fn is_unread(&self, object: &ConfigRef, record: &Record) -> bool {
        let has_digest = |found: &Found| found.digest(self.former, &record.keys).is_some();
        let is_found = matches!(self.known.get(object), Some(Lookup::Found(found)) if !has_digest(found));
        matches!(record.seen, Seen::Digest(_)) && is_found
    }

    /// The record with the new key; `None` if what it stands for is not there.
    fn of(&self, object: &ConfigRef, record: &Record) -> Option<Record> {
        let Seen::Digest(digest) = record.seen else { return Some(record.clone()) };
        let Some(Lookup::Found(found)) = self.known.get(object) else { return None };
        if found.digest(self.former, &record.keys) != Some(digest) {
            return None;
        }
        let seen = Seen::Digest(found.digest(self.input.key, &record.keys)?);
        Some(Record { seen, ..record.clone() })
    }

    fn observed(&self, hash: Option<String>, records: Records) -> Observed {
        Observed::witnessed(self.input.key, hash, records, self.known, None)
    }
}
