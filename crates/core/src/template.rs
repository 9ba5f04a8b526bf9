//! How a pod template uses config objects: which of them, and which of their keys, a pod cannot start without.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Deserialize;

use crate::fold::{FoldItem, Folded};
use crate::name::{ConfigKind, ConfigRef, is_valid_name};

/// Whether pods can start without the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Every use of it is optional.
    Optional,
    /// At least one use is not optional.
    Required,
}

/// So many objects, and so many required keys of all of them together, are kept of one template.
const MAX_USES: usize = 1_000;
/// What Kubernetes accepts as a key's name at most.
const MAX_KEY_BYTES: usize = 253;

/// What a pod template names in env, envFrom and volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateUses {
    /// In the order of their objects: they are few, and a list is the smallest that keeps them.
    uses: Vec<Use>,
    /// Of all of them together.
    key_count: usize,
    is_truncated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Use {
    object: ConfigRef,
    need: Need,
    /// The keys that the template cannot do without, in their order.
    keys: Vec<Box<str>>,
}

impl TemplateUses {
    /// Whether the template needs the object; `None` where it does not name it.
    pub fn need(&self, name: &ConfigRef) -> Option<Need> {
        self.get(name).map(|(_, need)| need)
    }

    /// The object as the template names it, so that whoever names it as well can share that.
    pub(crate) fn get(&self, name: &ConfigRef) -> Option<(&ConfigRef, Need)> {
        let at = self.position(name).ok()?;
        self.uses.get(at).map(|it| (&it.object, it.need))
    }

    /// All that the template names.
    pub fn objects(&self) -> impl Iterator<Item = &ConfigRef> {
        self.uses.iter().map(|it| &it.object)
    }

    /// The same, to be named by the same names.
    pub(crate) fn objects_mut(&mut self) -> impl Iterator<Item = &mut ConfigRef> {
        self.uses.iter_mut().map(|it| &mut it.object)
    }

    /// All that the template cannot do without.
    pub fn required(&self) -> impl Iterator<Item = &ConfigRef> {
        self.required_keys().map(|(object, _)| object)
    }

    /// The same, each with the keys of it that the template cannot do without.
    pub fn required_keys(&self) -> impl Iterator<Item = (&ConfigRef, impl Iterator<Item = &str>)> {
        let required = self.uses.iter().filter(|it| it.need == Need::Required);
        required.map(|it| (&it.object, it.keys.iter().map(|key| &**key)))
    }

    /// Whether it names more than is kept.
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// Adds a use; one that is required outweighs those that are optional.
    pub fn add(&mut self, name: ConfigRef, need: Need) {
        self.entry(name, need);
    }

    /// Adds a required use of one key.
    pub fn require_key(&mut self, name: ConfigRef, key: &str) {
        let key_count = self.key_count;
        let Some(entry) = self.entry(name, Need::Required) else { return };
        // A longer one no object can have, and the API server refuses it.
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return;
        }
        match entry.keys.binary_search_by(|known| (**known).cmp(key)) {
            _ if key_count >= MAX_USES => self.is_truncated = true,
            Ok(_) => {}
            Err(at) => {
                entry.keys.insert(at, key.into());
                self.key_count += 1;
            }
        }
    }

    /// The use of that object, now with that need at least; `None` if there are too many.
    fn entry(&mut self, name: ConfigRef, need: Need) -> Option<&mut Use> {
        let at = match self.position(&name) {
            Ok(at) => at,
            Err(_) if self.uses.len() >= MAX_USES => {
                self.is_truncated = true;
                return None;
            }
            Err(at) => {
                self.uses.insert(at, Use { object: name, need, keys: vec![] });
                at
            }
        };
        let entry = self.uses.get_mut(at)?;
        entry.need = entry.need.max(need);
        Some(entry)
    }

    fn position(&self, name: &ConfigRef) -> Result<usize, usize> {
        self.uses.binary_search_by(|it| it.object.cmp(name))
    }

    fn add_source(&mut self, kind: ConfigKind, source: Option<Source>) {
        let Some(source) = source else { return };
        // An object of another name cannot be there, and the name may become part of a request's path.
        let Some(name) = source.secret_name.or(source.name).filter(|name| is_valid_name(name)) else {
            return;
        };
        // Its namespace is known once the whole workload has been read: see `in_namespace`.
        let name = ConfigRef::new(kind, "", name);
        if source.optional == Some(true) {
            return self.add(name, Need::Optional);
        }
        for key in source.key.iter().chain(&source.items.0.0) {
            self.require_key(name.clone(), key);
        }
        self.is_truncated |= source.items.0.1;
        self.add(name, Need::Required);
    }

    /// The same uses by a workload in that namespace: a pod can use only what is in its own. No more room is kept than
    /// they take.
    #[must_use]
    pub(crate) fn in_namespace(mut self, namespace: &Arc<str>) -> Self {
        for it in &mut self.uses {
            it.object = it.object.in_namespace(namespace);
            it.keys.shrink_to_fit();
        }
        self.uses.shrink_to_fit();
        self
    }

    fn add_all(&mut self, other: Self) {
        self.is_truncated |= other.is_truncated;
        for Use { object, need, keys } in other.uses {
            for key in keys {
                self.require_key(object.clone(), &key);
            }
            self.add(object, need);
        }
    }
}

