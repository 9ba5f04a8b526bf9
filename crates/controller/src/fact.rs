//! What happened, and to which workload. Every [`crate::sink::Sink`] publishes it in its own form.

use std::fmt;
use std::time::Duration;

use pod_reloader_core::annotation::SETTLE_WINDOW;
use pod_reloader_core::cause::Cause;
use pod_reloader_core::decide::Missing;
use pod_reloader_core::patch::NoRoom;
use pod_reloader_core::reference::{MAX_REFERENCES, WorkloadRef};

use crate::conditions::Condition;
use crate::index::View;

/// The workload that a fact is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) workload: WorkloadRef,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

impl Subject {
    pub(crate) fn of(view: &View) -> Self {
        Self {
            workload: WorkloadRef::clone(&view.workload_ref),
            uid: view.workload.uid.clone(),
            resource_version: view.workload.resource_version.clone(),
        }
    }
}

/// What happened to a workload. Its `Display` is the text for the workload's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The config hash was changed.
    Reloaded(Reload),
    /// The observed configuration was recorded, which reloads nothing.
    Recorded,
    /// A reload waits for what the pod template requires.
    Deferred { missing: Vec<Missing>, causes: Vec<Cause> },
    /// A Job of it runs, and there must be no other beside that.
    JobWaits,
    /// An attempt to patch it came to nothing. `cause` is that of the reload, if it was to be one.
    PatchFailed { cause: Option<&'static str>, failure: PatchFailure },
    /// The API server or a policy refuses the patch.
    PatchRefused { why: String },
    /// The API server or a policy refuses the Job that a change asks for, or its deletion.
    JobRefused { why: String },
    /// Another admission plugin undoes the patch.
    PatchUndone,
    /// It could not be read again after a conflict.
    WorkloadUnreadable { error: String },
    /// The annotations would become too large.
    NoRoom(NoRoom),
    /// observed-config was made with a key that is lost.
    KeyReplaced,
    /// Its lists or its settle window are not valid.
    InvalidLists(InvalidLists),
    /// References that cannot be read: forbidden, too large, or failing again and again.
    ReferencesUnreadable(Vec<Unreadable>),
    /// Listed names that do not exist and that the template does not use.
    ReferencesNotFound(Vec<String>),
    /// There is no memory for its references.
    LeftOut,
    /// Another installation writes it.
    AnotherInstallation,
    /// It lists that many Secrets, and none are followed.
    SecretsNotFollowed { count: usize },
}

/// A reload that was made, or what was done in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reload {
    /// What was done, where the hash stays (9.5).
    pub(crate) acted: Option<Acted>,
    pub(crate) causes: Vec<Cause>,
    /// What changed. Where the annotations cannot tell, what the watches saw can.
    pub(crate) changes: String,
    pub(crate) old_hash: Option<String>,
    pub(crate) new_hash: Option<String>,
    /// What the new hash stands for.
    pub(crate) references: Vec<String>,
    /// How long ago it changed, if it is a change that the watches reported: healing drift is none.
    pub(crate) since_change: Option<Duration>,
}

/// What was done about a change where the hash stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acted {
    /// For the workload's owner.
    pub(crate) done: String,
    /// Whether pods start because of it.
    pub(crate) restarts: bool,
    /// observed-config as it was recorded.
    pub(crate) observed: Option<String>,
}

/// Why an attempt to patch came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PatchFailure {
    /// The workload changed since the decision.
    Conflict,
    /// Something passing.
    Error(String),
    /// See [`Fact::PatchRefused`].
    Refused,
    /// See [`Fact::PatchUndone`].
    Undone,
}

/// What is wrong with a workload's own annotations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InvalidLists {
    /// Some of the names that Kubernetes would refuse.
    pub(crate) bad_names: Vec<String>,
    /// How many there are in all.
    pub(crate) bad_count: usize,
    /// How many entries there are beyond [`MAX_REFERENCES`].
    pub(crate) left_out: usize,
    pub(crate) has_bad_settle_window: bool,
    /// What else is wrong with our own words.
    pub(crate) mistakes: Vec<String>,
}

/// A reference that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) name: String,
    pub(crate) why: String,
}

impl Fact {
    /// A reload has to wait.
    pub(crate) fn deferred(missing: &[Missing], causes: &[Cause]) -> Self {
        Self::Deferred { missing: missing.to_vec(), causes: causes.to_vec() }
    }

