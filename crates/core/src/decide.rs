//! The decision table of section 3, as one function.

use std::collections::BTreeMap;
use std::fmt;

use crate::config_hash::{ConfigHash, HashMode};
use crate::digest::{Digest, DigestKey};
use crate::observed::{Observed, Record};
use crate::reference::{ConfigName, References};
use crate::template::{Need, TemplateUses};

/// What is known of one config object now. "Not there" and "could not ask" are different answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It exists.
    Known(Live),
    /// It does not exist.
    Absent,
    /// It could not be asked for.
    Unknown,
}

/// An existing config object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// The digest of its content; `None` where the content was not asked for (see [`needs_content`]).
    pub digest: Option<Digest>,
}

/// What is known of each reference.
pub type Lookups = BTreeMap<ConfigName, Lookup>;

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
    /// What is known of each reference.
    pub live: &'a Lookups,
    /// Why the question is asked.
    pub occasion: Occasion,
}

/// What should happen, and what is worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What should happen to the two annotations.
    pub verdict: Verdict,
    /// Observed-config was made with another key (2.5).
    pub key_was_replaced: bool,
}

/// What should happen to config hash and observed-config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These could not be asked for, so nothing can be said.
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
        missing: Vec<ConfigName>,
        /// Why the reload is due.
        causes: Vec<Cause>,
    },
}

/// Why a reload is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Its content is another than the running pods saw.
    Changed(ConfigName),
    /// It appeared, and nothing in the template requires it.
    Appeared(ConfigName),
    /// It went, and every use of it is optional.
    Disappeared(ConfigName),
    /// It was added to the lists.
    Listed(ConfigName),
    /// It was taken off the lists.
    Unlisted(ConfigName),
    /// The template has no config hash.
    NoHash,
    /// The hash matches nothing that is there now: the configuration changed while nobody watched (2.5).
    Unwatched,
    /// The owner's own rollout takes the proper hash along, in place of one that was adopted from another maker or
    /// kept while an object appeared or went (section 3).
    Proper,
}

impl Cause {
    /// The reference that changed, where it is known.
    pub fn reference(&self) -> Option<&ConfigName> {
        match self {
            Self::Changed(name)
            | Self::Appeared(name)
            | Self::Disappeared(name)
            | Self::Listed(name)
            | Self::Unlisted(name) => Some(name),
            Self::NoHash | Self::Unwatched | Self::Proper => None,
        }
    }

    /// Whether it is the owner's doing: such a reload is not deferred.
    fn is_the_owners(&self) -> bool {
        matches!(self, Self::Listed(_) | Self::Unlisted(_) | Self::NoHash | Self::Proper)
    }

    /// A short constant word, for metrics and logs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Changed(_) => "changed",
            Self::Appeared(_) => "appeared",
            Self::Disappeared(_) => "disappeared",
            Self::Listed(_) => "listed",
            Self::Unlisted(_) => "unlisted",
            Self::NoHash => "no_hash",
            Self::Unwatched => "unwatched",
            Self::Proper => "adopted",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(name) => write!(f, "{name} changed"),
            Self::Appeared(name) => write!(f, "{name} appeared"),
            Self::Disappeared(name) => write!(f, "{name} is gone"),
            Self::Listed(name) => write!(f, "{name} was listed"),
            Self::Unlisted(name) => write!(f, "{name} is no longer listed"),
            Self::NoHash => f.write_str("the pod template had no config hash"),
            Self::Unwatched => f.write_str("the configuration changed while it was not watched"),
            Self::Proper => f.write_str("the config hash was brought up to date along with a rollout"),
        }
    }
}

/// Whether content digests are needed to decide, or uid and resource version suffice: in mode `version` content is
/// read only while there is an observed-config to honour (2.4).
pub fn needs_content(mode: HashMode, hash: Option<&str>, observed: Option<&str>) -> bool {
    match mode {
        HashMode::Content => true,
        HashMode::Version => valid_observed(hash, observed).is_some(),
    }
}

fn valid_observed(hash: Option<&str>, observed: Option<&str>) -> Option<Observed> {
    Observed::parse(observed?, hash?)
}

