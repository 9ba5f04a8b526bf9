//! The kinds of `serving.knative.dev`.

use super::conditions::{self, Object};
use super::{Actions, Health, Kind, KindRef, Shape};

/// `serving.knative.dev/v1` `Service`. Each of its templates is a revision; one with a fixed `metadata.name` cannot be
/// changed without another name, which its webhook says.
pub const SERVICE: KindRef = KindRef::of(&Kind {
    group: "serving.knative.dev",
    version: "v1",
    kind: "Service",
    label: "Service.serving.knative.dev",
    plural: "services",
    template: &["spec", "template"],
    shape: Shape::PodTemplate,
    template_elsewhere: None,
    actions: &Actions::ROLLED_OUT,
    ends: false,
    health: |object| serde_json::from_str(object).map(|object| service(&object)),
});

/// By the condition `Ready`, which is of the latest revision and of the traffic that goes there.
fn service(object: &Object) -> Health {
    if object.status.observed_generation.unwrap_or_default() < object.metadata.generation {
        return Health::Progressing;
    }
    match conditions::find(&object.status.conditions, "Ready") {
        Some(("True", _)) => Health::Healthy,
        Some(("False", _)) => Health::Failed,
        _ => Health::Progressing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn c9_1_a_service_is_healthy_once_its_latest_revision_is_ready() {
        let ready = |observed: i64, status: &str| {
            json!({"observedGeneration": observed, "conditions": [{"type": "RoutesReady", "status": "True"},
                {"type": "Ready", "status": status}]})
        };
        for (status, expected) in [
            (ready(2, "True"), Health::Healthy),
            (ready(1, "True"), Health::Progressing),
            (ready(2, "Unknown"), Health::Progressing),
            (ready(2, "False"), Health::Failed),
            (ready(1, "False"), Health::Progressing),
            (json!({"observedGeneration": 2}), Health::Progressing),
            (json!({}), Health::Progressing),
        ] {
            let object = json!({"metadata": {"generation": 2}, "status": status});
            assert_eq!((SERVICE.health)(&object.to_string()).unwrap(), expected, "{status}");
        }
    }
}
