//! Which workloads refer to which config objects, and what the watches last reported of both.
//!
//! Synchronous and without I/O; one task owns it. Every update answers which workloads have to be reconciled, so that
//! nothing is recomputed for objects that no workload refers to. Memory follows the references (5.2): of objects that
//! are not referred to nothing is kept.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::kind::KindRef;
use pod_reloader_core::lookup::ConfigVersion;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_core::workload::{SettleWindow, Workload};
use tokio::time::Instant;

use crate::watch::Coverage;
use object::ObjectEntry;
use words::Words;

/// A steady stream of changes is cut off after this many settle windows (3.1).
const MAX_WINDOWS: u32 = 5;

/// One version of a workload, and when it reached us.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) workload_ref: Arc<WorkloadRef>,
    pub(crate) workload: Workload,
    /// Reads that began later have seen all that the writer of this version saw.
    pub(crate) received: Instant,
}

/// What is known of a config object without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Version(Arc<ConfigVersion>),
    Absent,
}

/// What the index knows of one reference.
#[derive(Clone, Debug)]
pub(crate) struct ReferenceState {
    pub(crate) object: ConfigRef,
    /// `None` while nothing was seen of it since it was first referred to.
    pub(crate) presence: Option<Presence>,
    /// Whether it is a reference of the workload, or only required by its template.
    pub(crate) is_reference: bool,
    /// Whether a change was seen that has not been reconciled yet.
    pub(crate) is_recent: bool,
    /// The version in which it was seen first since it was unknown or absent.
    pub(crate) first_seen: Option<Arc<ConfigVersion>>,
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

/// What has to be done because of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Affected {
    /// Workloads to reconcile once their references have settled.
    pub(crate) to_settle: Vec<Arc<WorkloadRef>>,
    /// Workloads to reconcile at once: nothing changed that could reload them before the window is over, but something
    /// may have to be recorded, or they may have waited for this.
    pub(crate) at_once: Vec<Arc<WorkloadRef>>,
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
    /// Objects that are referred to: how many at most, and how many are charged to each namespace now. That is the
    /// namespace of the workload that referred to it first, wherever the object lies: users who may write workloads in
    /// one namespace can take no more than a third of the memory that there is for them, whatever they refer to.
    max_objects: usize,
    objects_of: HashMap<Arc<str>, usize>,
    /// Their names are shared with the objects that they refer to, and with whoever is given them.
    workloads: HashMap<Arc<WorkloadRef>, WorkloadEntry>,
    /// How many there are in each namespace.
    workloads_of: HashMap<Arc<str>, usize>,
    words: Words,
    /// Boxed: a map has up to twice the room that it needs.
    objects: HashMap<ConfigRef, Box<ObjectEntry>>,
    /// What a relist under way has not listed yet; what is left at its end has been deleted.
    unlisted_workloads: HashMap<Coverage<KindRef>, HashSet<Arc<WorkloadRef>>>,
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
            workloads_of: HashMap::new(),
            words: Words::default(),
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

    /// In how many namespaces there are workloads of ours.
    pub(crate) fn namespace_count(&self) -> usize {
        self.workloads_of.len()
    }

    pub(crate) fn workloads(&self) -> impl Iterator<Item = &Arc<WorkloadRef>> {
        self.workloads.keys()
    }