/// Decides what should happen to the annotations of one workload.
///
/// Applying the verdict and asking again with the same lookups gives [`Verdict::Keep`], or [`Verdict::Defer`] if it
/// is that still.
pub fn decide(question: &Question<'_>) -> Decision {
    let needs_digest = needs_content(question.mode, question.hash, question.observed);
    let is_unknown = |name: &&ConfigName| match question.live.get(*name) {
        None | Some(Lookup::Unknown) => true,
        Some(Lookup::Known(live)) => needs_digest && live.digest.is_none(),
        Some(Lookup::Absent) => false,
    };
    let unknown: Vec<_> = question.references.names().into_iter().filter(is_unknown).cloned().collect();
    if !unknown.is_empty() {
        return Decision { verdict: Verdict::Undecided(unknown), key_was_replaced: false };
    }
    match question.mode {
        HashMode::Content => by_content(question),
        HashMode::Version => Decision { verdict: by_version(question), key_was_replaced: false },
    }
}

fn by_content(question: &Question<'_>) -> Decision {
    let Some(hash) = question.hash else {
        let verdict = reload(question, records_now(question), vec![Cause::NoHash]);
        return Decision { verdict, key_was_replaced: false };
    };
    let Some(observed) = valid_observed(question.hash, question.observed) else {
        return Decision { verdict: adopt(question, hash), key_was_replaced: false };
    };

    let key_was_replaced = !observed.is_comparable(question.key);
    let (mut records, mut causes) = compare(question, &observed);
    if question.occasion == Occasion::OwnersRollout {
        let seen = as_new_pods_see(question, records.clone());
        // A hash that was adopted (2.5), or kept while an object appeared, is replaced while it costs nothing.
        if causes.is_empty() && ConfigHash::of_content(question.key, question.namespace, &seen) != *hash {
            causes.push(Cause::Proper);
        }
        records = seen;
    }
    let record = |records| {
        Verdict::Record(Some(Observed { key_id: question.key.id().into(), hash: hash.into(), records }))
    };
    let verdict = if !causes.is_empty() {
        match reload(question, records.clone(), causes) {
            // What changes from here on can be seen only if it is recorded under the new key now.
            Verdict::Defer { causes, .. } if key_was_replaced => {
                record(with_causes_open(records, &observed, &causes))
            }
            verdict => verdict,
        }
    } else if records == observed.records && !key_was_replaced {
        Verdict::Keep
    } else {
        record(records)
    };
    Decision { verdict, key_was_replaced }
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

/// What the pods of a rollout see: they start without an absent object that nothing requires, so its digest is no
/// longer what running pods saw. While they have to wait for something that the template requires, the digests are
/// kept, so that a rollout that is undone meanwhile finds the earlier revision and what its pods saw.
fn as_new_pods_see(
    question: &Question<'_>,
    mut records: BTreeMap<ConfigName, Record>,
) -> BTreeMap<ConfigName, Record> {
    if missing(question).is_empty() {
        for (name, record) in &mut records {
            if is_absent(question, name) {
                *record = Record::Absent;
            }
        }
    }
    records
}

/// Without a valid observed-config: the hash that is there is kept if it stands for the live content in our form
/// or in SAP's (2.5).
fn adopt(question: &Question<'_>, hash: &str) -> Verdict {
    let records = records_now(question);
    let ours = ConfigHash::of_content(question.key, question.namespace, &records);
    let saps = ConfigHash::of_versions(question.namespace, question.references.listed(), question.live);
    let is_saps = saps.is_some_and(|saps| saps == *hash);
    match question.occasion {
        _ if ours == *hash => {}
        Occasion::Standing if is_saps => {}
        Occasion::OwnersRollout if is_saps => return reload(question, records, vec![Cause::Proper]),
        _ => return reload(question, records, vec![Cause::Unwatched]),
    }
    Verdict::Record(Some(Observed { key_id: question.key.id().into(), hash: hash.into(), records }))
}

fn by_version(question: &Question<'_>) -> Verdict {
    let Some(hash) = ConfigHash::of_versions(question.namespace, question.references.listed(), question.live)
    else {
        return Verdict::Undecided(question.references.listed().to_vec());
    };
    let observed = valid_observed(question.hash, question.observed)
        .filter(|observed| observed.is_comparable(question.key));
    let mut causes = match (question.hash, &observed) {
        (None, _) => vec![Cause::NoHash],
        (Some(present), None) if hash == *present => vec![],
        (Some(_), None) => vec![Cause::Unwatched],
        (Some(_), Some(observed)) => {
            let (records, mut causes) = compare(question, observed);
            // Nothing is recorded in this mode: what appears has to count now, or its next change would be missed.
            let appeared = |(name, record): &(&ConfigName, &Record)| {
                **record != Record::Absent && observed.records.get(*name) == Some(&Record::Absent)
            };
            causes.extend(records.iter().filter(appeared).map(|(name, _)| Cause::Appeared(name.clone())));
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

/// Holds what is there now against what was recorded: the new records, and why a reload is due. The rows of the
/// table in section 3.
fn compare(question: &Question<'_>, observed: &Observed) -> (BTreeMap<ConfigName, Record>, Vec<Cause>) {
    let is_comparable = observed.is_comparable(question.key);
    let mut causes = vec![];
    let mut records = BTreeMap::new();
    for name in question.references.names() {
        let need = question.uses.need(name);
        let now = record_now(question.live.get(name));
        let (record, cause) = match (observed.records.get(name), now) {
            (None, now) => (now, Some(Cause::Listed(name.clone()))),

            (Some(Record::Digest(before)), Record::Digest(digest)) => {
                let is_same = !is_comparable || *before == digest;
                (now, (!is_same).then(|| Cause::Changed(name.clone())))
            }
            (Some(Record::Uncompared), Record::Digest(_)) => (now, Some(Cause::Changed(name.clone()))),
            (Some(Record::Absent), Record::Digest(_)) => match need {
                // No pod can have started without it.
                Some(Need::Required) => (now, None),
                Some(Need::Optional) | None => (now, Some(Cause::Appeared(name.clone()))),
            },

            (Some(Record::Absent), _) => (Record::Absent, None),
            (Some(before @ (Record::Digest(_) | Record::Uncompared)), _) => match need {
                // New pods run without it, so should the old.
                Some(Need::Optional) => (Record::Absent, Some(Cause::Disappeared(name.clone()))),
                // Running pods are left alone; what they saw is remembered.
                Some(Need::Required) | None if is_comparable => (*before, None),
                Some(Need::Required) | None => (Record::Uncompared, None),
            },
        };
        records.insert(name.clone(), record);
        causes.extend(cause);
    }
    let unlisted = observed.records.keys().filter(|name| !records.contains_key(*name));
    causes.extend(unlisted.cloned().map(Cause::Unlisted));
    (records, causes)
}

fn reload(question: &Question<'_>, records: BTreeMap<ConfigName, Record>, causes: Vec<Cause>) -> Verdict {
    if question.occasion == Occasion::Standing && !causes.iter().all(Cause::is_the_owners) {
        let missing = missing(question);
        if !missing.is_empty() {
            return Verdict::Defer { missing, causes };
        }
    }
    let records = as_new_pods_see(question, records);
    let hash = ConfigHash::of_content(question.key, question.namespace, &records);
    let observed = Observed { key_id: question.key.id().to_owned(), hash: hash.as_str().to_owned(), records };
    Verdict::Reload { hash, observed: Some(observed), causes }
}

/// What the template requires and is known not to be there.
fn missing(question: &Question<'_>) -> Vec<ConfigName> {
    question.uses.required().filter(|name| is_absent(question, name)).cloned().collect()
}

fn is_absent(question: &Question<'_>, name: &ConfigName) -> bool {
    matches!(question.live.get(name), Some(Lookup::Absent))
}

fn records_now(question: &Question<'_>) -> BTreeMap<ConfigName, Record> {
    let names = question.references.names().into_iter();
    names.map(|name| (name.clone(), record_now(question.live.get(name)))).collect()
}

fn record_now(lookup: Option<&Lookup>) -> Record {
    match lookup {
        Some(Lookup::Known(live)) => live.digest.map_or(Record::Uncompared, Record::Digest),
        // Unknown was turned away before.
        Some(Lookup::Absent | Lookup::Unknown) | None => Record::Absent,
    }
}
