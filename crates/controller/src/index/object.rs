//! What is known of one config object that workloads refer to, and what its changes mean for them.

use std::sync::Arc;

use pod_reloader_core::digest::Digest;
use pod_reloader_core::lookup::ConfigVersion;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::reference::WorkloadRef;
use tokio::time::Instant;

use super::users::Users;
use super::{Affected, Index, Presence};

#[derive(Debug)]
pub(super) struct ObjectEntry {
    pub(super) presence: Option<Presence>,
    pub(super) first_seen: Option<Arc<ConfigVersion>>,
    /// The digest of the content that was read last.
    pub(super) digest: Option<Digest>,
    /// When it was first referred to, or its content last seen to change.
    pub(super) moved_at: Instant,
    /// The last change of its content that a watch reported, as opposed to learning of it for the first time.
    pub(super) changed_at: Option<Instant>,
    /// When a version was seen whose content has not been compared yet.
    pub(super) uncompared_since: Option<Instant>,
    pub(super) users: Users,
    /// The namespace whose share of the index it takes.
    pub(super) charged_to: Arc<str>,
}

impl ObjectEntry {
    pub(super) fn new(now: Instant, charged_to: Arc<str>) -> Self {
        Self {
            presence: None,
            first_seen: None,
            digest: None,
            moved_at: now,
            changed_at: None,
            uncompared_since: None,
            users: Users::default(),
            charged_to,
        }
    }
}

impl Index {
    /// What a watch reports of a config object.
    pub(crate) fn apply_object(&mut self, object: &ConfigRef, presence: &Presence, now: Instant) -> Affected {
        let Some(entry) = self.objects.get_mut(object) else { return Affected::default() };
        if entry.presence.as_ref() == Some(presence) {
            return Affected::default();
        }
        let before = entry.presence.replace(presence.clone());
        if before == Some(Presence::Absent) || *presence == Presence::Absent {
            // Another object of the same name: some of its users may have seen it by now, and some not.
            entry.digest = None;
        }
        if let Presence::Version(version) = presence {
            if before == Some(Presence::Absent) {
                if entry.users.all_recorded() {
                    entry.first_seen = None;
                }
                entry.users.appeared();
            }
            entry.first_seen.get_or_insert_with(|| version.clone());
        }
        // Another version need not have other content. However often it is written, no workload is reconciled for it.
        if self.compares_content
            && matches!((&before, presence), (Some(Presence::Version(_)), Presence::Version(_)))
        {
            let compare = entry.users.iter().any(|user| user.is_reference);
            if compare {
                entry.uncompared_since = Some(now);
            }
            // Another mark is no other content, but decides whether that counts.
            let is_marked_otherwise = matches!((&before, presence),
                (Some(Presence::Version(before)), Presence::Version(now)) if before.marks != now.marks);
            let at_once = if is_marked_otherwise { entry.users.names(true) } else { vec![] };
            return Affected { at_once, compare, ..Affected::default() };
        }
        let (referring, requiring) = (entry.users.names(true), entry.users.names(false));
        match (before, presence) {
            // The first report of it. A read under way may have been earlier, so its users are reconciled again.
            (None, _) => Affected { at_once: [referring, requiring].concat(), ..Affected::default() },
            // What pods can start with from now on has to be recorded before it changes again.
            (Some(Presence::Absent), _) => {
                self.move_object(object, &referring, now);
                Affected { at_once: [referring, requiring].concat(), ..Affected::default() }
            }
            (Some(_), Presence::Absent) => {
                self.move_object(object, &referring, now);
                Affected { to_settle: referring, at_once: requiring, compare: false }
            }
            (Some(Presence::Version(_)), _) => {
                self.move_object(object, &referring, now);
                Affected { to_settle: referring, ..Affected::default() }
            }
        }
    }

    /// What a read found of the content of an object that was to be compared; `None` if it could not be read, or is
    /// gone. Returns the workloads to reconcile once their references have settled: those that refer to it, if its content
    /// is another (3.1), or may be.
    ///
    /// `is_behind` if a further version was seen while this one was read.
    pub(crate) fn compare_object(
        &mut self,
        object: &ConfigRef,
        digest: Option<Digest>,
        is_behind: bool,
    ) -> Vec<Arc<WorkloadRef>> {
        let Some(entry) = self.objects.get_mut(object) else { return vec![] };
        let Some(seen_at) = entry.uncompared_since else { return vec![] };
        if !is_behind {
            entry.uncompared_since = None;
        }
        let before = std::mem::replace(&mut entry.digest, digest);
        let referring = entry.users.names(true);
        if digest.is_some() && before == digest {
            // Workloads that waited for that answer need not wait as if the content had changed.
            let is_waiting = |user: &Arc<WorkloadRef>| {
                self.workloads.get(user).is_some_and(|workload| workload.unsettled_since.is_some())
            };
            return referring.into_iter().filter(is_waiting).collect();
        }
        self.move_object(object, &referring, seen_at);
        referring
    }

    /// The content of an object changed, appeared or was deleted.
    fn move_object(&mut self, object: &ConfigRef, referring: &[Arc<WorkloadRef>], at: Instant) {
        if let Some(entry) = self.objects.get_mut(object) {
            entry.moved_at = entry.moved_at.max(at);
            entry.changed_at = entry.changed_at.max(Some(at));
        }
        for workload in referring {
            if let Some(entry) = self.workloads.get_mut(workload) {
                entry.unsettled_since.get_or_insert(at);
            }
        }
    }

    /// What a read found: the version, where the watches have not reported it yet, and the content's digest.
    pub(crate) fn learn(&mut self, object: &ConfigRef, presence: Presence, digest: Option<Digest>) {
        let Some(entry) = self.objects.get_mut(object) else { return };
        if let Presence::Version(version) = &presence {
            let was_absent = matches!(entry.presence, None | Some(Presence::Absent));
            if was_absent && entry.first_seen.is_none() {
                entry.first_seen = Some(version.clone());
            }
        }
        // The digest is what all workloads that refer to it have seen. After a read that is ahead of the watches, or of a
        // comparison, one of them has seen other content: whatever the watches report next is new to some of them. The
        // same where a read does not say what the whole object holds.
        let is_reported = entry.presence.as_ref().is_none_or(|reported| *reported == presence);
        if entry.uncompared_since.is_none() && is_reported {
            entry.digest = digest;
        } else if digest != entry.digest {
            entry.digest = None;
        }
        entry.presence.get_or_insert(presence);
    }

    /// A reconcile of that workload found the object there, and left nothing to do.
    pub(crate) fn recorded(&mut self, object: &ConfigRef, by: &WorkloadRef) {
        if let Some(entry) = self.objects.get_mut(object) {
            entry.users.recorded(by);
        }
    }

    /// No pod can have started with that version, since it lacks what the template requires.
    pub(crate) fn not_startable(&mut self, object: &ConfigRef, version: &ConfigVersion) {
        if let Some(entry) = self.objects.get_mut(object)
            && entry.first_seen.as_deref() == Some(version)
        {
            entry.first_seen = None;
        }
    }

    /// Digests were made with another key, and cannot be compared any more.
    pub(crate) fn forget_digests(&mut self) {
        self.objects.values_mut().for_each(|entry| entry.digest = None);
    }
}
