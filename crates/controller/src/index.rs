//! Which workloads refer to which config objects, and what the watches last said of both.
//!
//! Synchronous and without I/O; one task owns it. Every update answers which workloads have to be looked at, so
//! that nothing is recomputed for objects that nobody refers to. Memory follows the references (5.2): of objects
//! that are not referred to nothing is kept.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::reference::{ConfigKind, ConfigName, ConfigRef, WorkloadKind, WorkloadRef};
use pod_reloader_core::workload::Workload;
use tokio::time::Instant;

/// A steady stream of changes is cut off after this many settle windows (3.1).
const MOST_WINDOWS: u32 = 5;

/// One version of a workload, and when it reached us.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) reference: WorkloadRef,
    pub(crate) workload: Workload,
    /// Reads that began later have seen all that whoever wrote this version saw.
    pub(crate) received: Instant,
}

/// What is known of a config object without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Version { uid: String, resource_version: String },
    Absent,
}

/// What the index knows of one reference.
#[derive(Clone, Debug)]
pub(crate) struct ReferenceState {
    pub(crate) name: ConfigName,
    /// `None` while nothing was seen of it since it was first referred to.
    pub(crate) presence: Option<Presence>,
    /// Whether it is on the workload's lists, or only required by its template.
    pub(crate) is_listed: bool,
    /// Whether a change was seen that has not been reconciled yet.
    pub(crate) is_recent: bool,
}

/// All that the index knows of a workload.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) view: Arc<View>,
    pub(crate) references: Vec<ReferenceState>,
    /// When the references have been quiet for the settle window.
    pub(crate) settled_at: Instant,
    /// When the last change of a reference was seen, if one was.
    pub(crate) changed_at: Option<Instant>,
}

#[derive(Debug)]
struct WorkloadEntry {
    view: Arc<View>,
    /// The first change that has not been reconciled yet.
    unsettled_since: Option<Instant>,
}

#[derive(Debug)]
struct ObjectEntry {
    presence: Option<Presence>,
    /// When it was first referred to or last seen to change.
    moved_at: Instant,
    /// The last change that a watch told of, as against our getting to know it.
    changed_at: Option<Instant>,
    listed_by: BTreeSet<WorkloadRef>,
    required_by: BTreeSet<WorkloadRef>,
}

/// Workloads to look at because of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Affected {
    /// Once their references have settled.
    pub(crate) to_settle: Vec<WorkloadRef>,
    /// At once: nothing changed as far as their hash goes, but they may have waited for this.
    pub(crate) at_once: Vec<WorkloadRef>,
}

/// What a watch stream covers: one kind, in one namespace or in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Coverage<K> {
    pub(crate) kind: K,
    pub(crate) namespace: Option<String>,
}

impl<K: PartialEq> Coverage<K> {
    fn contains(&self, kind: &K, namespace: &str) -> bool {
        self.kind == *kind && self.namespace.as_deref().is_none_or(|covered| covered == namespace)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    settle_window: Duration,
    workloads: HashMap<WorkloadRef, WorkloadEntry>,
    objects: HashMap<ConfigRef, ObjectEntry>,
    /// What a relist under way has not listed yet; what is left at its end is gone.
    unlisted_workloads: HashMap<Coverage<WorkloadKind>, HashSet<WorkloadRef>>,
    unlisted_objects: HashMap<Coverage<ConfigKind>, HashSet<ConfigRef>>,
}

impl Index {
    pub(crate) fn new(settle_window: Duration) -> Self {
        Self {
            settle_window,
            workloads: HashMap::new(),
            objects: HashMap::new(),
            unlisted_workloads: HashMap::new(),
            unlisted_objects: HashMap::new(),
        }
    }

    pub(crate) fn workload_count(&self) -> usize {
        self.workloads.len()
    }

    pub(crate) fn object_count(&self) -> usize {
        self.objects.len()
    }

    pub(crate) fn workloads(&self) -> impl Iterator<Item = &WorkloadRef> {
        self.workloads.keys()
    }

