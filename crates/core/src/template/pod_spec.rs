//! The parts of `v1` `PodSpec` that can name a config object, folded into what they use while they are read. Image pull
//! secrets are not among them: pods start without, if the image is there or public. Nor are ephemeral containers, which
//! no pod template can have.

use std::marker::PhantomData;

use serde::Deserialize;

use super::mounts::{Mounts, Seen, VolumeMounts, normal};
use super::{MAX_KEY_BYTES, MAX_USES, Need, TemplateUses};
use crate::fold::{FoldItem, Folded};
use crate::name::{ConfigKind, ConfigRef, is_valid_name};

#[derive(Deserialize)]
pub(crate) struct PodSpec {
    #[serde(default)]
    containers: Folded<Containers>,
    #[serde(default, rename = "initContainers")]
    init_containers: Folded<Containers>,
    #[serde(default)]
    volumes: Folded<Volumes>,
}

impl From<PodSpec> for TemplateUses {
    fn from(spec: PodSpec) -> Self {
        let Containers { mut uses, mut mounts } = spec.containers.0;
        uses.add_all(spec.init_containers.0.uses);
        mounts.add_all(spec.init_containers.0.mounts);
        let Volumes { sources, count: _, credentials, is_truncated } = spec.volumes.0;
        uses.add_all(credentials);
        uses.is_truncated |= is_truncated;
        for VolumeSource { volume, source } in sources {
            source.add_to(&mut uses, mounts.of(&volume));
        }
        uses
    }
}

/// What containers use by environment variables, and which volumes they mount.
#[derive(Default)]
struct Containers {
    uses: TemplateUses,
    mounts: Mounts,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    env: Each<EnvVar>,
    #[serde(default, rename = "envFrom")]
    env_from: Each<EnvFrom>,
    #[serde(default, rename = "volumeMounts")]
    volume_mounts: VolumeMounts,
}

impl FoldItem for Containers {
    type Item = Container;

    fn item(&mut self, container: Container) {
        self.uses.add_all(container.env.0.uses);
        self.uses.add_all(container.env_from.0.uses);
        self.mounts.add_all(container.volume_mounts.0);
    }
}

/// What the parts of a list use.
type Each<T> = Folded<UsesOf<T>>;

struct UsesOf<T> {
    uses: TemplateUses,
    item: PhantomData<T>,
}

impl<T> Default for UsesOf<T> {
    fn default() -> Self {
        Self { uses: TemplateUses::default(), item: PhantomData }
    }
}

impl<T: AddTo> FoldItem for UsesOf<T> {
    type Item = T;

    fn item(&mut self, item: T) {
        item.add_to(&mut self.uses);
    }
}

trait AddTo {
    fn add_to(self, uses: &mut TemplateUses);
}

#[derive(Deserialize)]
struct EnvVar {
    #[serde(rename = "valueFrom")]
    value_from: Option<EnvVarSource>,
}

#[derive(Deserialize)]
struct EnvVarSource {
    #[serde(rename = "configMapKeyRef")]
    config_map: Option<Source>,
    #[serde(rename = "secretKeyRef")]
    secret: Option<Source>,
}

impl AddTo for EnvVar {
    fn add_to(self, uses: &mut TemplateUses) {
        let Some(EnvVarSource { config_map, secret }) = self.value_from else { return };
        for (kind, source) in [(ConfigKind::ConfigMap, config_map), (ConfigKind::Secret, secret)] {
            let Some(source) = source else { continue };
            let (need, key) = (source.need(), source.key.clone().unwrap_or_default());
            if let Some(object) = source.object(kind) {
                uses.read_key(object, need, &key);
            }
        }
    }
}

#[derive(Deserialize)]
struct EnvFrom {
    #[serde(rename = "configMapRef")]
    config_map: Option<Source>,
    #[serde(rename = "secretRef")]
    secret: Option<Source>,
}

impl AddTo for EnvFrom {
    fn add_to(self, uses: &mut TemplateUses) {
        for (kind, source) in [(ConfigKind::ConfigMap, self.config_map), (ConfigKind::Secret, self.secret)] {
            let Some(source) = source else { continue };
            let need = source.need();
            if let Some(object) = source.object(kind) {
                uses.read_all(object, need);
            }
        }
    }
}

/// The volumes of a template, before it is known how they are mounted.
#[derive(Default)]
struct Volumes {
    sources: Vec<VolumeSource>,
    /// How many sources and items there are.
    count: usize,
    /// What drivers need to mount other volumes: no container reads it.
    credentials: TemplateUses,
    is_truncated: bool,
}

/// Files that one object puts into a volume.
struct VolumeSource {
    volume: Box<str>,
    source: Files,
}

struct Files {
    object: ConfigRef,
    need: Need,
    /// Keys and, in their normal form, the paths of their files; without any, each key is a file of its name.
    items: Vec<(Box<str>, Option<Box<str>>)>,
    /// There are more items than are kept.
    is_truncated: bool,
    /// No other source puts files into the volume.
    is_alone: bool,
}

