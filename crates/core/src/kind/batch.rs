//! The kinds of `batch/v1`. The next run of a `CronJob` reads the present configuration anyway, and a Job has begun with its
//! own: nothing is done about a change unless that is asked for (9.4).

use serde_json::Value;

use super::{Actions, Health, Kind, KindRef, Shape};
use crate::action::{self, recreate};

/// `batch/v1` `CronJob`.
pub const CRON_JOB: KindRef = KindRef::of(&Kind {
    group: "batch",
    version: "v1",
    kind: "CronJob",
    label: "CronJob",
    plural: "cronjobs",
    template: &["spec", "jobTemplate", "spec", "template"],
    shape: Shape::PodTemplate,
    template_elsewhere: None,
    actions: &Actions { unasked: None, asked: &[action::START_JOB, action::NONE] },
    ends: false,
    // The next run takes the template as it is then: there is nothing to wait for.
    health: |object| serde_json::from_str::<serde::de::IgnoredAny>(object).map(|_| Health::Healthy),
});

/// `batch/v1` `Job`.
pub const JOB: KindRef = KindRef::of(&Kind {
    group: "batch",
    version: "v1",
    kind: "Job",
    label: "Job",
    plural: "jobs",
    template: &["spec", "template"],
    shape: Shape::PodTemplate,
    template_elsewhere: None,
    actions: &Actions { unasked: None, asked: &[action::RECREATE, action::NONE] },
    ends: true,
    health: |object| serde_json::from_str(object).map(|object| job(&object)),
});

fn job(object: &Value) -> Health {
    match recreate::end_of(object) {
        Some("Complete") => Health::Healthy,
        Some(_) => Health::Failed,
        None => Health::Progressing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn c9_4_a_job_has_ended_once_a_condition_says_so() {
        let condition = |of: &str, status: &str| json!({"conditions": [{"type": "Suspended", "status": "False"}, {"type": of, "status": status}]});
        for (status, expected) in [
            (json!({}), Health::Progressing),
            (json!({"conditions": null}), Health::Progressing),
            (json!({"active": 1}), Health::Progressing),
            (condition("Complete", "True"), Health::Healthy),
            (condition("Failed", "True"), Health::Failed),
            (condition("Complete", "False"), Health::Progressing),
            (condition("FailureTarget", "True"), Health::Progressing),
        ] {
            let object = json!({"status": status}).to_string();
            assert_eq!((JOB.health)(&object).unwrap(), expected, "{status}");
        }
    }
}
