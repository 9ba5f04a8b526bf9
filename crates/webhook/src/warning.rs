//! What users are told along with a write. Kubernetes asks for less than 120 characters each.

use pod_reloader_core::decide::Verdict;
use pod_reloader_core::patch::NoRoom;
use pod_reloader_core::reference::References;

/// Warnings of one kind beyond this many are counted only.
const MOST: usize = 5;

/// The names that were left out of the lists.
pub(crate) fn bad_names(references: &References) -> Vec<String> {
    let bad = references.bad_names();
    let mut warnings: Vec<_> = bad
        .iter()
        .take(MOST)
        .map(|name| format!("pod-reloader: {name} is not a valid name and is left out"))
        .collect();
    let more = references.bad_count().saturating_sub(MOST);
    if more > 0 {
        warnings.push(format!("pod-reloader: {more} more names are not valid and are left out"));
    }
    warnings
}

/// An annotation that had to be left out.
pub(crate) fn no_room(no_room: NoRoom) -> String {
    match no_room {
        NoRoom::Observed => {
            "pod-reloader: annotations would pass 256 KiB; observed-config is left out".into()
        }
        NoRoom::Hash => {
            "pod-reloader: the template's annotations would pass 256 KiB; no config hash is set".into()
        }
    }
}

/// A decision that was left to the reconciler, and why.
pub(crate) fn left_to_reconciler(why: &str) -> String {
    format!("pod-reloader: {why}; the config hash is left to the reconciler")
}

/// A verdict that says that something could not be asked for.
pub(crate) fn unknown(verdict: &Verdict) -> Option<String> {
    let Verdict::Undecided(names) = verdict else { return None };
    Some(left_to_reconciler(&format!("{} reference(s) could not be read", names.len())))
}
