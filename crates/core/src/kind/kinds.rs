//! The kinds of workload of a process: those that are built in, and those that were asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::{Actions, BUILT_IN, JOBS, Kind, KindRef, Own, PRESETS, Wanted, conditions};

/// All of them. Clones are the same: what one of them learns, all know.
#[derive(Clone, Debug)]
pub struct Kinds(Arc<[Arc<Entry>]>);

/// One kind, whose name may be unknown as yet.
#[derive(Debug)]
pub struct Entry {
    /// The API group.
    pub group: String,
    /// The version of the group.
    pub version: String,
    /// The resource's plural name in URLs.
    pub plural: String,
    /// What the user has said of it; `None` of kinds that are known here.
    own: Option<Own>,
    kind: OnceLock<KindRef>,
}

impl Default for Kinds {
    fn default() -> Self {
        Self(BUILT_IN.into_iter().map(|kind| Arc::new(Entry::of(kind))).collect())
    }
}

impl PartialEq for Kinds {
    fn eq(&self, other: &Self) -> bool {
        let resources = |kinds: &Self| kinds.0.iter().map(|entry| entry.resource()).collect::<Vec<_>>();
        resources(self) == resources(other)
    }
}

impl Eq for Kinds {}

impl Kinds {
    /// The same, with `CronJob`s and Jobs.
    #[must_use]
    pub fn and_jobs(self) -> Self {
        Self(self.0.iter().cloned().chain(JOBS.into_iter().map(|kind| Arc::new(Entry::of(kind)))).collect())
    }

    /// The built-in ones and these.
    ///
    /// # Errors
    /// If one is there twice, with what is wrong.
    pub fn with(wanted: &[Wanted]) -> Result<Self, String> {
        let mut entries: Vec<_> = BUILT_IN.into_iter().map(Entry::of).collect();
        // By the names under which the API server knows them in any version.
        let mut known: BTreeMap<[String; 2], String> = BTreeMap::new();
        let built_in = BUILT_IN.map(|kind| (kind, "is built in, and always on: leave it out"));
        let jobs = JOBS.map(|kind| {
            (kind, "is built in, and not rolled out: its annotation on-change says what is done")
        });
        for (kind, why) in built_in.into_iter().chain(jobs) {
            known.insert([kind.group.to_owned(), kind.plural.to_owned()], why.to_owned());
        }
        for wanted in wanted {
            let added = match wanted {
                Wanted::Preset(preset) => preset.kinds.iter().copied().map(Entry::of).collect(),
                Wanted::Own(own) => vec![Entry::own(own)?],
            };
            for entry in added {
                let resource = format!("{}/{}", entry.group, entry.plural);
                let why = format!("is there already, by {wanted}: name it once");
                let names = [entry.group.clone(), entry.plural.clone()];
                if let Some(why) = known.insert(names, why) {
                    return Err(format!("{wanted}: {resource} {why}"));
                }
                let same = |other: &&Entry| entry.named().is_some() && other.named() == entry.named();
                if let Some(other) = entries.iter().find(same) {
                    return Err(format!(
                        "{wanted}: {} and {} cannot both be of that kind",
                        other.plural, entry.plural
                    ));
                }
                entries.push(entry);
            }
        }
        Ok(Self(entries.into_iter().map(Arc::new).collect()))
    }

    /// All of them, in the order in which they were asked for.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.0.iter()
    }

    /// Those whose names are known.
    pub fn iter(&self) -> impl Iterator<Item = KindRef> {
        self.0.iter().filter_map(|entry| entry.kind())
    }

    /// The kind with that `kind` field in that API group and version.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<KindRef> {
        self.iter().find(|known| known.group == group && known.version == version && known.kind == kind)
    }

    /// The kind with that plural name in that API group.
    pub fn by_plural(&self, group: &str, plural: &str) -> Option<KindRef> {
        self.iter().find(|known| known.group == group && known.plural == plural)
    }
}

impl Entry {
    fn of(kind: KindRef) -> Self {
        Self {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            plural: kind.plural.to_owned(),
            own: None,
            kind: OnceLock::from(kind),
        }
    }

    /// What the presets know is theirs, with all that they know of it.
    fn own(own: &Own) -> Result<Self, String> {
        let is_it = |kind: &&KindRef| {
            (kind.group, kind.version, kind.plural) == (&own.group, &own.version, &own.plural)
        };
        if let Some(kind) = PRESETS.iter().flat_map(|preset| preset.kinds).find(is_it) {
            if own.kind.as_ref().is_some_and(|name| name != kind.kind) {
                return Err(format!("{own}: the kind of {} is {}", own.plural, kind.kind));
            }
            if (own.shape, own.path.iter().map(String::as_str).collect::<Vec<_>>())
                == (kind.shape, kind.template.to_vec())
            {
                return Ok(Self::of(*kind));
            }
        }
        let entry = Self {
            group: own.group.clone(),
            version: own.version.clone(),
            plural: own.plural.clone(),
            own: Some(own.clone()),
            kind: OnceLock::new(),
        };
        if let Some(name) = &own.kind {
            entry.name(name);
        }
        Ok(entry)
    }

    /// The kind, if its name is known.
    pub fn kind(&self) -> Option<KindRef> {
        self.kind.get().copied()
    }

    /// Says how the API server calls it. The first name stays.
    pub fn name(&self, name: &str) -> KindRef {
        *self.kind.get_or_init(|| self.leak(name))
    }

    /// Group, version and plural name.
    pub fn resource(&self) -> String {
        format!("{}/{}/{}", self.group, self.version, self.plural)
    }

    fn named(&self) -> Option<[&str; 2]> {
        self.kind().map(|kind| [kind.group, kind.kind])
    }

