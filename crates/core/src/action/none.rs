//! `none`: a change is recorded and told of, and nothing restarts.

use serde_json::{Value, json};

use super::{Action, Change, Plan};

pub(super) struct Nothing;

impl Action for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn plan(&self, _: &Value, _: &Change<'_>) -> Plan {
        let done = "Nothing is restarted (on-change is none)".into();
        Plan { patch: Some(json!({})), done, ..Plan::default() }
    }
}
