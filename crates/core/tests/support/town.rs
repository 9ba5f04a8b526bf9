//! One workload as JSON, the config objects around it with their keys and marks, and the label of their namespace: what is
//! followed comes out of these alone, as in the product.
#![allow(dead_code)] // each test binary uses its part

use std::collections::{BTreeMap, BTreeSet};

use pod_reloader_core::admission::{Admission, Baseline, classify};
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::content::{ContentSummary, KeyNames};
use pod_reloader_core::decide::{
    Answer, Cause, ConfigVersion, Context, Depth, FirstSeen, Found, Input, KnownDigest, Lookup, Lookups,
    Missing, Query, Verdict, decide,
};
use pod_reloader_core::dialect::own::Auto;
use pod_reloader_core::digest::{Digest, DigestKey};
pub use pod_reloader_core::marks::Marks;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::observed::{Observed, Records, Seen};
use pod_reloader_core::patch::Target;
use pod_reloader_core::reference::{Keys, Origin};
use pod_reloader_core::surroundings::Surroundings;
use pod_reloader_core::template_diff;
use pod_reloader_core::workload::Workload;
use serde_json::{Value, json};

use super::support::manifest::Manifest;
use super::support::{NAMESPACE, decided, gist, key};

pub const FOLLOW: Marks = Marks { follow: true, ignore: false };
pub const IGNORE: Marks = Marks { follow: false, ignore: true };
pub const UNMARKED: Marks = Marks { follow: false, ignore: false };

#[derive(Clone, Debug)]
struct Object {
    data: BTreeMap<String, String>,
    marks: Marks,
    uid: String,
    resource_version: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Town {
    pub mode: HashMode,
    pub manifest: Manifest,
    /// The label `auto` of the namespace.
    pub label: Auto,
    pub first_seen: FirstSeen,
    pub tolerates_unknown: bool,
    /// Whether a reload is another hash, or something else is done (9.5).
    pub moves_hash: bool,
    key: DigestKey,
    objects: BTreeMap<ConfigRef, Object>,
    unreachable: BTreeSet<ConfigRef>,
    writes: u64,
}

/// What the reconciler does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The workload is none that it manages.
    NotOurs,
    Nothing,
    /// observed-config alone was written.
    Recorded,
    Reloaded(Vec<Cause>),
    Waits(Vec<Missing>),
    Undecided(Vec<ConfigRef>),
}

impl Town {
    pub fn new(manifest: Manifest) -> Self {
        Self {
            mode: HashMode::Content,
            manifest,
            label: Auto::Off,
            first_seen: FirstSeen::new(),
            tolerates_unknown: false,
            moves_hash: true,
            key: key(),
            objects: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            writes: 0,
        }
    }

    /// Writes an object with these keys; its marks stay, and a new one has none.
    pub fn put(&mut self, name: &ConfigRef, data: &[(&str, &str)]) {
        let marks = self.objects.get(name).map_or(UNMARKED, |it| it.marks);
        self.put_marked(name, data, marks);
    }

    pub fn put_marked(&mut self, name: &ConfigRef, data: &[(&str, &str)], marks: Marks) {
        self.writes += 1;
        let uid = self.objects.get(name).map_or_else(|| format!("uid-{}", self.writes), |it| it.uid.clone());
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.objects.insert(name.clone(), Object { data, marks, uid, resource_version: self.writes });
    }

    pub fn mark(&mut self, name: &ConfigRef, marks: Marks) {
        self.writes += 1;
        let object = self.objects.get_mut(name).expect("it is there");
        (object.marks, object.resource_version) = (marks, self.writes);
    }

    /// A write of something that does not count.
    pub fn relabel(&mut self, name: &ConfigRef) {
        let marks = self.objects[name].marks;
        self.mark(name, marks);
    }

    pub fn delete(&mut self, name: &ConfigRef) {
        self.objects.remove(name).expect("it is there");
    }

    /// From now on that object cannot be asked for.
    pub fn cut_off(&mut self, name: &ConfigRef) {
        self.unreachable.insert(name.clone());
    }

    pub fn reconnect(&mut self, name: &ConfigRef) {
        self.unreachable.remove(name);
    }

    /// The version that is there is remembered as the first that was seen.
    pub fn see(&mut self, name: &ConfigRef) {
        self.first_seen.insert(name.clone(), version(&self.objects[name]));
    }

