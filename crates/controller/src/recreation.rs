//! Has Jobs made anew by their stand-ins (9.4, [`pod_reloader_core::action::recreate`]). A stand-in is all that there is to
//! remember: whoever leads goes on wherever the last one stopped.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pod_reloader_core::action::RECREATE;
use pod_reloader_core::action::recreate::Recreation;
use pod_reloader_core::kind::batch::JOB;
use pod_reloader_core::reference::WorkloadRef;
use serde_json::Value;

use crate::fact::{Fact, Subject};
use crate::reconciler::Reconciler;
use crate::write::{WriteError, Written};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The stand-in has done its part, or is none of ours.
    Over,
    /// The Job is being deleted.
    Waits,
    /// Another attempt is needed.
    Failed,
}

/// The stand-ins that the watches have seen.
#[derive(Debug, Default)]
pub(crate) struct StandIns(HashSet<Arc<WorkloadRef>>);

impl StandIns {
    pub(crate) fn add(&mut self, stand_in: &Arc<WorkloadRef>) {
        self.0.insert(stand_in.clone());
    }

    pub(crate) fn remove(&mut self, stand_in: &WorkloadRef) {
        self.0.remove(stand_in);
    }

    pub(crate) fn contains(&self, workload: &WorkloadRef) -> bool {
        self.0.contains(workload)
    }

    /// Those that may have waited for that workload to go.
    pub(crate) fn beside(&self, workload: &WorkloadRef) -> Vec<Arc<WorkloadRef>> {
        let may_wait = |it: &&Arc<WorkloadRef>| it.namespace == workload.namespace && workload.kind == JOB;
        self.0.iter().filter(may_wait).cloned().collect()
    }
}

/// The Jobs, by uid, that this process has made stand-ins for, and whether it has deleted them. One that goes before that was
/// deleted by somebody who wants it gone.
#[derive(Debug, Default)]
pub(crate) struct Deletions(Mutex<HashMap<String, bool>>);

impl Deletions {
    /// A stand-in is about to be made.
    pub(crate) fn expect(&self, uid: &str) {
        self.known().entry(uid.to_owned()).or_insert(false);
    }

    fn begin(&self, uid: &str) {
        self.known().insert(uid.to_owned(), true);
    }

    fn are_others(&self, uid: &str) -> bool {
        self.known().get(uid) == Some(&false)
    }

    fn forget(&self, uid: &str) {
        self.known().remove(uid);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done next.
enum Next {
    Delete {
        resource_version: Option<String>,
    },
    Wait,
    MakeAnew,
    /// It has been made anew, or is not to be.
    CleanUp,
}

impl Reconciler {
    /// Goes on with what a stand-in stands for.
    pub(crate) async fn recreate(&self, stand_in: &WorkloadRef) -> Progress {
        let Ok(_turn) = self.recreations.acquire().await else { return Progress::Over };
        match self.try_recreate(stand_in).await {
            Ok(progress) => progress,
            Err(error) => {
                tracing::warn!(job = %stand_in, %error, "cannot make a Job anew; trying again later");
                Progress::Failed
            }
        }
    }

    async fn try_recreate(&self, stand_in: &WorkloadRef) -> Result<Progress, WriteError> {
        let Some(object) = self.writer.read_json(stand_in).await? else { return Ok(Progress::Over) };
        match self.writer.is_ours(&stand_in.namespace).await {
            Ok(()) => {}
            // It goes with its namespace.
            Err(Written::Gone) => return Ok(Progress::Over),
            Err(_) => return Ok(Progress::Failed),
        }
        let Some(key) = self.key.get() else { return Ok(Progress::Failed) };
        let Some(recreation) = Recreation::of(&object, &key) else {
            tracing::warn!(job = %stand_in, "a Job says that it stands in for another, but nobody with our key said so");
            return Ok(Progress::Over);
        };
        let job = WorkloadRef { name: recreation.name.clone(), ..stand_in.clone() };
        match self.next(&job, &recreation).await? {
            Next::Wait => return Ok(Progress::Waits),
            Next::Delete { resource_version } => {
                self.deletions.begin(&recreation.uid);
                let deleted =
                    self.writer.delete_job(&job, &recreation.uid, resource_version.as_deref()).await;
                return Ok(self.progress(stand_in, &object, deleted));
            }
            Next::MakeAnew => {
                let successor = recreation.clone().successor(&object);
                if let Err(ended) = self.writer.make_job(&job.namespace, &successor).await {
                    return Ok(self.progress(stand_in, &object, ended));
                }
                tracing::info!(%job, "made anew");
            }
            Next::CleanUp => {}
        }
        self.deletions.forget(&recreation.uid);
        let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        match self.writer.delete_job(stand_in, uid, None).await {
            Written::Nothing | Written::Gone | Written::Conflict => Ok(Progress::Over),
            other => Ok(self.progress(stand_in, &object, other)),
        }
    }

    async fn next(&self, job: &WorkloadRef, recreation: &Recreation) -> Result<Next, WriteError> {
        let Some(object) = self.writer.get(job).await? else {
            let is_unwanted = self.deletions.are_others(&recreation.uid);
            return Ok(if is_unwanted { Next::CleanUp } else { Next::MakeAnew });
        };
        let workload = self.opt_ins.surround(object.workload, &job.namespace);
        if workload.uid.as_deref() != Some(&recreation.uid) {
            return Ok(Next::CleanUp);
        }
        if workload.is_deleting {
            return Ok(Next::Wait);
        }
        // It may have ended meanwhile, or been opted out.
        if !workload.is_managed() || workload.action != RECREATE {
            return Ok(Next::CleanUp);
        }
        Ok(Next::Delete { resource_version: workload.resource_version })
    }

    fn progress(&self, stand_in: &WorkloadRef, object: &Value, written: Written) -> Progress {
        match written {
            Written::Nothing => Progress::Waits,
            Written::JobRefused(why) => {
                let uid = object.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
                let subject = Subject { workload: stand_in.clone(), uid, resource_version: None };
                self.facts.publish(&subject, &Fact::JobRefused { why });
                Progress::Failed
            }
            _ => Progress::Failed,
        }
    }
}
