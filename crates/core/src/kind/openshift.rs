//! The kinds of `apps.openshift.io`.

use serde::Deserialize;

use super::conditions::{self, Condition};
use super::{Actions, Health, Kind, KindRef, Shape};

/// `apps.openshift.io/v1` `DeploymentConfig`. It rolls out another template only where it has a `ConfigChange` trigger,
/// which it has where none is given.
pub const DEPLOYMENT_CONFIG: KindRef = KindRef::of(&Kind {
    group: "apps.openshift.io",
    version: "v1",
    kind: "DeploymentConfig",
    label: "DeploymentConfig",
    plural: "deploymentconfigs",
    template: &["spec", "template"],
    shape: Shape::PodTemplate,
    template_elsewhere: None,
    actions: &Actions::ROLLED_OUT,
    ends: false,
    health: |object| serde_json::from_str(object).map(|object| deployment_config(&object)),
});

type Object = super::parts::Object<Spec, Status>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    replicas: Option<i64>,
    paused: bool,
    /// It has pods only while it is rolled out.
    test: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    observed_generation: i64,
    replicas: i64,
    updated_replicas: i64,
    available_replicas: i64,
    conditions: Vec<Condition>,
}

/// As `oc rollout status` has it.
fn deployment_config(Object { metadata, spec, status }: &Object) -> Health {
    let replicas = spec.replicas.unwrap_or(1);
    if spec.paused || replicas == 0 {
        return Health::Healthy;
    }
    if status.observed_generation < metadata.generation {
        return Health::Progressing;
    }
    match conditions::find(&status.conditions, "Progressing") {
        Some((_, "ProgressDeadlineExceeded" | "RolloutCancelled")) => return Health::Failed,
        Some(("True", "NewReplicationControllerAvailable")) if spec.test => return Health::Healthy,
        _ => {}
    }
    let has_old_pods = status.replicas > status.updated_replicas;
    if status.updated_replicas >= replicas && !has_old_pods && status.available_replicas >= replicas {
        Health::Healthy
    } else {
        Health::Progressing
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(observed: i64, replicas: i64, updated: i64, available: i64) -> Value {
        json!({"observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated,
            "availableReplicas": available})
    }

    fn progressing(status: &str, reason: &str) -> Value {
        json!({"observedGeneration": 2, "conditions": [{"type": "Available", "status": "True"},
            {"type": "Progressing", "status": status, "reason": reason}]})
    }

    #[test]
    fn c9_1_a_deployment_config_is_healthy_once_all_replicas_are_new_and_available() {
        let three = json!({"replicas": 3});
        for (spec, status, expected) in [
            (&three, status(2, 3, 3, 3), Health::Healthy),
            (&three, status(1, 3, 3, 3), Health::Progressing),
            (&three, status(2, 3, 2, 3), Health::Progressing),
            (&three, status(2, 4, 3, 4), Health::Progressing),
            (&three, status(2, 3, 3, 2), Health::Progressing),
            (&three, progressing("False", "ProgressDeadlineExceeded"), Health::Failed),
            (&three, progressing("False", "RolloutCancelled"), Health::Failed),
            (&three, progressing("True", "ReplicationControllerUpdated"), Health::Progressing),
            (&json!({"replicas": 3, "paused": true}), status(1, 3, 0, 3), Health::Healthy),
            (
                &json!({"replicas": 3, "test": true}),
                progressing("True", "NewReplicationControllerAvailable"),
                Health::Healthy,
            ),
            (&json!({"replicas": 0}), json!({}), Health::Healthy),
        ] {
            let object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
            assert_eq!((DEPLOYMENT_CONFIG.health)(&object.to_string()).unwrap(), expected, "{spec} {status}");
        }
    }
}