    /// A workload as it is now. Returns what became of it, and the objects that nothing refers to any more.
    pub(crate) fn apply_workload(
        &mut self,
        workload_ref: &Arc<WorkloadRef>,
        mut workload: Workload,
        now: Instant,
    ) -> (Applied, Vec<ConfigRef>) {
        if !workload.is_managed() {
            return (Applied::Unmanaged, self.delete_workload(workload_ref));
        }
        // The reference says that.
        (workload.namespace, workload.name) = (None, None);
        workload.share_names(|object| self.objects.get_key_value(object).map(|(known, _)| known.clone()));
        let before = self.workloads.get(workload_ref);
        let unsettled_since = before.and_then(|entry| entry.unsettled_since);
        let id = before.map_or_else(|| workload_ref.clone(), |entry| entry.view.workload_ref.clone());
        let words_before = before.map_or(0, |entry| Words::of(&entry.view.workload));
        let before = before.map(|entry| interests(&entry.view)).unwrap_or_default();
        let words = Words::of(&workload);
        let view = Arc::new(View { workload_ref: id.clone(), workload, received: now });
        let after = interests(&view);
        let grown = words.saturating_sub(words_before);
        if !self.has_room(&workload_ref.namespace, after.keys(), grown) {
            return (Applied::NoRoom, self.delete_workload(workload_ref));
        }
        self.words.change(&workload_ref.namespace, words_before, words);
        let mut has_new = false;
        for (object, is_reference) in &after {
            let entry = self.objects.entry(object.clone()).or_insert_with(|| {
                has_new |= *is_reference;
                Box::new(ObjectEntry::new(now, charge(&mut self.objects_of, &workload_ref.namespace)))
            });
            entry.users.insert(&id, *is_reference);
        }
        let dropped = before.into_iter().filter(|(object, _)| !after.contains_key(object));
        let orphans = self.release(workload_ref, dropped.map(|(object, _)| object).collect());
        let unsettled_since = unsettled_since.or(has_new.then_some(now));
        if self.workloads.insert(id, WorkloadEntry { view, unsettled_since }).is_none() {
            charge(&mut self.workloads_of, &workload_ref.namespace);
        }
        (Applied::Managed, orphans)
    }

