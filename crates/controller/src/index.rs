//! Which workloads refer to which config objects, and what the watches last said of both.
//!
//! Synchronous and without I/O; one task owns it. Every update answers which workloads have to be looked at, so
//! that nothing is recomputed for objects that nobody refers to. Memory follows the references (5.2): of objects
//! that are not referred to nothing is kept.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::kind::KindRef;
use pod_reloader_core::reference::{ConfigKind, ConfigName, ConfigRef, WorkloadRef};
use pod_reloader_core::workload::{SettleWindow, Workload};
use tokio::time::Instant;

use crate::watch::Coverage;
use object::ObjectEntry;

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
    Version(Version),
    Absent,
}

/// One version of a config object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
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
    /// The version in which it was seen first since it was unknown or absent.
    pub(crate) first_seen: Option<Version>,
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
    /// Shared with the objects that it refers to.
    id: Arc<WorkloadRef>,
    view: Arc<View>,
    /// The first change that has not been reconciled yet.
    unsettled_since: Option<Instant>,
}

/// What has to be done because of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Affected {
    /// Workloads to reconcile once their references have settled.
    pub(crate) to_settle: Vec<WorkloadRef>,
    /// Workloads to reconcile at once: nothing changed that could reload them before the window is over, but something
    /// may have to be recorded, or they may have waited for this.
    pub(crate) at_once: Vec<WorkloadRef>,
    /// Whether the object's content has to be compared: only its metadata is known to have changed.
    pub(crate) compare: bool,
}

/// What became of a workload that was given to the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It is ours, and has to be reconciled.
    Managed,
    /// It is not ours.
    Unmanaged,
    /// There is no room for its references.
    NoRoom,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    settle_window: Duration,
    /// Whether content counts, or any new version (2.4).
    compares_content: bool,
    /// Objects that are referred to: how many at most, and how many in each namespace now. Nobody who may write in one
    /// namespace can take more than a third of the memory that there is for them.
    max_objects: usize,
    objects_of: HashMap<String, usize>,
    workloads: HashMap<WorkloadRef, WorkloadEntry>,
    objects: HashMap<ConfigRef, ObjectEntry>,
    /// What a relist under way has not listed yet; what is left at its end is gone.
    unlisted_workloads: HashMap<Coverage<KindRef>, HashSet<WorkloadRef>>,
    unlisted_objects: HashMap<Coverage<ConfigKind>, HashSet<ConfigRef>>,
}

