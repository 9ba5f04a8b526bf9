//! How a pod template uses config objects: which of them a pod cannot start without.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::reference::ConfigName;

/// Whether pods can start without the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Every use of it is optional.
    Optional,
    /// At least one use is not optional.
    Required,
}

/// What a pod template names in env, envFrom and volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateUses(BTreeMap<ConfigName, Need>);

impl TemplateUses {
    /// Whether the template needs the object; `None` where it does not name it.
    pub fn need(&self, name: &ConfigName) -> Option<Need> {
        self.0.get(name).copied()
    }

    /// All that the template cannot do without.
    pub fn required(&self) -> impl Iterator<Item = &ConfigName> {
        self.0.iter().filter(|(_, need)| **need == Need::Required).map(|(name, _)| name)
    }

    /// Adds a use; one that is required outweighs those that are optional.
    pub fn add(&mut self, name: ConfigName, need: Need) {
        let entry = self.0.entry(name).or_insert(need);
        *entry = (*entry).max(need);
    }

    fn add_named(&mut self, make: fn(String) -> ConfigName, name: Option<String>, optional: Option<bool>) {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let need = if optional == Some(true) { Need::Optional } else { Need::Required };
            self.add(make(name), need);
        }
    }
}

/// The parts of `v1` `PodSpec` that can name a config object. Image pull secrets are not among them: pods start
/// without, if the image is there or public.
#[derive(Deserialize)]
pub(crate) struct PodSpec {
    containers: Option<Vec<Container>>,
    #[serde(rename = "initContainers")]
    init_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
}

#[derive(Deserialize)]
struct Container {
    env: Option<Vec<EnvVar>>,
    #[serde(rename = "envFrom")]
    env_from: Option<Vec<EnvFrom>>,
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

/// A name with its `optional` field. Only Secret volumes (and Azure files) call the name `secretName`.
#[derive(Deserialize)]
struct Source {
    name: Option<String>,
    #[serde(rename = "secretName")]
    secret_name: Option<String>,
    optional: Option<bool>,
}

#[derive(Deserialize)]
struct Projected {
    sources: Option<Vec<EnvFromLike>>,
}

#[derive(Deserialize)]
struct EnvFromLike {
    #[serde(rename = "configMap")]
    config_map: Option<Source>,
    secret: Option<Source>,
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

impl From<PodSpec> for TemplateUses {
    fn from(spec: PodSpec) -> Self {
        let mut uses = Self::default();
        let mut add = |config_map: Option<Source>, secret: Option<Source>| {
            if let Some(source) = config_map {
                uses.add_named(ConfigName::configmap, source.name, source.optional);
            }
            if let Some(source) = secret {
                uses.add_named(ConfigName::secret, source.secret_name.or(source.name), source.optional);
            }
        };
        for container in
            spec.containers.into_iter().flatten().chain(spec.init_containers.into_iter().flatten())
        {
            for source in container.env.into_iter().flatten().filter_map(|var| var.value_from) {
                add(source.config_map, source.secret);
            }
            for source in container.env_from.into_iter().flatten() {
                add(source.config_map, source.secret);
            }
        }
        for volume in spec.volumes.into_iter().flatten() {
            add(volume.config_map, volume.secret);
            for source in volume.projected.and_then(|p| p.sources).into_iter().flatten() {
                add(source.config_map, source.secret);
            }
            add(None, volume.csi.and_then(|csi| csi.secret_ref));
            add(None, volume.azure_file);
            for driver in
                [volume.flex, volume.cephfs, volume.rbd, volume.iscsi, volume.scale_io, volume.storageos]
            {
                add(None, driver.and_then(|driver| driver.secret_ref));
            }
        }
        uses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn c3_uses_are_found_in_env_env_from_and_volumes_of_all_containers() {
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{
                "env": [
                    {"name": "A", "value": "x"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "env-secret", "key": "k"}}},
                    {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "env-opt", "key": "k", "optional": true}}}
                ],
                "envFrom": [{"configMapRef": {"name": "from"}}, {"secretRef": {"name": "from", "optional": false}}]
            }],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "init"}}], "env": null}],
            "volumes": [
                {"name": "v", "secret": {"secretName": "vol"}},
                {"name": "o", "configMap": {"name": "both", "optional": true}},
                {"name": "p", "projected": {"sources": [
                    {"configMap": {"name": "both"}},
                    {"secret": {"name": "projected", "optional": true}},
                    {"serviceAccountToken": {"path": "t"}}]}},
                {"name": "c", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
                {"name": "e", "emptyDir": {}}
            ],
            "imagePullSecrets": [{"name": "pull"}]
        }))
        .unwrap();
        let uses = TemplateUses::from(spec);
        let required: Vec<String> = uses.required().map(ToString::to_string).collect();
        assert_eq!(
            required,
            [
                "configmap/both",
                "configmap/from",
                "secret/csi",
                "secret/env-secret",
                "secret/from",
                "secret/init",
                "secret/vol"
            ]
        );
        assert_eq!(uses.need(&ConfigName::configmap("env-opt")), Some(Need::Optional));
        assert_eq!(uses.need(&ConfigName::secret("projected")), Some(Need::Optional));
        assert_eq!(uses.need(&ConfigName::secret("pull")), None);
    }
}