    /// A workload as it is now. Returns whether it is cared for and has to be looked at, and the objects that
    /// nothing refers to any more.
    pub(crate) fn apply_workload(
        &mut self,
        reference: &WorkloadRef,
        workload: Workload,
        now: Instant,
    ) -> (bool, Vec<ConfigRef>) {
        if !workload.is_cared_for() {
            return (false, self.delete_workload(reference));
        }
        let unsettled_since = self.workloads.get(reference).and_then(|entry| entry.unsettled_since);
        let before = self.workloads.get(reference).map(|entry| interests(&entry.view)).unwrap_or_default();
        let view = Arc::new(View { reference: reference.clone(), workload, received: now });
        let after = interests(&view);
        let mut has_new = false;
        for (name, is_listed) in &after {
            let object = ConfigRef::new(&reference.namespace, name.clone());
            let entry = self.objects.entry(object).or_insert_with(|| {
                has_new |= *is_listed;
                ObjectEntry {
                    presence: None,
                    moved_at: now,
                    changed_at: None,
                    listed_by: BTreeSet::new(),
                    required_by: BTreeSet::new(),
                }
            });
            let (users, others) = if *is_listed {
                (&mut entry.listed_by, &mut entry.required_by)
            } else {
                (&mut entry.required_by, &mut entry.listed_by)
            };
            others.remove(reference);
            users.insert(reference.clone());
        }
        let dropped = before.into_iter().filter(|(name, _)| !after.contains_key(name));
        let orphans = self.release(reference, dropped.map(|(name, _)| name).collect());
        let unsettled_since = unsettled_since.or(has_new.then_some(now));
        self.workloads.insert(reference.clone(), WorkloadEntry { view, unsettled_since });
        (true, orphans)
    }

    /// Whether this is still the latest that is known of the workload. If not, a watch told of something since, or of
    /// the workload's end.
    pub(crate) fn is_latest(&self, view: &Arc<View>) -> bool {
        self.workloads.get(&view.reference).is_some_and(|entry| Arc::ptr_eq(&entry.view, view))
    }

    /// A workload is gone, or no longer ours. Returns the objects that nothing refers to any more.
    pub(crate) fn delete_workload(&mut self, reference: &WorkloadRef) -> Vec<ConfigRef> {
        let Some(entry) = self.workloads.remove(reference) else { return vec![] };
        let names = interests(&entry.view).into_keys().collect();
        self.release(reference, names)
    }

    fn release(&mut self, reference: &WorkloadRef, names: Vec<ConfigName>) -> Vec<ConfigRef> {
        let mut orphans = vec![];
        for name in names {
            let object = ConfigRef::new(&reference.namespace, name);
            if let Some(entry) = self.objects.get_mut(&object) {
                entry.listed_by.remove(reference);
                entry.required_by.remove(reference);
                if entry.listed_by.is_empty() && entry.required_by.is_empty() {
                    self.objects.remove(&object);
                    orphans.push(object);
                }
            }
        }
        orphans
    }

    /// What a watch says of a config object.
    pub(crate) fn apply_object(&mut self, object: &ConfigRef, presence: &Presence, now: Instant) -> Affected {
        let Some(entry) = self.objects.get_mut(object) else { return Affected::default() };
        let before = entry.presence.replace(presence.clone());
        match before {
            Some(before) if before == *presence => Affected::default(),
            // The first news of it. A read under way may have been earlier, so its users are looked at again.
            None => Affected {
                at_once: entry.listed_by.union(&entry.required_by).cloned().collect(),
                ..Affected::default()
            },
            Some(before) => {
                entry.moved_at = now;
                entry.changed_at = Some(now);
                let came_or_went = (before == Presence::Absent) != (*presence == Presence::Absent);
                let at_once = if came_or_went { entry.required_by.iter().cloned().collect() } else { vec![] };
                let to_settle: Vec<_> = entry.listed_by.iter().cloned().collect();
                for reference in &to_settle {
                    if let Some(workload) = self.workloads.get_mut(reference) {
                        workload.unsettled_since.get_or_insert(now);
                    }
                }
                Affected { to_settle, at_once }
            }
        }
    }

