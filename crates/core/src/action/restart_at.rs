//! `restart-at`: an Argo Rollout's `spec.restartAt`. Its controller evicts the pods that are older, a few at a time, and
//! makes no revision: no step of a canary is gone through, and none is gone back.
//! <https://argo-rollouts.readthedocs.io/en/stable/features/restart/>

use serde_json::{Value, json};

use super::{Action, Change, Plan};

pub(super) struct RestartAt;

impl Action for RestartAt {
    fn name(&self) -> &'static str {
        "restart-at"
    }

    fn plan(&self, _: &Value, change: &Change<'_>) -> Plan {
        let patch = json!({"spec": {"restartAt": change.now}});
        let done = format!("Pods are restarted (spec.restartAt is {})", change.now);
        Plan { patch: Some(patch), restarts: true, done, ..Plan::default() }
    }
}
