//! What is done about a change where the hash stays (9.4, 9.5): a Job is made or a field set, and the change recorded.

use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::{Timestamp, Unit};
use kube::api::Patch;
use pod_reloader_core::action::{Change, Plan};
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::patch::Target;
use pod_reloader_core::workload::Workload;
use serde_json::{Value, json};

use super::{Room, WriteError, Writer, Written, patch_request};
use crate::index::View;

/// Pods are as old as their second says, so that one of this second is older than the next.
const NEXT_SECOND: Duration = Duration::from_secs(1);

/// What became of it.
pub(crate) enum Acting {
    /// The workload is not in a state for it now.
    Waits,
    /// It came to this; what was planned, if it came to that.
    Over(Written, Option<Plan>),
}

impl Writer {
    /// Does what the workload has done about a change, if it still is what the decision was made from, and records it. The
    /// Job comes first: it is made once, however often that is tried, and without it the change is still to be recorded.
    pub(crate) async fn act(&self, view: &View, target: &Target, key: &DigestKey) -> Acting {
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
            keeps_labels: !self.object_selector.is_empty(),
        };
        let Some(plan) = workload.action.plan(&object, &change) else { return Acting::Waits };
        if let Some(job) = &plan.job
            && let Err(ended) = self.make_job(&view.workload_ref.namespace, job).await
        {
            return Acting::Over(ended, Some(plan));
        }
        let written = match &plan.patch {
            Some(members) => self.record(view, target, &workload, members).await,
            None => Written::JobMade,
        };
        Acting::Over(written, Some(plan))
    }

    async fn read_for_acting(&self, view: &View) -> Result<(super::Text, Workload), Written> {
        self.is_ours(&view.workload_ref.namespace).await?;
        if self.opt_ins.follow_more(&view.workload, &view.workload_ref.namespace) {
            return Err(Written::Conflict);
        }
        // The text, what it is parsed into, and the Job.
        self.read_same(view, 6).await
    }

    async fn record(&self, view: &View, target: &Target, workload: &Workload, members: &Value) -> Written {
        let version = || json!({"metadata": {"resourceVersion": workload.resource_version}});
        let patch = target.merge_patch(view.workload_ref.kind, workload);
        let members = members.as_object().filter(|members| !members.is_empty());
        if patch.is_none() && members.is_none() {
            return Written::JobMade;
        }
        let mut patch = patch.unwrap_or_else(version);
        for (member, value) in members.into_iter().flatten() {
            patch[member] = value.clone();
        }
        match patch_request(&view.workload_ref, &Patch::Merge(&patch)) {
            Ok(request) => self.send_patch(view, request, Room::Times(1)).await,
            Err(error) => Written::Failed(WriteError::Request(error)),
        }
    }
}