    /// Makes the kind. It lasts as long as the process: there are as many as the command line has.
    fn leak(&self, name: &str) -> KindRef {
        let text = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let (path, shape) =
            self.own.as_ref().map_or_else(Default::default, |own| (own.path.clone(), Some(own.shape)));
        let path: Vec<&'static str> = path.iter().map(|member| text(member)).collect();
        KindRef::of(Box::leak(Box::new(Kind {
            group: text(&self.group),
            version: text(&self.version),
            kind: text(name),
            // Whatever other kinds there are, now or later: what metrics call it stays.
            label: text(&format!("{name}.{}", self.group)),
            plural: text(&self.plural),
            template: Box::leak(path.into_boxed_slice()),
            shape: shape.unwrap_or(super::Shape::PodTemplate),
            template_elsewhere: None,
            actions: &Actions::ROLLED_OUT,
            ends: false,
            health: conditions::health,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::{Shape, argo};

    fn with(wanted: &[&str]) -> Result<Kinds, String> {
        let wanted: Result<Vec<_>, _> = wanted.iter().map(|text| text.parse()).collect();
        Kinds::with(&wanted.unwrap())
    }

    #[test]
    fn c9_1_every_kind_is_found_by_its_names_and_by_no_others() {
        let presets: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        let kinds = with(&presets).unwrap();
        assert_eq!(kinds.iter().count(), 9);
        for kind in kinds.iter() {
            assert_eq!(kinds.by_kind(kind.group, kind.version, kind.kind), Some(kind));
            assert_eq!(kinds.by_plural(kind.group, kind.plural), Some(kind));
            assert_eq!(
                kinds.by_kind("example.com", kind.version, kind.kind),
                None,
                "{kind:?} of another group"
            );
            assert_eq!(kinds.by_kind(kind.group, "v0", kind.kind), None, "{kind:?} of another version");
            assert_eq!(kinds.by_kind(kind.group, kind.version, kind.plural), None, "{kind:?}");
        }
        assert_eq!(kinds.by_kind("apps", "v1", "ReplicaSet"), None);
        let built_in = Kinds::default();
        assert!(built_in.iter().eq(BUILT_IN));
        assert_eq!(built_in.by_kind("argoproj.io", "v1alpha1", "Rollout"), None);
        assert_eq!(built_in, with(&[]).unwrap());
        assert_ne!(built_in, kinds);
    }

    #[test]
    fn c9_1_an_own_kind_is_what_the_user_says_and_is_called_by_its_group() {
        let kinds = with(&["example.com/v1/servers:Server=annotations:spec.pods.annotations"]).unwrap();
        let kind = kinds.by_plural("example.com", "servers").unwrap();
        assert_eq!((kind.kind, kind.label(), kind.version), ("Server", "Server.example.com", "v1"));
        assert_eq!((kind.template, kind.shape), (&["spec", "pods", "annotations"][..], Shape::Annotations));
        assert_eq!(kind.annotations_pointer().as_str(), "/spec/pods/annotations");
    }

    #[test]
    fn c9_1_a_kind_without_a_name_is_known_once_the_api_server_has_told_it() {
        let kinds = with(&["example.com/v1/servers=spec.template"]).unwrap();
        let same = kinds.clone();
        assert_eq!(same.by_plural("example.com", "servers"), None);
        let entry = kinds.entries().last().unwrap();
        let kind = entry.name("Server");
        assert_eq!(entry.name("Another"), kind, "the first one stays");
        assert_eq!(same.by_kind("example.com", "v1", "Server"), Some(kind));
    }

    #[test]
    fn c9_1_what_a_preset_knows_is_known_of_an_own_kind_that_is_the_same() {
        for text in [
            "argoproj.io/v1alpha1/rollouts:Rollout=spec.template",
            "argoproj.io/v1alpha1/rollouts=spec.template",
        ] {
            let kinds = with(&[text]).unwrap();
            let kind = kinds.by_plural("argoproj.io", "rollouts").unwrap();
            assert_eq!(kind.template_elsewhere, argo::ROLLOUT.template_elsewhere, "{text}");
        }
        let other = with(&["argoproj.io/v1alpha1/rollouts:Rollout=spec.other"]).unwrap();
        assert_eq!(other.by_plural("argoproj.io", "rollouts").unwrap().template_elsewhere, None);
    }

    #[test]
    fn c9_1_what_is_there_twice_is_refused() {
        for (wanted, expected) in [
            (&["apps/v1/deployments:Deployment=spec.template"][..], "apps/deployments is built in"),
            (&["apps/v2/deployments=spec.template"], "apps/deployments is built in"),
            (
                &["batch/v1/cronjobs:CronJob=spec.jobTemplate.spec.template"],
                "batch/cronjobs is built in, and not rolled out",
            ),
            (&["argo-rollouts", "argo-rollouts"], "is there already, by argo-rollouts"),
            (&["openkruise", "apps.kruise.io/v1/clonesets=spec.template"], "is there already, by openkruise"),
            (
                &["example.com/v1/a:A=spec.a", "example.com/v2/a:A=spec.a"],
                "is there already, by example.com/v1/a",
            ),
            (&["example.com/v1/a:A=spec.a", "example.com/v1/b:A=spec.a"], "cannot both be of that kind"),
            (&["apps/v1/other:Deployment=spec.a"], "cannot both be of that kind"),
            (&["argoproj.io/v1alpha1/rollouts:Rollin=spec.template"], "the kind of rollouts is Rollout"),
        ] {
            let refused = with(wanted).unwrap_err();
            assert!(refused.contains(expected), "{wanted:?}: {refused}");
        }
    }
}