impl Files {
    /// Adds what pods need of it and, where containers see the volume, what they read.
    fn add_to(self, uses: &mut TemplateUses, seen: Option<Seen<'_>>) {
        let Self { object, need, items, is_truncated, is_alone } = self;
        uses.is_truncated |= is_truncated;
        uses.add(object.clone(), need);
        if need == Need::Required {
            for (key, _) in &items {
                uses.require_key(object.clone(), key);
            }
        }
        let Some(seen) = seen else { return };
        if items.is_empty() {
            if seen.is_whole() {
                uses.read_all(object.clone(), need);
            }
            // Without its file, a container would see an empty folder in its place. Which of several sources is to have it,
            // nobody says.
            let need = if is_alone { need } else { Need::Optional };
            for key in seen.paths().filter(|path| !path.contains('/')) {
                uses.read_key(object.clone(), need, key);
            }
        } else if is_truncated {
            uses.read_all(object, need);
        } else {
            for (key, path) in items {
                if path.is_none_or(|path| seen.shows(&path)) {
                    uses.read_key(object.clone(), need, &key);
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Volume {
    #[serde(default)]
    name: Option<Box<str>>,
    #[serde(rename = "configMap")]
    config_map: Option<Source>,
    secret: Option<Source>,
    projected: Option<Projected>,
    csi: Option<Csi>,
    #[serde(rename = "azureFile")]
    azure_file: Option<Source>,
    #[serde(rename = "flexVolume")]
    flex: Option<WithSecretRef>,
    cephfs: Option<WithSecretRef>,
    rbd: Option<WithSecretRef>,
    iscsi: Option<WithSecretRef>,
    #[serde(rename = "scaleIO")]
    scale_io: Option<WithSecretRef>,
    storageos: Option<WithSecretRef>,
}

#[derive(Deserialize)]
struct Projected {
    #[serde(default)]
    sources: Folded<ProjectedSources>,
}

#[derive(Default)]
struct ProjectedSources {
    files: Vec<Files>,
    /// Of whatever type.
    count: usize,
    is_truncated: bool,
}

#[derive(Deserialize)]
struct ProjectedSource {
    #[serde(rename = "configMap")]
    config_map: Option<Source>,
    secret: Option<Source>,
}

impl FoldItem for ProjectedSources {
    type Item = ProjectedSource;

    fn item(&mut self, ProjectedSource { config_map, secret }: ProjectedSource) {
        self.count += 1;
        for (kind, source) in [(ConfigKind::ConfigMap, config_map), (ConfigKind::Secret, secret)] {
            if self.files.len() >= MAX_USES {
                self.is_truncated = true;
            } else {
                self.files.extend(source.and_then(|source| source.files(kind)));
            }
        }
    }
}

#[derive(Deserialize)]
struct Csi {
    #[serde(rename = "nodePublishSecretRef")]
    secret_ref: Option<Source>,
}

#[derive(Deserialize)]
struct WithSecretRef {
    #[serde(rename = "secretRef")]
    secret_ref: Option<Source>,
}

impl FoldItem for Volumes {
    type Item = Volume;

    fn item(&mut self, volume: Volume) {
        let drivers =
            [volume.flex, volume.cephfs, volume.rbd, volume.iscsi, volume.scale_io, volume.storageos];
        let of_drivers = drivers.into_iter().map(|driver| driver.and_then(|driver| driver.secret_ref));
        let credentials = [volume.azure_file, volume.csi.and_then(|csi| csi.secret_ref)];
        for source in credentials.into_iter().chain(of_drivers).flatten() {
            let need = source.need();
            if let Some(object) = source.object(ConfigKind::Secret) {
                self.credentials.add(object, need);
            }
        }
        let mut projected = volume.projected.map(|projected| projected.sources.0).unwrap_or_default();
        projected.files.iter_mut().for_each(|source| source.is_alone = projected.count == 1);
        self.is_truncated |= projected.is_truncated;
        let config_map = volume.config_map.and_then(|source| source.files(ConfigKind::ConfigMap));
        let secret = volume.secret.and_then(|source| source.files(ConfigKind::Secret));
        let name = volume.name.unwrap_or_default();
        for source in config_map.into_iter().chain(secret).chain(projected.files) {
            self.count += 1 + source.items.len();
            if self.count > 2 * MAX_USES {
                self.is_truncated = true;
            } else {
                self.sources.push(VolumeSource { volume: name.clone(), source });
            }
        }
    }
}

/// A name with its `optional` field, and keys. Only Secret volumes (and Azure files) call the name `secretName`.
#[derive(Deserialize)]
struct Source {
    name: Option<String>,
    #[serde(rename = "secretName")]
    secret_name: Option<String>,
    optional: Option<bool>,
    /// Of an environment variable.
    key: Option<Box<str>>,
    /// Of a volume.
    #[serde(default)]
    items: Folded<Items>,
}

impl Source {
    fn need(&self) -> Need {
        if self.optional == Some(true) { Need::Optional } else { Need::Required }
    }

    /// The object; `None` where there can be none of that name, which may become part of a request's path. Its namespace
    /// is known once the whole workload has been read: see [`TemplateUses::in_namespace`].
    fn object(self, kind: ConfigKind) -> Option<ConfigRef> {
        let name = self.secret_name.or(self.name).filter(|name| is_valid_name(name))?;
        Some(ConfigRef::new(kind, "", name))
    }

    fn files(mut self, kind: ConfigKind) -> Option<Files> {
        let Items { items, is_truncated } = std::mem::take(&mut self.items.0);
        let need = self.need();
        Some(Files { object: self.object(kind)?, need, items, is_truncated, is_alone: true })
    }
}

#[derive(Deserialize)]
struct KeyToPath {
    key: Option<Box<str>>,
    path: Option<Box<str>>,
}

#[derive(Default)]
struct Items {
    items: Vec<(Box<str>, Option<Box<str>>)>,
    is_truncated: bool,
}

impl FoldItem for Items {
    type Item = KeyToPath;

    fn item(&mut self, KeyToPath { key, path }: KeyToPath) {
        let Some(key) = key.filter(|key| key.len() <= MAX_KEY_BYTES) else { return };
        if self.items.len() >= MAX_USES {
            self.is_truncated = true;
        } else {
            self.items.push((key, path.and_then(|path| normal(&path))));
        }
    }
}
