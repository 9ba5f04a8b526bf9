//! The decision table of section 3, as one function.

use std::collections::{BTreeMap, BTreeSet};

use crate::by_version::by_version;
pub use crate::cause::{Cause, Missing};
use crate::compare::{Facts, Records};
use crate::config_hash::{ConfigHash, HashMode};
use crate::digest::DigestKey;
pub use crate::lookup::{Live, Lookup, Lookups};
use crate::observed::{Observed, Record};
use crate::reference::{ConfigName, References};
use crate::template::TemplateUses;

/// Why the question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The owner is making a new pod template or another set of references: pods follow in any case, and their
    /// one rollout should carry what is right now (4.3).
    OwnersRollout,
    /// The workload stands as it is; a reload would be of our making.
    Standing,
}

/// All that a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// How hashes are made.
    pub mode: HashMode,
    /// The installation's key.
    pub key: &'a DigestKey,
    /// The workload's namespace.
    pub namespace: &'a str,
    /// What the workload refers to.
    pub references: &'a References,
    /// What its pod template names.
    pub uses: &'a TemplateUses,
    /// The config hash that counts: the old object's on an UPDATE, none on a CREATE.
    pub hash: Option<&'a str>,
    /// The observed-config annotation that counts, likewise.
    pub observed: Option<&'a str>,
    /// What is known of each reference, and of each object that the template requires. One that is required, not
    /// listed and could not be asked for has to be in here as [`Lookup::Unknown`]: left out, it is taken to be there.
    pub live: &'a Lookups,
    /// References that appeared since they were recorded as absent, and were seen in another version than the live
    /// one: pods may have started with that. See [`Decision::incomplete`] for versions that no pod can have seen.
    pub superseded: &'a BTreeSet<ConfigName>,
    /// Whether to decide without the references that cannot be read: set where they stay so, lest one of them hold
    /// up all others.
    pub tolerates_unknown: bool,
    /// Why the question is asked.
    pub occasion: Occasion,
}

/// What should happen, and what is worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What should happen to the two annotations.
    pub verdict: Verdict,
    /// References that could not be read, whatever the verdict.
    pub unknown: Vec<ConfigName>,
    /// Required references that are there, but lack a key that the template requires: no pod can have started with
    /// this version of them.
    pub incomplete: Vec<ConfigName>,
    /// Observed-config was made with another key (2.5).
    pub key_was_replaced: bool,
}

/// What should happen to config hash and observed-config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These could not be asked for, so nothing can be said: to be asked again.
    Undecided(Vec<ConfigName>),
    /// Both stay.
    Keep,
    /// The hash stays; observed-config becomes this, or goes. No reload.
    Record(Option<Observed>),
    /// A new hash, and with it this observed-config, or none.
    Reload {
        /// The new value on the pod template.
        hash: ConfigHash,
        /// The new observed-config.
        observed: Option<Observed>,
        /// Why.
        causes: Vec<Cause>,
    },
    /// A reload is due, but a pod started now could not run: the template requires what is not there.
    Defer {
        /// What is missing.
        missing: Vec<Missing>,
        /// Why the reload is due.
        causes: Vec<Cause>,
    },
}

/// Whether content digests are needed to decide, or uid and resource version suffice: in mode `version` content is
/// read only while there is an observed-config to honour (2.4).
pub fn needs_content(mode: HashMode, hash: Option<&str>, observed: Option<&str>) -> bool {
    match mode {
        HashMode::Content => true,
        HashMode::Version => valid_observed(hash, observed).is_some(),
    }
}

pub(crate) fn valid_observed(hash: Option<&str>, observed: Option<&str>) -> Option<Observed> {
    Observed::parse(observed?, hash?)
}

/// Decides what should happen to the annotations of one workload.
///
/// Applying the verdict and asking again with the same lookups gives [`Verdict::Keep`], or [`Verdict::Defer`] if it
/// is that still.
pub fn decide(question: &Question<'_>) -> Decision {
    let needs_digest = needs_content(question.mode, question.hash, question.observed);
    let facts = Facts::new(question, needs_digest);
    let mut key_was_replaced = false;
    // What is left of SAP's hash without one of its lines says nothing.
    let tolerates = question.tolerates_unknown && question.mode == HashMode::Content;
    let verdict = match question.mode {
        _ if !tolerates && !facts.unknown.is_empty() => {
            Verdict::Undecided(facts.unknown.iter().cloned().collect())
        }
        HashMode::Content => by_content(question, &facts, &mut key_was_replaced),
        HashMode::Version => by_version(question, &facts),
    };
    let incomplete = facts.incomplete().cloned().collect();
    Decision { verdict, unknown: facts.unknown.into_iter().collect(), incomplete, key_was_replaced }
}

