//! Tests that guard a patch by exactly what the decision read, rather than by the whole object's version (5.5).

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::annotation::{CONFIG_HASH, OBSERVED_CONFIG, ON_CHANGE};
use crate::dialect::{self, Place};
use crate::kind::{KindRef, Shape};
use crate::object::{Part, Text, WorkloadParts};

/// What a decision about one version of a workload was made from, as the API server wrote it.
///
/// The values are kept as text, not parsed: the API server compares strings and numbers byte by byte with its own
/// encoding (`<` as `\u003c`, for one), so what it wrote is what has to come back.
#[derive(Clone, Debug)]
pub struct Guard<'a> {
    kind: KindRef,
    uid: Option<&'a RawValue>,
    labels: Picked<'a>,
    /// All of them, and whether they matter.
    all_labels: (Option<&'a RawValue>, bool),
    annotations: Picked<'a>,
    /// How many members of the path to the template are there.
    steps: usize,
    has_template_metadata: bool,
    template_annotations: Picked<'a>,
    pod_spec: Option<&'a RawValue>,
}

impl<'a> Guard<'a> {
    /// Reads the guard from the JSON text of a workload of that kind, as it was read from the API server. The decision
    /// has to be made from the same text.
    pub fn of(kind: KindRef, text: &'a str) -> Result<Self, serde_json::Error> {
        let WorkloadParts::<Metadata<'a>, Template<'a>> { metadata, template, steps, .. } =
            WorkloadParts::read(kind, text)?;
        let (metadata, template) = (metadata.unwrap_or_default(), template.unwrap_or_default());
        let has_template_metadata = template.metadata.is_some();
        let on_template = template.metadata.and_then(|metadata| metadata.annotations);
        Ok(Self {
            kind,
            uid: metadata.uid,
            labels: Picked::read(Place::Label, &[], metadata.labels)?,
            all_labels: (metadata.labels, false),
            annotations: Picked::read(Place::Annotation, &OWN_ON_WORKLOAD, metadata.annotations)?,
            steps,
            has_template_metadata,
            template_annotations: Picked::read(Place::TemplateAnnotation, &OWN_ON_TEMPLATE, on_template)?,
            pod_spec: template.spec,
        })
    }

    /// Has all labels stay as they are: for where workloads are selected by them (1.6).
    #[must_use]
    pub fn with_all_labels(mut self) -> Self {
        self.all_labels.1 = true;
        self
    }

    /// The kind of the workload.
    pub(crate) fn kind(&self) -> KindRef {
        self.kind
    }

    /// The operations, each as JSON text.
    pub(crate) fn tests(&self) -> Vec<String> {
        let mut tests = vec![test("/metadata/uid", self.uid), test("/metadata/deletionTimestamp", None)];
        match self.all_labels {
            (labels, true) => tests.push(test("/metadata/labels", labels)),
            (_, false) => self.labels.add_tests("/metadata/labels", &mut tests),
        }
        self.annotations.add_tests("/metadata/annotations", &mut tests);
        if let Some(missing) = self.kind.missing_member(self.steps) {
            tests.push(test(missing.as_str(), None));
            return tests;
        }
        if self.has_template_metadata {
            self.template_annotations.add_tests(self.kind.annotations_pointer().as_str(), &mut tests);
        } else {
            tests.push(test(self.kind.template_pointer(&["metadata"]).as_str(), None));
        }
        if self.kind.shape == Shape::PodTemplate {
            tests.push(test(self.kind.template_pointer(&["spec"]).as_str(), self.pod_spec));
        }
        tests
    }
}

/// Our own annotations of the workload itself that a decision reads, beside those of dialects.
const OWN_ON_WORKLOAD: [&str; 3] = [OBSERVED_CONFIG, CONFIG_HASH, ON_CHANGE];
const OWN_ON_TEMPLATE: [&str; 1] = [CONFIG_HASH];

/// One operation. The API server takes a missing member for `null`, but not one whose parent is missing.
fn test(path: &str, value: Option<&RawValue>) -> String {
    let value = value.map_or("null", RawValue::get);
    format!(r#"{{"op":"test","path":"{path}","value":{value}}}"#)
}

/// Some members of a map.
#[derive(Clone, Debug)]
struct Picked<'a> {
    is_present: bool,
    members: Vec<(&'static str, Option<&'a RawValue>)>,
}

impl<'a> Picked<'a> {
    /// What dialects read there, and these.
    fn missing(place: Place, own: &[&'static str]) -> Self {
        let mut members: Vec<(&str, _)> = vec![];
        for name in dialect::keys_at(place).map(|key| key.name).chain(own.iter().copied()) {
            // Two dialects may read the same.
            if members.iter().all(|(known, _)| *known != name) {
                members.push((name, None));
            }
        }
        Self { is_present: false, members }
    }

    fn read(
        place: Place,
        own: &[&'static str],
        map: Option<&'a RawValue>,
    ) -> Result<Self, serde_json::Error> {
        let picked = Self::missing(place, own);
        match map {
            Some(map) => serde_json::Deserializer::from_str(map.get()).deserialize_option(picked),
            None => Ok(picked),
        }
    }

    fn add_tests(&self, map: &str, tests: &mut Vec<String>) {
        if !self.is_present {
            return tests.push(test(map, None));
        }
        for (key, value) in &self.members {
            tests.push(test(&format!("{map}/{}", key.replace('~', "~0").replace('/', "~1")), *value));
        }
    }
}

impl<'de> Visitor<'de> for Picked<'de> {
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
            match self.members.iter_mut().find(|(picked, _)| *picked == key.0) {
                Some((_, value)) => *value = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(self)
    }
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

impl<'de> Part<'de> for Template<'de> {
    fn read<D: Deserializer<'de>>(shape: Shape, deserializer: D) -> Result<Self, D::Error> {
        match shape {
            Shape::PodTemplate => Self::deserialize(deserializer),
            Shape::Annotations => {
                let annotations = Some(<&RawValue>::deserialize(deserializer)?);
                Ok(Self { metadata: Some(TemplateMetadata { annotations }), spec: None })
            }
        }
    }
}
