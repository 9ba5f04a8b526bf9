//! Our own words (section 7): `auto` has a workload follow what its pod template reads, and exclude lists take away from
//! that. They count whichever other dialects there are.

use std::sync::Arc;

use super::sap::{DISABLED, IGNORED};
use super::{Dialect, Effect, Entries, Key, Place, Selection};
use crate::exclusion::Exclusions;
use crate::mistake::Mistake;
use crate::name::ConfigKind;
use crate::reference::References;
use crate::template::TemplateUses;

/// On the workload or its pod template: follow what the template reads (7.1). As a label on a namespace, for every workload
/// there; as an annotation on a config object, for every workload that reads it (7.4).
pub const AUTO: &str = "pod-reloader.cs.sap.com/auto";
/// On the workload: comma-separated names of `ConfigMap`s, with `*` and `?`, that `auto` is not to follow (7.3).
pub const EXCLUDE_CONFIGMAPS: &str = "pod-reloader.cs.sap.com/exclude-configmaps";
/// On the workload: likewise of `Secret`s (7.3).
pub const EXCLUDE_SECRETS: &str = "pod-reloader.cs.sap.com/exclude-secrets";
/// On a config object: `"true"` has its changes concern only those who list it (7.5).
pub const IGNORE: &str = "pod-reloader.cs.sap.com/ignore";

const BOTH: &[ConfigKind] = &ConfigKind::ALL;

const KEYS: [Key; 9] = [
    Key { name: AUTO, place: Place::Annotation, effect: Effect::Switches(BOTH) },
    Key { name: AUTO, place: Place::TemplateAnnotation, effect: Effect::Switches(BOTH) },
    Key { name: AUTO, place: Place::NamespaceLabel, effect: Effect::Switches(BOTH) },
    Key { name: AUTO, place: Place::ConfigAnnotation, effect: Effect::Switches(BOTH) },
    Key { name: IGNORE, place: Place::ConfigAnnotation, effect: Effect::Refines },
    Key { name: EXCLUDE_CONFIGMAPS, place: Place::Annotation, effect: Effect::Refines },
    Key { name: EXCLUDE_SECRETS, place: Place::Annotation, effect: Effect::Refines },
    // SAP's labels are ours (1.3).
    Key { name: IGNORED, place: Place::Label, effect: Effect::LeavesAlone },
    Key { name: DISABLED, place: Place::Label, effect: Effect::LeavesAlone },
];

/// What `auto` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auto {
    /// `"false"`, or nothing.
    #[default]
    Off,
    /// `"configmaps"`.
    ConfigMaps,
    /// `"secrets"`.
    Secrets,
    /// `"true"`.
    Both,
}

impl Auto {
    /// The values that have something followed.
    pub const VALUES: [&'static str; 3] = ["true", "configmaps", "secrets"];

    /// What that value means; `None` if it is none of those that `auto` can have.
    pub fn parse(value: &str) -> Option<Self> {
        match value {
            "true" => Some(Self::Both),
            "configmaps" => Some(Self::ConfigMaps),
            "secrets" => Some(Self::Secrets),
            "false" => Some(Self::Off),
            _ => None,
        }
    }

    /// Whether objects of that kind are followed.
    pub fn includes(self, kind: ConfigKind) -> bool {
        match self {
            Self::Off => false,
            Self::ConfigMaps => kind == ConfigKind::ConfigMap,
            Self::Secrets => kind == ConfigKind::Secret,
            Self::Both => true,
        }
    }
}

/// Our own words.
pub struct Own;

impl Dialect for Own {
    fn name(&self) -> &'static str {
        "own"
    }

    fn keys(&self) -> &'static [Key] {
        &KEYS
    }

    fn select(&self, entries: &Entries, uses: &TemplateUses, _namespace: &Arc<str>) -> Selection {
        let mut mistakes = vec![];
        let mut auto_at = |place| {
            let value = entries.get(place, AUTO)?;
            let auto = Auto::parse(value);
            if auto.is_none() {
                mistakes.push(Mistake::Auto(value.into()));
            }
            auto
        };
        // The template's counts where the workload has none.
        let auto = auto_at(Place::Annotation).or_else(|| auto_at(Place::TemplateAnnotation));
        let mut exclusions = Exclusions::default();
        for (kind, key) in
            [(ConfigKind::ConfigMap, EXCLUDE_CONFIGMAPS), (ConfigKind::Secret, EXCLUDE_SECRETS)]
        {
            if let Some(list) = entries.get(Place::Annotation, key) {
                exclusions.add_list(kind, key, list, &mut mistakes);
            }
        }
        let read = uses.read().filter(|(object, _)| auto.unwrap_or_default().includes(object.kind));
        let (read, mistake) = exclusions.filter(read);
        mistakes.extend(mistake.filter(|mistake| !mistakes.contains(mistake)));
        if uses.is_truncated() && auto.is_some_and(|auto| auto != Auto::Off) {
            mistakes.push(Mistake::TooManyUses);
        }
        let is_true = |label| entries.get(Place::Label, label) == Some("true");
        Selection {
            references: References::default().following(read),
            is_left_alone: is_true(IGNORED) || is_true(DISABLED),
            is_auto: auto.is_some_and(|auto| auto != Auto::Off),
            mistakes,
            open_to: (auto != Some(Auto::Off)).then_some(exclusions),
        }
    }
}