    pub fn hash(&self) -> Option<String> {
        self.manifest.read().template.config_hash
    }

    /// What observed-config records; nothing where there is none.
    pub fn records(&self) -> Records {
        let workload = self.manifest.read();
        let hash = workload.template.config_hash.as_deref();
        let parse = |text: &str| Observed::parse(text, NAMESPACE, hash).expect("a valid observed-config");
        workload.observed.as_deref().map(parse).map(|it| it.records).unwrap_or_default()
    }

    /// What is to be recorded of the object as it is, over these keys.
    pub fn seen(&self, name: &ConfigRef, keys: &Keys) -> Seen {
        self.objects
            .get(name)
            .map_or(Seen::Absent, |object| Seen::Digest(digest(&self.key, name, object, keys)))
    }

    fn surrounded(&self, manifest: &Manifest, knows_marks: bool) -> Workload {
        let workload = manifest.read();
        // On a write that is not applied yet the old object's annotation counts.
        let recorded = self.manifest.read().recorded_as_followed();
        let is_marked = |name: &ConfigRef| self.objects.get(name).is_some_and(|it| it.marks.follow);
        let may_be_marked = |name: &ConfigRef| recorded.contains(name) || (knows_marks && is_marked(name));
        workload.surrounded_by(&Surroundings {
            namespace: self.label,
            is_followed: &|_| false,
            may_be_marked: &may_be_marked,
        })
    }

    fn decide(&self, workload: &Workload, baseline: Baseline<'_>, context: Context) -> Verdict {
        let input = Input {
            mode: self.mode,
            key: &self.key,
            namespace: NAMESPACE,
            references: &workload.references,
            uses: &workload.template.uses,
            baseline,
            first_seen: &self.first_seen,
            tolerates_unknown: self.tolerates_unknown,
            context,
            moves_hash: self.moves_hash,
        };
        let mut known = Lookups::new();
        let mut asked = BTreeSet::new();
        let verdict = loop {
            let queries = match decide(&input, &known) {
                Answer::Decided(decision) => break decision.verdict,
                Answer::Lacks(queries) => queries,
            };
            for query in queries {
                self.answer(&query, &mut known);
                assert!(asked.insert(query.clone()), "it asks again: {query:?}");
            }
        };
        // Whether more is known makes no difference, but for which keys there are of what is not followed after all.
        let records = self.records();
        for (object, reference) in workload.references.all() {
            let is_dropped = |it: &Object| it.marks.ignore || (reference.needs_mark && !it.marks.follow);
            let is_followed = reference.origin == Origin::Followed;
            if is_followed && self.objects.get(object).is_some_and(is_dropped) {
                continue;
            }
            for keys in records.get(object).map(|it| &it.keys).into_iter().chain([&reference.keys]) {
                let query = Query { object: object.clone(), depth: Depth::Content(keys.clone()) };
                self.answer(&query, &mut known);
            }
        }
        // The content of what is not referred to is never read (1.4).
        for object in workload.template.uses.required() {
            self.answer(&Query { object: object.clone(), depth: Depth::Exists }, &mut known);
        }
        assert_eq!(gist(&decided(&input, &known).verdict), gist(&verdict), "{asked:?}");
        verdict
    }

    fn answer(&self, Query { object: name, depth }: &Query, known: &mut Lookups) {
        let answer = match self.objects.get(name) {
            _ if self.unreachable.contains(name) => Lookup::Unknown,
            None => Lookup::Absent,
            Some(object) => {
                let before = known.remove(name);
                let mut found = match before {
                    Some(Lookup::Found(found)) => found,
                    _ => Found::version(version(object)),
                };
                if let Depth::Content(keys) = depth {
                    let digest = digest(&self.key, name, object, keys);
                    found.digests.push(KnownDigest {
                        key_id: self.key.shared_id(),
                        keys: keys.clone(),
                        digest,
                    });
                    found.keys = Some(KeyNames::of(object.data.keys().map(String::as_str)));
                }
                Lookup::Found(found)
            }
        };
        known.insert(name.clone(), answer);
    }

    /// What the reconciler would do with the workload as it is.
    pub fn verdict(&self) -> Option<Verdict> {
        let workload = self.surrounded(&self.manifest, true);
        workload.is_managed().then(|| self.decide(&workload, Baseline::of(&workload), Context::Steady))
    }

