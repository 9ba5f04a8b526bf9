//! How a workload is read from its JSON; what decisions do not need is skipped while parsing.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{AnnotationRoom, Idle, NoTemplate, PodTemplate, SettleWindow, Workload};
use crate::action::{self, ActionRef};
use crate::annotation;
use crate::dialect::{self, Entries, Place, Selection};
use crate::fold::{FoldItem, Folded};
use crate::kind::{BUILT_IN, KindRef, Shape};
use crate::mistake::Mistake;
use crate::object::{Part, Text, WorkloadParts, WorkloadPartsSeed};
use crate::template::{PodSpec, TemplateUses};

/// Reads a [`Workload`]; where its pod template is depends on its kind.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadSeed(pub(super) KindRef);

impl<'de> DeserializeSeed<'de> for WorkloadSeed {
    type Value = Workload;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Workload, D::Error> {
        let mut parts = WorkloadPartsSeed::of(self.0).deserialize(deserializer)?;
        let asked = asked(self.0, &mut parts);
        let no_template = match (self.0.shape, &parts.template) {
            _ if parts.is_elsewhere => Some(NoTemplate::Elsewhere),
            // What is built in always has one.
            (Shape::PodTemplate, None) if !BUILT_IN.contains(&self.0) => Some(NoTemplate::Missing),
            // A map of annotations can be made.
            _ => None,
        };
        let mut workload = Workload { no_template, ..Workload::from(parts) };
        workload.action = asked.action;
        workload.idle = asked.idle;
        workload.mistakes.extend(asked.mistake);
        if !self.0.is_reviewed() {
            // There is no hash, and nobody takes off what was recorded of another object and copied: what is recorded is
            // of this one or counts as not there.
            workload.template.config_hash.clone_from(&workload.uid);
        }
        if workload.idle.is_some() {
            workload.open_to = None;
        }
        Ok(workload)
    }
}

/// What the workload has done about changes.
struct Asked {
    action: ActionRef,
    idle: Option<Idle>,
    mistake: Option<Mistake>,
}

fn asked(kind: KindRef, parts: &mut WorkloadParts<WireMetadata, WireTemplate>) -> Asked {
    let metadata = parts.metadata.as_mut();
    let is_controlled = metadata.as_ref().is_some_and(|it| it.owner_references.0.0);
    let annotations = metadata.and_then(|it| it.annotations.0.as_mut());
    let (wanted, is_stand_in) =
        annotations.map_or_else(Default::default, |it| (it.on_change.take(), it.is_stand_in));
    let actions = kind.actions;
    let named = wanted.as_deref().map(|name| actions.named(name.trim()).ok_or(name));
    let mistake = match named {
        Some(Err(name)) => Some(Mistake::OnChange(kind, name.into())),
        _ => None,
    };
    let idle = match named {
        _ if actions.unasked.is_some() => None,
        _ if is_stand_in => Some(Idle::StandIn),
        None => Some(Idle::Unasked),
        _ if parts.has_ended => Some(Idle::Finished),
        _ if kind.ends && is_controlled => Some(Idle::Controlled),
        Some(_) => None,
    };
    // What cannot be understood starts nothing that would not start without it.
    let action = named.and_then(Result::ok).or(actions.unasked).unwrap_or(action::NONE);
    Asked { action, idle, mistake }
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
    #[serde(default, rename = "ownerReferences")]
    owner_references: Folded<HasController>,
    #[serde(default)]
    labels: OptionalMap<Labels>,
    #[serde(default)]
    annotations: OptionalMap<Annotations<OnWorkload>>,
}

/// Whether one of the owners is the controller.
#[derive(Default)]
struct HasController(bool);

#[derive(Deserialize)]
struct WireOwner {
    #[serde(default)]
    controller: Option<bool>,
}

impl FoldItem for HasController {
    type Item = WireOwner;

    fn item(&mut self, owner: WireOwner) {
        self.0 |= owner.controller == Some(true);
    }
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

impl<'de> Part<'de> for WireTemplate {
    fn read<D: Deserializer<'de>>(shape: Shape, deserializer: D) -> Result<Self, D::Error> {
        match shape {
            Shape::PodTemplate => Self::deserialize(deserializer),
            Shape::Annotations => {
                let annotations = OptionalMap(Some(Annotations::deserialize(deserializer)?));
                Ok(Self { metadata: Some(WireTemplateMetadata { annotations }), spec: None })
            }
        }
    }
}

impl From<WorkloadParts<WireMetadata, WireTemplate>> for Workload {
    fn from(wire: WorkloadParts<WireMetadata, WireTemplate>) -> Self {
        let metadata = wire.metadata.unwrap_or_default();
        let annotations = metadata.annotations.0.unwrap_or_default();
        let steps = wire.steps;
        let namespace: Arc<str> = metadata.namespace.as_deref().unwrap_or_default().into();
        let (template, on_template) =
            wire.template.map(|template| PodTemplate::read(template, &namespace)).unwrap_or_default();
        let mut entries = annotations.entries;
        entries.append(metadata.labels.0.unwrap_or_default().entries);
        entries.append(on_template);
        let Selection { references, is_left_alone, is_auto, mistakes, open_to } =
            dialect::select(dialect::ALL, &entries, &template.uses, &namespace);
        Self {
            namespace: metadata.namespace.filter(|namespace| !namespace.is_empty()),
            name: metadata.name.filter(|name| !name.is_empty()),
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            is_ignored: is_left_alone,
            is_deleting: metadata.deletion_timestamp.is_some(),
            references,
            open_to,
            is_auto,
            mistakes,
            observed: annotations.observed,
            settle_window: annotations.settle_window,
            action: ActionRef::default(),
            idle: None,
            sap_trigger: annotations.config_hash,
            annotations: annotations.room,
            no_template: None,
            template: PodTemplate { steps, ..template },
        }
    }
}

impl PodTemplate {
    /// The template, and what it has of the keys that dialects read.
    fn read(wire: WireTemplate, namespace: &Arc<str>) -> (Self, Entries) {
        let has_metadata = wire.metadata.is_some();
        let annotations = wire.metadata.and_then(|metadata| metadata.annotations.0).unwrap_or_default();
        let template = Self {
            steps: 0,
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
    on_change: Option<String>,
    is_stand_in: bool,
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
            annotation::ON_CHANGE => self.on_change = Some(value.into_owned()),
            annotation::RECREATES => self.is_stand_in = true,
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
