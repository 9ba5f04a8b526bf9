//! What of a pod shows whether it was restarted.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

/// A pod as it was seen. Another pod, or the same one with a container started anew, is not equal to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeenPod {
    /// Its name.
    pub name: String,
    /// When each of its containers was started, in order of their names; `None` for one that does not run.
    pub started: Vec<Option<String>>,
    /// How often its containers were started again.
    pub restarts: i32,
    /// Whether it gets requests.
    pub ready: bool,
}

impl SeenPod {
    /// What is seen of a pod.
    pub fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let mut containers = status.container_statuses.unwrap_or_default();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        let started = |state: k8s_openapi::api::core::v1::ContainerState| {
            Some(format!("{:?}", state.running?.started_at?.0))
        };
        let conditions = status.conditions.unwrap_or_default();
        Self {
            name: pod.name_any(),
            restarts: containers.iter().map(|container| container.restart_count).sum(),
            started: containers.into_iter().map(|container| container.state.and_then(started)).collect(),
            ready: conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        }
    }
}
