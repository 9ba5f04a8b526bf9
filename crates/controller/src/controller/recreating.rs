//! The turns of the stand-ins of Jobs that are made anew (9.4): they are in the queue beside the workloads, and what they do
//! is in [`crate::recreation`].

use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::kind::batch::JOB;
use pod_reloader_core::reference::WorkloadRef;
use tokio::time::Instant;

use super::{Controller, Done};
use crate::jitter;
use crate::recreation::Progress;

/// How often a stand-in looks whether its Job is gone.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How soon a stand-in asks again whether it is its turn.
const TURN: Duration = Duration::from_millis(250);

impl Controller {
    /// A watch or a list has a stand-in.
    pub(super) fn stand_in_is(&mut self, stand_in: &Arc<WorkloadRef>, is_deleting: bool) {
        if is_deleting {
            self.stand_ins.remove(stand_in);
        } else if self.stand_ins.add(stand_in) {
            self.queue.schedule(stand_in, Instant::now());
        }
    }

    /// A workload is gone: a Job for which its stand-in waits, perhaps, or a stand-in.
    pub(super) fn wake_stand_ins(&mut self, workload: &WorkloadRef) {
        self.stand_ins.remove(workload);
        for stand_in in self.stand_ins.beside(workload) {
            self.queue.schedule(&stand_in, Instant::now());
        }
    }

    /// Has the stand-in go on, if that is one. Returns whether it is.
    pub(super) fn start_stand_in(&mut self, stand_in: &Arc<WorkloadRef>) -> bool {
        if !self.stand_ins.contains(stand_in) {
            return false;
        }
        if !self.stand_ins.goes_on(stand_in) {
            self.queue.put_off(stand_in, Instant::now() + TURN);
            return true;
        }
        let (reconciler, stand_in) = (self.reconciler.clone(), stand_in.clone());
        self.running.spawn(async move {
            let progress = reconciler.recreate(&stand_in).await;
            Done::Recreated(stand_in, progress)
        });
        true
    }

    pub(super) fn recreated(&mut self, stand_in: &Arc<WorkloadRef>, progress: Progress) {
        self.stand_ins.pauses(stand_in);
        match progress {
            Progress::Over => {
                self.stand_ins.remove(stand_in);
                self.queue.done(stand_in, None);
                self.reconciler.forget(stand_in);
                self.reconcile_jobs_of(&stand_in.namespace);
            }
            Progress::Foreign => {
                self.stand_ins.is_foreign(stand_in);
                self.queue.done(stand_in, None);
            }
            // The watch says when the Job is gone; in case it does not, it is looked at again.
            Progress::Waits => self.queue.done(stand_in, Some(Instant::now() + LOOK_AGAIN)),
            Progress::Failed => self.queue.failed(stand_in, Instant::now(), jitter::fraction(), false),
        }
    }

    /// A stand-in is over: if the Job is still there, it may have changed, and its change is still to be dealt with.
    pub(super) fn reconcile_jobs_of(&mut self, namespace: &str) {
        let is_one = |it: &&Arc<WorkloadRef>| it.kind == JOB && it.namespace == namespace;
        let jobs: Vec<_> = self.index.workloads().filter(is_one).cloned().collect();
        for job in jobs {
            self.queue.schedule(&job, Instant::now());
        }
    }
}
