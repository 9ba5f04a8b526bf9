//! The parts of a workload that decisions need, read from its JSON; everything else is skipped while parsing.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::annotation;
use crate::dialect::{self, Entries, Place, Selection};
use crate::duration;
use crate::kind::KindRef;
use crate::object::{self, Text, WorkloadParts, WorkloadPartsSeed};
use crate::reference::References;
use crate::template::{PodSpec, TemplateUses};

/// One version of a workload, as far as it concerns us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// `metadata.namespace`; may be missing in an admission request.
    pub namespace: Option<String>,
    /// `metadata.name`; missing where the API server is yet to generate it.
    pub name: Option<String>,
    /// `metadata.uid`.
    pub uid: Option<String>,
    /// `metadata.resourceVersion`.
    pub resource_version: Option<String>,
    /// Labelled to be left alone (1.3).
    pub is_ignored: bool,
    /// It has a deletion timestamp (1.5).
    pub is_deleting: bool,
    /// What it follows (1.2).
    pub references: References,
    /// The annotation observed-config, unparsed (2.3).
    pub observed: Option<String>,
    /// The annotation settle-window (3.1).
    pub settle_window: SettleWindow,
    /// SAP's trigger, a config hash on the workload itself (4.5).
    pub sap_trigger: Option<String>,
    /// The size of the workload's own annotations.
    pub annotations: AnnotationRoom,
    /// The pod template.
    pub template: PodTemplate,
}

impl Workload {
    /// The same workload in that namespace, whichever its own metadata names: a request's counts.
    #[must_use]
    pub fn placed_in(mut self, namespace: &str) -> Self {
        if self.namespace.as_deref() != Some(namespace) {
            let from = self.namespace.as_deref().unwrap_or_default();
            let to: Arc<str> = namespace.into();
            self.references = self.references.moved(from, &to);
            self.template.uses = std::mem::take(&mut self.template.uses).in_namespace(&to);
            self.namespace = Some(namespace.to_owned());
        }
        self
    }

    /// Reads the JSON text of a workload of that kind.
    pub fn read(kind: KindRef, json: &str) -> Result<Self, serde_json::Error> {
        object::read_with(Self::seed(kind), json)
    }

    /// Reads a workload of that kind.
    pub fn seed(kind: KindRef) -> WorkloadSeed {
        WorkloadSeed(kind)
    }

    /// Whether this version is ours to manage: opted in, not ignored, not being deleted (1.2, 1.3, 1.5).
    pub fn is_managed(&self) -> bool {
        self.references.opted_in() && !self.is_ignored && !self.is_deleting
    }
}

/// A workload's own settle window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SettleWindow {
    /// It has none: the flag's counts.
    #[default]
    Unset,
    /// That long.
    Of(Duration),
    /// It cannot be read, or is too long: the flag's counts, and the owner should know.
    Invalid,
}

impl SettleWindow {
    fn parse(text: &str) -> Self {
        match duration::parse(text.trim()) {
            Some(window) if window <= annotation::MAX_SETTLE_WINDOW => Self::Of(window),
            _ => Self::Invalid,
        }
    }
}

/// The parts of a pod template that concern us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTemplate {
    /// Whether there is a `metadata` object to patch.
    pub has_metadata: bool,
    /// The config hash (2.1).
    pub config_hash: Option<String>,
    /// The size of the template's annotations.
    pub annotations: AnnotationRoom,
    /// The config objects that the template names.
    pub uses: TemplateUses,
}

/// How large a map of annotations is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnotationRoom {
    /// Whether the map is there at all.
    pub is_present: bool,
    /// Bytes of all keys and values.
    pub bytes: usize,
}

/// Reads a [`Workload`]; where its pod template is depends on its kind.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadSeed(KindRef);

impl<'de> DeserializeSeed<'de> for WorkloadSeed {
    type Value = Workload;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Workload, D::Error> {
        WorkloadPartsSeed::of(self.0).deserialize(deserializer).map(Workload::from)
    }
}

#[derive(Default, Deserialize)]
struct WireMetadata {
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    #[serde(rename = "resourceVersion")]
    resource_version: Option<String>,
    #[serde(rename = "deletionTimestamp")]
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(default)]
    labels: OptionalMap<Labels>,
    #[serde(default)]
    annotations: OptionalMap<Annotations<OnWorkload>>,
}