/// The parts of `v1` `PodSpec` that can name a config object. Image pull secrets are not among them: pods start
/// without, if the image is there or public.
#[derive(Deserialize)]
pub(crate) struct PodSpec {
    #[serde(default)]
    containers: Each<Container>,
    #[serde(default, rename = "initContainers")]
    init_containers: Each<Container>,
    #[serde(default)]
    volumes: Each<Volume>,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    env: Each<EnvVar>,
    #[serde(default, rename = "envFrom")]
    env_from: Each<EnvFrom>,
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

#[derive(Deserialize)]
struct EnvFrom {
    #[serde(rename = "configMapRef")]
    config_map: Option<Source>,
    #[serde(rename = "secretRef")]
    secret: Option<Source>,
}

#[derive(Deserialize)]
struct Volume {
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

/// A name with its `optional` field, and the keys that a pod cannot start without unless it is optional. Only Secret
/// volumes (and Azure files) call the name `secretName`.
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
    items: Folded<Keys>,
}

#[derive(Deserialize)]
struct Projected {
    #[serde(default)]
    sources: Each<ProjectedSource>,
}

#[derive(Deserialize)]
struct ProjectedSource {
    #[serde(rename = "configMap")]
    config_map: Option<Source>,
    secret: Option<Source>,
}

#[derive(Deserialize)]
struct KeyToPath {
    key: Option<Box<str>>,
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

/// Keys, and whether there were more than are kept.
#[derive(Default)]
struct Keys(BTreeSet<Box<str>>, bool);

impl FoldItem for Keys {
    type Item = KeyToPath;

    fn item(&mut self, item: KeyToPath) {
        if self.0.len() >= MAX_USES {
            self.1 = true;
        } else {
            self.0.extend(item.key.filter(|key| key.len() <= MAX_KEY_BYTES));
        }
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

impl AddTo for Container {
    fn add_to(self, uses: &mut TemplateUses) {
        uses.add_all(self.env.0.uses);
        uses.add_all(self.env_from.0.uses);
    }
}

impl AddTo for EnvVar {
    fn add_to(self, uses: &mut TemplateUses) {
        if let Some(source) = self.value_from {
            uses.add_source(ConfigKind::ConfigMap, source.config_map);
            uses.add_source(ConfigKind::Secret, source.secret);
        }
    }
}

impl AddTo for EnvFrom {
    fn add_to(self, uses: &mut TemplateUses) {
        uses.add_source(ConfigKind::ConfigMap, self.config_map);
        uses.add_source(ConfigKind::Secret, self.secret);
    }
}

impl AddTo for ProjectedSource {
    fn add_to(self, uses: &mut TemplateUses) {
        uses.add_source(ConfigKind::ConfigMap, self.config_map);
        uses.add_source(ConfigKind::Secret, self.secret);
    }
}

impl AddTo for Volume {
    fn add_to(self, uses: &mut TemplateUses) {
        uses.add_source(ConfigKind::ConfigMap, self.config_map);
        let drivers = [self.flex, self.cephfs, self.rbd, self.iscsi, self.scale_io, self.storageos];
        let of_drivers = drivers.into_iter().map(|driver| driver.and_then(|driver| driver.secret_ref));
        let secrets = [self.secret, self.azure_file, self.csi.and_then(|csi| csi.secret_ref)];
        for secret in secrets.into_iter().chain(of_drivers) {
            uses.add_source(ConfigKind::Secret, secret);
        }
        if let Some(projected) = self.projected {
            uses.add_all(projected.sources.0.uses);
        }
    }
}

impl From<PodSpec> for TemplateUses {
    fn from(spec: PodSpec) -> Self {
        let mut uses = spec.containers.0.uses;
        uses.add_all(spec.init_containers.0.uses);
        uses.add_all(spec.volumes.0.uses);
        uses
    }
}

#[cfg(test)]
mod tests;
