//! The kinds of workload (1.1), as data: whatever differs between two kinds is a field here, and nothing else in the
//! product names a kind. `docs/architecture.md`, "Adding a kind", has the recipe.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use json_patch::jsonptr::PointerBuf;

pub mod apps;

/// The kinds that can opt in.
pub const BUILT_IN: [KindRef; 3] = [apps::DEPLOYMENT, apps::STATEFUL_SET, apps::DAEMON_SET];

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
    /// The members that lead from the object to its pod template; the first one is not `metadata`.
    pub template: &'static [&'static str],
    /// What restarts its pods with the present configuration.
    pub reload: Reload,
    /// How far its pods are with the latest version of the template, from the JSON text of the object.
    pub health: fn(&str) -> Result<Health, serde_json::Error>,
}

/// How a kind is reloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Its controller rolls out whatever changes the pod template, so the config hash does.
    PatchTemplate,
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

/// The kind with that `kind` field in that API group.
pub fn by_kind(group: &str, kind: &str) -> Option<KindRef> {
    BUILT_IN.into_iter().find(|candidate| candidate.group == group && candidate.kind == kind)
}

/// The kind with that plural name in that API group.
pub fn by_plural(group: &str, plural: &str) -> Option<KindRef> {
    BUILT_IN.into_iter().find(|candidate| candidate.group == group && candidate.plural == plural)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn c1_1_every_kind_is_found_by_its_names_and_by_no_others() {
        for kind in BUILT_IN {
            assert_eq!(by_kind(kind.group, kind.kind), Some(kind));
            assert_eq!(by_plural(kind.group, kind.plural), Some(kind));
            assert_eq!(by_kind("example.com", kind.kind), None, "{kind:?} of another group");
            assert_eq!(by_kind(kind.group, kind.plural), None, "{kind:?}");
        }
        assert_eq!(BUILT_IN.into_iter().collect::<BTreeSet<_>>().len(), BUILT_IN.len());
        let labels: BTreeSet<_> = BUILT_IN.iter().map(|kind| kind.label().to_ascii_lowercase()).collect();
        assert_eq!(labels.len(), BUILT_IN.len(), "two kinds have one label");
        assert_eq!(by_kind("apps", "ReplicaSet"), None);
    }

    #[test]
    fn every_kind_has_a_template_that_can_be_read_beside_its_metadata() {
        for kind in BUILT_IN {
            assert!(kind.template.first().is_some_and(|member| *member != "metadata"), "{kind:?}");
        }
    }
}
