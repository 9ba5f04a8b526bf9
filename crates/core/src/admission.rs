//! Classifies an admission request from the old and the new object alone (section 4).

use crate::config_hash::HashMode;
use crate::decide::Context;
use crate::workload::Workload;

/// What to do with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission<'a> {
    /// Not ours: no patch.
    LeaveAlone,
    /// Both annotations become these values; the configuration is not read.
    Restore(Baseline<'a>),
    /// The configuration is read, and [`crate::decide::decide`] decides.
    Decide(Baseline<'a>, Context),
}

/// The annotations that count, whatever the request carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Baseline<'a> {
    /// The config hash on the pod template.
    pub hash: Option<&'a str>,
    /// observed-config on the workload.
    pub observed: Option<&'a str>,
}

impl<'a> Baseline<'a> {
    /// What that version of the workload carries.
    pub fn of(workload: &'a Workload) -> Self {
        Self { hash: workload.template.config_hash.as_deref(), observed: workload.observed.as_deref() }
    }
}

/// Classifies a write. `old` is the object before an UPDATE, `None` on a CREATE; `template_changed` says whether the
/// pod template differs, our hash apart (called only if it matters).
pub fn classify<'a>(
    mode: HashMode,
    new: &Workload,
    old: Option<&'a Workload>,
    template_changed: impl FnOnce() -> bool,
) -> Admission<'a> {
    if new.is_deleting || new.no_template.is_some() {
        return Admission::LeaveAlone;
    }
    let Some(old) = old else {
        // Annotations copied from elsewhere do not count on a CREATE.
        return if new.is_managed() {
            Admission::Decide(Baseline::default(), Context::Rollout)
        } else {
            Admission::LeaveAlone
        };
    };
    let before = Baseline::of(old);
    match (old.references.opted_in(), new.references.opted_in()) {
        (false, false) => Admission::LeaveAlone,
        _ if new.is_ignored && old.is_ignored => Admission::LeaveAlone,
        // This write sets the label: both annotations stay as they are from here on.
        (true, _) if new.is_ignored => Admission::Restore(before),
        (false, true) if new.is_ignored => Admission::LeaveAlone,
        // Opting out restarts nothing.
        (true, false) => Admission::Restore(Baseline { observed: None, ..before }),
        // Where changes are not rolled out, a list that was edited is not either.
        (_, true) if (new.action.moves_hash() && lists_differ(mode, old, new)) || template_changed() => {
            Admission::Decide(before, Context::Rollout)
        }
        // The reconciler reloads, after the settle window.
        (_, true) => Admission::Restore(before),
    }
}

/// What is followed without being listed comes and goes without a rollout (section 3): the reconciler records it. So does
/// what was listed and is followed now, or the other way round (7.3).
fn lists_differ(mode: HashMode, old: &Workload, new: &Workload) -> bool {
    match mode {
        HashMode::Content => has_listed_beside(old, new) || has_listed_beside(new, old),
        // Order and repetition are part of that hash.
        HashMode::Version => old.references.listed().ne(new.references.listed()),
    }
}

/// Whether one version of a workload lists something that the other does not refer to.
fn has_listed_beside(one: &Workload, other: &Workload) -> bool {
    let referred_to = other.references.objects();
    one.references.listed().any(|object| !referred_to.contains(object))
}
