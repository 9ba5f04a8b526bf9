//! The observed-config annotation (2.3): what the present config hash stands for or, beside none, what the pods run with.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config_hash::name_beside;
use crate::digest::{Digest, DigestKey};
use crate::name::{ConfigKind, ConfigRef, is_valid_name, is_valid_namespace};
use crate::reference::{Keys, Origin};

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
}

/// The version that is written. Version 1, which knew listed references beside a hash only, is read.
const VERSION: u32 = 2;
const UNCOMPARED: &str = "?";
const UNFOLLOWED: &str = "-";

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
        self.followed.is_empty()
            && listed.all(|(name, record)| !name.contains('/') && matches!(record, WireRecord::Whole(_)))
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

/// A digest, or one of [`UNCOMPARED`], [`UNFOLLOWED`] and null for what is absent; where not all keys count, beside them.
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
        let mut records = Records::new();
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
                if records.insert(object, record.read(origin)?).is_some() {
                    return None;
                }
            }
        }
        Some(Self { key_id: wire.key.into(), hash: wire.hash, records })
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
                .map(|(object, record)| (name_beside(namespace, object).into_owned(), WireRecord::of(record)))
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

impl WireRecord {
    fn of(record: &Record) -> Self {
        let seen = match record.seen {
            Seen::Absent => None,
            Seen::Uncompared => Some(UNCOMPARED.to_owned()),
            Seen::Unfollowed => Some(UNFOLLOWED.to_owned()),
            Seen::Digest(digest) => Some(digest.to_string()),
        };
        match &record.keys {
            Keys::All => Self::Whole(seen),
            Keys::Only(keys) => {
                Self::Keys(WireKeys { digest: seen, keys: keys.iter().map(ToString::to_string).collect() })
            }
        }
    }

