//! References: which config objects a workload follows, and names for workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::entries::Entries;
use crate::kind::KindRef;
use crate::mistake::Shown;
pub use crate::name::{ConfigKind, ConfigRef, is_valid_namespace};
use crate::template::{Need, TemplateUses};

/// A config object that a workload follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The object.
    pub object: ConfigRef,
    /// Which of its keys count.
    pub keys: Keys,
    /// Where the reference comes from.
    pub origin: Origin,
    /// Whether pods can start without the object; `None` where the pod template does not name it.
    pub need: Option<Need>,
    /// Nothing but a mark on the object has it followed (7.4): without the mark it is not.
    pub needs_mark: bool,
}

/// Where a reference comes from. What is listed is its owner's explicit wish: listing it, or not listing it any more,
/// is a reload. What is followed for any other reason is added and removed silently (section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Its owner lists it by name (1.2).
    #[default]
    Listed,
    /// Anything else: what the pod template uses, a mark on the object, another tool's words.
    Followed,
}

/// Which keys of an object count.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keys {
    /// All that there are, and a Secret's type.
    #[default]
    All,
    /// These, in the order of their names.
    Only(Arc<[Box<str>]>),
}

impl Keys {
    /// Exactly these keys.
    pub fn only<'k>(keys: impl IntoIterator<Item = &'k str>) -> Self {
        let keys: BTreeSet<Box<str>> = keys.into_iter().map(Box::from).collect();
        Self::Only(keys.into_iter().collect())
    }

    /// Has those count as well.
    fn add(&mut self, other: &Self) {
        *self = match (&*self, other) {
            (Self::Only(present), Self::Only(added)) => {
                Self::only(present.iter().chain(&**added).map(|key| &**key))
            }
            _ => Self::All,
        };
    }
}

/// A workload anywhere in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadRef {
    /// Its kind.
    pub kind: KindRef,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for WorkloadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.label().to_ascii_lowercase(), self.namespace, self.name)
    }
}

/// A listed name that Kubernetes would refuse (1.2), as far as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadName {
    kind: ConfigKind,
    shown: Shown,
    has_blanks: bool,
}

impl BadName {
    fn new(kind: ConfigKind, name: &str) -> Self {
        let has_blanks = name.contains(char::is_whitespace);
        // A warning has room for 120 characters.
        let shown = Shown::of(name, if has_blanks { 20 } else { 32 });
        Self { kind, shown, has_blanks }
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.singular(), self.shown)?;
        if self.has_blanks {
            f.write_str(" (names are separated by commas)")?;
        }
        Ok(())
    }
}

/// So many entries of one workload count, whichever dialects contribute them; what it names beyond is left out, and
/// reported. It bounds the memory and the reads that one workload can ask for.
pub const MAX_REFERENCES: usize = 1_000;
/// Bad names kept for the report; more are counted only.
pub(crate) const MAX_BAD_NAMES: usize = 20;

/// What one workload follows, and what is wrong with the way it says so: the union of what dialects contribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// The listed ones first, in their order and with repetitions.
    entries: Vec<Reference>,
    left_out: usize,
    bad: Vec<BadName>,
    bad_count: usize,
    kept: Option<Box<Entries>>,
}

impl References {
    /// Adds an object that is listed, repetitions included. Nothing may have been added yet that is followed without.
    pub fn list(&mut self, object: ConfigRef) {
        self.push(Reference {
            object,
            keys: Keys::All,
            origin: Origin::Listed,
            need: None,
            needs_mark: false,
        });
    }

    /// Adds a name that Kubernetes would refuse: it is left out, and kept for the report.
    pub fn refuse(&mut self, kind: ConfigKind, name: &str) {
        self.bad_count += 1;
        if self.bad.len() < MAX_BAD_NAMES {
            self.bad.push(BadName::new(kind, name));
        }
    }

    /// Keeps entries for as long as the references, where a dialect cannot tell from these alone what its tool left
    /// behind.
    pub fn keep(&mut self, entries: Entries) {
        self.kept.get_or_insert_default().append(entries);
    }

    /// Adds what is followed without being listed. What is listed as well stays listed, with all of its keys; of what is
    /// followed more than once, all keys count that one of them names.
    #[must_use]
    pub fn following(self, followed: impl IntoIterator<Item = (ConfigRef, Keys)>) -> Self {
        self.follow(followed, false)
    }

    /// Likewise what is followed if the object is marked.
    #[must_use]
    pub(crate) fn following_marked(self, followed: impl IntoIterator<Item = (ConfigRef, Keys)>) -> Self {
        self.follow(followed, true)
    }

    fn follow(mut self, followed: impl IntoIterator<Item = (ConfigRef, Keys)>, needs_mark: bool) -> Self {
        let objects = self.entries.iter().map(|reference| reference.object.clone());
        let mut known: BTreeMap<ConfigRef, usize> = objects.zip(0..).collect();
        for (object, keys) in followed {
            match known.get(&object).map(|at| self.entries.get_mut(*at)) {
                Some(Some(present)) if present.origin == Origin::Followed => {
                    present.keys.add(&keys);
                    present.needs_mark &= needs_mark;
                }
                // Listed, or left out before.
                Some(_) => {}
                None => {
                    known.insert(object.clone(), self.entries.len());
                    let origin = Origin::Followed;
                    self.push(Reference { object, keys, origin, need: None, needs_mark });
                }
            }
        }
        self
    }