    /// The condition that begins with this; `None` if it is over as soon as it has happened.
    pub(crate) fn condition(&self) -> Option<Condition> {
        match self {
            Self::Deferred { .. } | Self::JobWaits => Some(Condition::ReloadDeferred),
            Self::PatchRefused { .. } | Self::JobRefused { .. } | Self::PatchUndone => {
                Some(Condition::PatchRefused)
            }
            Self::NoRoom(_) => Some(Condition::NoRoom),
            Self::InvalidLists(_) => Some(Condition::InvalidReference),
            Self::ReferencesUnreadable(_) => Some(Condition::ReferenceUnreadable),
            Self::ReferencesNotFound(_) => Some(Condition::ReferenceNotFound),
            Self::LeftOut => Some(Condition::TooManyReferences),
            Self::AnotherInstallation => Some(Condition::AnotherInstallation),
            Self::SecretsNotFollowed { .. } => Some(Condition::SecretsNotFollowed),
            Self::Reloaded(_)
            | Self::Recorded
            | Self::PatchFailed { .. }
            | Self::WorkloadUnreadable { .. }
            | Self::KeyReplaced => None,
        }
    }

    /// What distinguishes the condition from others of the same kind. Details that vary are no part of it.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::ReferencesUnreadable(references) => join(references.iter().map(|it| &it.name)),
            // The API server's words may name what is made up anew each time.
            Self::JobRefused { .. } => "job".to_owned(),
            Self::SecretsNotFollowed { .. } => String::new(),
            _ => self.to_string(),
        }
    }
}

impl Reload {
    /// The cause that it is counted under.
    pub(crate) fn cause(&self) -> &'static str {
        // Of a Job that was made anew the cause is not known any more; it is always a change.
        self.causes.first().map_or("changed", Cause::label)
    }
}

impl InvalidLists {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reloaded(Reload { changes, acted: Some(acted), .. }) => write!(f, "{}: {changes}", acted.done),
            Self::Reloaded(reload) => write!(f, "Reload triggered: {}", reload.changes),
            Self::Recorded => f.write_str("recorded the observed configuration"),
            Self::Deferred { missing, causes } => {
                let (missing, causes) = (join(missing), join(causes));
                write!(f, "reload put off until {missing} is there, which the pod template requires ({causes})")
            }
            Self::JobWaits => f.write_str(
                "a Job is put off until the one that runs has ended: concurrencyPolicy allows none beside it",
            ),
            Self::PatchFailed { .. } => f.write_str("cannot patch a workload"),
            Self::PatchRefused { why } => write!(f, "the patch of the config annotations is refused: {why}"),
            Self::JobRefused { why } => {
                write!(f, "the Job that on-change asks for cannot be made or deleted: {why}")
            }
            Self::PatchUndone => {
                f.write_str("the config hash was patched, but another admission plugin undid it")
            }
            Self::WorkloadUnreadable { .. } => f.write_str("cannot read a workload"),
            Self::NoRoom(NoRoom::Observed) => f.write_str(
                "the annotations would pass 256 KiB, so observed-config is left out: deletions and restarts of the \
                 operator cannot be told from changes",
            ),
            Self::NoRoom(NoRoom::Hash) => {
                f.write_str("the pod template's annotations would pass 256 KiB: no config hash can be set")
            }
            Self::KeyReplaced => {
                f.write_str("the digest key was replaced: what changed while the old one was lost cannot be seen")
            }
            Self::InvalidLists(lists) => lists.fmt(f),
            Self::ReferencesUnreadable(references) => write!(f, "cannot be read: {}", join(references)),
            Self::ReferencesNotFound(names) => write!(
                f,
                "listed, but not there, and the pod template does not use it either; is the name right? {}",
                join(names)
            ),
            Self::LeftOut => f.write_str(
                "there are more references than there is memory for: this workload is not watched. Fewer references in \
                 this namespace, or more memory for the operator, help",
            ),
            Self::AnotherInstallation => f.write_str(
                "another installation of pod-reloader writes this workload, too: this one leaves its namespace alone. \
                 Give them different namespaces, or remove one",
            ),
            Self::SecretsNotFollowed { count } => {
                write!(f, "pod-reloader: Secrets are not followed here (--secrets=false); listed or used: {count}")
            }
        }
    }
}

impl fmt::Display for InvalidLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut notes = vec![];
        if self.bad_count > 0 {
            let more = self.bad_count.saturating_sub(self.bad_names.len());
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            notes.push(format!("not valid as a name and left out: {}{more}", join(&self.bad_names)));
        }
        if self.left_out > 0 {
            notes.push(format!("more than {MAX_REFERENCES} references; entries left out: {}", self.left_out));
        }
        if self.has_bad_settle_window {
            notes.push(format!(
                "{SETTLE_WINDOW} is not a duration like 30s or 5m (at most 24h): the operator's default is used"
            ));
        }
        notes.extend(self.mistakes.iter().cloned());
        f.write_str(&notes.join("; "))
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.why)
    }
}

/// A list for people; the first of many.
pub(crate) fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    const MAX: usize = 10;
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    let shown = items[..items.len().min(MAX)].join(", ");
    if items.len() > MAX { format!("{shown} and {} more", items.len() - MAX) } else { shown }
}