impl Index {
    pub(crate) fn new(settle_window: Duration, compares_content: bool, max_objects: usize) -> Self {
        Self {
            settle_window,
            compares_content,
            max_objects,
            objects_of: HashMap::new(),
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

    /// In how many namespaces workloads refer to something.
    pub(crate) fn namespace_count(&self) -> usize {
        self.objects_of.len()
    }

    pub(crate) fn workloads(&self) -> impl Iterator<Item = &WorkloadRef> {
        self.workloads.keys()
    }

    /// A workload as it is now. Returns what became of it, and the objects that nothing refers to any more.
    pub(crate) fn apply_workload(
        &mut self,
        reference: &WorkloadRef,
        workload: Workload,
        now: Instant,
    ) -> (Applied, Vec<ConfigRef>) {
        if !workload.is_cared_for() {
            return (Applied::Unmanaged, self.delete_workload(reference));
        }
        let before = self.workloads.get(reference);
        let unsettled_since = before.and_then(|entry| entry.unsettled_since);
        let id = before.map_or_else(|| Arc::new(reference.clone()), |entry| entry.id.clone());
        let before = before.map(|entry| interests(&entry.view)).unwrap_or_default();
        let view = Arc::new(View { reference: reference.clone(), workload, received: now });
        let after = interests(&view);
        if !self.has_room(&reference.namespace, after.keys()) {
            return (Applied::NoRoom, self.delete_workload(reference));
        }
        let mut has_new = false;
        for (name, is_listed) in &after {
            let object = ConfigRef::new(&reference.namespace, name.clone());
            let entry = self.objects.entry(object).or_insert_with(|| {
                has_new |= *is_listed;
                *self.objects_of.entry(reference.namespace.clone()).or_default() += 1;
                ObjectEntry::new(now)
            });
            entry.users.insert(id.clone(), *is_listed);
        }
        let dropped = before.into_iter().filter(|(name, _)| !after.contains_key(name));
        let orphans = self.release(reference, dropped.map(|(name, _)| name).collect());
        let unsettled_since = unsettled_since.or(has_new.then_some(now));
        self.workloads.insert(reference.clone(), WorkloadEntry { id, view, unsettled_since });
        (Applied::Managed, orphans)
    }

    fn has_room<'a>(&self, namespace: &str, names: impl Iterator<Item = &'a ConfigName>) -> bool {
        let of_namespace = self.objects_of.get(namespace).copied().unwrap_or_default();
        let is_new = |name: &&ConfigName| {
            !self.objects.contains_key(&ConfigRef::new(namespace, ConfigName::clone(name)))
        };
        let new = names.filter(is_new).count();
        new == 0
            || (of_namespace + new <= (self.max_objects / 3).max(1)
                && self.objects.len() + new <= self.max_objects)
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
            let Some(entry) = self.objects.get_mut(&object) else { continue };
            entry.users.remove(reference);
            entry.unrecorded_by.remove(reference);
            if entry.users.is_empty() {
                self.objects.remove(&object);
                if let Some(count) = self.objects_of.get_mut(&object.namespace) {
                    *count -= 1;
                    if *count == 0 {
                        self.objects_of.remove(&object.namespace);
                    }
                }
                orphans.push(object);
            }
        }
        orphans
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
        let mut changed_at = None;
        for (name, is_listed) in interests(&entry.view) {
            let object = self.objects.get(&ConfigRef::new(&reference.namespace, name.clone()))?;
            if is_listed {
                changed_at = changed_at.max(object.changed_at);
            }
            let is_recent =
                object.changed_at.is_some_and(|at| entry.unsettled_since.is_some_and(|since| at >= since));
            references.push(ReferenceState {
                name,
                presence: object.presence.clone(),
                is_listed,
                is_recent,
                first_seen: object.first_seen.clone(),
            });
        }
        Some(Snapshot {
            view: entry.view.clone(),
            references,
            settled_at: self.settled_at(entry),
            changed_at,
        })
    }

    /// When the workload's references will have been quiet for the settle window.
    pub(crate) fn due(&self, reference: &WorkloadRef) -> Option<Instant> {
        self.workloads.get(reference).map(|entry| self.settled_at(entry))
    }

    pub(crate) fn contains(&self, reference: &WorkloadRef) -> bool {
        self.workloads.contains_key(reference)
    }

    fn settled_at(&self, entry: &WorkloadEntry) -> Instant {
        let view = &entry.view;
        let names = view.workload.references.names().into_iter();
        let objects = names
            .filter_map(|name| self.objects.get(&ConfigRef::new(&view.reference.namespace, name.clone())));
        // Content that has not been compared yet may have moved.
        let moved_at = |object: &ObjectEntry| object.uncompared_since.max(Some(object.moved_at));
        let Some(moved_at) = objects.filter_map(moved_at).max() else { return view.received };
        let window = match view.workload.settle_window {
            SettleWindow::Of(window) => window,
            SettleWindow::Unset | SettleWindow::Invalid => self.settle_window,
        };
        let quiet = moved_at + window;
        match entry.unsettled_since {
            Some(since) => quiet.min(since + window * MOST_WINDOWS),
            None => quiet,
        }
    }
}

/// The objects that matter to a workload, and whether each is on its lists or only required by its template.
fn interests(view: &View) -> BTreeMap<ConfigName, bool> {
    let required = view.workload.template.uses.required().map(|name| (name.clone(), false));
    let listed = view.workload.references.names().into_iter().map(|name| (name.clone(), true));
    required.chain(listed).collect()
}

mod object;
mod relist;
#[cfg(test)]
mod tests;
