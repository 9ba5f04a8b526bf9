//! The kinds of `apps/v1`.

use serde::Deserialize;

use super::{Actions, Health, Kind, KindRef, Shape};

const GROUP: &str = "apps";
const VERSION: &str = "v1";
const TEMPLATE: &[&str] = &["spec", "template"];

/// `apps/v1` `Deployment`.
pub const DEPLOYMENT: KindRef = KindRef::of(&Kind {
    group: GROUP,
    version: VERSION,
    kind: "Deployment",
    label: "Deployment",
    plural: "deployments",
    template: TEMPLATE,
    shape: Shape::PodTemplate,
    template_elsewhere: None,
    actions: &Actions::ROLLED_OUT,
    ends: false,
    health: |object| read(object).map(|object| deployment(&object)),
});

/// `apps/v1` `StatefulSet`.
pub const STATEFUL_SET: KindRef = KindRef::of(&Kind {
    group: GROUP,
    version: VERSION,
    kind: "StatefulSet",
    label: "StatefulSet",
    plural: "statefulsets",
    template: TEMPLATE,
    shape: Shape::PodTemplate,
    template_elsewhere: None,
    actions: &Actions::ROLLED_OUT,
    ends: false,
    health: |object| read(object).map(|object| stateful_set(&object)),
});

/// `apps/v1` `DaemonSet`.
pub const DAEMON_SET: KindRef = KindRef::of(&Kind {
    group: GROUP,
    version: VERSION,
    kind: "DaemonSet",
    label: "DaemonSet",
    plural: "daemonsets",
    template: TEMPLATE,
    shape: Shape::PodTemplate,
    template_elsewhere: None,
    actions: &Actions::ROLLED_OUT,
    ends: false,
    health: |object| read(object).map(|object| daemon_set(&object)),
});

/// What the health of the three kinds is read from. The API server leaves zeros out.
type Object = super::parts::Object<Spec, Status>;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    /// The API server makes it one where it is left out.
    replicas: Option<i64>,
    paused: bool,
    update_strategy: UpdateStrategy,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct UpdateStrategy {
    r#type: String,
    rolling_update: RollingUpdate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RollingUpdate {
    /// Pods with a lower ordinal stay as they are.
    partition: i64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    observed_generation: i64,
    replicas: i64,
    updated_replicas: i64,
    available_replicas: i64,
    desired_number_scheduled: i64,
    updated_number_scheduled: i64,
    number_available: i64,
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    #[serde(default)]
    reason: String,
}

fn read(object: &str) -> Result<Object, serde_json::Error> {
    serde_json::from_str(object)
}

/// As `kubectl rollout status` has it. One that is paused is not rolled out, whatever its template is.
fn deployment(Object { metadata, spec, status }: &Object) -> Health {
    let replicas = spec.replicas.unwrap_or(1);
    if spec.paused || replicas == 0 {
        return Health::Healthy;
    }
    if status.observed_generation < metadata.generation {
        return Health::Progressing;
    }
    let gave_up = |condition: &Condition| {
        condition.r#type == "Progressing" && condition.reason == "ProgressDeadlineExceeded"
    };
    if status.conditions.iter().any(gave_up) {
        return Health::Failed;
    }
    let has_old_pods = status.replicas > status.updated_replicas;
    healthy_if(status.updated_replicas >= replicas && !has_old_pods && status.available_replicas >= replicas)
}

/// Pods below the partition are meant to stay old.
fn stateful_set(Object { metadata, spec, status }: &Object) -> Health {
    let replicas = spec.replicas.unwrap_or(1);
    if replicas == 0 || spec.update_strategy.r#type == "OnDelete" {
        return Health::Healthy;
    }
    let to_update = replicas - spec.update_strategy.rolling_update.partition.clamp(0, replicas);
    healthy_if(
        status.observed_generation >= metadata.generation
            && status.updated_replicas >= to_update
            && status.available_replicas >= replicas,
    )
}

