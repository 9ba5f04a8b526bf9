//! What all reconciles share, and what each of them returns. Their course is in [`crate::controller`]'s `reconciling`.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use pod_reloader_core::admission::Baseline;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::digest::Digest;
use pod_reloader_core::lookup::{ConfigVersion, Depth, Lookup, Query};
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::observed::Observed;
use pod_reloader_core::patch::Target;
use pod_reloader_core::reference::{Keys, WorkloadRef};
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::objects::WorkloadObject;
use pod_reloader_k8s::reader::ConfigReader;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::conditions::Condition;
use crate::fact::{Fact, Subject};
use crate::index::{Presence, View};
use crate::live::LiveReads;
use crate::metrics::Metrics;
use crate::opt_ins::OptIns;
use crate::rivals::Rivals;
use crate::sink::Publisher;
use crate::unconfirmed::UnconfirmedPatches;
use crate::write::{Guarding, Writer, Written};

/// What all reconciles share.
pub(crate) struct Reconciler {
    pub(crate) mode: HashMode,
    pub(crate) key: KeyReader,
    pub(crate) reader: Arc<ConfigReader>,
    pub(crate) live: LiveReads,
    pub(crate) writer: Writer,
    /// Bounds the writes of [`Self::drop_record`].
    pub(crate) drops: Semaphore,
    pub(crate) opt_ins: OptIns,
    pub(crate) facts: Publisher,
    pub(crate) unconfirmed: UnconfirmedPatches,
    pub(crate) rivals: Rivals,
    /// In how many namespaces there are workloads of ours.
    pub(crate) namespaces: AtomicUsize,
    pub(crate) metrics: Metrics,
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing more to do until something changes.
    Done,
    /// A reload is due, once the references have settled.
    SettleUntil(Instant),
    /// The workload is no longer there.
    Gone,
    /// Another attempt is needed, after a backoff.
    Failed,
    /// All was done that could be, without what could not be read: another attempt is needed, but changes of the other
    /// references need not wait for it.
    Partial,
}

/// What a reconcile found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    /// The workload as it was read or written last, and when, if it is newer than the snapshot.
    pub(crate) refreshed: Option<(WorkloadObject, Instant)>,
    /// What was seen of the references.
    pub(crate) learned: Vec<Learned>,
}

/// Something that was seen of a config object.
#[derive(Debug)]
pub(crate) enum Learned {
    /// It was there in that version, or was absent.
    Read(ConfigRef, Presence, Option<Digest>),
    /// That version lacks a key that a template requires.
    NotStartable(ConfigRef, ConfigVersion),
}

impl Report {
    pub(crate) fn new(outcome: Outcome) -> Self {
        Self { outcome, refreshed: None, learned: vec![] }
    }

    /// The same, with that outcome.
    pub(crate) fn ended(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }
}

impl Reconciler {
    /// The workload is no longer ours.
    pub(crate) fn forget(&self, workload: &WorkloadRef) {
        self.facts.forget(workload);
        self.unconfirmed.forget(workload);
        self.rivals.forget(workload);
    }

    /// What the content of an object is now, after a watch reported another version at `not_before`.
    pub(crate) async fn read_digest(&self, object: &ConfigRef, not_before: Instant) -> Option<Digest> {
        let key = self.key.get()?;
        let query = Query { object: object.clone(), depth: Depth::Content(Keys::All) };
        match self.live.read(&key, &query, not_before).await {
            Ok(Lookup::Found(found)) => found.digest(&key, &Keys::All),
            Ok(Lookup::Absent | Lookup::Unknown | Lookup::Unfollowed) | Err(_) => None,
        }
    }

    /// Takes observed-config off a workload that follows nothing any more, if it is this installation's. If that fails, the
    /// next event of the workload or the next list has it tried again.
    pub(crate) async fn drop_record(&self, view: &View) {
        let Ok(_turn) = self.drops.acquire().await else { return };
        let baseline = Baseline::of(&view.workload);
        let namespace = &view.workload_ref.namespace;
        let observed = baseline.observed.and_then(|text| Observed::parse(text, namespace, baseline.hash));
        if !observed.zip(self.key.get()).is_some_and(|(observed, key)| observed.is_comparable(&key)) {
            return;
        }
        let target = Target { observed: None, ..Target::of(baseline) };
        if let Written::Failed(error) = self.writer.write(view, &target, Guarding::Version).await {
            tracing::debug!(workload = %view.workload_ref, %error, "what is recorded could not be taken off");
        }
    }

    /// Publishes what happened to the workload.
    pub(crate) fn publish(&self, view: &View, fact: &Fact) {
        self.facts.publish(&Subject::of(view), fact);
    }

    /// The workload is as it should be.
    pub(crate) fn all_is_right(&self, view: &Arc<View>) {
        let resolved = [
            Condition::ReloadDeferred,
            Condition::PatchRefused,
            Condition::NoRoom,
            Condition::ReferenceUnreadable,
        ];
        self.facts.resolve(&view.workload_ref, &resolved);
        self.report_unconfirmed(view);
    }
}