fn by_content(question: &Question<'_>, facts: &Facts<'_>, key_was_replaced: &mut bool) -> Verdict {
    // Without anything to follow it is as if it had not opted in: a write would be for nothing, and be refused by the
    // chart's policies. A rollout may carry a hash.
    if question.occasion == Occasion::Standing && facts.follows_nothing() {
        return Verdict::Keep;
    }
    let Some(hash) = question.hash else {
        return reload(question, facts, facts.records_now(), vec![Cause::NoHash]);
    };
    let Some(observed) = valid_observed(question.hash, question.observed) else {
        return adopt(question, facts, hash);
    };

    *key_was_replaced = !observed.is_comparable(question.key);
    let (mut records, mut causes) = facts.compare(&observed);
    if question.occasion == Occasion::OwnersRollout {
        let seen = facts.as_new_pods_see(records.clone());
        // A hash that was adopted (2.5), or kept while an object appeared, is replaced while it costs nothing.
        if causes.is_empty() && ConfigHash::of_content(question.key, question.namespace, &seen) != *hash {
            causes.push(Cause::Proper);
        }
        records = seen;
    }
    if !causes.is_empty() {
        match reload(question, facts, records.clone(), causes.clone()) {
            // What changes from here on can be seen only if it is recorded under the new key now.
            Verdict::Defer { .. } | Verdict::Undecided(_) if *key_was_replaced => {
                record(question, hash, with_causes_open(records, &observed, &causes))
            }
            verdict => verdict,
        }
    } else if records == observed.records && !*key_was_replaced {
        Verdict::Keep
    } else {
        record(question, hash, records)
    }
}

fn record(question: &Question<'_>, hash: &str, records: Records) -> Verdict {
    Verdict::Record(Some(Observed { key_id: question.key.id().into(), hash: hash.into(), records }))
}

/// Records under a new key in which the same causes will be found again. Their references cannot be compared, so
/// whatever they hold counts as other content.
fn with_causes_open(
    mut records: BTreeMap<ConfigName, Record>,
    observed: &Observed,
    causes: &[Cause],
) -> BTreeMap<ConfigName, Record> {
    for name in causes.iter().filter_map(Cause::reference) {
        match observed.records.get(name) {
            None => records.remove(name),
            Some(Record::Absent) => records.insert(name.clone(), Record::Absent),
            Some(_) => records.insert(name.clone(), Record::Uncompared),
        };
    }
    records
}

/// Without a valid observed-config: the hash that is there is kept if it stands for the live content in our form
/// or in SAP's (2.5).
fn adopt(question: &Question<'_>, facts: &Facts<'_>, hash: &str) -> Verdict {
    if !facts.unknown.is_empty() {
        // What it stands for cannot be told, and a reload on suspicion is what taking over must not cause.
        return Verdict::Undecided(facts.unknown.iter().cloned().collect());
    }
    let is_ours =
        |records: &Records| ConfigHash::of_content(question.key, question.namespace, records) == *hash;
    let records = facts.records_now();
    if is_ours(&records) {
        return record(question, hash, records);
    }
    // A hash that was set while a required key was missing stands for the content without that key.
    let contents = facts.contents_now();
    if is_ours(&contents) {
        return record(question, hash, contents);
    }
    // What is not followed may be part of what the hash stands for: then that cannot be told, and turning the
    // following off must not restart anything.
    match (question.occasion, is_saps(question, hash) || facts.has_unfollowed()) {
        (Occasion::Standing, true) => record(question, hash, records),
        (Occasion::OwnersRollout, true) => reload(question, facts, records, vec![Cause::Proper]),
        (_, false) => reload(question, facts, records, vec![Cause::Unwatched]),
    }
}

/// Whether that is the hash that SAP's pod-reloader would have set for what is there now: it takes the lists as they
/// are written, we leave out what is no name (2.4).
fn is_saps(question: &Question<'_>, hash: &str) -> bool {
    let Question { namespace, references, live, .. } = question;
    ConfigHash::of_versions(namespace, references.listed(), live).is_some_and(|saps| saps == *hash)
        || ConfigHash::of_versions_as_written(namespace, references, live).is_some_and(|saps| saps == *hash)
}

fn reload(question: &Question<'_>, facts: &Facts<'_>, records: Records, causes: Vec<Cause>) -> Verdict {
    if question.occasion == Occasion::Standing && !causes.iter().all(Cause::is_the_owners) {
        if !facts.missing.is_empty() {
            return Verdict::Defer { missing: facts.missing.clone(), causes };
        }
        if !facts.unknown_required.is_empty() && !question.tolerates_unknown {
            // It may be missing as well.
            return Verdict::Undecided(facts.unknown_required.iter().map(|name| (*name).clone()).collect());
        }
    }
    let records = facts.as_new_pods_see(records);
    let hash = ConfigHash::of_content(question.key, question.namespace, &records);
    let observed = Observed { key_id: question.key.id().to_owned(), hash: hash.as_str().to_owned(), records };
    Verdict::Reload { hash, observed: Some(observed), causes }
}
