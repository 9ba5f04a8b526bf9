//! The content of a config object, summed while it is read so that nothing of it stays in memory (5.2).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use crate::sha::Sha256;

/// A collision-resistant sum of one object's `data`, `binaryData` and `type`; of nothing else (2.1).
///
/// It is not keyed and must stay inside the process: only [`crate::digest::Digest`], made from it, is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentSum([u8; 32]);

impl ContentSum {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The sum of that content. Secret values are taken as the API shows them, in base64, which is one to one.
    fn of(content: &Content<'_>) -> Self {
        let mut sum = Sha256::new();
        let mut field = |bytes: &[u8]| {
            sum.update((bytes.len() as u64).to_be_bytes());
            sum.update(bytes);
        };
        for (tag, map) in [(b"data", &content.data), (b"bina", &content.binary_data)] {
            // No map and an empty map are the same to a pod.
            let entries = || map.iter().flatten();
            field(tag);
            field(&(entries().count() as u64).to_be_bytes());
            for (name, value) in entries() {
                field(name.0.as_bytes());
                field(value.as_ref().map_or(&b""[..], |value| value.0.as_bytes()));
            }
        }
        field(content.kind.as_ref().map_or(&b""[..], |kind| kind.0.as_bytes()));
        Self(sum.finish())
    }
}

impl fmt::Debug for ContentSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentSum(..)")
    }
}

/// The names of the keys that an object's `data` and `binaryData` have, kept small: 64 bits of each name's SHA-256.
/// Two names that share them are a matter of 2^32 tries; whoever makes them deceives but himself about a key of his own.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyNames(Arc<[u64]>);

impl KeyNames {
    /// The set of these names.
    pub fn of<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let mut prefixes: Vec<_> = names.into_iter().map(prefix).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        Self(prefixes.into())
    }

    /// Whether the object has that key.
    pub fn contains(&self, name: &str) -> bool {
        self.0.binary_search(&prefix(name)).is_ok()
    }

    /// The memory that the names take; clones share it.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

impl fmt::Debug for KeyNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyNames({})", self.0.len())
    }
}

fn prefix(name: &str) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&Sha256::digest(name)[..8]);
    u64::from_be_bytes(bytes)
}

/// What is kept of an object's content: read in one pass, from text without a copy of what needs no unescaping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentSummary {
    /// The sum of all of it.
    pub sum: ContentSum,
    /// Which keys it has.
    pub keys: KeyNames,
}

/// The fields of a `ConfigMap` or `Secret` that count as content, as the API shows them.
#[derive(Deserialize)]
struct Content<'a> {
    /// In base64 for Secrets. A null value is an empty one (Go writes a nil slice so).
    #[serde(borrow)]
    data: Option<Entries<'a>>,
    /// Of a `ConfigMap`, in base64.
    #[serde(borrow, rename = "binaryData")]
    binary_data: Option<Entries<'a>>,
    /// Of a `Secret`.
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
}

type Entries<'a> = BTreeMap<Text<'a>, Option<Text<'a>>>;

/// A string that borrows from the input where it has no escapes.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for ContentSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Content::deserialize(deserializer).map(|content| Self::of(&content))
    }
}

impl<'de> Deserialize<'de> for ContentSummary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content = Content::deserialize(deserializer)?;
        let maps = [&content.data, &content.binary_data].into_iter().flatten();
        let keys = KeyNames::of(maps.flat_map(|map| map.keys().map(|name| &*name.0)));
        Ok(Self { sum: ContentSum::of(&content), keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sum(object: &serde_json::Value) -> ContentSum {
        serde_json::from_value(object.clone()).unwrap()
    }

    #[test]
    fn c2_1_nothing_but_data_binary_data_and_type_counts() {
        let bare = sum(&json!({"data": {"a": "1", "b": "2"}}));
        assert_eq!(
            bare,
            sum(&json!({
                "metadata": {"name": "x", "labels": {"l": "v"}, "resourceVersion": "7"},
                "immutable": true, "binaryData": {}, "data": {"b": "2", "a": "1"}
            }))
        );
        assert_eq!(sum(&json!({})), sum(&json!({"data": null, "binaryData": {}})));
        assert_eq!(sum(&json!({"data": {"a": ""}})), sum(&json!({"data": {"a": null}})));
    }

    #[test]
    fn c2_1_every_edit_of_content_counts() {
        let variants = [
            json!({}),
            json!({"data": {"a": ""}}),
            json!({"data": {"a": "1"}}),
            json!({"data": {"a": "1", "b": ""}}),
            json!({"data": {"a": "1b"}}),
            json!({"data": {"ab": "1"}}),
            json!({"binaryData": {"a": "1"}}),
            json!({"data": {"a": "1"}, "type": "Opaque"}),
            json!({"data": {"a": "1"}, "type": "kubernetes.io/tls"}),
        ];
        for (i, one) in variants.iter().enumerate() {
            for other in &variants[i + 1..] {
                assert_ne!(sum(one), sum(other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn c3_the_keys_of_data_and_binary_data_are_told_in_the_same_pass_as_the_sum() {
        let object =
            json!({"data": {"a": "1\n", "\u{e9}\"": null}, "binaryData": {"b": "AA=="}, "type": "Opaque"});
        let text = object.to_string();
        let summary: ContentSummary = serde_json::from_str(&text).unwrap();
        assert_eq!(summary.sum, sum(&object));
        for (key, expected) in
            [("a", true), ("\u{e9}\"", true), ("b", true), ("", false), ("type", false), ("c", false)]
        {
            assert_eq!(summary.keys.contains(key), expected, "{key}");
        }
        assert_eq!(summary.keys.bytes(), 24);
        assert_eq!(summary.keys, KeyNames::of(["b", "\u{e9}\"", "a", "a"]));
        let empty: ContentSummary = serde_json::from_str("{}").unwrap();
        assert!(!empty.keys.contains("") && empty.keys.bytes() == 0);
        assert_eq!(format!("{summary:?}"), "ContentSummary { sum: ContentSum(..), keys: KeyNames(3) }");
    }

    #[test]
    fn c5_2_what_needs_no_unescaping_is_borrowed() {
        let content: Content<'_> =
            serde_json::from_str(r#"{"data":{"a":"plain","b":"esc\n"},"type":"t"}"#).unwrap();
        let values: Vec<_> = content.data.unwrap().into_values().flatten().map(|value| value.0).collect();
        assert!(matches!(&values[..], [Cow::Borrowed("plain"), Cow::Owned(_)]), "{values:?}");
    }
}
