//! `none`: a change is recorded and told of, and nothing restarts.

use serde_json::{Value, json};

use super::{Action, Change, Plan};

pub(super) struct Nothing;

impl Action for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn plan(&self, _: &Value, _: &Change<'_>) -> Option<Plan> {
        let done = "Nothing is restarted (on-change is none)".into();
        Some(Plan { job: None, patch: Some(json!({})), restarts: false, done })
    }
}
