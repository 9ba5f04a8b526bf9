//! What custom resources have in common where they say how far they are: a generation, and conditions.

use serde::Deserialize;

use super::Health;

/// An object, as far as its health is read from what all of them have.
#[derive(Deserialize)]
pub(super) struct Object {
    #[serde(default)]
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) status: Status,
}

#[derive(Default, Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) generation: i64,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) observed_generation: Option<i64>,
    pub(super) conditions: Vec<Condition>,
}

#[derive(Deserialize)]
pub(super) struct Condition {
    r#type: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    reason: String,
}

impl Object {
    /// Whether the controller has seen the latest version, as far as it says.
    pub(super) fn is_observed(&self) -> bool {
        self.status.observed_generation.is_none_or(|observed| observed >= self.metadata.generation)
    }
}

/// The status of the condition of that type, and its reason.
pub(super) fn find<'a>(conditions: &'a [Condition], r#type: &str) -> Option<(&'a str, &'a str)> {
    let found = conditions.iter().find(|condition| condition.r#type == r#type)?;
    Some((&found.status, &found.reason))
}

/// The health of an object of whose kind nothing is known, by what custom resources have agreed on: one without a
/// condition that says otherwise is healthy once it is observed.
pub(super) fn health(object: &str) -> Result<Health, serde_json::Error> {
    let object: Object = serde_json::from_str(object)?;
    if !object.is_observed() {
        return Ok(Health::Progressing);
    }
    let is = |r#type: &str, expected: &str| {
        find(&object.status.conditions, r#type).is_some_and(|(status, _)| status == expected)
    };
    Ok(if is("Stalled", "True") {
        Health::Failed
    } else if is("Reconciling", "True")
        || ["Ready", "Available"].iter().any(|it| is(it, "False") || is(it, "Unknown"))
    {
        Health::Progressing
    } else {
        Health::Healthy
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn c9_1_an_object_of_any_kind_is_healthy_once_it_is_observed_and_no_condition_says_otherwise() {
        let of = |r#type: &str, status: &str| json!({"observedGeneration": 2, "conditions": [{"type": r#type, "status": status}]});
        let health = |status: &Value| {
            super::health(&json!({"metadata": {"generation": 2}, "status": status}).to_string()).unwrap()
        };
        for (status, expected) in [
            (json!({}), Health::Healthy),
            (json!({"observedGeneration": 1}), Health::Progressing),
            (json!({"observedGeneration": 2}), Health::Healthy),
            (of("Ready", "True"), Health::Healthy),
            (of("Ready", "False"), Health::Progressing),
            (of("Available", "Unknown"), Health::Progressing),
            (of("Reconciling", "True"), Health::Progressing),
            (of("Stalled", "True"), Health::Failed),
            (of("Paused", "False"), Health::Healthy),
        ] {
            assert_eq!(health(&status), expected, "{status}");
        }
        assert_eq!(super::health("{}").unwrap(), Health::Healthy);
    }
}
