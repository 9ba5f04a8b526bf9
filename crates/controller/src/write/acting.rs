//! What is done about a change where the hash stays (9.4, 9.5): a Job is made or a field set, and the change recorded.

use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::{Timestamp, Unit};
use kube::api::Patch;
use pod_reloader_core::action::{Change, Plan};
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::patch::Target;
use pod_reloader_core::workload::Workload;
use serde_json::{Value, json};

use super::jobs::NO_DRY_RUN;
use super::{Room, WriteError, Writer, Written, patch_request};
use crate::index::View;

/// Pods are as old as their second says, so that one of this second is older than the next.
const NEXT_SECOND: Duration = Duration::from_secs(1);

/// What became of it.
pub(crate) enum Acting {
    /// A Job of the workload runs, and there must be no other beside it.
    Waits,
    /// It came to this; what was planned, if it came to that.
    Over(Written, Option<Plan>),
}

impl Writer {
    /// Does what the workload has done about a change, if it still is what the decision was made from, and records it. The
    /// Job comes first: it is made once, however often that is tried, and without it the change is still to be recorded.
    pub(crate) async fn act(&self, view: &View, target: &Target, key: &DigestKey, why: &str) -> Acting {
        let (text, workload) = match self.read_for_acting(view).await {
            Ok(same) => same,
            Err(ended) => return Acting::Over(ended, None),
        };
        let Ok(object) = serde_json::from_str::<Value>(&text.json) else {
            return Acting::Over(Written::Failed(WriteError::NoWorkload), None);
        };
        let now = text.date.unwrap_or_else(SystemTime::now) + NEXT_SECOND;
        let now = Timestamp::try_from(now).and_then(|now| now.round(Unit::Second)).unwrap_or_default();
        let change = Change {
            key,
            now: &now.to_string(),
            before: workload.observed.as_deref(),
            after: target.observed.as_deref(),
            why,
            keeps_labels: !self.object_selector.is_empty(),
        };
        let plan = workload.action.plan(&object, &change);
        let namespace = &view.workload_ref.namespace;
        let record = plan.patch.as_ref().and_then(|members| record(target, view, &workload, members));
        if let Some(job) = &plan.job {
            // A Job whose change cannot be recorded would be made again and again.
            let tried = match &record {
                Some(record) => self.try_record(view, record).await,
                None => Ok(()),
            };
            let made = match tried {
                Ok(()) if plan.is_alone => match self.has_running_job(namespace, &workload, job).await {
                    Ok(true) => return Acting::Waits,
                    Ok(false) => self.make_job(namespace, job).await,
                    Err(error) => Err(Written::Failed(error)),
                },
                Ok(()) => self.make_job(namespace, job).await,
                Err(ended) => Err(ended),
            };
            if let Err(ended) = made {
                return Acting::Over(ended, Some(plan));
            }
        }
        let written = match &record {
            Some(record) => match patch_request(&view.workload_ref, &Patch::Merge(record), false) {
                Ok(request) => self.send_patch(view, request, Room::Times(1)).await,
                Err(error) => Written::Failed(WriteError::Request(error)),
            },
            None => Written::JobMade,
        };
        Acting::Over(written, Some(plan))
    }

    /// Whether the API server and all policies would take that patch.
    async fn try_record(&self, view: &View, record: &Value) -> Result<(), Written> {
        let request = patch_request(&view.workload_ref, &Patch::Merge(record), true)
            .map_err(|error| Written::Failed(WriteError::Request(error)))?;
        match self.send_patch(view, request, Room::Times(1)).await {
            Written::Done(_) => Ok(()),
            // Nobody can ask a webhook with side effects.
            Written::Refused(why) if why.contains(NO_DRY_RUN) => Ok(()),
            ended => Err(ended),
        }
    }

    async fn read_for_acting(&self, view: &View) -> Result<(super::Text, Workload), Written> {
        self.is_ours(&view.workload_ref.namespace).await?;
        if self.opt_ins.follow_more(&view.workload, &view.workload_ref.namespace) {
            return Err(Written::Conflict);
        }
        // The text, what it is parsed into, and the Job.
        self.read_same(view, 6).await
    }
}

/// The merge patch that records the change, with these members beside; `None` if there is nothing to be written.
fn record(target: &Target, view: &View, workload: &Workload, members: &Value) -> Option<Value> {
    let patch = target.merge_patch(view.workload_ref.kind, workload);
    let members = members.as_object().filter(|members| !members.is_empty());
    if patch.is_none() && members.is_none() {
        return None;
    }
    let version = || json!({"metadata": {"resourceVersion": workload.resource_version}});
    let mut patch = patch.unwrap_or_else(version);
    for (member, value) in members.into_iter().flatten() {
        patch[member] = value.clone();
    }
    Some(patch)
}