    fn read(self, origin: Origin) -> Option<Record> {
        let (seen, keys) = match self {
            Self::Whole(seen) => (seen, Keys::All),
            Self::Keys(WireKeys { digest, keys }) => (digest, Keys::only(keys.iter().map(String::as_str))),
        };
        let seen = match seen.as_deref() {
            None => Seen::Absent,
            Some(UNCOMPARED) => Seen::Uncompared,
            Some(UNFOLLOWED) => Seen::Unfollowed,
            Some(digest) => Seen::Digest(Digest::parse(digest)?),
        };
        Some(Record { seen, keys, origin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: &str = "shop";
    const DIGEST: &str = "AAAAAAAAAAAAAAAAAAAAAA";

    fn sample() -> Observed {
        let digest = Seen::Digest(Digest::parse(DIGEST).unwrap());
        let listed = [
            (ConfigRef::configmap(NAMESPACE, "a"), digest),
            (ConfigRef::configmap(NAMESPACE, "b"), Seen::Absent),
            (ConfigRef::secret(NAMESPACE, "a"), Seen::Uncompared),
            (ConfigRef::secret(NAMESPACE, "b"), Seen::Unfollowed),
        ];
        let records = listed.map(|(object, seen)| (object, Record::listed(seen)));
        Observed { key_id: "k1".into(), hash: Some("h".into()), records: records.into() }
    }

    fn adopted() -> Observed {
        let digest = Seen::Digest(Digest::parse(DIGEST).unwrap());
        let followed = |seen, keys| Record { seen, keys, origin: Origin::Followed };
        let records = [
            (ConfigRef::configmap(NAMESPACE, "a"), followed(digest, Keys::only(["x", "y"]))),
            (ConfigRef::configmap(NAMESPACE, "b"), Record::listed(digest)),
            (ConfigRef::configmap("other", "a"), followed(digest, Keys::All)),
            (ConfigRef::secret(NAMESPACE, "a"), followed(Seen::Absent, Keys::only(["k"]))),
        ];
        Observed { key_id: "k1".into(), hash: None, records: records.into() }
    }

    #[test]
    fn c2_3_what_was_written_is_read_back() {
        let text = sample().to_annotation(NAMESPACE);
        assert_eq!(
            text,
            r#"{"version":2,"key":"k1","hash":"h","configmaps":{"a":"AAAAAAAAAAAAAAAAAAAAAA","b":null},"secrets":{"a":"?","b":"-"}}"#
        );
        assert_eq!(Observed::parse(&text, NAMESPACE, Some("h")), Some(sample()));
    }

    #[test]
    fn c2_3_version_2_stands_beside_no_hash_and_says_where_references_come_from_and_which_keys_count() {
        let text = adopted().to_annotation(NAMESPACE);
        assert_eq!(
            text,
            concat!(
                r#"{"version":2,"key":"k1","configmaps":{"b":"AAAAAAAAAAAAAAAAAAAAAA"},"followed":{"configmaps":{"#,
                r#""a":{"digest":"AAAAAAAAAAAAAAAAAAAAAA","keys":["x","y"]},"other/a":"AAAAAAAAAAAAAAAAAAAAAA"},"#,
                r#""secrets":{"a":{"digest":null,"keys":["k"]}}}}"#
            )
        );
        assert_eq!(Observed::parse(&text, NAMESPACE, None), Some(adopted()));
        assert_eq!(Observed::parse(&text, NAMESPACE, Some("h")), None, "a hash that it does not name");
    }

    #[test]
    fn c2_3_version_1_is_read() {
        let text = sample().to_annotation(NAMESPACE).replace("\"version\":2", "\"version\":1");
        assert_eq!(Observed::parse(&text, NAMESPACE, Some("h")), Some(sample()));
        let without_hash = adopted().to_annotation(NAMESPACE).replace("\"version\":2", "\"version\":1");
        assert_eq!(Observed::parse(&without_hash, NAMESPACE, None), None, "it knew no such thing");
        for listed in [r#"{"a":{"digest":null,"keys":["k"]}}"#, r#"{"other/a":null}"#] {
            let text = format!(r#"{{"version":1,"key":"k1","hash":"h","configmaps":{listed}}}"#);
            assert_eq!(Observed::parse(&text, NAMESPACE, Some("h")), None, "it knew no such thing: {text}");
        }
    }

    #[test]
    fn c2_3_malformed_unknown_or_misplaced_counts_as_not_there() {
        let text = sample().to_annotation(NAMESPACE);
        assert_eq!(Observed::parse(&text, NAMESPACE, Some("another hash")), None);
        assert_eq!(Observed::parse(&text, NAMESPACE, None), None);
        for broken in [
            text.replace("\"version\":2", "\"version\":3"),
            text.replace(DIGEST, "AAAA"),
            text.replace(DIGEST, "A"),
            text.replace(&format!("\"{DIGEST}\""), "7"),
            text.replace(&format!("\"{DIGEST}\""), "{\"keys\":[\"a\"],\"more\":1,\"digest\":null}"),
            text.replace("\"key\":\"k1\",", ""),
            text.replace("\"secrets\"", "\"followed\":{\"configmaps\":{\"a\":null}},\"secrets\""),
            text.replace("\"secrets\"", "\"more\":{},\"secrets\""),
            text.replace("\"a\":\"?\"", "\"a/b/c\":\"?\""),
            text.replace("\"a\":\"?\"", "\"/a\":\"?\""),
            text.replace("\"a\":\"?\"", "\"a.b/c\":\"?\""),
            text.replace("\"a\":\"?\"", "\"../../secrets/a\":\"?\""),
            text.replace("\"a\":\"?\"", "\"\\u001b[31m\":\"?\""),
            text[..text.len() - 1].to_owned(),
            format!("{text}x"),
            String::new(),
            "null".to_owned(),
            "[]".to_owned(),
        ] {
            assert_eq!(Observed::parse(&broken, NAMESPACE, Some("h")), None, "{broken}");
        }
    }
}
