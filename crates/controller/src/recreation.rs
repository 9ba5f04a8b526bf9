//! Has Jobs made anew by their stand-ins (9.4, [`pod_reloader_core::action::recreate`]). A stand-in is all that there is to
//! remember: whoever leads goes on wherever the last one stopped, and two that overlap for a moment do no harm.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pod_reloader_core::action::RECREATE;
use pod_reloader_core::action::recreate::{Phase, Recreation, said_by};
use pod_reloader_core::annotation::RECREATES_PHASE;
use pod_reloader_core::kind::batch::JOB;
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_core::workload::Workload;
use serde_json::Value;
use tokio::time::Instant;

use crate::conditions::Condition;
use crate::fact::{Acted, Fact, Reload, Subject};
use crate::reconciler::Reconciler;
use crate::write::{Propagation, WriteError, Written};

/// Stand-ins that go on at once, ...
const CONCURRENT: usize = 16;
/// ... of which a namespace has so many: the webhooks of another may take long.
const OF_A_NAMESPACE: usize = 4;

/// How often a stand-in is looked at in one turn.
const ATTEMPTS: usize = 4;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The stand-in has done its part.
    Over,
    /// It is none of ours.
    Foreign,
    /// The Job is being deleted.
    Waits,
    /// Another attempt is needed.
    Failed,
}

/// The stand-ins that the watches have seen.
#[derive(Debug, Default)]
pub(crate) struct StandIns {
    known: HashSet<Arc<WorkloadRef>>,
    /// Those that somebody else wrote, or this installation with a key that is lost.
    foreign: HashSet<Arc<WorkloadRef>>,
    /// How many go on, by namespace.
    running: HashMap<String, usize>,
}

impl StandIns {
    /// Whether it is to go on.
    pub(crate) fn add(&mut self, stand_in: &Arc<WorkloadRef>) -> bool {
        let is_ours = !self.foreign.contains(stand_in);
        if is_ours {
            self.known.insert(stand_in.clone());
        }
        is_ours
    }

    pub(crate) fn remove(&mut self, stand_in: &WorkloadRef) {
        self.foreign.remove(stand_in);
        self.known.remove(stand_in);
    }

    pub(crate) fn is_foreign(&mut self, stand_in: &Arc<WorkloadRef>) {
        self.known.remove(stand_in);
        self.foreign.insert(stand_in.clone());
    }

    /// There is another key: those that were foreign may be ours.
    pub(crate) fn reconsider(&mut self) -> Vec<Arc<WorkloadRef>> {
        let foreign: Vec<_> = self.foreign.drain().collect();
        self.known.extend(foreign.iter().cloned());
        foreign
    }

    pub(crate) fn contains(&self, workload: &WorkloadRef) -> bool {
        self.known.contains(workload)
    }

    /// Those that may have waited for that workload to go.
    pub(crate) fn beside(&self, workload: &WorkloadRef) -> Vec<Arc<WorkloadRef>> {
        let may_wait = |it: &&Arc<WorkloadRef>| it.namespace == workload.namespace && workload.kind == JOB;
        self.known.iter().filter(may_wait).cloned().collect()
    }

    /// Whether it may go on now; if so, until [`Self::pauses`].
    pub(crate) fn goes_on(&mut self, stand_in: &WorkloadRef) -> bool {
        let all: usize = self.running.values().sum();
        let of_namespace = self.running.get(&stand_in.namespace).copied().unwrap_or_default();
        let may = all < CONCURRENT && of_namespace < OF_A_NAMESPACE;
        if may {
            self.running.insert(stand_in.namespace.clone(), of_namespace + 1);
        }
        may
    }

    pub(crate) fn pauses(&mut self, stand_in: &WorkloadRef) {
        if let Some(running) = self.running.get_mut(&stand_in.namespace) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.running.remove(&stand_in.namespace);
            }
        }
    }
}

/// A stand-in as it is.
struct StandIn<'a> {
    workload: &'a WorkloadRef,
    object: &'a Value,
    recreation: Recreation,
    phase: Phase,
}

impl StandIn<'_> {
    fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn version(&self) -> &str {
        self.text("/metadata/resourceVersion")
    }

    fn job(&self) -> WorkloadRef {
        WorkloadRef { name: self.recreation.name.clone(), ..self.workload.clone() }
    }
}

