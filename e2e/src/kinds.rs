//! What tests on a control plane have to know of a kind of workload beside the operator's own data: what an object of it
//! needs to be accepted, and what its controller makes of a new pod template.

use pod_reloader_core::kind::{KindRef, apps};
use serde_json::{Value, json};

/// What the controller of a kind makes for each revision of the pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// A `ReplicaSet`.
    ReplicaSet,
    /// A `ControllerRevision`.
    ControllerRevision,
}

/// What an object of that kind and name has beside its pod template, whose labels are `app: NAME`.
pub fn spec(kind: KindRef, name: &str) -> Value {
    let selector = json!({"matchLabels": {"app": name}});
    if kind == apps::STATEFUL_SET {
        json!({"selector": selector, "replicas": 1, "serviceName": name})
    } else if kind == apps::DAEMON_SET {
        json!({"selector": selector})
    } else {
        json!({"selector": selector, "replicas": 1})
    }
}

/// By what revisions of that kind are counted.
pub fn revision(kind: KindRef) -> Revision {
    if kind == apps::DEPLOYMENT { Revision::ReplicaSet } else { Revision::ControllerRevision }
}
