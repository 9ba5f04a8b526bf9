//! The kinds of workload (1.1), as data: whatever differs between two kinds is a field here, and nothing else in the
//! product names a kind. `docs/architecture.md`, "Adding a kind", has the recipe.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use json_patch::jsonptr::PointerBuf;

use crate::action::{self, ActionRef};

pub mod apps;
pub mod argo;
pub mod batch;
mod conditions;
mod kinds;
pub mod knative;
pub mod openkruise;
pub mod openshift;
mod parts;
mod preset;
mod wanted;

pub use kinds::{Entry, Kinds};
pub use preset::{PRESETS, Preset};
pub use wanted::{Own, Wanted};

/// The kinds that every installation has, and the webhook is asked about.
pub const BUILT_IN: [KindRef; 3] = [apps::DEPLOYMENT, apps::STATEFUL_SET, apps::DAEMON_SET];

/// Those that every installation has besides, unless `--jobs=false` (9.4).
pub const JOBS: [KindRef; 2] = [batch::CRON_JOB, batch::JOB];

/// What is to be known of a kind of workload.
#[derive(Debug)]
pub struct Kind {
    /// The API group.
    pub group: &'static str,
    /// The version of the group that it is read and written in.
    pub version: &'static str,
    /// The `kind` field's value.
    pub kind: &'static str,
    /// What metrics, readiness and log lines call it: its kind, with the group where another group has one of that name.
    pub label: &'static str,
    /// The resource's plural name in URLs.
    pub plural: &'static str,
    /// The members that lead from the object to its pod template, or to what stands for one; the first one is not
    /// `metadata`.
    pub template: &'static [&'static str],
    /// What is there.
    pub shape: Shape,
    /// The member beside the template that says that another object has it, which is then the one to be followed.
    pub template_elsewhere: Option<&'static str>,
    /// What can be done about a change of configuration.
    pub actions: &'static Actions,
    /// Whether it comes to an end, as its status says, and is left alone then.
    pub ends: bool,
    /// How far its pods are with the latest version of the template, from the JSON text of the object.
    pub health: fn(&str) -> Result<Health, serde_json::Error>,
}

/// What a kind has at [`Kind::template`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A pod template.
    PodTemplate,
    /// A map of annotations that the kind's controller gives to its pods. What these read cannot be seen.
    Annotations,
}

/// What can be done about a change of configuration where workloads of a kind follow it (9.4, 9.5).
#[derive(Debug)]
pub struct Actions {
    /// What is done where the workload says nothing; `None`: it is left alone. Such a kind has no hash to protect, and is
    /// not sent to the webhook.
    pub unasked: Option<ActionRef>,
    /// What the workload can ask for.
    pub asked: &'static [ActionRef],
}

impl Actions {
    /// Those of a kind whose controller rolls out whatever changes the pod template.
    pub const ROLLED_OUT: Self =
        Self { unasked: Some(action::ROLLOUT), asked: &[action::ROLLOUT, action::NONE] };

    /// The one of that name.
    pub fn named(&self, name: &str) -> Option<ActionRef> {
        self.asked.iter().copied().find(|action| action.name() == name)
    }
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Pods are still to be replaced, or to become available.
    Progressing,
    /// The rollout is complete, as far as the kind's controller is to take it by itself.
    Healthy,
    /// The kind's controller has given up waiting.
    Failed,
}

impl Kind {
    /// Whether writes of it are sent to the webhook.
    pub fn is_reviewed(&self) -> bool {
        self.actions.unasked.is_some()
    }

    /// Group and version as in `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The JSON pointer to a member of the pod template.
    pub fn template_pointer(&self, members: &[&str]) -> PointerBuf {
        PointerBuf::from_tokens(self.template.iter().chain(members).copied())
    }

    /// The JSON pointer to the map of annotations that the hash is in.
    pub fn annotations_pointer(&self) -> PointerBuf {
        self.template_pointer(self.to_annotations())
    }

    /// The members that lead from [`Self::template`] to that map.
    pub const fn to_annotations(&self) -> &'static [&'static str] {
        match self.shape {
            Shape::PodTemplate => &["metadata", "annotations"],
            Shape::Annotations => &[],
        }
    }

    /// The JSON pointer to the first member of the path to the template that is not there, if so many are.
    pub fn missing_member(&self, steps: usize) -> Option<PointerBuf> {
        let present = self.template.get(..steps)?;
        let missing = self.template.get(steps)?;
        Some(PointerBuf::from_tokens(present.iter().chain([missing]).copied()))
    }

    /// What identifies the kind.
    fn name(&self) -> [&'static str; 3] {
        [self.group, self.kind, self.version]
    }
}

/// A kind, identified by its names.
#[derive(Clone, Copy)]
pub struct KindRef(&'static Kind);

impl KindRef {
    /// The reference to that kind.
    pub const fn of(kind: &'static Kind) -> Self {
        Self(kind)
    }

    /// The `kind` field's value.
    pub const fn as_str(self) -> &'static str {
        self.0.kind
    }

    /// [`Kind::label`], which no other kind has.
    pub const fn label(self) -> &'static str {
        self.0.label
    }
}

impl Deref for KindRef {
    type Target = Kind;

    fn deref(&self) -> &Kind {
        self.0
    }
}

impl fmt::Debug for KindRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)
    }
}

impl PartialEq for KindRef {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for KindRef {}

impl PartialOrd for KindRef {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KindRef {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl Hash for KindRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn c9_1_the_kinds_of_the_presets_have_names_of_their_own_and_labels_that_tell_them_from_all_others() {
        let all: Vec<_> = BUILT_IN
            .into_iter()
            .chain(JOBS)
            .chain(PRESETS.iter().flat_map(|preset| preset.kinds.iter().copied()))
            .collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        let labels: BTreeSet<_> = all.iter().map(|kind| kind.label().to_ascii_lowercase()).collect();
        assert_eq!(labels.len(), all.len(), "two kinds have one label");
        for kind in all {
            assert!(kind.template.first().is_some_and(|member| *member != "metadata"), "{kind:?}");
        }
    }
}
