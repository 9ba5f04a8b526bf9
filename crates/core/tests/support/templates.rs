//! Arbitrary pod templates.

use pod_reloader_core::name::{ConfigKind, ConfigRef};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::support::NAMESPACE;

/// Few enough that they meet.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const KEYS: [&str; 4] = ["k1", "k2", "k3", "dir"];
const PATHS: [&str; 7] = ["k1", "k2", "dir/k1", "dir/k2", "dir/sub/k1", "./k3", "dir//sub/k2"];
const SUB_PATHS: [&str; 8] = ["k1", "k2", "dir", "di", "./k3", "dir/", "", "k1"];
/// What stands only where nothing may be followed.
const NOISE: &str = "noise";
const KNOWN: [&str; 17] = [
    "optional",
    "items",
    "subPath",
    "subPathExpr",
    "env",
    "envFrom",
    "volumeMounts",
    "valueFrom",
    "configMap",
    "secret",
    "projected",
    "configMapRef",
    "secretKeyRef",
    "nodePublishSecretRef",
    "volumes",
    "initContainers",
    "imagePullSecrets",
];

/// Choices one after the other; what is past the last is the first of everything, so that fewer choices are simpler.
struct Choices(std::vec::IntoIter<u16>);

impl Choices {
    fn pick(&mut self, of: usize) -> usize {
        self.0.next().map_or(0, usize::from) % of
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.pick(of.len())]
    }

    fn many(&mut self, most: usize, mut make: impl FnMut(&mut Self, usize) -> Value) -> Vec<Value> {
        let count = self.pick(most + 1);
        (0..count).map(|at| make(self, at)).collect()
    }

    fn optional(&mut self, mut source: Value) -> Value {
        match self.pick(3) {
            0 => {}
            1 => source["optional"] = json!(true),
            _ => source["optional"] = json!(false),
        }
        source
    }

    fn env(&mut self) -> Value {
        let (name, key) = (self.one(&NAMES), self.one(&KEYS));
        let value_from = match self.pick(6) {
            0 => return json!({"name": "PLAIN", "value": name}),
            1 => json!({"fieldRef": {"fieldPath": "metadata.name"}}),
            2 => json!({"fileKeyRef": {"volumeName": "v0", "path": "p", "key": key}}),
            3 => json!({"secretKeyRef": self.optional(json!({"name": name, "key": key}))}),
            _ => json!({"configMapKeyRef": self.optional(json!({"name": name, "key": key}))}),
        };
        json!({"name": "X", "valueFrom": value_from})
    }

    fn env_from(&mut self) -> Value {
        let field = self.one(&["configMapRef", "secretRef"]);
        let name = self.one(&NAMES);
        json!({"prefix": "P_", field: self.optional(json!({"name": name}))})
    }

    fn mount(&mut self) -> Value {
        let mut mount = json!({"name": format!("v{}", self.pick(7)), "mountPath": "/m"});
        match self.pick(5) {
            0 | 1 => {}
            2 => mount["subPathExpr"] = json!(self.one(&["$(POD)/k1", "k1", ""])),
            _ => mount["subPath"] = json!(self.one(&SUB_PATHS)),
        }
        mount
    }

    fn container(&mut self, at: usize) -> Value {
        json!({
            "name": format!("c{at}"), "image": "i",
            "env": self.many(3, |it, _| it.env()),
            "envFrom": self.many(1, |it, _| it.env_from()),
            "volumeMounts": self.many(4, |it, _| it.mount()),
        })
    }

    fn items(&mut self, mut source: Value) -> Value {
        match self.pick(4) {
            0 => {}
            1 => source["items"] = json!([]),
            _ => {
                source["items"] =
                    self.many(3, |it, _| json!({"key": it.one(&KEYS), "path": it.one(&PATHS)})).into();
            }
        }
        self.optional(source)
    }

    fn projected(&mut self) -> Value {
        let name = self.one(&NAMES);
        match self.pick(6) {
            0 => json!({"configMap": self.items(json!({"name": name}))}),
            1 => json!({"secret": self.items(json!({"name": name}))}),
            2 => json!({"serviceAccountToken": {"path": "token", "audience": name}}),
            3 => {
                json!({"downwardAPI": {"items": [{"path": "k1", "fieldRef": {"fieldPath": "metadata.name"}}]}})
            }
            4 => json!({"clusterTrustBundle": {"name": NOISE, "path": "k1", "optional": true}}),
            _ => json!({"podCertificate": {"signerName": NOISE, "keyType": "ED25519", "keyPath": "k1"}}),
        }
    }

    fn volume(&mut self, at: usize) -> Value {
        let name = self.one(&NAMES);
        let secret = json!({"secretRef": {"name": name}, "fsType": "ext4"});
        let (field, source) = match self.pick(20) {
            0 => ("emptyDir", json!({})),
            1..=3 => ("configMap", self.items(json!({"name": name, "defaultMode": 420}))),
            4..=6 => ("secret", self.items(json!({"secretName": name}))),
            7..=9 => ("projected", json!({"sources": self.many(3, |it, _| it.projected())})),
            10 => ("csi", json!({"driver": "d", "nodePublishSecretRef": {"name": name}})),
            11 => ("csi", json!({"driver": NOISE, "volumeAttributes": {"secretName": NOISE}})),
            12 => ("azureFile", json!({"secretName": name, "shareName": NOISE})),
            13 => (self.one(&["flexVolume", "cephfs", "rbd", "iscsi", "scaleIO", "storageos"]), secret),
            14 => ("image", json!({"reference": NOISE, "pullPolicy": "Always"})),
            15 => ("ephemeral", json!({"volumeClaimTemplate": {"spec": {"volumeName": NOISE}}})),
            16 => ("persistentVolumeClaim", json!({"claimName": NOISE})),
            17 => ("hostPath", json!({"path": "/secret"})),
            18 => ("futureVault", json!({"secretRef": {"name": NOISE}, "configMap": {"name": NOISE}})),
            _ => ("futureVault", json!({"projected": {"sources": [{"secret": {"name": NOISE}}]}})),
        };
        json!({"name": format!("v{at}"), field: source})
    }

    /// Adds what a later Kubernetes may have, and nulls for what is not there.
    fn decorate(&mut self, value: &mut Value) {
        match value {
            Value::Array(elements) => elements.iter_mut().for_each(|it| self.decorate(it)),
            Value::Object(members) => {
                members.values_mut().for_each(|it| self.decorate(it));
                match self.pick(8) {
                    6 => drop(members.insert("futureField".into(), self.noise())),
                    7 => {
                        members.entry(self.one(&KNOWN)).or_insert(Value::Null);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn noise(&mut self) -> Value {
        let reference = json!({"name": NOISE, "secretName": NOISE, "key": "k1"});
        match self.pick(6) {
            0 => json!(7),
            1 => json!([[], {}, null]),
            2 => json!({"configMap": reference, "secret": reference}),
            3 => json!({"configMapRef": reference, "secretRef": reference}),
            4 => json!([{"valueFrom": {"secretKeyRef": reference}}]),
            _ => json!({"sources": [{"configMap": reference}], "volumes": [{"secret": reference}]}),
        }
    }
}

/// The `spec` of a pod template.
pub fn pod_specs() -> impl Strategy<Value = Value> {
    proptest::collection::vec(any::<u16>(), 0..400).prop_map(|choices| {
        let mut choices = Choices(choices.into_iter());
        let mut spec = json!({
            "containers": choices.many(3, Choices::container),
            "volumes": choices.many(5, Choices::volume),
            "initContainers": choices.many(2, Choices::container),
            "imagePullSecrets": choices.many(2, |it, _| match it.pick(4) {
                0 => json!({}),
                1 => json!({"name": ""}),
                2 => json!({"name": it.one(&NAMES)}),
                _ => json!({"name": NOISE}),
            }),
        });
        choices.decorate(&mut spec);
        spec
    })
}

/// Every object that such a template can seem to name.
pub fn nameable() -> Vec<ConfigRef> {
    let of = |kind| {
        let names = NAMES.into_iter().chain([NOISE, ""]);
        names.map(move |name| ConfigRef::new(kind, NAMESPACE, name))
    };
    ConfigKind::ALL.into_iter().flat_map(of).collect()
}
