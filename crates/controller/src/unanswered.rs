//! Patches that were sent and not answered in good order. They may have been carried out all the same, and then have to
//! be told of like any other (5.8).

use std::collections::HashMap;
use std::sync::Mutex;

use pod_reloader_core::reference::WorkloadRef;

use crate::index::View;

/// A patch that made a reload, if it was carried out.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) old_hash: Option<String>,
    pub(crate) hash: Option<String>,
    pub(crate) trigger: &'static str,
    pub(crate) note: String,
}

/// The last such patch of each workload.
#[derive(Debug, Default)]
pub(crate) struct Unanswered(Mutex<HashMap<WorkloadRef, Sent>>);

impl Unanswered {
    pub(crate) fn remember(&self, reference: &WorkloadRef, sent: Sent) {
        self.patches().insert(reference.clone(), sent);
    }

    pub(crate) fn forget(&self, reference: &WorkloadRef) {
        self.patches().remove(reference);
    }

    /// To be asked about a workload that is as it should be: the patch, if that is its doing. It is forgotten either way.
    pub(crate) fn take_if_carried_out(&self, view: &View) -> Option<Sent> {
        let sent = self.patches().remove(&view.reference)?;
        (sent.hash == view.workload.template.config_hash).then_some(sent)
    }

    fn patches(&self) -> std::sync::MutexGuard<'_, HashMap<WorkloadRef, Sent>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
