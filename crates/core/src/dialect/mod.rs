//! Dialects: the words in which a workload says which config objects it follows. Each is a file here, which knows its
//! tool's keys, what they mean, and what the tool leaves behind; nothing else in the product knows a dialect's words.
//! `docs/architecture.md`, "Adding a dialect", has the recipe. Our own words (`crate::annotation`) count whichever
//! dialects there are.

use std::sync::Arc;

pub use crate::entries::{Effect, Entries, Key, Place};
use crate::exclusion::Exclusions;
use crate::lookup::Lookups;
use crate::mistake::Mistake;
use crate::reference::References;
use crate::template::TemplateUses;

pub mod own;
pub mod sap;
#[cfg(test)]
mod tests;

/// Every dialect.
pub const ALL: &[&dyn Dialect] = &[&sap::Sap, &own::Own];

/// The words of one tool.
pub trait Dialect: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// The annotations and labels that it reads.
    fn keys(&self) -> &'static [Key];

    /// What a workload in that namespace asks for with the values that it has of these keys; `uses` is what its pod template
    /// names. `entries` may hold those of other dialects, too.
    fn select(&self, entries: &Entries, uses: &TemplateUses, namespace: &Arc<str>) -> Selection;

    /// Whether that hash on the pod template is one that this tool would have set for what is there now. It can be adopted
    /// then: taking over restarts nothing (2.5).
    fn left_behind(&self, _hash: &str, _namespace: &str, _references: &References, _known: &Lookups) -> bool {
        false
    }
}

/// What a workload asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What it follows.
    pub references: References,
    /// It is excluded all the same (1.3).
    pub is_left_alone: bool,
    /// Its words have it follow what its pod template reads, if that is anything.
    pub is_auto: bool,
    /// What is wrong with its words.
    pub mistakes: Vec<Mistake>,
    /// What its namespace and marks on config objects may have it follow as well, but for these (7.4); `None`: nothing.
    pub open_to: Option<Exclusions>,
}

/// The union of what these dialects select. Being left alone binds only what the same dialect contributes, so the
/// workload as a whole is left alone where no dialect is left that has it follow something.
pub fn select(
    dialects: &[&dyn Dialect],
    entries: &Entries,
    uses: &TemplateUses,
    namespace: &Arc<str>,
) -> Selection {
    let mut selections: Vec<_> =
        dialects.iter().map(|dialect| dialect.select(entries, uses, namespace)).collect();
    let counts = |it: &Selection| it.references.opted_in() && !it.is_left_alone;
    let has_any = selections.iter().any(counts);
    let is_left_alone = !has_any && selections.iter().any(|it| it.is_left_alone);
    let is_auto = selections.iter().any(|it| it.is_auto && !it.is_left_alone);
    let mistakes = selections.iter_mut().flat_map(|it| std::mem::take(&mut it.mistakes)).collect();
    let open_to = selections.iter_mut().find_map(|it| it.open_to.take()).filter(|_| !is_left_alone);
    let selected = selections.into_iter().filter(|it| !has_any || counts(it)).map(|it| it.references);
    let references = selected.reduce(References::and).unwrap_or_default().needed_by(uses);
    Selection { references, is_left_alone, is_auto, mistakes, open_to }
}

/// The key of that name at that place, if a dialect reads it.
pub(crate) fn key(place: Place, name: &str) -> Option<&'static Key> {
    keys_at(place).find(|key| key.name == name)
}

/// The keys at that place that dialects read.
pub(crate) fn keys_at(place: Place) -> impl Iterator<Item = &'static Key> {
    ALL.iter().flat_map(|dialect| dialect.keys()).filter(move |key| key.place == place)
}
