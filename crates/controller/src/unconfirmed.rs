//! Patches whose response was lost. They may have been carried out all the same, and then have to be published like any
//! other (5.8).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pod_reloader_core::reference::WorkloadRef;

use crate::fact::{Acted, Reload};
use crate::index::View;

/// The last such patch of each workload: the reload that it made, if it was carried out.
#[derive(Debug, Default)]
pub(crate) struct UnconfirmedPatches(Mutex<HashMap<WorkloadRef, Reload>>);

impl UnconfirmedPatches {
    pub(crate) fn remember(&self, workload: &WorkloadRef, reload: Reload) {
        self.patches().insert(workload.clone(), reload);
    }

    pub(crate) fn forget(&self, workload: &WorkloadRef) {
        self.patches().remove(workload);
    }

    /// To be asked about a workload that is as it should be: the reload, if that is its doing. It is forgotten either way.
    pub(crate) fn take_if_carried_out(&self, view: &View) -> Option<Reload> {
        let reload = self.patches().remove(&view.workload_ref)?;
        let is_recorded = |acted: &Acted| acted.observed == view.workload.observed;
        let is_its_doing = reload.new_hash == view.workload.template.config_hash
            && reload.acted.as_ref().is_none_or(is_recorded);
        is_its_doing.then_some(reload)
    }

    fn patches(&self) -> MutexGuard<'_, HashMap<WorkloadRef, Reload>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
