//! The content of a config object, summed while it is read so that nothing of it stays in memory (5.2).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

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
    pub fn of(content: &Content) -> Self {
        let mut sum = Sha256::new();
        let mut field = |bytes: &[u8]| {
            sum.update((bytes.len() as u64).to_be_bytes());
            sum.update(bytes);
        };
        for (tag, map) in [(b"data", &content.data), (b"bina", &content.binary_data)] {
            // No map and an empty map are the same to a pod.
            let empty = BTreeMap::new();
            let map = map.as_ref().unwrap_or(&empty);
            field(tag);
            field(&(map.len() as u64).to_be_bytes());
            for (name, value) in map {
                field(name.as_bytes());
                field(value.as_deref().unwrap_or_default().as_bytes());
            }
        }
        field(content.type_.as_deref().unwrap_or_default().as_bytes());
        Self(sum.finalize().into())
    }
}

impl fmt::Debug for ContentSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentSum(..)")
    }
}

/// The fields of a `ConfigMap` or `Secret` that count as content, as the API shows them.
#[derive(Default, Deserialize)]
pub struct Content {
    /// `data`; in base64 for Secrets. A null value is an empty one (Go writes a nil slice so).
    pub data: Option<BTreeMap<String, Option<String>>>,
    /// `binaryData` of a `ConfigMap`, in base64.
    #[serde(rename = "binaryData")]
    pub binary_data: Option<BTreeMap<String, Option<String>>>,
    /// `type` of a `Secret`.
    #[serde(rename = "type")]
    pub type_: Option<String>,
}

impl<'de> Deserialize<'de> for ContentSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Content::deserialize(deserializer).map(|content| Self::of(&content))
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
}
