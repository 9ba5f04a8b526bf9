//! The types of object that the stub knows.

use std::sync::LazyLock;

use pod_reloader_core::kind::{BUILT_IN, KindRef, PRESETS};
use serde_json::Value;

use crate::objects::GADGET;

/// A type of object, as it stands in paths.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceType {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The API version.
    pub version: &'static str,
    /// The plural, as in paths.
    pub plural: &'static str,
    /// The kind, as in objects.
    pub kind: &'static str,
    /// Whether its objects belong to a namespace.
    pub is_namespaced: bool,
}

impl ResourceType {
    /// Group and version as in `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether it is a kind of workload.
    pub fn is_workload(&self) -> bool {
        self.workload_kind().is_some()
    }

    fn workload_kind(&self) -> Option<KindRef> {
        workloads().find(|kind| kind.group == self.group && kind.plural == self.plural)
    }

    /// The pod template of a workload of this type, or what stands for one; `null` for any other object.
    pub(crate) fn template<'a>(&self, object: &'a Value) -> &'a Value {
        let path = self.workload_kind().map(|kind| kind.template_pointer(&[]));
        path.and_then(|path| object.pointer(path.as_str())).unwrap_or(&Value::Null)
    }

    /// The same, made if it is missing; `None` for any other object, and for custom resources, which the server stores
    /// as they are.
    pub(crate) fn template_mut<'a>(&self, object: &'a mut Value) -> Option<&'a mut Value> {
        let path = self.workload_kind().filter(|kind| BUILT_IN.contains(kind))?.template;
        Some(path.iter().fold(object, |parent, member| &mut parent[*member]))
    }

    /// Whether it is a kind of config object.
    pub fn is_config(&self) -> bool {
        self.group.is_empty() && matches!(self.plural, "configmaps" | "secrets")
    }

    pub(crate) fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        TYPES.iter().find(|r| r.group == group && r.version == version && r.plural == plural)
    }

    pub(crate) fn by_kind(api_version: &str, kind: &str) -> Option<&'static Self> {
        TYPES.iter().find(|r| r.kind == kind && r.api_version() == api_version)
    }

    /// By plural or kind alone, whatever the case: `deployments`, `Deployment`. The first of the table that fits. Or by
    /// plural and group: `statefulsets.apps.kruise.io`.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        let is_qualified =
            |r: &Self| name.strip_prefix(r.plural).and_then(|it| it.strip_prefix('.')) == Some(r.group);
        TYPES.iter().find(|r| r.plural == name || r.kind.eq_ignore_ascii_case(name) || is_qualified(r))
    }

    /// What the server has of that API.
    pub(crate) fn of_api(group: &str, version: &str) -> impl Iterator<Item = &'static Self> {
        TYPES.iter().filter(move |r| r.group == group && r.version == version)
    }
}

const fn namespaced(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
) -> ResourceType {
    ResourceType { group, version, plural, kind, is_namespaced: true }
}

const fn cluster(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
) -> ResourceType {
    ResourceType { group, version, plural, kind, is_namespaced: false }
}

/// All kinds that a history may have the operator follow.
fn workloads() -> impl Iterator<Item = KindRef> {
    let presets = PRESETS.iter().flat_map(|preset| preset.kinds.iter().copied());
    BUILT_IN.into_iter().chain(presets).chain([GADGET])
}

/// The kinds of workload, and what else there is.
static TYPES: LazyLock<Vec<ResourceType>> = LazyLock::new(|| {
    let workloads = workloads().map(|kind| namespaced(kind.group, kind.version, kind.plural, kind.kind));
    let others = OTHERS.into_iter().filter(|other| !other.is_workload());
    workloads.chain(others).collect()
});

const OTHERS: [ResourceType; 14] = [
    namespaced("", "v1", "configmaps", "ConfigMap"),
    namespaced("", "v1", "secrets", "Secret"),
    cluster("", "v1", "namespaces", "Namespace"),
    namespaced("", "v1", "pods", "Pod"),
    namespaced("apps", "v1", "replicasets", "ReplicaSet"),
    namespaced("apps", "v1", "controllerrevisions", "ControllerRevision"),
    namespaced("events.k8s.io", "v1", "events", "Event"),
    namespaced("", "v1", "events", "Event"),
    namespaced("coordination.k8s.io", "v1", "leases", "Lease"),
    namespaced("batch", "v1", "jobs", "Job"),
    namespaced("batch", "v1", "cronjobs", "CronJob"),
    namespaced("argoproj.io", "v1alpha1", "rollouts", "Rollout"),
    cluster(
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
    ),
    cluster("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview"),
];
