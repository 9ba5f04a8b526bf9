//! What stands beside a workload and has it follow more: the label of its namespace, and marks on config objects (7.4).

use std::collections::BTreeSet;

use crate::dialect::own::Auto;
use crate::name::ConfigRef;
use crate::observed::Observed;
use crate::reference::Origin;
use crate::workload::Workload;

/// See the module.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// What the label of the namespace says.
    pub namespace: Auto,
    /// Whether the config object is followed in any case: where it is not known what the label says, and it was recorded.
    pub is_followed: &'a dyn Fn(&ConfigRef) -> bool,
    /// Whether the config object is marked, or may be: whoever decides asks the object first.
    pub may_be_marked: &'a dyn Fn(&ConfigRef) -> bool,
}

impl Workload {
    /// The same workload, which follows what its surroundings have it follow, too.
    #[must_use]
    pub fn surrounded_by(mut self, surroundings: &Surroundings<'_>) -> Self {
        let Some(exclusions) = &self.open_to else { return self };
        let uses = || self.template.uses.read();
        let Surroundings { namespace, is_followed, may_be_marked } = *surroundings;
        let by_namespace =
            uses().filter(|(object, _)| namespace.includes(object.kind) || is_followed(object));
        let (by_namespace, mistake) = exclusions.filter(by_namespace);
        let (marked, _) = exclusions.filter(uses().filter(|(object, _)| may_be_marked(object)));
        if by_namespace.is_empty() && marked.is_empty() {
            return self;
        }
        let references = std::mem::take(&mut self.references);
        let references = references.following(by_namespace).following_marked(marked);
        self.references = references.needed_by(&self.template.uses);
        self.mistakes.extend(mistake.filter(|mistake| !self.mistakes.contains(mistake)));
        self
    }

    /// What is recorded as followed on this version of the workload: marks may be why, and these may be gone with their
    /// objects.
    pub fn recorded_as_followed(&self) -> BTreeSet<ConfigRef> {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        // Parsing is spared where only lists are.
        let observed = self.observed.as_deref().filter(|text| text.contains("\"followed\""));
        let observed =
            observed.and_then(|text| Observed::parse(text, namespace, self.template.config_hash.as_deref()));
        let records = observed.map(|observed| observed.records).unwrap_or_default();
        records
            .into_iter()
            .filter(|(_, it)| it.origin == Origin::Followed)
            .map(|(object, _)| object)
            .collect()
    }
}
