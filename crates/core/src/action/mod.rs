//! What a workload has done about a change of configuration (9.4, 9.5). Each kind of action is a file here; what a kind of
//! workload can have is said by [`crate::kind::Kind`], and nothing else in the product names an action.

use std::fmt;
use std::ops::Deref;

use serde_json::Value;

use crate::digest::DigestKey;

mod job;
mod none;
pub mod recreate;
mod restart_at;
mod rollout;
mod start_job;

/// The config hash on the pod template changes, which the workload's controller rolls out.
pub const ROLLOUT: ActionRef = ActionRef(&rollout::Rollout);
/// Nothing but a record and an Event.
pub const NONE: ActionRef = ActionRef(&none::Nothing);
/// An Argo Rollout's pods are evicted, without a new revision.
pub const RESTART_AT: ActionRef = ActionRef(&restart_at::RestartAt);
/// A `CronJob` runs once, now.
pub const START_JOB: ActionRef = ActionRef(&start_job::StartJob);
/// A Job that runs is deleted and made anew.
pub const RECREATE: ActionRef = ActionRef(&recreate::Recreate);

/// A kind of action.
pub trait Action: Sync {
    /// As the annotation `on-change` has it.
    fn name(&self) -> &'static str;

    /// Whether a change moves the config hash. With all others it stays, and only observed-config moves (9.5).
    fn moves_hash(&self) -> bool {
        false
    }

    /// What has to be done about a change, of the workload as it is now, as the API server has it. Of an action that moves the
    /// hash nothing is asked.
    fn plan(&self, workload: &Value, change: &Change<'_>) -> Plan;
}

/// A change of configuration, as a workload has it recorded.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The installation's key.
    pub key: &'a DigestKey,
    /// The time by the API server's clock, in RFC 3339.
    pub now: &'a str,
    /// observed-config before the change, ...
    pub before: Option<&'a str>,
    /// ... and after it.
    pub after: Option<&'a str>,
    /// What changed, for the workload's owner.
    pub why: &'a str,
    /// Whether what is made has to have the workload's labels, since workloads are selected by them (1.6).
    pub keeps_labels: bool,
}

/// What has to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// A Job that is made; one of that name that is there is the same. Its name is the same for the same change.
    pub job: Option<Value>,
    /// Whether that has to wait while a Job runs that the workload controls.
    pub is_alone: bool,
    /// What the merge patch (RFC 7386) that records the change carries beside the annotations, if anything; `None` if
    /// nothing is to be recorded, since the workload is about to go: what is done then is told of by whoever does it.
    pub patch: Option<Value>,
    /// Whether pods start because of it.
    pub restarts: bool,
    /// What has been done then, for the workload's owner.
    pub done: String,
}

/// An action, which there is one of.
#[derive(Clone, Copy)]
pub struct ActionRef(&'static dyn Action);

impl Default for ActionRef {
    fn default() -> Self {
        ROLLOUT
    }
}

impl Deref for ActionRef {
    type Target = dyn Action;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl fmt::Debug for ActionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for ActionRef {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for ActionRef {}

#[cfg(test)]
mod tests;
