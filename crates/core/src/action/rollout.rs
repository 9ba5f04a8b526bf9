//! `rollout`: what restarts pods wherever a pod template is rolled out.

use serde_json::Value;

use super::{Action, Change, Plan};

pub(super) struct Rollout;

impl Action for Rollout {
    fn name(&self) -> &'static str {
        "rollout"
    }

    fn moves_hash(&self) -> bool {
        true
    }

    fn plan(&self, _: &Value, _: &Change<'_>) -> Plan {
        Plan::default()
    }
}
