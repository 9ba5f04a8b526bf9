//! Facts in the metrics.

use super::Sink;
use crate::fact::{Acted, Fact, PatchFailure, Reload, Subject};
use crate::metrics::Metrics;

/// Counts facts.
pub(super) struct Counts(Metrics);

impl Counts {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self(metrics)
    }

    /// A patch that was to be a reload, if it had a cause, or else to record what was observed.
    fn count_patch(&self, subject: &Subject, cause: Option<&'static str>, result: &'static str) {
        match cause {
            Some(cause) => self.0.count_reload(subject.workload.kind, cause, result),
            None => self.0.count_record(result),
        }
    }
}

impl Sink for Counts {
    fn publish(&self, subject: &Subject, fact: &Fact) {
        match fact {
            Fact::Reloaded(Reload { acted: Some(Acted { restarts: false, .. }), .. }) => {
                self.count_patch(subject, None, "success");
            }
            Fact::Reloaded(reload) => {
                self.count_patch(subject, Some(reload.cause()), "success");
                if let Some(took) = reload.since_change {
                    self.0.observe_change_to_patch(took);
                }
            }
            Fact::Recorded => self.count_patch(subject, None, "success"),
            Fact::PatchFailed { cause, failure } => {
                let result = match failure {
                    PatchFailure::Conflict => "conflict",
                    PatchFailure::Error(_) => "error",
                    PatchFailure::Refused => "refused",
                    PatchFailure::Undone => "undone",
                };
                self.count_patch(subject, *cause, result);
            }
            Fact::Deferred { .. } => self.0.count_deferred(),
            Fact::LeftOut => self.0.count_left_out(),
            _ => {}
        }
    }
}
