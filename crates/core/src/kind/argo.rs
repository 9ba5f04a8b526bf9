//! The kinds of `argoproj.io` (Argo Rollouts).

use serde::Deserialize;

use super::{Actions, Health, Kind, KindRef, Shape};
use crate::action;

/// `argoproj.io/v1alpha1` `Rollout`.
pub const ROLLOUT: KindRef = KindRef::of(&Kind {
    group: "argoproj.io",
    version: "v1alpha1",
    kind: "Rollout",
    label: "Rollout",
    plural: "rollouts",
    template: &["spec", "template"],
    shape: Shape::PodTemplate,
    template_elsewhere: Some("workloadRef"),
    actions: &Actions {
        unasked: Some(action::ROLLOUT),
        asked: &[action::ROLLOUT, action::RESTART_AT, action::NONE],
    },
    ends: false,
    health: |object| serde_json::from_str(object).map(|object| rollout(&object)),
});

type Object = super::parts::Object<Spec, Status>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    replicas: Option<i64>,
    paused: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    /// A string here. Before 1.0 it was a hash of the spec, which says nothing.
    observed_generation: String,
    phase: String,
    replicas: i64,
    updated_replicas: i64,
    available_replicas: i64,
}

/// By the phase, which the controller keeps since 1.0: `Healthy`, `Progressing`, `Paused` (at a step of a canary, or
/// before the promotion of a blue-green update: pods are yet to be replaced) or `Degraded`.
fn rollout(Object { metadata, spec, status }: &Object) -> Health {
    let replicas = spec.replicas.unwrap_or(1);
    if spec.paused || replicas == 0 {
        return Health::Healthy;
    }
    if status.observed_generation.parse().is_ok_and(|observed: i64| observed < metadata.generation) {
        return Health::Progressing;
    }
    match status.phase.as_str() {
        "Healthy" => Health::Healthy,
        "Degraded" => Health::Failed,
        "" => {
            let has_old_pods = status.replicas > status.updated_replicas;
            let is_complete = status.updated_replicas >= replicas && !has_old_pods;
            if is_complete && status.available_replicas >= replicas {
                Health::Healthy
            } else {
                Health::Progressing
            }
        }
        _ => Health::Progressing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn c9_1_a_rollout_is_healthy_once_its_controller_says_so_of_the_latest_generation() {
        let three = json!({"replicas": 3});
        let phase = |observed: &str, phase: &str| json!({"observedGeneration": observed, "phase": phase});
        let count = |updated: i64, available: i64| {
            json!({"observedGeneration": "7d4b9", "replicas": 3, "updatedReplicas": updated,
                "availableReplicas": available})
        };
        for (spec, status, expected) in [
            (&three, phase("2", "Healthy"), Health::Healthy),
            (&three, phase("1", "Healthy"), Health::Progressing),
            (&three, phase("2", "Progressing"), Health::Progressing),
            (&three, phase("2", "Paused"), Health::Progressing),
            (&three, phase("2", "Degraded"), Health::Failed),
            (&three, phase("1", "Degraded"), Health::Progressing),
            (&three, json!({}), Health::Progressing),
            (&three, count(3, 3), Health::Healthy),
            (&three, count(2, 3), Health::Progressing),
            (&three, count(3, 2), Health::Progressing),
            (&json!({"replicas": 3, "paused": true}), phase("1", "Paused"), Health::Healthy),
            (&json!({"replicas": 0}), json!({}), Health::Healthy),
        ] {
            let object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
            assert_eq!((ROLLOUT.health)(&object.to_string()).unwrap(), expected, "{spec} {status}");
        }
    }
}
