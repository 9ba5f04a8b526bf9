//! The parts of a workload that decisions need.

mod wire;

use std::sync::Arc;
use std::time::Duration;

use crate::action::ActionRef;
use crate::annotation;
use crate::config_hash::HashMode;
use crate::duration;
use crate::exclusion::Exclusions;
use crate::kind::KindRef;
use crate::mistake::Mistake;
use crate::name::ConfigRef;
use crate::object;
use crate::reference::References;
use crate::template::TemplateUses;

pub use wire::WorkloadSeed;

/// One version of a workload, as far as it concerns us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// `metadata.namespace`; may be missing in an admission request.
    pub namespace: Option<String>,
    /// `metadata.name`; missing where the API server is yet to generate it.
    pub name: Option<String>,
    /// `metadata.uid`.
    pub uid: Option<String>,
    /// `metadata.resourceVersion`.
    pub resource_version: Option<String>,
    /// Excluded by a label (1.3).
    pub is_ignored: bool,
    /// It has a deletion timestamp (1.5).
    pub is_deleting: bool,
    /// What it follows (1.2, section 7).
    pub references: References,
    /// What its surroundings may have it follow as well, but for these (7.4); `None`: nothing.
    pub open_to: Option<Exclusions>,
    /// Its words have it follow what its pod template reads (7.1).
    pub is_auto: bool,
    /// What is wrong with its words.
    pub mistakes: Vec<Mistake>,
    /// The annotation observed-config, unparsed (2.3).
    pub observed: Option<String>,
    /// The annotation settle-window (3.1).
    pub settle_window: SettleWindow,
    /// What is done about a change of configuration (9.5).
    pub action: ActionRef,
    /// Why nothing is to be done about any change, whatever it follows, if so (9.4).
    pub idle: Option<Idle>,
    /// SAP's trigger, a config hash on the workload itself (4.5).
    pub sap_trigger: Option<String>,
    /// The size of the workload's own annotations.
    pub annotations: AnnotationRoom,
    /// Why there is no place for a hash in it, if so.
    pub no_template: Option<NoTemplate>,
    /// The pod template.
    pub template: PodTemplate,
}

/// Why a workload of `batch/v1` is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// It does not ask for anything.
    Unasked,
    /// It has come to its end.
    Finished,
    /// Another object made it, and would make another.
    Controlled,
    /// It stands in for a Job that is made anew.
    StandIn,
}

/// Why a workload has no pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTemplate {
    /// Another object has it, and is the one to be followed (9.2).
    Elsewhere,
    /// There is none.
    Missing,
}

impl Workload {
    /// The same workload in that namespace, whichever its own metadata names: a request's counts.
    #[must_use]
    pub fn placed_in(mut self, namespace: &str) -> Self {
        if self.namespace.as_deref() != Some(namespace) {
            let from = self.namespace.as_deref().unwrap_or_default();
            let to: Arc<str> = namespace.into();
            self.references = self.references.moved(from, &to);
            self.template.uses = std::mem::take(&mut self.template.uses).in_namespace(&to);
            self.namespace = Some(namespace.to_owned());
        }
        self
    }

    /// Takes names from where they are known already, so that thousands of workloads that name one object share it.
    pub fn share_names(&mut self, known: impl Fn(&ConfigRef) -> Option<ConfigRef>) {
        for name in self.references.objects_mut().chain(self.template.uses.objects_mut()) {
            if let Some(known) = known(name) {
                *name = known;
            }
        }
    }

    /// Reads the JSON text of a workload of that kind.
    pub fn read(kind: KindRef, json: &str) -> Result<Self, serde_json::Error> {
        object::read_with(Self::seed(kind), json)
    }

    /// Reads a workload of that kind.
    pub fn seed(kind: KindRef) -> WorkloadSeed {
        WorkloadSeed(kind)
    }

    /// About how many bytes its texts take: keys that the template and references name, exclude lists, observed-config.
    pub fn text_bytes(&self) -> usize {
        let observed = self.observed.as_ref().map_or(0, String::len);
        let exclusions = self.open_to.as_ref().map_or(0, Exclusions::bytes);
        self.template.uses.key_bytes() + self.references.key_bytes() + exclusions + observed
    }

    /// Whether this version is ours to manage: opted in, not ignored, not being deleted, with a place for the hash, and with
    /// something to be done about a change (1.2, 1.3, 1.5, 9.1, 9.4).
    pub fn is_managed(&self) -> bool {
        let is_left_alone = self.is_ignored || self.is_deleting || self.idle.is_some();
        self.references.opted_in() && !is_left_alone && self.no_template.is_none()
    }

    /// By what its changes are told. SAP's hash says what was rolled out: where changes are not, what is recorded has to.
    pub fn hash_mode(&self, mode: HashMode) -> HashMode {
        if self.action.moves_hash() { mode } else { HashMode::Content }
    }
}

/// A workload's own settle window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SettleWindow {
    /// It has none: the flag's counts.
    #[default]
    Unset,
    /// That long.
    Of(Duration),
    /// It cannot be read, or is too long: the flag's counts, and the owner should know.
    Invalid,
}

impl SettleWindow {
    fn parse(text: &str) -> Self {
        match duration::parse(text.trim()) {
            Some(window) if window <= annotation::MAX_SETTLE_WINDOW => Self::Of(window),
            _ => Self::Invalid,
        }
    }
}

/// The parts of a pod template that concern us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTemplate {
    /// How many members of the path to it are there, itself included.
    pub steps: usize,
    /// Whether there is a `metadata` object to patch.
    pub has_metadata: bool,
    /// The config hash (2.1).
    pub config_hash: Option<String>,
    /// The size of the template's annotations.
    pub annotations: AnnotationRoom,
    /// The config objects that the template names.
    pub uses: TemplateUses,
}

/// How large a map of annotations is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnotationRoom {
    /// Whether the map exists.
    pub is_present: bool,
    /// Bytes of all keys and values.
    pub bytes: usize,
}
#[cfg(test)]
mod tests;
