//! The workloads and config objects of a history.

use pod_reloader_stub_api::Random;
use serde_json::{Value, json};

pub(super) const NAMESPACES: [&str; 2] = ["n0", "n1"];
pub(super) const WORKLOADS: [&str; 3] = ["w0", "w1", "w2"];

/// Kind, plural, name.
pub(super) const OBJECTS: [(&str, &str, &str); 4] = [
    ("ConfigMap", "configmaps", "a"),
    ("ConfigMap", "configmaps", "b"),
    ("Secret", "secrets", "a"),
    ("Secret", "secrets", "t"),
];

/// How a template uses an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    None,
    Optional,
    Required,
}

/// What an owner wants of a workload.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) listed: [bool; OBJECTS.len()],
    pub(super) uses: [Use; OBJECTS.len()],
    pub(super) image: u64,
    pub(super) is_opted_in: bool,
    pub(super) is_ignored: bool,
}

impl Wish {
    pub(super) fn random(random: &mut Random) -> Self {
        let mut wish = Self {
            listed: [false; OBJECTS.len()],
            uses: [Use::None; OBJECTS.len()],
            image: 1,
            is_opted_in: true,
            is_ignored: false,
        };
        wish.list_anew(random);
        wish.use_anew(random);
        wish
    }

    pub(super) fn list_anew(&mut self, random: &mut Random) {
        self.listed = std::array::from_fn(|_| random.chance(0.6));
        let one = usize::try_from(random.below(OBJECTS.len() as u64)).unwrap();
        self.listed[one] = true;
    }

    pub(super) fn use_anew(&mut self, random: &mut Random) {
        self.uses = std::array::from_fn(|_| match random.below(10) {
            0..=1 => Use::None,
            2..=4 => Use::Optional,
            _ => Use::Required,
        });
    }

    fn list(&self, plural: &str) -> Value {
        let names = OBJECTS.iter().zip(self.listed).filter(|((_, of, _), listed)| *listed && *of == plural);
        let names: Vec<_> = names.map(|((_, _, name), _)| *name).collect();
        if names.is_empty() || !self.is_opted_in { Value::Null } else { json!(names.join(",")) }
    }

    /// As a merge patch, or as a new object. Nothing is said of our annotations, as in an apply.
    pub(super) fn patch(&self) -> Value {
        let sources: Vec<_> = OBJECTS.iter().zip(self.uses).filter(|(_, used)| *used != Use::None).collect();
        let sources: Vec<_> = sources
            .into_iter()
            .map(|((kind, _, name), used)| {
                let source = json!({"name": name, "optional": used == Use::Optional});
                if *kind == "Secret" { json!({"secretRef": source}) } else { json!({"configMapRef": source}) }
            })
            .collect();
        let ignored = if self.is_ignored { json!("true") } else { Value::Null };
        json!({
            "metadata": {
                "annotations": {
                    "pod-reloader.cs.sap.com/configmaps": self.list("configmaps"),
                    "pod-reloader.cs.sap.com/secrets": self.list("secrets"),
                },
                "labels": {"pod-reloader.cs.sap.com/ignored": ignored},
            },
            "spec": {"template": {"spec": {"containers": [
                {"name": "main", "image": format!("example.com/app:{}", self.image), "envFrom": sources},
            ]}}},
        })
    }
}

/// What a stored workload says; see [`Wish`].
pub(super) fn wish_of(workload: &Value) -> Wish {
    let list = |plural: &str| {
        let names = workload["metadata"]["annotations"][format!("pod-reloader.cs.sap.com/{plural}")].as_str();
        names
            .unwrap_or_default()
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (config_maps, secrets) = (list("configmaps"), list("secrets"));
    let listed = OBJECTS.map(|(_, plural, name)| {
        let list = if plural == "secrets" { &secrets } else { &config_maps };
        list.iter().any(|listed| listed == name)
    });
    let sources = workload["spec"]["template"]["spec"]["containers"][0]["envFrom"].as_array().cloned();
    let sources = sources.unwrap_or_default();
    let uses = OBJECTS.map(|(kind, _, name)| {
        let field = if kind == "Secret" { "secretRef" } else { "configMapRef" };
        let source = sources.iter().find(|source| source[field]["name"] == name);
        match source.map(|source| source[field]["optional"] == true) {
            None => Use::None,
            Some(true) => Use::Optional,
            Some(false) => Use::Required,
        }
    });
    Wish {
        listed,
        uses,
        image: 0,
        is_opted_in: listed.contains(&true),
        is_ignored: workload["metadata"]["labels"]["pod-reloader.cs.sap.com/ignored"] == "true",
    }
}

/// A config object with that content.
pub(super) fn config(namespace: &str, object: usize, content: &str) -> Value {
    let (kind, _, name) = OBJECTS[object];
    if kind == "Secret" {
        pod_reloader_stub_api::objects::secret(namespace, name, &[("v", content)])
    } else {
        pod_reloader_stub_api::objects::config_map(namespace, name, &[("v", content)])
    }
}
