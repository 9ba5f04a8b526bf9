//! Tests that guard a patch by exactly what the decision read, rather than by the whole object's version (5.5).

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::annotation::{CONFIG_HASH, CONFIGMAPS, DISABLED, IGNORED, OBSERVED_CONFIG, SECRETS};

/// What a decision about one version of a workload was made from, as the API server wrote it.
///
/// The values are kept as text, not parsed: the API server compares strings and numbers byte by byte with its own
/// encoding (`<` as `\u003c`, for one), so what it wrote is what has to come back.
#[derive(Clone, Debug)]
pub struct Guard<'a> {
    uid: Option<&'a RawValue>,
    labels: Picked<'a, 2>,
    /// All of them, and whether they matter.
    all_labels: (Option<&'a RawValue>, bool),
    annotations: Picked<'a, 4>,
    has_template_metadata: bool,
    template_annotations: Picked<'a, 1>,
    pod_spec: Option<&'a RawValue>,
}

impl<'a> Guard<'a> {
    /// Reads the guard from the JSON text of the workload, as it was read from the API server. The decision has to be
    /// made from the same text.
    pub fn of(text: &'a str) -> Result<Self, serde_json::Error> {
        let Wire { metadata, spec } = serde_json::from_str(text)?;
        let metadata = metadata.unwrap_or_default();
        let template = spec.and_then(|spec| spec.template).unwrap_or_default();
        let has_template_metadata = template.metadata.is_some();
        let on_template = template.metadata.and_then(|metadata| metadata.annotations);
        Ok(Self {
            uid: metadata.uid,
            labels: Picked::read(LABELS, metadata.labels)?,
            all_labels: (metadata.labels, false),
            annotations: Picked::read(ON_WORKLOAD, metadata.annotations)?,
            has_template_metadata,
            template_annotations: Picked::read(ON_TEMPLATE, on_template)?,
            pod_spec: template.spec,
        })
    }

    /// Has all labels stay as they are: for where workloads are selected by them (1.6).
    #[must_use]
    pub fn with_all_labels(mut self) -> Self {
        self.all_labels.1 = true;
        self
    }

    /// The operations, each as JSON text.
    pub(crate) fn tests(&self) -> Vec<String> {
        let mut tests = vec![test("/metadata/uid", self.uid), test("/metadata/deletionTimestamp", None)];
        match self.all_labels {
            (labels, true) => tests.push(test("/metadata/labels", labels)),
            (_, false) => self.labels.add_tests("/metadata/labels", &mut tests),
        }
        self.annotations.add_tests("/metadata/annotations", &mut tests);
        if self.has_template_metadata {
            self.template_annotations.add_tests("/spec/template/metadata/annotations", &mut tests);
        } else {
            tests.push(test("/spec/template/metadata", None));
        }
        tests.push(test("/spec/template/spec", self.pod_spec));
        tests
    }
}

/// The annotations of the workload itself that a decision reads.
const ON_WORKLOAD: [&str; 4] = [CONFIGMAPS, SECRETS, OBSERVED_CONFIG, CONFIG_HASH];
const LABELS: [&str; 2] = [IGNORED, DISABLED];
const ON_TEMPLATE: [&str; 1] = [CONFIG_HASH];

/// One operation. The API server takes a missing member for `null`, but not one whose parent is missing.
fn test(path: &str, value: Option<&RawValue>) -> String {
    let value = value.map_or("null", RawValue::get);
    format!(r#"{{"op":"test","path":"{path}","value":{value}}}"#)
}

/// Some members of a map.
#[derive(Clone, Copy, Debug)]
struct Picked<'a, const N: usize> {
    is_present: bool,
    keys: [&'static str; N],
    values: [Option<&'a RawValue>; N],
}

impl<'a, const N: usize> Picked<'a, N> {
    fn missing(keys: [&'static str; N]) -> Self {
        Self { is_present: false, keys, values: [None; N] }
    }

    fn read(keys: [&'static str; N], map: Option<&'a RawValue>) -> Result<Self, serde_json::Error> {
        let picked = Self::missing(keys);
        match map {
            Some(map) => serde_json::Deserializer::from_str(map.get()).deserialize_option(picked),
            None => Ok(picked),
        }
    }

    fn add_tests(&self, map: &str, tests: &mut Vec<String>) {
        if !self.is_present {
            return tests.push(test(map, None));
        }
        for (key, value) in self.keys.iter().zip(self.values) {
            tests.push(test(&format!("{map}/{}", key.replace('~', "~0").replace('/', "~1")), value));
        }
    }
}

impl<'de, const N: usize> Visitor<'de> for Picked<'de, N> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_none<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        self.is_present = true;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match self.keys.iter().position(|picked| *picked == key.0) {
                Some(at) => self.values[at] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(self)
    }
}

/// A string that borrows from the input where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow)]
    spec: Option<Spec<'a>>,
}

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    uid: Option<&'a RawValue>,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Spec<'a> {
    #[serde(borrow)]
    template: Option<Template<'a>>,
}

#[derive(Default, Deserialize)]
struct Template<'a> {
    #[serde(borrow)]
    metadata: Option<TemplateMetadata<'a>>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TemplateMetadata<'a> {
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}
