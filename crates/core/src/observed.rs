//! The observed-config annotation (2.3): what the present config hash stands for or, beside none, what the pods run with.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config_hash::name_beside;
use crate::digest::{Digest, DigestKey};
use crate::lookup::{ConfigVersion, Lookup, Lookups};
use crate::name::{ConfigKind, ConfigRef, is_valid_name, is_valid_namespace};
use crate::reference::{Keys, Origin};
use crate::witness::{Witness, Witnesses};

/// What was seen of one reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The digest that the config hash stands for. It stays when the object is deleted (section 3).
    Digest(Digest),
    /// The object was not there.
    Absent,
    /// The object had been there, but its digest was made with a key that is lost, and it was gone when the
    /// others were compared. It counts as other content when it comes back (2.5).
    Uncompared,
    /// Objects of its kind were not followed when the hash was made (5.9): the hash does not cover it, and what it
    /// holds when they are followed again is recorded without a reload.
    Unfollowed,
}

/// What is recorded of one reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was seen of the object.
    pub seen: Seen,
    /// Which of its keys that covers.
    pub keys: Keys,
    /// Where the reference came from.
    pub origin: Origin,
}

impl Record {
    /// Of a listed reference, which covers the whole object.
    pub fn listed(seen: Seen) -> Self {
        Self { seen, keys: Keys::All, origin: Origin::Listed }
    }
}

/// One record for each reference.
pub type Records = BTreeMap<ConfigRef, Record>;

/// The parsed annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Id of the key that the digests were made with.
    pub key_id: Arc<str>,
    /// The config hash that this belongs to; `None` on a workload that was adopted and not reloaded since.
    pub hash: Option<String>,
    /// What was seen.
    pub records: Records,
    /// In which versions the recorded digests were seen, where that is known. They say nothing of what is recorded, and a
    /// change of theirs alone is never written.
    pub witnesses: Witnesses,
}

/// The version that is written. Version 1, which knew listed references beside a hash only, is read.
const VERSION: u32 = 2;
const UNCOMPARED: &str = "?";
const UNFOLLOWED: &str = "-";
/// Between a digest and its witness.
const WITNESSED: char = '@';

type Names = BTreeMap<String, WireRecord>;

/// References by their names; those in other namespaces as `namespace/name`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u32,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    configmaps: Names,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    secrets: Names,
    #[serde(default, skip_serializing_if = "Followed::is_empty")]
    followed: Followed,
}

impl Wire {
    /// Whether it says nothing that version 1 did not know.
    fn lists_whole_objects(&self) -> bool {
        let mut listed = self.configmaps.iter().chain(&self.secrets);
        let is_plain = |record: &WireRecord| match record {
            WireRecord::Whole(seen) => !seen.as_ref().is_some_and(|seen| seen.contains(WITNESSED)),
            WireRecord::Keys(_) => false,
        };
        self.followed.is_empty() && listed.all(|(name, record)| !name.contains('/') && is_plain(record))
    }
}

/// The references that are not listed.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Followed {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    configmaps: Names,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    secrets: Names,
}

impl Followed {
    fn is_empty(&self) -> bool {
        self.configmaps.is_empty() && self.secrets.is_empty()
    }
}

/// A digest, perhaps with its witness, or one of [`UNCOMPARED`], [`UNFOLLOWED`] and null for what is absent; where not all
/// keys count, beside them.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WireRecord {
    Whole(Option<String>),
    Keys(WireKeys),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireKeys {
    digest: Option<String>,
    keys: Vec<String>,
}

impl Observed {
    /// Reads the annotation of a workload in that namespace. What is malformed, of an unknown version, or is beside
    /// another hash than the one it names counts as absent: `None`.
    pub fn parse(text: &str, namespace: &str, hash_beside: Option<&str>) -> Option<Self> {
        let wire: Wire = serde_json::from_str(text).ok()?;
        let is_known = match wire.version {
            1 => wire.hash.is_some() && wire.lists_whole_objects(),
            VERSION => true,
            _ => false,
        };
        if !is_known || wire.hash.as_deref() != hash_beside {
            return None;
        }
        let (mut records, mut witnesses) = (Records::new(), Witnesses::new());
        for (kind, origin, names) in [
            (ConfigKind::ConfigMap, Origin::Listed, wire.configmaps),
            (ConfigKind::Secret, Origin::Listed, wire.secrets),
            (ConfigKind::ConfigMap, Origin::Followed, wire.followed.configmaps),
            (ConfigKind::Secret, Origin::Followed, wire.followed.secrets),
        ] {
            for (name, record) in names {
                let (namespace, name) = name.split_once('/').unwrap_or((namespace, &name));
                // They go into log lines and Events. None was written that Kubernetes would refuse.
                if !is_valid_name(name) || !is_valid_namespace(namespace) {
                    return None;
                }
                let object = ConfigRef::new(kind, namespace, name);
                let (record, witness) = record.read(origin)?;
                if let Some(witness) = witness {
                    witnesses.insert(object.clone(), witness);
                }
                if records.insert(object, record).is_some() {
                    return None;
                }
            }
        }
        Some(Self { key_id: wire.key.into(), hash: wire.hash, records, witnesses })
    }

