//! Whether another installation writes the same workloads.
//!
//! An observed-config that was made with a foreign key is recorded anew, as after the loss of a key (2.5). If the same
//! foreign key then stands there again, it is not lost: somebody else goes on writing it, who was there before us, since
//! it was us who took the workload over. The first installation sees the same thing only if we write it once more, which
//! we do not: so it is always the later one that stands down.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pod_reloader_core::reference::WorkloadRef;

/// Workloads remembered at most. One of them is enough to notice.
const MAX: usize = 1000;

/// The workloads that were taken over from another key, and from which.
#[derive(Debug, Default)]
pub(crate) struct Rivals(Mutex<HashMap<WorkloadRef, String>>);

impl Rivals {
    /// The workload's observed-config was made with that key, and is ours now.
    pub(crate) fn took_over(&self, workload: &WorkloadRef, key_id: &str) {
        let mut taken = self.taken();
        if taken.len() < MAX {
            taken.insert(workload.clone(), key_id.to_owned());
        }
    }

    /// Whether it has been taken back under the same key.
    pub(crate) fn is_back(&self, workload: &WorkloadRef, key_id: &str) -> bool {
        self.taken().get(workload).is_some_and(|taken| taken == key_id)
    }

    pub(crate) fn forget(&self, workload: &WorkloadRef) {
        self.taken().remove(workload);
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, HashMap<WorkloadRef, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
