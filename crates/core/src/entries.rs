//! The annotations and labels that dialects read: their keys, and the values that a workload has of them.

use crate::name::ConfigKind;

/// One annotation or label that a dialect reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub place: Place,
    /// What it can do. The chart's conditions of the webhook are made of this: they may let through a write that is then
    /// left alone, but must not keep one away that is not.
    pub effect: Effect,
}

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An annotation of the workload.
    Annotation,
    /// A label of the workload.
    Label,
    /// An annotation of the pod template.
    TemplateAnnotation,
    /// An annotation of a config object.
    ConfigAnnotation,
    /// A label of a namespace.
    NamespaceLabel,
}

/// What a key can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A value that is more than blanks and commas may have the workload follow objects of these kinds.
    OptsIn(&'static [ConfigKind]),
    /// A value but `"false"` that is more than blanks may have the workload follow objects of these kinds.
    Switches(&'static [ConfigKind]),
    /// `"true"` has the dialect leave the workload alone.
    LeavesAlone,
    /// It changes what other keys do.
    Refines,
}

/// The values that one workload, with its pod template, has of keys that dialects read. Those of other keys may hold whole
/// Secrets, and are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(Vec<(&'static Key, Box<str>)>);

impl Entries {
    /// Adds a value; one that is there already is replaced, as where a JSON object has a member twice.
    pub fn add(&mut self, key: &'static Key, value: impl Into<Box<str>>) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, present)) => *present = value.into(),
            None => self.0.push((key, value.into())),
        }
    }

    /// The value of the key with that name at that place.
    pub fn get(&self, place: Place, name: &str) -> Option<&str> {
        let mut entries = self.0.iter();
        entries.find(|(key, _)| key.place == place && key.name == name).map(|(_, value)| &**value)
    }

    /// The same entries and these.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// A copy of those with one of these names at that place.
    pub(crate) fn only(&self, place: Place, names: &[&str]) -> Self {
        let is_one = |(key, _): &&(&Key, _)| key.place == place && names.contains(&key.name);
        Self(self.0.iter().filter(is_one).cloned().collect())
    }
}
