//! What a pod template uses, as docs/behaviour.md (7.1, 7.2, 3.5) says it: one slow walk over the JSON, which shares nothing
//! with the product.

use std::collections::{BTreeMap, BTreeSet};

use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::Keys;
use pod_reloader_core::template::Need;
use serde_json::Value;

/// See the module.
#[derive(Debug, Default, PartialEq)]
pub struct Uses {
    /// What containers read: `None` is all of it.
    read: BTreeMap<ConfigRef, Option<BTreeSet<String>>>,
    pub need: BTreeMap<ConfigRef, Need>,
    pub required_keys: BTreeSet<(ConfigRef, String)>,
}

/// The fields in which volumes name credentials.
const CREDENTIALS: [&str; 8] = [
    "/csi/nodePublishSecretRef/name",
    "/azureFile/secretName",
    "/flexVolume/secretRef/name",
    "/cephfs/secretRef/name",
    "/rbd/secretRef/name",
    "/iscsi/secretRef/name",
    "/scaleIO/secretRef/name",
    "/storageos/secretRef/name",
];

impl Uses {
    /// What that `spec` of a pod template uses.
    pub fn of(namespace: &str, spec: &Value) -> Self {
        let mut uses = Self::default();
        let object = |kind, name: &str| ConfigRef::new(kind, namespace, name);
        let containers = [list(spec, "/containers"), list(spec, "/initContainers")].concat();
        for container in &containers {
            for env in list(container, "/env") {
                for (kind, field) in
                    [(ConfigKind::ConfigMap, "configMapKeyRef"), (ConfigKind::Secret, "secretKeyRef")]
                {
                    let source = &env["valueFrom"][field];
                    if let (Some(name), Some(key)) = (source["name"].as_str(), source["key"].as_str()) {
                        uses.use_key(&object(kind, name), need_of(source), key);
                    }
                }
            }
            for source in list(container, "/envFrom") {
                for (kind, field) in
                    [(ConfigKind::ConfigMap, "configMapRef"), (ConfigKind::Secret, "secretRef")]
                {
                    if let Some(name) = source[field]["name"].as_str() {
                        uses.needs(&object(kind, name), need_of(&source[field]));
                        uses.read.insert(object(kind, name), None);
                    }
                }
            }
        }
        for volume in list(spec, "/volumes") {
            let mounts = containers.iter().flat_map(|it| list(it, "/volumeMounts"));
            let mounts: Vec<_> = mounts.filter(|mount| mount["name"] == volume["name"]).collect();
            let sources = [vec![volume.clone()], list(&volume, "/projected/sources")].concat();
            for (kind, field, name) in sources.iter().flat_map(|source| {
                [
                    (ConfigKind::ConfigMap, &source["configMap"], &source["configMap"]["name"]),
                    // A projected source calls it otherwise than a volume of its own.
                    (ConfigKind::Secret, &source["secret"], &source["secret"]["secretName"]),
                    (ConfigKind::Secret, &source["secret"], &source["secret"]["name"]),
                ]
            }) {
                if let Some(name) = name.as_str() {
                    uses.use_volume(&object(kind, name), field, &mounts, sources.len() > 2);
                }
            }
            for name in CREDENTIALS.iter().filter_map(|field| volume.pointer(field)?.as_str()) {
                uses.needs(&object(ConfigKind::Secret, name), Need::Required);
            }
        }
        uses
    }

    /// What `auto` follows.
    pub fn followed(&self) -> BTreeMap<ConfigRef, Keys> {
        let keys = |keys: &Option<BTreeSet<String>>| match keys {
            None => Keys::All,
            Some(keys) => Keys::only(keys.iter().map(String::as_str)),
        };
        self.read.iter().map(|(object, read)| (object.clone(), keys(read))).collect()
    }

    fn needs(&mut self, object: &ConfigRef, need: Need) {
        let known = self.need.entry(object.clone()).or_insert(need);
        *known = (*known).max(need);
    }

    fn reads(&mut self, object: &ConfigRef, key: &str) {
        let read = self.read.entry(object.clone()).or_insert_with(|| Some(BTreeSet::new()));
        if let Some(keys) = read {
            keys.insert(key.to_owned());
        }
    }

    fn requires(&mut self, object: &ConfigRef, key: &str) {
        self.required_keys.insert((object.clone(), key.to_owned()));
    }

    fn use_key(&mut self, object: &ConfigRef, need: Need, key: &str) {
        self.needs(object, need);
        self.reads(object, key);
        if need == Need::Required {
            self.requires(object, key);
        }
    }

    /// A `configMap` or `secret` source of a volume.
    fn use_volume(&mut self, object: &ConfigRef, source: &Value, mounts: &[Value], has_others: bool) {
        let need = need_of(source);
        self.needs(object, need);
        let items: Vec<(String, String)> = list(source, "/items")
            .iter()
            .filter_map(|item| Some((item["key"].as_str()?.to_owned(), tidy(item["path"].as_str()?))))
            .collect();
        for (key, _) in &items {
            if need == Need::Required {
                self.requires(object, key);
            }
        }
        for mount in mounts {
            let sub_path = tidy(mount["subPath"].as_str().unwrap_or_default());
            let is_expanded = mount["subPathExpr"].as_str().is_some_and(|it| !it.is_empty());
            if is_expanded || sub_path.is_empty() {
                if items.is_empty() {
                    self.read.insert(object.clone(), None);
                }
                for (key, _) in &items {
                    self.reads(object, key);
                }
            } else if items.is_empty() {
                self.reads(object, &sub_path);
                // Which of several sources is to have it, nobody says.
                if need == Need::Required && !has_others {
                    self.requires(object, &sub_path);
                }
            } else {
                let folder = format!("{sub_path}/");
                let shown = items.iter().filter(|(_, path)| *path == sub_path || path.starts_with(&folder));
                for (key, _) in shown {
                    self.reads(object, key);
                }
            }
        }
    }
}

fn need_of(source: &Value) -> Need {
    if source["optional"] == true { Need::Optional } else { Need::Required }
}

/// The elements of a list; none where there is none.
fn list(of: &Value, pointer: &str) -> Vec<Value> {
    of.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// A path as the kubelet takes it: `./a//b/` is `a/b`.
fn tidy(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}