    /// Both.
    #[must_use]
    pub(crate) fn and(mut self, other: Self) -> Self {
        let is_listed = |reference: &Reference| reference.origin == Origin::Listed;
        let (listed, also_followed): (Vec<_>, Vec<_>) = other.entries.into_iter().partition(is_listed);
        let followed = self.entries.split_off(self.entries.partition_point(is_listed));
        self.left_out += other.left_out;
        self.bad_count += other.bad_count;
        self.bad.extend(other.bad);
        self.bad.truncate(MAX_BAD_NAMES);
        if let Some(kept) = other.kept {
            self.keep(*kept);
        }
        for reference in listed {
            self.push(reference);
        }
        let (marked, followed): (Vec<_>, Vec<_>) =
            followed.into_iter().chain(also_followed).partition(|it| it.needs_mark);
        let parts = |it: Reference| (it.object, it.keys);
        self.following(followed.into_iter().map(parts)).following_marked(marked.into_iter().map(parts))
    }

    fn push(&mut self, reference: Reference) {
        if self.entries.len() < MAX_REFERENCES {
            self.entries.push(reference);
        } else {
            self.left_out += 1;
        }
    }

    /// The same, each with the need that the pod template has of it. No more room is kept than they take.
    #[must_use]
    pub fn needed_by(mut self, uses: &TemplateUses) -> Self {
        for reference in &mut self.entries {
            if let Some((object, need)) = uses.get(&reference.object) {
                reference.object = object.clone();
                reference.need = Some(need);
            } else {
                reference.need = None;
            }
        }
        self.entries.shrink_to_fit();
        self
    }

    /// The same references of a workload that is in another namespace.
    pub(crate) fn moved(mut self, from: &str, to: &Arc<str>) -> Self {
        for reference in &mut self.entries {
            if *reference.object.namespace == *from {
                reference.object = reference.object.in_namespace(to);
            }
        }
        self
    }

    /// The objects, to be named by the same names.
    pub(crate) fn objects_mut(&mut self) -> impl Iterator<Item = &mut ConfigRef> {
        self.entries.iter_mut().map(|reference| &mut reference.object)
    }

    /// Whether the workload opted in: it names at least one object, by a valid name or not, or follows one.
    pub fn opted_in(&self) -> bool {
        !self.entries.is_empty() || self.bad_count > 0
    }

    /// The objects that are listed, in order and with repetitions; the first [`MAX_REFERENCES`] of them.
    pub fn listed(&self) -> impl Iterator<Item = &ConfigRef> + Clone {
        self.entries
            .iter()
            .filter(|reference| reference.origin == Origin::Listed)
            .map(|reference| &reference.object)
    }

    /// Whether there are references, and none of them is listed.
    pub(crate) fn list_nothing(&self) -> bool {
        !self.entries.is_empty() && self.listed().next().is_none()
    }

    /// Every reference once, in the order of their objects.
    pub fn all(&self) -> BTreeMap<&ConfigRef, &Reference> {
        // A later one takes the place of an earlier one; repetitions are the same but for their position.
        self.entries.iter().map(|reference| (&reference.object, reference)).collect()
    }

    /// The objects that are followed, each once.
    pub fn objects(&self) -> BTreeSet<&ConfigRef> {
        self.entries.iter().map(|reference| &reference.object).collect()
    }

    /// The Secrets among them, each once.
    pub fn secrets(&self) -> BTreeSet<&ConfigRef> {
        let objects = self.entries.iter().map(|reference| &reference.object);
        objects.filter(|object| object.kind == ConfigKind::Secret).collect()
    }

    /// About how many bytes the keys take that count.
    pub(crate) fn key_bytes(&self) -> usize {
        let keys = self.entries.iter().filter_map(|reference| match &reference.keys {
            Keys::All => None,
            Keys::Only(keys) => Some(keys),
        });
        keys.flat_map(|keys| keys.iter()).map(|key| size_of::<Box<str>>() + key.len()).sum()
    }

    /// How many valid entries are past [`MAX_REFERENCES`] and do not count.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The first of the names that Kubernetes would refuse.
    pub fn bad_names(&self) -> &[BadName] {
        &self.bad
    }

    /// How many names Kubernetes would refuse.
    pub fn bad_count(&self) -> usize {
        self.bad_count
    }

    /// The entries that dialects keep.
    pub(crate) fn kept(&self) -> Option<&Entries> {
        self.kept.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2_3_what_is_listed_and_followed_is_listed_and_each_reference_carries_its_need() {
        let (a, b) = (ConfigRef::configmap("shop", "a"), ConfigRef::secret("other", "b"));
        let followed = [(a.clone(), Keys::only(["k"])), (b.clone(), Keys::only(["y", "x", "y"]))];
        let mut uses = TemplateUses::default();
        uses.add(a.clone(), Need::Required);
        let references = [&a, &a]
            .into_iter()
            .fold(References::default(), |mut it, object| {
                it.list(object.clone());
                it
            })
            .following(followed)
            .needed_by(&uses);
        let all: Vec<_> = references.all().into_values().cloned().collect();
        assert_eq!(
            all,
            [
                Reference {
                    object: a,
                    keys: Keys::All,
                    origin: Origin::Listed,
                    need: Some(Need::Required),
                    needs_mark: false
                },
                Reference {
                    object: b,
                    keys: Keys::Only(["x".into(), "y".into()].into()),
                    origin: Origin::Followed,
                    need: None,
                    needs_mark: false
                },
            ]
        );
        assert_eq!(references.listed().count(), 2, "with repetitions, as SAP hashes them");
    }
}