#[derive(Deserialize)]
struct WireTemplate {
    metadata: Option<WireTemplateMetadata>,
    spec: Option<PodSpec>,
}

#[derive(Deserialize)]
struct WireTemplateMetadata {
    #[serde(default)]
    annotations: OptionalMap<Annotations<OnTemplate>>,
}

impl From<WorkloadParts<WireMetadata, WireTemplate>> for Workload {
    fn from(wire: WorkloadParts<WireMetadata, WireTemplate>) -> Self {
        let metadata = wire.metadata.unwrap_or_default();
        let annotations = metadata.annotations.0.unwrap_or_default();
        let namespace: Arc<str> = metadata.namespace.as_deref().unwrap_or_default().into();
        let (template, on_template) =
            wire.template.map(|template| PodTemplate::read(template, &namespace)).unwrap_or_default();
        let mut entries = annotations.entries;
        entries.append(metadata.labels.0.unwrap_or_default().entries);
        entries.append(on_template);
        let Selection { references, is_left_alone } =
            dialect::select(dialect::ALL, &entries, &template.uses, &namespace);
        Self {
            namespace: metadata.namespace.filter(|namespace| !namespace.is_empty()),
            name: metadata.name.filter(|name| !name.is_empty()),
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            is_ignored: is_left_alone,
            is_deleting: metadata.deletion_timestamp.is_some(),
            references,
            observed: annotations.observed,
            settle_window: annotations.settle_window,
            sap_trigger: annotations.config_hash,
            annotations: annotations.room,
            template,
        }
    }
}

impl PodTemplate {
    /// The template, and what it has of the keys that dialects read.
    fn read(wire: WireTemplate, namespace: &Arc<str>) -> (Self, Entries) {
        let has_metadata = wire.metadata.is_some();
        let annotations = wire.metadata.and_then(|metadata| metadata.annotations.0).unwrap_or_default();
        let template = Self {
            has_metadata,
            config_hash: annotations.config_hash,
            annotations: annotations.room,
            uses: wire.spec.map(|spec| TemplateUses::from(spec).in_namespace(namespace)).unwrap_or_default(),
        };
        (template, annotations.entries)
    }
}

/// A map of strings that is folded into `T` while it is read; `null` and a missing map are `None`.
struct OptionalMap<T>(Option<T>);

impl<T> Default for OptionalMap<T> {
    fn default() -> Self {
        Self(None)
    }
}

trait FoldEntry: Default {
    fn entry(&mut self, key: &str, value: Cow<'_, str>);
}

#[derive(Default)]
struct Labels {
    entries: Entries,
}

impl FoldEntry for Labels {
    fn entry(&mut self, key: &str, value: Cow<'_, str>) {
        if let Some(key) = dialect::key(Place::Label, key) {
            self.entries.add(key, value);
        }
    }
}

/// Where annotations are.
trait On: Default {
    const PLACE: Place;
}

#[derive(Default)]
struct OnWorkload;

impl On for OnWorkload {
    const PLACE: Place = Place::Annotation;
}

#[derive(Default)]
struct OnTemplate;

impl On for OnTemplate {
    const PLACE: Place = Place::TemplateAnnotation;
}

#[derive(Default)]
struct Annotations<O> {
    room: AnnotationRoom,
    config_hash: Option<String>,
    observed: Option<String>,
    settle_window: SettleWindow,
    /// What dialects read.
    entries: Entries,
    on: PhantomData<O>,
}

impl<O: On> FoldEntry for Annotations<O> {
    fn entry(&mut self, key: &str, value: Cow<'_, str>) {
        self.room.bytes += key.len() + value.len();
        match key {
            annotation::CONFIG_HASH => self.config_hash = Some(value.into_owned()),
            annotation::OBSERVED_CONFIG => self.observed = Some(value.into_owned()),
            annotation::SETTLE_WINDOW => self.settle_window = SettleWindow::parse(&value),
            // Others, last-applied among them, may hold whole Secrets: only their size is of interest.
            _ => {
                if let Some(key) = dialect::key(O::PLACE, key) {
                    self.entries.add(key, value);
                }
            }
        }
    }
}

struct MapVisitor<T>(PhantomData<T>);

impl<'de, T: FoldEntry> Visitor<'de> for MapVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut folded = T::default();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            // Kubernetes reads a null value as the empty string.
            let value = map.next_value::<Option<Text<'de>>>()?.map_or(Cow::Borrowed(""), |text| text.0);
            folded.entry(&key.0, value);
        }
        Ok(folded)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