/// What is to be done next.
enum Next {
    Delete {
        resource_version: String,
    },
    Wait,
    MakeAnew,
    /// It has been made anew, or is not to be.
    CleanUp,
}

/// What came in between.
enum Obstacle {
    Read(WriteError),
    Write(Written),
}

impl From<WriteError> for Obstacle {
    fn from(error: WriteError) -> Self {
        Self::Read(error)
    }
}

impl From<Written> for Obstacle {
    fn from(written: Written) -> Self {
        Self::Write(written)
    }
}

impl Reconciler {
    /// Goes on with what a stand-in stands for.
    pub(crate) async fn recreate(&self, workload: &WorkloadRef) -> Progress {
        // What changes all the time, as the status of a Job with many pods does, is looked at again at once.
        for _ in 0..ATTEMPTS {
            if let Some(progress) = self.try_recreate(workload).await {
                return progress;
            }
        }
        Progress::Failed
    }

    /// `None` if something has changed meanwhile.
    async fn try_recreate(&self, workload: &WorkloadRef) -> Option<Progress> {
        let began = Instant::now();
        let object = match self.writer.read_json(workload).await {
            Ok(Some(object)) => object,
            Ok(None) => return Some(Progress::Over),
            Err(error) => return Some(self.failed(workload, &Obstacle::Read(error), "")),
        };
        let Some(key) = self.key.get() else { return Some(Progress::Failed) };
        let Some(recreation) = Recreation::of(&object, &key) else {
            // Another replica may have a key that this one has not heard of yet.
            if !self.key.is_confirmed(began).await {
                return Some(Progress::Failed);
            }
            tracing::warn!(job = %workload, "a Job says that it stands in for another, but nobody with our key said so");
            return Some(Progress::Foreign);
        };
        let stand_in = StandIn { workload, object: &object, recreation, phase: Phase::of(&object) };
        match self.go_on(&stand_in).await {
            Ok(progress) => Some(progress),
            // The Job or the stand-in: the next attempt sees what is there by then.
            Err(Obstacle::Write(Written::Gone | Written::Conflict)) => None,
            Err(obstacle) => Some(self.failed(workload, &obstacle, stand_in.text("/metadata/uid"))),
        }
    }

    async fn go_on(&self, stand_in: &StandIn<'_>) -> Result<Progress, Obstacle> {
        let job = stand_in.job();
        // Where the namespace is being deleted it goes with that; where it is deselected it may come back.
        self.writer.is_ours(&job.namespace).await?;
        match self.next(stand_in, &job).await? {
            Next::Wait => Ok(Progress::Waits),
            Next::Delete { resource_version } => self.delete(stand_in, &job, &resource_version).await,
            Next::MakeAnew => self.make_anew(stand_in, &job).await,
            Next::CleanUp => self.clean_up(stand_in, stand_in.version()).await,
        }
    }

    async fn next(&self, stand_in: &StandIn<'_>, job: &WorkloadRef) -> Result<Next, Obstacle> {
        let recreation = &stand_in.recreation;
        // Whatever its labels say: what is not selected any more is there all the same.
        let Some(object) = self.writer.read_json(job).await? else {
            // Without a word on the stand-in it was its owner who deleted it.
            return Ok(if stand_in.phase == Phase::Deleting { Next::MakeAnew } else { Next::CleanUp });
        };
        let text = object.to_string();
        let workload = Workload::read(JOB, &text).map_err(|_| WriteError::NoWorkload)?;
        if workload.uid.as_deref() != Some(&recreation.uid) || stand_in.phase == Phase::Made {
            return Ok(Next::CleanUp);
        }
        if workload.is_deleting {
            let is_ours = stand_in.phase == Phase::Deleting;
            return Ok(if is_ours { Next::Wait } else { Next::CleanUp });
        }
        // It may have ended meanwhile, or say something else. Once it is to be deleted, that alone counts, since all leaders
        // see the same of it; before, what has it follow something may be gone, too.
        let is_unchanged = workload.idle.is_none() && said_by(&object) == recreation.said;
        let resource_version = workload.resource_version.clone();
        let is_to_be = stand_in.phase == Phase::Deleting || {
            let workload = self.opt_ins.surround(workload, &job.namespace);
            workload.is_managed() && workload.action == RECREATE && self.writer.selects(&text)
        };
        match resource_version {
            Some(resource_version) if is_unchanged && is_to_be => Ok(Next::Delete { resource_version }),
            _ => Ok(Next::CleanUp),
        }
    }