fn daemon_set(Object { metadata, spec, status }: &Object) -> Health {
    if spec.update_strategy.r#type == "OnDelete" {
        return Health::Healthy;
    }
    healthy_if(
        status.observed_generation >= metadata.generation
            && status.updated_number_scheduled >= status.desired_number_scheduled
            && status.number_available >= status.desired_number_scheduled,
    )
}

fn healthy_if(is_complete: bool) -> Health {
    if is_complete { Health::Healthy } else { Health::Progressing }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn health(kind: KindRef, spec: &Value, status: &Value) -> Health {
        let object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
        (kind.health)(&object.to_string()).unwrap()
    }

    fn status(observed: i64, replicas: i64, updated: i64, available: i64) -> Value {
        json!({"observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated,
            "availableReplicas": available})
    }

    #[test]
    fn a_deployment_is_healthy_once_all_replicas_are_new_and_available() {
        let three = json!({"replicas": 3});
        let gave_up = json!({"observedGeneration": 2,
            "conditions": [{"type": "Available"}, {"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]});
        for (spec, status, expected) in [
            (&three, status(2, 3, 3, 3), Health::Healthy),
            (&json!({}), status(2, 1, 1, 1), Health::Healthy),
            (&three, status(1, 3, 3, 3), Health::Progressing),
            (&three, status(2, 3, 2, 3), Health::Progressing),
            (&three, status(2, 4, 3, 4), Health::Progressing),
            (&three, status(2, 3, 3, 2), Health::Progressing),
            (&three, json!({}), Health::Progressing),
            (&three, gave_up, Health::Failed),
            (&json!({"replicas": 3, "paused": true}), status(1, 3, 0, 3), Health::Healthy),
            (&json!({"replicas": 0}), json!({}), Health::Healthy),
        ] {
            assert_eq!(health(DEPLOYMENT, spec, &status), expected, "{spec} {status}");
        }
    }

    #[test]
    fn a_stateful_set_is_healthy_once_all_above_the_partition_are_new_and_all_available() {
        let three = json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate"}});
        let partition = |partition: i64| {
            json!({"replicas": 3, "updateStrategy":
                {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}})
        };
        for (spec, status, expected) in [
            (&three, status(2, 3, 3, 3), Health::Healthy),
            (&three, status(1, 3, 3, 3), Health::Progressing),
            (&three, status(2, 3, 2, 3), Health::Progressing),
            (&three, status(2, 3, 3, 2), Health::Progressing),
            (&partition(2), status(2, 3, 1, 3), Health::Healthy),
            (&partition(2), status(2, 3, 0, 3), Health::Progressing),
            (&partition(9), status(2, 3, 0, 3), Health::Healthy),
            (&json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}}), json!({}), Health::Healthy),
            (&json!({"replicas": 0}), json!({}), Health::Healthy),
        ] {
            assert_eq!(health(STATEFUL_SET, spec, &status), expected, "{spec} {status}");
        }
    }

    #[test]
    fn a_daemon_set_is_healthy_once_its_pod_is_new_and_available_on_every_node() {
        let rolling = json!({"updateStrategy": {"type": "RollingUpdate"}});
        let status = |observed: i64, updated: i64, available: i64| {
            json!({"observedGeneration": observed, "desiredNumberScheduled": 3,
                "updatedNumberScheduled": updated, "numberAvailable": available})
        };
        for (spec, status, expected) in [
            (&rolling, status(2, 3, 3), Health::Healthy),
            (&rolling, status(1, 3, 3), Health::Progressing),
            (&rolling, status(2, 2, 3), Health::Progressing),
            (&rolling, status(2, 3, 2), Health::Progressing),
            (&rolling, json!({"observedGeneration": 2}), Health::Healthy),
            (&json!({"updateStrategy": {"type": "OnDelete"}}), status(1, 0, 3), Health::Healthy),
        ] {
            assert_eq!(health(DAEMON_SET, spec, &status), expected, "{spec} {status}");
        }
    }
}
