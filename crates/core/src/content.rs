//! The content of a config object, summed while it is read so that nothing of it stays in memory (5.2).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use crate::reference::Keys;
use crate::sha::Sha256;

/// A collision-resistant sum of one object's `data`, `binaryData` and `type`, or of chosen keys of the former two; of
/// nothing else (2.1).
///
/// It is not keyed and must stay inside the process: only [`crate::digest::Digest`], made from it, is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentSum([u8; 32]);

impl ContentSum {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The sum of an object that has none of these keys; `None` where all keys count.
    pub(crate) fn of_none(keys: &Keys) -> Option<Self> {
        let content = Content { data: None, binary_data: None, kind: None };
        matches!(keys, Keys::Only(_)).then(|| Self::of(&content, keys))
    }

    /// The sum of that content. Secret values are taken as the API shows them, in base64, which is one to one.
    fn of(content: &Content<'_>, keys: &Keys) -> Self {
        let mut sum = Fields(Sha256::new());
        match keys {
            Keys::All => sum.all(content),
            Keys::Only(keys) => sum.selected(content, keys),
        }
        Self(sum.0.finish())
    }
}

/// A sum over fields with their lengths, so that no two lists of fields give the same input.
struct Fields(Sha256);

impl Fields {
    fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn all(&mut self, content: &Content<'_>) {
        for (tag, map) in [(DATA, &content.data), (BINARY_DATA, &content.binary_data)] {
            // No map and an empty map are the same to a pod.
            let entries = || map.iter().flatten();
            self.field(tag);
            self.field(&(entries().count() as u64).to_be_bytes());
            for (name, value) in entries() {
                self.field(name.0.as_bytes());
                self.field(value.as_ref().map_or(&b""[..], |value| value.0.as_bytes()));
            }
        }
        self.field(content.kind.as_ref().map_or(&b""[..], |kind| kind.0.as_bytes()));
    }

    /// The first field is another than that of a whole object, so that the two are never equal.
    fn selected(&mut self, content: &Content<'_>, keys: &[Box<str>]) {
        self.field(b"keys");
        self.field(&(keys.len() as u64).to_be_bytes());
        for key in keys {
            self.field(key.as_bytes());
            let maps = [(DATA, &content.data), (BINARY_DATA, &content.binary_data)];
            let mut found = maps.iter().filter_map(|(tag, map)| Some((tag, map.as_ref()?.get::<str>(key)?)));
            match found.next() {
                None => self.field(b"none"),
                Some((tag, value)) => {
                    self.field(tag);
                    self.field(value.as_ref().map_or(&b""[..], |value| value.0.as_bytes()));
                }
            }
        }
    }
}

const DATA: &[u8] = b"data";
const BINARY_DATA: &[u8] = b"bina";

impl fmt::Debug for ContentSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentSum(..)")
    }
}

/// The names of the keys that an object's `data` and `binaryData` have, kept small: 64 bits of each name's SHA-256. A
/// collision takes about 2^32 tries; a user who makes one deceives only themselves, about a key of their own.
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
    /// The sum of all of it, or of the chosen keys.
    pub sum: ContentSum,
    /// The sum of all of it, whichever keys are chosen.
    pub whole: ContentSum,
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

impl std::borrow::Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl ContentSummary {
    /// Reads an object's JSON, and sums what these keys hold. The error says nothing of the text, which may be a Secret's.
    pub fn read(json: &[u8], keys: &Keys) -> Option<Self> {
        serde_json::from_slice(json).ok().map(|content| Self::of(&content, keys))
    }

    fn of(content: &Content<'_>, keys: &Keys) -> Self {
        let maps = [&content.data, &content.binary_data].into_iter().flatten();
        let names = KeyNames::of(maps.flat_map(|map| map.keys().map(|name| &*name.0)));
        let whole = ContentSum::of(content, &Keys::All);
        let sum = if *keys == Keys::All { whole.clone() } else { ContentSum::of(content, keys) };
        Self { sum, whole, keys: names }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sum(object: &serde_json::Value) -> ContentSum {
        sum_of(object, &Keys::All)
    }

    fn sum_of(object: &serde_json::Value, keys: &Keys) -> ContentSum {
        ContentSummary::read(object.to_string().as_bytes(), keys).unwrap().sum
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
    fn c3_5_the_keys_of_data_and_binary_data_are_told_in_the_same_pass_as_the_sum() {
        let object =
            json!({"data": {"a": "1\n", "\u{e9}\"": null}, "binaryData": {"b": "AA=="}, "type": "Opaque"});
        let text = object.to_string();
        let summary = ContentSummary::read(text.as_bytes(), &Keys::All).unwrap();
        assert_eq!(summary.sum, sum(&object));
        for (key, expected) in
            [("a", true), ("\u{e9}\"", true), ("b", true), ("", false), ("type", false), ("c", false)]
        {
            assert_eq!(summary.keys.contains(key), expected, "{key}");
        }
        assert_eq!(summary.keys.bytes(), 24);
        assert_eq!(summary.keys, KeyNames::of(["b", "\u{e9}\"", "a", "a"]));
        let empty = ContentSummary::read(b"{}", &Keys::All).unwrap();
        assert!(!empty.keys.contains("") && empty.keys.bytes() == 0);
        assert_eq!(
            format!("{summary:?}"),
            "ContentSummary { sum: ContentSum(..), whole: ContentSum(..), keys: KeyNames(3) }"
        );
    }

    #[test]
    fn c5_2_what_needs_no_unescaping_is_borrowed() {
        let content: Content<'_> =
            serde_json::from_str(r#"{"data":{"a":"plain","b":"esc\n"},"type":"t"}"#).unwrap();
        let values: Vec<_> = content.data.unwrap().into_values().flatten().map(|value| value.0).collect();
        assert!(matches!(&values[..], [Cow::Borrowed("plain"), Cow::Owned(_)]), "{values:?}");
    }

    #[test]
    fn c2_3_a_sum_of_chosen_keys_says_what_they_hold_and_nothing_of_the_rest() {
        let keys = Keys::only(["a", "b"]);
        let object = json!({"data": {"a": "1", "c": "3"}, "binaryData": {"b": "Mg=="}, "type": "Opaque"});
        let same =
            json!({"data": {"a": "1", "d": "4"}, "binaryData": {"b": "Mg=="}, "type": "kubernetes.io/tls"});
        assert_eq!(
            sum_of(&object, &keys),
            sum_of(&same, &keys),
            "other keys and a Secret's type do not count"
        );
        let variants = [
            json!({}),
            json!({"data": {"a": "", "b": "Mg=="}}),
            json!({"data": {"a": "1", "b": "Mg=="}}),
            json!({"data": {"a": "1"}}),
            json!({"data": {"a": "none"}}),
            json!({"data": {"b": "1"}}),
            object.clone(),
        ];
        let mut seen: Vec<_> = variants.iter().map(|object| sum_of(object, &keys)).collect();
        // Nor is a sum over keys ever that of a whole object, or of other keys with the same values.
        seen.extend(variants.iter().map(sum));
        seen.push(sum_of(&json!({"data": {"a": "1", "b": "Mg=="}}), &Keys::only(["a"])));
        seen.push(sum_of(&json!({"data": {"a": "1"}}), &Keys::only(["a", "c"])));
        for (i, one) in seen.iter().enumerate() {
            assert!(!seen[i + 1..].contains(one), "{i}");
        }
    }
}