    async fn delete(
        &self,
        stand_in: &StandIn<'_>,
        job: &WorkloadRef,
        resource_version: &str,
    ) -> Result<Progress, Obstacle> {
        if stand_in.object.pointer("/metadata/deletionTimestamp").is_some() {
            // Somebody deletes it: the Job is for the next one.
            return Ok(Progress::Failed);
        }
        // What could not be made again is not deleted, and nothing is promised about what cannot be deleted.
        let (uid, version) = (&stand_in.recreation.uid, resource_version);
        let successor = stand_in.recreation.successor(stand_in.object);
        self.writer.would_take_job(&job.namespace, &successor).await?;
        self.writer.would_delete_job(job, uid, version).await?;
        // Never taken back: another leader may be about to delete the Job because of it.
        let phase = Phase::deleting(version);
        if stand_in.object["metadata"]["annotations"][RECREATES_PHASE] != *phase {
            self.writer.mark(stand_in.workload, stand_in.version(), &phase).await?;
        }
        self.writer.delete_job(job, uid, version, Propagation::Foreground).await?;
        Ok(Progress::Waits)
    }

    async fn make_anew(&self, stand_in: &StandIn<'_>, job: &WorkloadRef) -> Result<Progress, Obstacle> {
        let recreation = &stand_in.recreation;
        self.writer.make_job(&job.namespace, &recreation.successor(stand_in.object)).await?;
        let Some(made) = self.writer.read_json(job).await? else { return Ok(Progress::Failed) };
        let uid = made.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        if uid == recreation.uid {
            return Ok(Progress::Failed);
        }
        // Whoever is second here has nothing to tell.
        let version = self.writer.mark(stand_in.workload, stand_in.version(), Phase::MADE).await?;
        // Whoever made it, it is the one to be followed. If this fails, what is there now is recorded.
        if let Some(observed) = recreation.observed_of(&job.namespace, uid)
            && let Err(Written::Failed(error)) = self.writer.record_on(job, uid, &observed).await
        {
            tracing::debug!(%job, %error, "cannot record what a Job was made for");
        }
        let subject = Subject { workload: job.clone(), uid: Some(uid.to_owned()), resource_version: None };
        let done = "The Job was deleted and made anew".to_owned();
        let reload = Reload {
            acted: Some(Acted { done, restarts: true, observed: None }),
            causes: vec![],
            changes: recreation.why.clone(),
            old_hash: None,
            new_hash: None,
            references: vec![],
            since_change: None,
        };
        self.facts.publish(&subject, &Fact::Reloaded(reload));
        self.clean_up(stand_in, &version).await
    }

    /// Deletes the stand-in, if it still says what this was decided on.
    async fn clean_up(&self, stand_in: &StandIn<'_>, version: &str) -> Result<Progress, Obstacle> {
        let uid = stand_in.text("/metadata/uid");
        self.writer.delete_job(stand_in.workload, uid, version, Propagation::Background).await?;
        self.facts.resolve(stand_in.workload, &[Condition::PatchRefused]);
        Ok(Progress::Over)
    }

    fn failed(&self, stand_in: &WorkloadRef, obstacle: &Obstacle, uid: &str) -> Progress {
        match obstacle {
            Obstacle::Write(Written::JobRefused(why)) => {
                let uid = Some(uid.to_owned());
                let subject = Subject { workload: stand_in.clone(), uid, resource_version: None };
                self.facts.publish(&subject, &Fact::JobRefused { why: why.clone() });
            }
            Obstacle::Read(error) | Obstacle::Write(Written::Failed(error)) => {
                tracing::warn!(job = %stand_in, %error, "cannot make a Job anew; trying again later");
            }
            // Somebody else was quicker.
            Obstacle::Write(_) => {}
        }
        Progress::Failed
    }
}
