//! Which objects an installation manages (1.6, 5.9).

use pod_reloader_core::kind::Kinds;
use pod_reloader_core::selector::Selector;

/// Where a reload could take the cluster down with it.
pub const SYSTEM_NAMESPACE: &str = "kube-system";

/// Which namespaces and workloads an installation is for. The default is everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The kinds of workload (`--workload`).
    pub kinds: Kinds,
    /// Only these namespaces (`--namespaces`), for which Roles are enough; `None` for all.
    pub namespaces: Option<Vec<String>>,
    /// Of these, the ones with such labels (`--namespace-selector`).
    pub namespace_selector: Selector,
    /// The workloads with such labels (`--object-selector`).
    pub object_selector: Selector,
    /// Whether Secrets are followed, or `ConfigMaps` alone (`--secrets`).
    pub secrets: bool,
    /// Whether the label `auto` of a namespace counts (`--namespace-labels`).
    pub namespace_labels: bool,
    /// Whether the annotation `auto` of a config object counts (`--object-marks`).
    pub object_marks: bool,
    /// Namespaces whose label does not count: the system's, and the operator's own.
    pub unlabelled: Vec<String>,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            kinds: Kinds::default(),
            namespaces: None,
            namespace_selector: Selector::default(),
            object_selector: Selector::default(),
            secrets: true,
            namespace_labels: true,
            object_marks: true,
            unlabelled: vec![SYSTEM_NAMESPACE.to_owned()],
        }
    }
}

impl Scope {
    /// Everything in these namespaces.
    pub fn of_namespaces(namespaces: Vec<String>) -> Self {
        Self { namespaces: Some(namespaces), ..Self::default() }
    }

    /// Whether objects of that namespace are in scope, as far as its name says.
    pub fn contains(&self, namespace: &str) -> bool {
        let is_named = |namespaces: &Vec<String>| namespaces.iter().any(|named| named == namespace);
        self.namespaces.as_ref().is_none_or(is_named)
    }

    /// Whether the label of that namespace has its workloads follow something (7.4).
    pub fn heeds_label_of(&self, namespace: &str) -> bool {
        self.namespace_labels && !self.unlabelled.iter().any(|it| it == namespace)
    }

    /// What each watch covers: the whole cluster (`None`), or one namespace.
    pub fn coverages(&self) -> Vec<Option<String>> {
        match &self.namespaces {
            None => vec![None],
            Some(namespaces) => namespaces.iter().cloned().map(Some).collect(),
        }
    }
}