    /// Whether these objects fit, and words that take as much room as so many more.
    fn has_room<'a>(
        &self,
        namespace: &str,
        objects: impl Iterator<Item = &'a ConfigRef>,
        words: usize,
    ) -> bool {
        let of_namespace = self.objects_of.get(namespace).copied().unwrap_or_default();
        let new = objects.filter(|object| !self.objects.contains_key(*object)).count() + words;
        new == 0
            || (of_namespace + self.words.of_namespace(namespace) + new <= (self.max_objects / 3).max(1)
                && self.objects.len() + self.words.total + new <= self.max_objects)
    }

    /// Whether this is still the latest that is known of the workload. If not, a watch reported something since, or the
    /// workload's deletion.
    pub(crate) fn is_latest(&self, view: &Arc<View>) -> bool {
        self.workloads.get(&*view.workload_ref).is_some_and(|entry| Arc::ptr_eq(&entry.view, view))
    }

    /// A workload is gone, or no longer ours. Returns the objects that nothing refers to any more.
    pub(crate) fn delete_workload(&mut self, workload: &WorkloadRef) -> Vec<ConfigRef> {
        let Some(entry) = self.workloads.remove(workload) else { return vec![] };
        shrink(&mut self.workloads);
        uncharge(&mut self.workloads_of, &workload.namespace);
        self.words.change(&workload.namespace, Words::of(&entry.view.workload), 0);
        let objects = interests(&entry.view).into_keys().collect();
        self.release(workload, objects)
    }

    fn release(&mut self, workload: &WorkloadRef, objects: Vec<ConfigRef>) -> Vec<ConfigRef> {
        let mut orphans = vec![];
        for object in objects {
            let Some(entry) = self.objects.get_mut(&object) else { continue };
            entry.users.remove(workload);
            if entry.users.is_empty() {
                uncharge(&mut self.objects_of, &entry.charged_to);
                self.objects.remove(&object);
                orphans.push(object);
            } else if *workload.namespace == *entry.charged_to {
                // Who is left takes over, once the namespace has no user of it any more.
                let mut users = entry.users.iter().map(|user| user.workload.namespace.as_str());
                let has_other = users.clone().any(|namespace| *namespace == *workload.namespace);
                if let Some(payer) = users.next().filter(|_| !has_other) {
                    let payer = charge(&mut self.objects_of, payer);
                    uncharge(&mut self.objects_of, &std::mem::replace(&mut entry.charged_to, payer));
                }
            }
        }
        shrink(&mut self.objects);
        orphans
    }

    /// The workload agrees with its references, as far as changes go that were seen until `then`.
    pub(crate) fn settled(&mut self, workload: &WorkloadRef, then: Instant) {
        if let Some(entry) = self.workloads.get_mut(workload)
            && entry.unsettled_since.is_some_and(|since| since <= then)
        {
            entry.unsettled_since = None;
        }
    }

    pub(crate) fn snapshot(&self, workload: &WorkloadRef) -> Option<Snapshot> {
        let entry = self.workloads.get(workload)?;
        let mut references = vec![];
        let mut changed_at = None;
        for (object, is_reference) in interests(&entry.view) {
            let known = self.objects.get(&object)?;
            if is_reference {
                changed_at = changed_at.max(known.changed_at);
            }
            let is_recent =
                known.changed_at.is_some_and(|at| entry.unsettled_since.is_some_and(|since| at >= since));
            references.push(ReferenceState {
                object,
                presence: known.presence.clone(),
                is_reference,
                is_recent,
                first_seen: known.first_seen.clone(),
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
    pub(crate) fn due(&self, workload: &WorkloadRef) -> Option<Instant> {
        self.workloads.get(workload).map(|entry| self.settled_at(entry))
    }

    /// Whether a newer version of the workload is known than that one. Versions of one kind grow, and can be compared as
    /// numbers (KEP-5504).
    pub(crate) fn is_newer(&self, workload: &WorkloadRef, version: Option<&str>) -> bool {
        let number = |version: &str| version.parse::<u64>().ok();
        let known = self.workloads.get(workload).and_then(|it| it.view.workload.resource_version.as_deref());
        known.and_then(number).zip(version.and_then(number)).is_some_and(|(known, other)| known > other)
    }

    pub(crate) fn contains(&self, workload: &WorkloadRef) -> bool {
        self.workloads.contains_key(workload)
    }

    /// The workload's name as it is kept, if it is.
    pub(crate) fn known(&self, workload: &WorkloadRef) -> Option<Arc<WorkloadRef>> {
        self.workloads.get(workload).map(|entry| entry.view.workload_ref.clone())
    }

    fn settled_at(&self, entry: &WorkloadEntry) -> Instant {
        let view = &entry.view;
        let references = view.workload.references.objects().into_iter();
        let objects = references.filter_map(|object| self.objects.get(object).map(AsRef::as_ref));
        // Content that has not been compared yet may have changed.
        let moved_at = |object: &ObjectEntry| object.uncompared_since.max(Some(object.moved_at));
        let Some(moved_at) = objects.filter_map(moved_at).max() else { return view.received };
        let window = match view.workload.settle_window {
            SettleWindow::Of(window) => window,
            SettleWindow::Unset | SettleWindow::Invalid => self.settle_window,
        };
        let quiet = moved_at + window;
        match entry.unsettled_since {
            Some(since) => quiet.min(since + window * MAX_WINDOWS),
            None => quiet,
        }
    }
}

/// Gives room back that a map had for many more: none does so by itself.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() / 4 > map.len() {
        map.shrink_to(map.len() * 2);
    }
}

/// Counts one more for a namespace. Returns its name, of which there is one copy.
fn charge(objects_of: &mut HashMap<Arc<str>, usize>, namespace: &str) -> Arc<str> {
    let name =
        objects_of.get_key_value(namespace).map_or_else(|| namespace.into(), |(name, _)| Arc::clone(name));
    *objects_of.entry(name.clone()).or_default() += 1;
    name
}

/// Counts one less for a namespace.
fn uncharge(objects_of: &mut HashMap<Arc<str>, usize>, namespace: &str) {
    if let Some(count) = objects_of.get_mut(namespace) {
        *count -= 1;
        if *count == 0 {
            objects_of.remove(namespace);
        }
    }
}

/// The objects that matter to a workload, and whether each is a reference or only required by its template.
fn interests(view: &View) -> BTreeMap<ConfigRef, bool> {
    let required = view.workload.template.uses.required().map(|object| (object.clone(), false));
    let references = view.workload.references.objects().into_iter().map(|object| (object.clone(), true));
    required.chain(references).collect()
}

mod object;
mod relist;
#[cfg(test)]
mod tests;
mod users;
mod words;
