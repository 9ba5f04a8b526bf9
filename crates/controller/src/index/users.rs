//! The workloads that one config object matters to.

use std::sync::Arc;

use pod_reloader_core::reference::WorkloadRef;

/// In the order of their names. A list, since most objects have one user and some have ten thousand: it is small for
/// either.
#[derive(Debug, Default)]
pub(super) struct Users(Vec<User>);

#[derive(Debug)]
pub(super) struct User {
    pub(super) workload: Arc<WorkloadRef>,
    /// Whether it refers to the object, or its template only requires it.
    pub(super) is_reference: bool,
    /// Whether it has not completed a reconcile since the object appeared: it may not have recorded it, even if it is
    /// gone by now.
    pub(super) is_unrecorded: bool,
}

impl Users {
    /// A workload refers to the object, or only requires it.
    pub(super) fn insert(&mut self, workload: &Arc<WorkloadRef>, is_reference: bool) {
        match self.position(workload) {
            Ok(at) => self.0[at].is_reference = is_reference,
            Err(at) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                let user = User { workload: workload.clone(), is_reference, is_unrecorded: false };
                self.0.insert(at, user);
            }
        }
    }

    pub(super) fn remove(&mut self, workload: &WorkloadRef) {
        if let Ok(at) = self.position(workload) {
            self.0.remove(at);
            if self.0.capacity() / 4 > self.0.len() {
                self.0.shrink_to(self.0.len() * 2);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &User> + Clone {
        self.0.iter()
    }

    /// The names of those that refer to the object, or only require it.
    pub(super) fn names(&self, referring: bool) -> Vec<Arc<WorkloadRef>> {
        let users = self.0.iter().filter(|user| user.is_reference == referring);
        users.map(|user| user.workload.clone()).collect()
    }

    /// The object appeared: those that refer to it have to record it.
    pub(super) fn appeared(&mut self) {
        for user in self.0.iter_mut().filter(|user| user.is_reference) {
            user.is_unrecorded = true;
        }
    }

    pub(super) fn recorded(&mut self, by: &WorkloadRef) {
        if let Ok(at) = self.position(by) {
            self.0[at].is_unrecorded = false;
        }
    }

    /// Whether each of them has recorded it.
    pub(super) fn all_recorded(&self) -> bool {
        !self.0.iter().any(|user| user.is_unrecorded)
    }

    fn position(&self, workload: &WorkloadRef) -> Result<usize, usize> {
        self.0.binary_search_by(|user| (*user.workload).cmp(workload))
    }
}