impl<'de, O: On> Deserialize<'de> for Annotations<O> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut annotations: Self = deserializer.deserialize_map(MapVisitor(PhantomData))?;
        annotations.room.is_present = true;
        Ok(annotations)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OptionalMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::sap;
    use crate::kind::apps::DEPLOYMENT;
    use serde_json::json;

    fn read(object: &serde_json::Value) -> Workload {
        // Through text, as both the webhook and the watches do.
        Workload::read(DEPLOYMENT, &object.to_string()).unwrap()
    }

    #[test]
    fn what_concerns_us_is_read() {
        let workload = read(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "status": {"replicas": 1},
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "labels": {"a": "b", sap::DISABLED: "true"},
                "annotations": {sap::SECRETS: "s", annotation::CONFIG_HASH: "t", "other": "\u{e9}\n"}
            },
            "spec": {"template": {
                "metadata": {"annotations": {annotation::CONFIG_HASH: "h"}},
                "spec": {"containers": [{"name": "c"}]}}}
        }));
        assert_eq!((workload.name.as_deref(), workload.uid.as_deref()), (Some("web"), Some("u")));
        assert!(workload.is_ignored && !workload.is_deleting && workload.references.opted_in());
        assert_eq!(workload.template.config_hash.as_deref(), Some("h"));
        assert_eq!(workload.sap_trigger.as_deref(), Some("t"));
        let expected = sap::SECRETS.len() + 1 + annotation::CONFIG_HASH.len() + 1 + "other".len() + 3;
        assert_eq!(workload.annotations, AnnotationRoom { is_present: true, bytes: expected });
    }

    #[test]
    fn nulls_and_missing_parts_are_nothing() {
        let empty = Workload::default();
        for object in [
            json!({}),
            json!({"metadata": null, "spec": null}),
            json!({"metadata": {"annotations": null, "labels": null, "deletionTimestamp": null, "name": ""}}),
            json!({"spec": {"template": null}}),
            json!({"spec": {"template": {"metadata": null, "spec": {"containers": null}}}}),
        ] {
            assert_eq!(read(&object), empty, "{object}");
        }
    }

    #[test]
    fn labels_count_only_when_true() {
        for (value, expected) in [("true", true), ("false", false), ("True", false), ("", false)] {
            let workload = read(&json!({"metadata": {"labels": {sap::IGNORED: value}}}));
            assert_eq!(workload.is_ignored, expected, "{value}");
        }
    }

    #[test]
    fn c3_1_a_workloads_own_settle_window_is_read() {
        for (value, expected) in [
            ("30s", SettleWindow::Of(Duration::from_secs(30))),
            (" 1h30m ", SettleWindow::Of(Duration::from_mins(90))),
            ("0", SettleWindow::Of(Duration::ZERO)),
            ("24h", SettleWindow::Of(Duration::from_hours(24))),
            ("24h1s", SettleWindow::Invalid),
            ("-1s", SettleWindow::Invalid),
            ("30", SettleWindow::Invalid),
            ("", SettleWindow::Invalid),
        ] {
            let workload = read(&json!({"metadata": {"annotations": {annotation::SETTLE_WINDOW: value}}}));
            assert_eq!(workload.settle_window, expected, "{value}");
        }
        assert_eq!(read(&json!({})).settle_window, SettleWindow::Unset);
    }

    #[test]
    fn annotations_that_are_not_strings_are_an_error() {
        for annotations in [json!([]), json!("x"), json!({"a": 1}), json!({"a": {}})] {
            let object = json!({"metadata": {"annotations": annotations}}).to_string();
            assert!(Workload::read(DEPLOYMENT, &object).is_err(), "{object}");
        }
    }
}