    /// These records under that key, each digest with its witness: of the version that is there now if it has that digest,
    /// else the one that was recorded with it before.
    pub(crate) fn witnessed(
        key: &DigestKey,
        hash: Option<String>,
        records: Records,
        known: &Lookups,
        before: Option<&Self>,
    ) -> Self {
        let before = before.filter(|before| before.is_comparable(key));
        let witness = |object: &ConfigRef, record: &Record| {
            let Seen::Digest(digest) = record.seen else { return None };
            if let Some(Lookup::Found(found)) = known.get(object)
                && found.digest(key, &record.keys) == Some(digest)
            {
                return Some(Witness::of(key, object, &found.version, &record.keys, digest));
            }
            let before = before?;
            let was = before.records.get(object)?;
            let is_same = was.seen == record.seen && was.keys == record.keys;
            before.witnesses.get(object).copied().filter(|_| is_same)
        };
        let witnesses =
            records.iter().filter_map(|(object, record)| Some((object.clone(), witness(object, record)?)));
        let witnesses = witnesses.collect();
        Self { key_id: key.shared_id(), hash, records, witnesses }
    }

    /// The digest over these keys that is recorded of the object, and its witness.
    pub(crate) fn witness_of(&self, object: &ConfigRef, keys: &Keys) -> Option<(Digest, Witness)> {
        let record = self.records.get(object).filter(|record| record.keys == *keys)?;
        let Seen::Digest(digest) = record.seen else { return None };
        Some((digest, *self.witnesses.get(object)?))
    }

    /// The digest over these keys that the object has in that version, if it is recorded with a witness of that.
    pub fn proven(
        &self,
        key: &DigestKey,
        object: &ConfigRef,
        keys: &Keys,
        version: &ConfigVersion,
    ) -> Option<Digest> {
        let (digest, witness) = self.witness_of(object, keys)?;
        (Witness::of(key, object, version, keys, digest) == witness).then_some(digest)
    }

    /// Whether the digests can be compared with ones made with `key`.
    pub fn is_comparable(&self, key: &DigestKey) -> bool {
        *self.key_id == *key.id()
    }

    /// The annotation's value for a workload in that namespace: compact JSON, the same text for the same facts.
    pub fn to_annotation(&self, namespace: &str) -> String {
        let of = |kind, origin| -> Names {
            let records = self.records.iter();
            records
                .filter(|(object, record)| object.kind == kind && record.origin == origin)
                .map(|(object, record)| {
                    let record = WireRecord::of(record, self.witnesses.get(object));
                    (name_beside(namespace, object).into_owned(), record)
                })
                .collect()
        };
        let wire = Wire {
            version: VERSION,
            key: self.key_id.to_string(),
            hash: self.hash.clone(),
            configmaps: of(ConfigKind::ConfigMap, Origin::Listed),
            secrets: of(ConfigKind::Secret, Origin::Listed),
            followed: Followed {
                configmaps: of(ConfigKind::ConfigMap, Origin::Followed),
                secrets: of(ConfigKind::Secret, Origin::Followed),
            },
        };
        serde_json::to_string(&wire).expect("maps of strings are JSON")
    }
}

/// The same annotation without its witnesses, where there is no room for them; `None` if it has none.
pub(crate) fn without_witnesses(text: &str) -> Option<String> {
    let mut wire: Wire = serde_json::from_str(text).ok()?;
    let Followed { configmaps, secrets } = &mut wire.followed;
    let mut has_any = false;
    for record in [&mut wire.configmaps, &mut wire.secrets, configmaps, secrets].into_iter().flatten() {
        let (_, WireRecord::Whole(seen) | WireRecord::Keys(WireKeys { digest: seen, .. })) = record;
        if let Some(seen) = seen
            && let Some(at) = seen.find(WITNESSED)
        {
            seen.truncate(at);
            has_any = true;
        }
    }
    has_any.then(|| serde_json::to_string(&wire).expect("maps of strings are JSON"))
}

impl WireRecord {
    fn of(record: &Record, witness: Option<&Witness>) -> Self {
        let seen = match record.seen {
            Seen::Absent => None,
            Seen::Uncompared => Some(UNCOMPARED.to_owned()),
            Seen::Unfollowed => Some(UNFOLLOWED.to_owned()),
            Seen::Digest(digest) => Some(match witness {
                Some(witness) => format!("{digest}{WITNESSED}{witness}"),
                None => digest.to_string(),
            }),
        };
        match &record.keys {
            Keys::All => Self::Whole(seen),
            Keys::Only(keys) => {
                Self::Keys(WireKeys { digest: seen, keys: keys.iter().map(ToString::to_string).collect() })
            }
        }
    }

    fn read(self, origin: Origin) -> Option<(Record, Option<Witness>)> {
        let (seen, keys) = match self {
            Self::Whole(seen) => (seen, Keys::All),
            Self::Keys(WireKeys { digest, keys }) => (digest, Keys::only(keys.iter().map(String::as_str))),
        };
        let (seen, witness) = match seen.as_deref() {
            None => (Seen::Absent, None),
            Some(UNCOMPARED) => (Seen::Uncompared, None),
            Some(UNFOLLOWED) => (Seen::Unfollowed, None),
            Some(digest) => match digest.split_once(WITNESSED) {
                Some((digest, witness)) => {
                    (Seen::Digest(Digest::parse(digest)?), Some(Witness::parse(witness)?))
                }
                None => (Seen::Digest(Digest::parse(digest)?), None),
            },
        };
        Some((Record { seen, keys, origin }, witness))
    }
}

#[cfg(test)]
mod tests;
