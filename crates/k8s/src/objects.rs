//! Narrow types for the objects we watch and read.

use std::borrow::Cow;
use std::marker::PhantomData;

use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::DynamicResourceScope;
use pod_reloader_core::content::ContentSummary;
use pod_reloader_core::dialect::own::Auto;
use pod_reloader_core::kind::KindRef;
use pod_reloader_core::lookup::ConfigVersion;
use pod_reloader_core::marks::MarkAnnotations;
use pod_reloader_core::name::ConfigKind;
use pod_reloader_core::object::read_with;
use pod_reloader_core::reference::{Keys, WorkloadRef};
use pod_reloader_core::workload::{Workload, WorkloadSeed};
use serde::de::DeserializeSeed;
use serde::{Deserialize, Deserializer};

pub use crate::scope::Scope;

/// An object that is watched. Its kind says how it is read.
pub trait Watched: Resource<DynamicType: Copy, Scope = DynamicResourceScope> {
    /// Reads it.
    type Seed: for<'de> DeserializeSeed<'de, Value = Self> + Copy;

    /// Reads one of that kind.
    fn seed(kind: Self::DynamicType) -> Self::Seed;
}

/// A workload, reduced to what concerns us.
#[derive(Clone, Debug)]
pub struct WorkloadObject {
    // Name, namespace, uid and resource version, nothing else.
    meta: ObjectMeta,
    /// What decisions are made from.
    pub workload: Workload,
}

impl WorkloadObject {
    /// Reads the JSON text of a workload of that kind.
    pub fn read(kind: KindRef, json: &str) -> Result<Self, serde_json::Error> {
        read_with(Self::seed(kind), json)
    }

    /// The object's reference; `None` for an object without a name or namespace, which the API never sends.
    pub fn reference(&self, kind: KindRef) -> Option<WorkloadRef> {
        Some(WorkloadRef {
            kind,
            namespace: self.workload.namespace.clone()?,
            name: self.workload.name.clone()?,
        })
    }
}

impl Watched for WorkloadObject {
    type Seed = WorkloadObjectSeed;

    fn seed(kind: KindRef) -> WorkloadObjectSeed {
        WorkloadObjectSeed(Workload::seed(kind))
    }
}

/// Reads a [`WorkloadObject`].
#[derive(Clone, Copy, Debug)]
pub struct WorkloadObjectSeed(WorkloadSeed);

impl<'de> DeserializeSeed<'de> for WorkloadObjectSeed {
    type Value = WorkloadObject;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<WorkloadObject, D::Error> {
        let workload = self.0.deserialize(deserializer)?;
        let meta = ObjectMeta {
            name: workload.name.clone(),
            namespace: workload.namespace.clone(),
            uid: workload.uid.clone(),
            resource_version: workload.resource_version.clone(),
            ..ObjectMeta::default()
        };
        Ok(WorkloadObject { meta, workload })
    }
}

impl Resource for WorkloadObject {
    type DynamicType = KindRef;
    type Scope = DynamicResourceScope;

    fn kind(kind: &KindRef) -> Cow<'_, str> {
        kind.kind.into()
    }
    fn group(kind: &KindRef) -> Cow<'_, str> {
        kind.group.into()
    }
    fn version(kind: &KindRef) -> Cow<'_, str> {
        kind.version.into()
    }
    fn plural(kind: &KindRef) -> Cow<'_, str> {
        kind.plural.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// The metadata of a `ConfigMap` or `Secret`: name, namespace, uid, resource version and marks. Other annotations are
/// skipped while parsing, since `kubectl apply` leaves the whole object in one of them (1.4).
#[derive(Clone, Debug)]
pub struct ConfigMeta {
    meta: ObjectMeta,
    annotations: MarkAnnotations,
}

impl ConfigMeta {
    /// Its version, and how it is marked, if it is of that kind.
    pub fn version(&self, kind: ConfigKind) -> ConfigVersion {
        ConfigVersion {
            uid: self.meta.uid.clone().unwrap_or_default(),
            resource_version: self.meta.resource_version.clone().unwrap_or_default(),
            marks: self.annotations.of(kind),
        }
    }
}

#[derive(Deserialize)]
struct WireObject {
    metadata: WireMeta,
}

#[derive(Deserialize)]
struct WireMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    #[serde(rename = "resourceVersion")]
    resource_version: Option<String>,
    #[serde(default)]
    annotations: MarkAnnotations,
    /// The label of a namespace is called as the annotation.
    #[serde(default)]
    labels: MarkAnnotations,
}

impl<'de> Deserialize<'de> for ConfigMeta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireMeta { name, namespace, uid, resource_version, annotations, .. } =
            WireObject::deserialize(deserializer)?.metadata;
        let meta = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
        Ok(Self { meta, annotations })
    }
}

impl Watched for ConfigMeta {
    type Seed = PhantomData<Self>;

    fn seed(_: ConfigKind) -> PhantomData<Self> {
        PhantomData
    }
}

impl Resource for ConfigMeta {
    type DynamicType = ConfigKind;
    type Scope = DynamicResourceScope;

    fn kind(kind: &ConfigKind) -> Cow<'_, str> {
        kind.as_str().into()
    }
    fn group(_: &ConfigKind) -> Cow<'_, str> {
        "".into()
    }
    fn version(_: &ConfigKind) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural(kind: &ConfigKind) -> Cow<'_, str> {
        kind.plural().into()
    }
    // The server then sends `PartialObjectMetadata`, without content.
    fn metadata_api() -> bool {
        true
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// The metadata of a `Namespace`: its name, its resource version and what its label `auto` says.
#[derive(Clone, Debug)]
pub struct NamespaceMeta(ObjectMeta, Auto);

impl NamespaceMeta {
    /// What its label has the workloads in it follow (7.4).
    pub fn auto(&self) -> Auto {
        self.1
    }
}

impl<'de> Deserialize<'de> for NamespaceMeta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireMeta { name, resource_version, labels, .. } = WireObject::deserialize(deserializer)?.metadata;
        let auto = labels.auto().and_then(Auto::parse).unwrap_or_default();
        Ok(Self(ObjectMeta { name, resource_version, ..ObjectMeta::default() }, auto))
    }
}

impl Watched for NamespaceMeta {
    type Seed = PhantomData<Self>;

    fn seed((): ()) -> PhantomData<Self> {
        PhantomData
    }
}

impl Resource for NamespaceMeta {
    type DynamicType = ();
    type Scope = DynamicResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Namespace".into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "namespaces".into()
    }
    fn metadata_api() -> bool {
        true
    }
    fn meta(&self) -> &ObjectMeta {
        &self.0
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0
    }
}

/// A whole `ConfigMap` or `Secret`, its content summed while it is parsed.
pub(crate) struct ConfigContent {
    pub(crate) version: ConfigVersion,
    pub(crate) summary: ContentSummary,
}

impl ConfigContent {
    /// Reads the JSON of one object of that kind, and what these keys hold. The error says nothing of the text, which may be
    /// a Secret's.
    pub(crate) fn parse(kind: ConfigKind, json: &[u8], keys: &Keys) -> Option<Self> {
        let meta = serde_json::from_slice::<WireObject>(json).ok()?.metadata;
        let summary = ContentSummary::read(json, keys)?;
        let marks = meta.annotations.of(kind);
        let version = ConfigVersion { uid: meta.uid?, resource_version: meta.resource_version?, marks };
        Some(Self { version, summary })
    }
}
