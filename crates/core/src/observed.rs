//! The observed-config annotation (2.3): what the present config hash stands for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestKey};
use crate::reference::{ConfigKind, ConfigName};

/// What is recorded of one reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// The digest that the config hash stands for. It stays when the object goes (section 3).
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

/// The parsed annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Id of the key that the digests were made with.
    pub key_id: String,
    /// The config hash that this stands beside.
    pub hash: String,
    /// One record per reference.
    pub records: BTreeMap<ConfigName, Record>,
}

const VERSION: u32 = 1;
const UNCOMPARED: &str = "?";
const UNFOLLOWED: &str = "-";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u32,
    key: String,
    hash: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    configmaps: BTreeMap<String, Option<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    secrets: BTreeMap<String, Option<String>>,
}

impl Observed {
    /// Reads the annotation. What is malformed, of an unknown version, or stands beside another hash than the
    /// one it names counts as not there: `None`.
    pub fn parse(text: &str, hash_beside: &str) -> Option<Self> {
        let wire: Wire = serde_json::from_str(text).ok()?;
        if wire.version != VERSION || wire.hash != hash_beside {
            return None;
        }
        let mut records = BTreeMap::new();
        for (kind, map) in [(ConfigKind::ConfigMap, wire.configmaps), (ConfigKind::Secret, wire.secrets)] {
            for (name, record) in map {
                let record = match record.as_deref() {
                    None => Record::Absent,
                    Some(UNCOMPARED) => Record::Uncompared,
                    Some(UNFOLLOWED) => Record::Unfollowed,
                    Some(digest) => Record::Digest(Digest::parse(digest)?),
                };
                records.insert(ConfigName { kind, name }, record);
            }
        }
        Some(Self { key_id: wire.key, hash: wire.hash, records })
    }

    /// Whether the digests can be compared with ones made with `key`.
    pub fn is_comparable(&self, key: &DigestKey) -> bool {
        self.key_id == key.id()
    }

    /// The annotation's value: compact JSON, the same text for the same facts.
    pub fn to_annotation(&self) -> String {
        let of_kind = |kind| {
            let records = self.records.iter().filter(|(name, _)| name.kind == kind);
            records
                .map(|(name, record)| {
                    let text = match record {
                        Record::Absent => None,
                        Record::Uncompared => Some(UNCOMPARED.to_owned()),
                        Record::Unfollowed => Some(UNFOLLOWED.to_owned()),
                        Record::Digest(digest) => Some(digest.to_string()),
                    };
                    (name.name.clone(), text)
                })
                .collect()
        };
        let wire = Wire {
            version: VERSION,
            key: self.key_id.clone(),
            hash: self.hash.clone(),
            configmaps: of_kind(ConfigKind::ConfigMap),
            secrets: of_kind(ConfigKind::Secret),
        };
        serde_json::to_string(&wire).expect("maps of strings are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Observed {
        let digest = Digest::parse("AAAAAAAAAAAAAAAAAAAAAA").unwrap();
        Observed {
            key_id: "k1".into(),
            hash: "h".into(),
            records: [
                (ConfigName::configmap("a"), Record::Digest(digest)),
                (ConfigName::configmap("b"), Record::Absent),
                (ConfigName::secret("a"), Record::Uncompared),
                (ConfigName::secret("b"), Record::Unfollowed),
            ]
            .into(),
        }
    }

    #[test]
    fn c2_3_what_was_written_is_read_back() {
        let text = sample().to_annotation();
        assert_eq!(
            text,
            r#"{"version":1,"key":"k1","hash":"h","configmaps":{"a":"AAAAAAAAAAAAAAAAAAAAAA","b":null},"secrets":{"a":"?","b":"-"}}"#
        );
        assert_eq!(Observed::parse(&text, "h"), Some(sample()));
    }

    #[test]
    fn c2_3_malformed_unknown_or_misplaced_counts_as_not_there() {
        let text = sample().to_annotation();
        assert_eq!(Observed::parse(&text, "another hash"), None);
        for broken in [
            text.replace("\"version\":1", "\"version\":2"),
            text.replace("AAAAAAAAAAAAAAAAAAAAAA", "AAAA"),
            text.replace("AAAAAAAAAAAAAAAAAAAAAA", "A"),
            text.replace("\"key\":\"k1\",", ""),
            text[..text.len() - 1].to_owned(),
            format!("{text}x"),
            String::new(),
            "null".to_owned(),
            "[]".to_owned(),
        ] {
            assert_eq!(Observed::parse(&broken, "h"), None, "{broken}");
        }
    }
}
