//! The kinds of `apps.kruise.io` (`OpenKruise`).

use serde::Deserialize;

use super::{Actions, Health, Kind, KindRef, Shape};

const GROUP: &str = "apps.kruise.io";
const TEMPLATE: &[&str] = &["spec", "template"];

/// `apps.kruise.io/v1alpha1` `CloneSet`.
pub const CLONE_SET: KindRef = KindRef::of(&Kind {
    group: GROUP,
    version: "v1alpha1",
    kind: "CloneSet",
    label: "CloneSet",
    plural: "clonesets",
    template: TEMPLATE,
    shape: Shape::PodTemplate,
    template_elsewhere: None,
    actions: &Actions::ROLLED_OUT,
    ends: false,
    health: |object| read(object).map(|object| clone_set(&object)),
});

/// `apps.kruise.io/v1beta1` `StatefulSet`.
pub const STATEFUL_SET: KindRef = KindRef::of(&Kind {
    group: GROUP,
    version: "v1beta1",
    kind: "StatefulSet",
    label: "StatefulSet.apps.kruise.io",
    plural: "statefulsets",
    template: TEMPLATE,
    shape: Shape::PodTemplate,
    template_elsewhere: None,
    actions: &Actions::ROLLED_OUT,
    ends: false,
    health: |object| read(object).map(|object| stateful_set(&object)),
});

/// `apps.kruise.io/v1alpha1` `DaemonSet`.
pub const DAEMON_SET: KindRef = KindRef::of(&Kind {
    group: GROUP,
    version: "v1alpha1",
    kind: "DaemonSet",
    label: "DaemonSet.apps.kruise.io",
    plural: "daemonsets",
    template: TEMPLATE,
    shape: Shape::PodTemplate,
    template_elsewhere: None,
    actions: &Actions::ROLLED_OUT,
    ends: false,
    health: |object| read(object).map(|object| daemon_set(&object)),
});

