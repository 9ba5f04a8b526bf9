//! What a reconcile has to tell in Events, once its work is done.

use std::sync::Arc;

use pod_reloader_core::decide::Cause;
use pod_reloader_core::patch::NoRoom;

use crate::events::Reason;
use crate::index::{Snapshot, View};

/// Something to tell in an Event, once the work is done.
pub(crate) struct Tiding {
    pub(crate) view: Arc<View>,
    pub(crate) reason: Reason,
    pub(crate) note: String,
}

impl Tiding {
    pub(crate) fn new(view: &Arc<View>, reason: Reason, note: String) -> Self {
        Self { view: view.clone(), reason, note }
    }

    pub(crate) fn reload(view: &Arc<View>, note: &str) -> Self {
        Self::new(view, Reason::ConfigurationChanged, format!("Reload triggered: {note}"))
    }

    pub(crate) fn no_room(view: &Arc<View>, no_room: NoRoom) -> Self {
        let note = match no_room {
            NoRoom::Observed => {
                "the annotations would pass 256 KiB, so observed-config is left out: deletions and restarts of the \
                 operator cannot be told from changes"
            }
            NoRoom::Hash => "the pod template's annotations would pass 256 KiB: no config hash can be set",
        };
        Self::new(view, Reason::NoRoom, note.to_owned())
    }
}

/// Names what changed. Where the annotations cannot tell, what the watches saw can.
pub(crate) fn reload_note(causes: &[Cause], snapshot: &Snapshot) -> String {
    let seen: Vec<_> =
        snapshot.references.iter().filter(|r| r.is_listed && r.is_recent).map(|r| &r.object).collect();
    let is_vague = causes.iter().all(|cause| *cause == Cause::Unwatched);
    if is_vague && !seen.is_empty() { format!("{} changed", join(seen)) } else { join(causes) }
}

/// A list for people; the first of many.
pub(crate) fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    const MOST: usize = 10;
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    let shown = items[..items.len().min(MOST)].join(", ");
    if items.len() > MOST { format!("{shown} and {} more", items.len() - MOST) } else { shown }
}
