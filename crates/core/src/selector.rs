//! Label selectors as kubectl writes them, such as `team=shop,tier!=test,env in (a,b),!legacy` (1.6).
//!
//! The grammar is that of `labels.Parse` in apimachinery, so that what the API server takes as a `labelSelector` is
//! taken here, and nothing else.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

mod parse;

/// Selects objects by their labels. The default selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    text: String,
    requirements: Vec<Requirement>,
}

/// One term; all have to be met.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

/// What a label has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Missing,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Above(i64),
    Below(i64),
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// If the API server would not take it; the text says what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let requirements = parse::requirements(text).map_err(|why| {
            format!("{why}; expected a label selector, such as team=shop,tier!=test,env in (a,b),!legacy")
        })?;
        Ok(Self { text: text.trim().to_owned(), requirements })
    }

    /// What has a label of that name, whatever its value.
    pub fn having(label: &str) -> Self {
        let requirements = vec![Requirement { key: label.to_owned(), test: Test::Exists }];
        Self { text: label.to_owned(), requirements }
    }

    /// Whether all objects are selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The selector as it was written; to be given to the API server.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|it| it.test.is_met_by(labels.get(&it.key).map(String::as_str)))
    }

    /// Whether the object with this JSON is selected. Only labels that matter are kept while it is read; an object that
    /// cannot be read is not selected.
    pub fn matches_json(&self, object: &str) -> bool {
        self.is_empty() || self.labels_of(object).is_some_and(|labels| self.matches(&labels))
    }

    fn labels_of(&self, object: &str) -> Option<BTreeMap<String, String>> {
        let Wire { metadata } = serde_json::from_str(object).ok()?;
        let Some(labels) = metadata.and_then(|metadata| metadata.labels) else {
            return Some(BTreeMap::new());
        };
        serde_json::Deserializer::from_str(labels.get()).deserialize_map(Picker(self)).ok()
    }

    /// Labels with which an object is selected, if there are any that are easily found: for objects that are created to
    /// be selected.
    pub fn example(&self) -> Option<BTreeMap<String, String>> {
        let mut labels = BTreeMap::new();
        for Requirement { key, test } in &self.requirements {
            let value = match test {
                Test::Exists => labels.get(key).cloned().unwrap_or_default(),
                Test::In(values) => values.first()?.clone(),
                Test::Above(bound) => bound.checked_add(1)?.to_string(),
                Test::Below(bound) => bound.checked_sub(1)?.to_string(),
                Test::Missing | Test::NotIn(_) => continue,
            };
            labels.insert(key.clone(), value);
        }
        self.matches(&labels).then_some(labels)
    }
}

impl Test {
    fn is_met_by(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::Exists => value.is_some(),
            Self::Missing => value.is_none(),
            Self::In(values) => value.is_some_and(|value| values.contains(value)),
            Self::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Self::Above(bound) => number().is_some_and(|number| number > *bound),
            Self::Below(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    metadata: Option<WireMetadata<'a>>,
}

#[derive(Deserialize)]
struct WireMetadata<'a> {
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
}

/// A string that borrows from the input where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Keeps the labels that the selector asks for, however many there are.
struct Picker<'s>(&'s Selector);

impl<'de> Visitor<'de> for Picker<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut picked = BTreeMap::new();
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            if self.0.requirements.iter().any(|requirement| requirement.key == key) {
                // Kubernetes reads a null value as the empty string.
                let value = map.next_value::<Option<Text<'de>>>()?.map(|text| text.0.into_owned());
                picked.insert(key.into_owned(), value.unwrap_or_default());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(picked)
    }
}

#[cfg(test)]
mod tests;