type Object = super::parts::Object<Spec, Status>;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    replicas: Option<i64>,
    update_strategy: UpdateStrategy,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct UpdateStrategy {
    r#type: String,
    /// A `CloneSet`'s stand here, ...
    #[serde(flatten)]
    rolling: Rolling,
    /// ... the others' here.
    rolling_update: Rolling,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rolling {
    partition: Option<Partition>,
    paused: bool,
}

/// How many pods stay as they are.
#[derive(Deserialize)]
#[serde(untagged)]
enum Partition {
    Pods(i64),
    /// `30%`: of how many, and rounded how, the controller knows.
    Share(String),
}

impl Rolling {
    /// How many of so many pods the controller updates, at least: all but the partition, where that is a number.
    fn to_update(&self, pods: i64) -> i64 {
        match &self.partition {
            None => pods,
            Some(Partition::Pods(partition)) => pods - (*partition).clamp(0, pods),
            Some(Partition::Share(share)) => {
                let percent = share.trim_end_matches('%').parse().unwrap_or(0_i64).clamp(0, 100);
                pods - (pods * percent + 99) / 100
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    observed_generation: i64,
    replicas: i64,
    updated_replicas: i64,
    available_replicas: i64,
    /// How many the partition leaves to be updated.
    expected_updated_replicas: Option<i64>,
    desired_number_scheduled: i64,
    updated_number_scheduled: i64,
    number_available: i64,
}

fn read(object: &str) -> Result<Object, serde_json::Error> {
    serde_json::from_str(object)
}

fn clone_set(Object { metadata, spec, status }: &Object) -> Health {
    let replicas = spec.replicas.unwrap_or(1);
    let rolling = &spec.update_strategy.rolling;
    if replicas == 0 || rolling.paused {
        return Health::Healthy;
    }
    let to_update = status.expected_updated_replicas.unwrap_or_else(|| rolling.to_update(replicas));
    healthy_if(
        status.observed_generation >= metadata.generation
            && status.updated_replicas >= to_update
            // Without a partition no old pod stays.
            && (rolling.partition.is_some() || status.replicas <= status.updated_replicas)
            && status.available_replicas >= replicas,
    )
}

fn stateful_set(Object { metadata, spec, status }: &Object) -> Health {
    let replicas = spec.replicas.unwrap_or(1);
    let rolling = &spec.update_strategy.rolling_update;
    if replicas == 0 || spec.update_strategy.r#type == "OnDelete" || rolling.paused {
        return Health::Healthy;
    }
    healthy_if(
        status.observed_generation >= metadata.generation
            && status.updated_replicas >= rolling.to_update(replicas)
            && status.available_replicas >= replicas,
    )
}

fn daemon_set(Object { metadata, spec, status }: &Object) -> Health {
    let rolling = &spec.update_strategy.rolling_update;
    if spec.update_strategy.r#type == "OnDelete" || rolling.paused {
        return Health::Healthy;
    }
    healthy_if(
        status.observed_generation >= metadata.generation
            && status.updated_number_scheduled >= rolling.to_update(status.desired_number_scheduled)
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

    fn status(observed: i64, updated: i64, available: i64) -> Value {
        json!({"observedGeneration": observed, "replicas": 4, "updatedReplicas": updated,
            "availableReplicas": available})
    }

    #[test]
    fn c9_1_a_clone_set_is_healthy_once_all_but_the_partition_are_new_and_all_available() {
        let with = |strategy: Value| json!({"replicas": 4, "updateStrategy": strategy});
        let expected = |updated: i64| {
            json!({"observedGeneration": 2, "replicas": 4, "updatedReplicas": updated,
                "availableReplicas": 4, "expectedUpdatedReplicas": 3})
        };
        for (spec, status, health_of_it) in [
            (with(json!({"type": "ReCreate"})), status(2, 4, 4), Health::Healthy),
            (with(json!({})), status(1, 4, 4), Health::Progressing),
            (with(json!({})), status(2, 3, 4), Health::Progressing),
            (with(json!({})), status(2, 4, 3), Health::Progressing),
            (with(json!({"partition": 3})), status(2, 1, 4), Health::Healthy),
            (with(json!({"partition": 3})), status(2, 0, 4), Health::Progressing),
            (with(json!({"partition": "50%"})), status(2, 2, 4), Health::Healthy),
            (with(json!({"partition": "50%"})), status(2, 1, 4), Health::Progressing),
            (with(json!({"partition": "10%"})), expected(3), Health::Healthy),
            (with(json!({"partition": "10%"})), expected(2), Health::Progressing),
            (with(json!({"paused": true})), status(1, 0, 4), Health::Healthy),
            (json!({"replicas": 0}), json!({}), Health::Healthy),
        ] {
            assert_eq!(health(CLONE_SET, &spec, &status), health_of_it, "{spec} {status}");
        }
    }

    #[test]
    fn c9_1_an_advanced_stateful_set_is_healthy_once_all_above_the_partition_are_new_and_all_available() {
        let rolling = |rolling: Value| json!({"replicas": 4, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}});
        for (spec, status, expected) in [
            (rolling(json!({})), status(2, 4, 4), Health::Healthy),
            (rolling(json!({})), status(1, 4, 4), Health::Progressing),
            (rolling(json!({})), status(2, 3, 4), Health::Progressing),
            (rolling(json!({})), status(2, 4, 3), Health::Progressing),
            (rolling(json!({"partition": 2})), status(2, 2, 4), Health::Healthy),
            (rolling(json!({"partition": 2})), status(2, 1, 4), Health::Progressing),
            (rolling(json!({"paused": true})), status(1, 0, 4), Health::Healthy),
            (json!({"replicas": 4, "updateStrategy": {"type": "OnDelete"}}), json!({}), Health::Healthy),
        ] {
            assert_eq!(health(STATEFUL_SET, &spec, &status), expected, "{spec} {status}");
        }
    }

    #[test]
    fn c9_1_an_advanced_daemon_set_is_healthy_once_its_pods_but_the_partition_are_new_and_all_available() {
        let rolling =
            |rolling: Value| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}});
        let status = |observed: i64, updated: i64, available: i64| {
            json!({"observedGeneration": observed, "desiredNumberScheduled": 3,
                "updatedNumberScheduled": updated, "numberAvailable": available})
        };
        for (spec, status, expected) in [
            (rolling(json!({})), status(2, 3, 3), Health::Healthy),
            (rolling(json!({})), status(1, 3, 3), Health::Progressing),
            (rolling(json!({})), status(2, 2, 3), Health::Progressing),
            (rolling(json!({})), status(2, 3, 2), Health::Progressing),
            (rolling(json!({"partition": 2})), status(2, 1, 3), Health::Healthy),
            (rolling(json!({"partition": 2})), status(2, 0, 3), Health::Progressing),
            (rolling(json!({"paused": true})), status(1, 0, 3), Health::Healthy),
            (json!({"updateStrategy": {"type": "OnDelete"}}), json!({}), Health::Healthy),
        ] {
            assert_eq!(health(DAEMON_SET, &spec, &status), expected, "{spec} {status}");
        }
    }
}
