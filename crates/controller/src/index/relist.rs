//! What a relist does not name any more has been deleted.

use std::sync::Arc;

use pod_reloader_core::kind::KindRef;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::WorkloadRef;

use super::Index;
use crate::watch::Coverage;

impl Index {
    /// A workload stream starts over: what it does not list until [`Index::end_workloads`] is gone.
    pub(crate) fn begin_workloads(&mut self, coverage: &Coverage<KindRef>) {
        let known = self.workloads.keys();
        let covered = known.filter(|workload| coverage.contains(&workload.kind, &workload.namespace));
        self.unlisted_workloads.insert(coverage.clone(), covered.cloned().collect());
    }

    pub(crate) fn list_workload(&mut self, coverage: &Coverage<KindRef>, workload: &WorkloadRef) {
        if let Some(unlisted) = self.unlisted_workloads.get_mut(coverage) {
            unlisted.remove(workload);
        }
    }

    /// Returns the workloads that vanished while the stream was down.
    pub(crate) fn end_workloads(&mut self, coverage: &Coverage<KindRef>) -> Vec<Arc<WorkloadRef>> {
        self.unlisted_workloads.remove(coverage).unwrap_or_default().into_iter().collect()
    }

    /// A stream of config objects starts over, likewise.
    pub(crate) fn begin_objects(&mut self, coverage: &Coverage<ConfigKind>) {
        let known = self.objects.keys();
        let covered = known.filter(|object| coverage.contains(&object.kind, &object.namespace));
        self.unlisted_objects.insert(coverage.clone(), covered.cloned().collect());
    }

    /// Whether a list that is under way is yet to tell of the object.
    pub(crate) fn is_unlisted(&self, object: &ConfigRef) -> bool {
        self.unlisted_objects.values().any(|unlisted| unlisted.contains(object))
    }

    pub(crate) fn list_object(&mut self, coverage: &Coverage<ConfigKind>, object: &ConfigRef) {
        if let Some(unlisted) = self.unlisted_objects.get_mut(coverage) {
            unlisted.remove(object);
        }
    }

    /// Returns the referenced objects that vanished while the stream was down.
    pub(crate) fn end_objects(&mut self, coverage: &Coverage<ConfigKind>) -> Vec<ConfigRef> {
        self.unlisted_objects.remove(coverage).unwrap_or_default().into_iter().collect()
    }
}