    /// The reconciler's turn; after it there is nothing left to do.
    #[track_caller]
    pub fn reconcile(&mut self) -> Outcome {
        let Some(verdict) = self.verdict() else { return Outcome::NotOurs };
        let before = self.hash();
        let outcome = match &verdict {
            Verdict::Undecided(names) => return Outcome::Undecided(names.clone()),
            Verdict::Defer { missing, .. } => return Outcome::Waits(missing.clone()),
            Verdict::Keep => return Outcome::Nothing,
            Verdict::Observe(_) => Outcome::Recorded,
            Verdict::Act { causes, .. } | Verdict::Reload { causes, .. } => Outcome::Reloaded(causes.clone()),
        };
        let workload = self.manifest.read();
        self.become_target(&verdict.target(NAMESPACE, Baseline::of(&workload)));
        let is_reload = matches!(outcome, Outcome::Reloaded(_));
        let is_rollout = is_reload && self.moves_hash;
        assert_eq!(self.hash() != before, is_rollout, "a reload, and nothing else, is another pod template");
        let again = self.verdict();
        assert!(matches!(again, None | Some(Verdict::Keep | Verdict::Defer { .. })), "{verdict:?} {again:?}");
        outcome
    }

    fn become_target(&mut self, Target { hash, observed }: &Target) {
        const HASH: &str = pod_reloader_core::annotation::CONFIG_HASH;
        const OBSERVED: &str = pod_reloader_core::annotation::OBSERVED_CONFIG;
        for (place, key, value) in
            [("/spec/template/metadata", HASH, hash), ("/metadata", OBSERVED, observed)]
        {
            let metadata = self.manifest.0.pointer_mut(place).expect("metadata");
            if !metadata["annotations"].is_object() {
                metadata["annotations"] = json!({});
            }
            let annotations = metadata["annotations"].as_object_mut().expect("a map");
            match value {
                Some(value) => drop(annotations.insert(key.into(), Value::from(value.as_str()))),
                None => drop(annotations.remove(key)),
            }
        }
    }

    /// The owner creates the workload, and the webhook has its say.
    pub fn create(&mut self) {
        let new = self.surrounded(&self.manifest, false);
        match classify(self.mode, &new, None, || true) {
            Admission::LeaveAlone => {}
            Admission::Restore(_) => unreachable!("there is nothing to restore"),
            Admission::Decide(baseline, context) => {
                let verdict = self.decide(&new, baseline, context);
                self.become_target(&verdict.target(NAMESPACE, baseline));
            }
        }
    }

    /// The owner writes the workload, and the webhook, which knows no marks but those that are recorded, has its say. Says
    /// whether pods are rolled out.
    pub fn write(&mut self, manifest: Manifest) -> bool {
        let (old_text, new_text) = (self.manifest.0.to_string(), manifest.0.to_string());
        let (old, new) = (self.surrounded(&self.manifest, false), self.surrounded(&manifest, false));
        let kind = pod_reloader_core::kind::apps::DEPLOYMENT;
        let differs = || template_diff::differs(kind, &old_text, &new_text);
        let target = match classify(self.mode, &new, Some(&old), differs) {
            Admission::LeaveAlone => Target::of(Baseline::of(&new)),
            Admission::Restore(baseline) => Target::of(baseline),
            Admission::Decide(baseline, context) => {
                let verdict = self.decide(&new, baseline, context);
                assert!(!matches!(verdict, Verdict::Defer { .. }), "an owner's rollout waits for nothing");
                verdict.target(NAMESPACE, baseline)
            }
        };
        self.manifest = manifest;
        self.become_target(&target);
        differs() || old.template.config_hash != self.hash()
    }
}

fn version(Object { uid, resource_version, marks, .. }: &Object) -> ConfigVersion {
    ConfigVersion { marks: *marks, ..ConfigVersion::new(uid.clone(), resource_version.to_string()) }
}

fn digest(key: &DigestKey, name: &ConfigRef, object: &Object, keys: &Keys) -> Digest {
    let json = json!({"data": object.data}).to_string();
    Digest::of(key, name, &ContentSummary::read(json.as_bytes(), keys).expect("content").sum)
}