    /// What a read found, where the watches have not told anything yet.
    pub(crate) fn learn(&mut self, object: &ConfigRef, presence: Presence) {
        if let Some(entry) = self.objects.get_mut(object) {
            entry.presence.get_or_insert(presence);
        }
    }

    /// The workload agrees with its references, as far as changes go that were seen until `then`.
    pub(crate) fn settled(&mut self, reference: &WorkloadRef, then: Instant) {
        if let Some(entry) = self.workloads.get_mut(reference)
            && entry.unsettled_since.is_some_and(|since| since <= then)
        {
            entry.unsettled_since = None;
        }
    }

    pub(crate) fn snapshot(&self, reference: &WorkloadRef) -> Option<Snapshot> {
        let entry = self.workloads.get(reference)?;
        let mut references = vec![];
        let mut moved_at = None;
        let mut changed_at = None;
        for (name, is_listed) in interests(&entry.view) {
            let object = self.objects.get(&ConfigRef::new(&reference.namespace, name.clone()))?;
            if is_listed {
                moved_at = moved_at.max(Some(object.moved_at));
                changed_at = changed_at.max(object.changed_at);
            }
            let is_recent =
                object.changed_at.is_some_and(|at| entry.unsettled_since.is_some_and(|since| at >= since));
            references.push(ReferenceState { name, presence: object.presence.clone(), is_listed, is_recent });
        }
        Some(Snapshot {
            view: entry.view.clone(),
            references,
            settled_at: self.settled_at(entry, moved_at),
            changed_at,
        })
    }

    fn settled_at(&self, entry: &WorkloadEntry, moved_at: Option<Instant>) -> Instant {
        let Some(moved_at) = moved_at else { return entry.view.received };
        let quiet = moved_at + self.settle_window;
        match entry.unsettled_since {
            Some(since) => quiet.min(since + self.settle_window * MOST_WINDOWS),
            None => quiet,
        }
    }

    /// When the workload's references will have been quiet for the settle window.
    pub(crate) fn due(&self, reference: &WorkloadRef) -> Option<Instant> {
        Some(self.snapshot(reference)?.settled_at)
    }

    /// A workload stream starts over: what it does not list until [`Index::end_workloads`] is gone.
    pub(crate) fn begin_workloads(&mut self, coverage: &Coverage<WorkloadKind>) {
        let known = self.workloads.keys();
        let covered = known.filter(|workload| coverage.contains(&workload.kind, &workload.namespace));
        self.unlisted_workloads.insert(coverage.clone(), covered.cloned().collect());
    }

    pub(crate) fn list_workload(&mut self, coverage: &Coverage<WorkloadKind>, reference: &WorkloadRef) {
        if let Some(unlisted) = self.unlisted_workloads.get_mut(coverage) {
            unlisted.remove(reference);
        }
    }

    /// Returns the workloads that vanished while the stream was down.
    pub(crate) fn end_workloads(&mut self, coverage: &Coverage<WorkloadKind>) -> Vec<WorkloadRef> {
        self.unlisted_workloads.remove(coverage).unwrap_or_default().into_iter().collect()
    }

    /// A stream of config objects starts over, likewise.
    pub(crate) fn begin_objects(&mut self, coverage: &Coverage<ConfigKind>) {
        let known = self.objects.keys();
        let covered = known.filter(|object| coverage.contains(&object.object.kind, &object.namespace));
        self.unlisted_objects.insert(coverage.clone(), covered.cloned().collect());
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

/// The objects that matter to a workload, and whether each is on its lists or only required by its template.
fn interests(view: &View) -> std::collections::BTreeMap<ConfigName, bool> {
    let required = view.workload.template.uses.required().map(|name| (name.clone(), false));
    let listed = view.workload.references.names().into_iter().map(|name| (name.clone(), true));
    required.chain(listed).collect()
}

#[cfg(test)]
mod tests;
