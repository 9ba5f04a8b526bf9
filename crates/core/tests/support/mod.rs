//! Builders that the tests of this crate share.
#![allow(dead_code)] // each test binary uses its part

pub mod arbitrary;
mod asking;
pub mod manifest;

use std::collections::{BTreeMap, BTreeSet};

use pod_reloader_core::admission::Baseline;
use pod_reloader_core::config_hash::{ConfigHash, HashMode};
use pod_reloader_core::content::{ContentSum, ContentSummary};
use pod_reloader_core::decide::{
    Answer, Cause, ConfigVersion, Context, Decision, Depth, FirstSeen, Found, Input, KnownDigest, Lookup,
    Lookups, Missing, Query, Verdict, decide,
};
use pod_reloader_core::dialect::sap;
use pod_reloader_core::digest::{Digest, DigestKey};
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::observed::{Observed, Records, Seen};
use pod_reloader_core::reference::{Keys, References};
use pod_reloader_core::template::{Need, TemplateUses};

pub use asking::{decided_asking, gist};

pub const NAMESPACE: &str = "shop";

pub fn key() -> DigestKey {
    DigestKey::new("k1", &[7; DigestKey::LEN]).expect("a proper key")
}

pub fn another_key() -> DigestKey {
    DigestKey::new("k2", &[8; DigestKey::LEN]).expect("a proper key")
}

pub fn cm(name: &str) -> ConfigRef {
    ConfigRef::configmap(NAMESPACE, name)
}

pub fn secret(name: &str) -> ConfigRef {
    ConfigRef::secret(NAMESPACE, name)
}

/// The sum of an object whose only entry holds that text.
pub fn content(text: &str) -> ContentSum {
    summary(text, &BTreeSet::new()).sum
}

pub fn digest(key: &DigestKey, name: &ConfigRef, text: &str) -> Digest {
    Digest::of(key, name, &content(text))
}

/// What is kept of an object with that text in its only entry, and these keys beside it.
pub fn summary(text: &str, keys: &BTreeSet<String>) -> ContentSummary {
    let mut data: serde_json::Map<_, _> = keys.iter().map(|key| (key.clone(), "v".into())).collect();
    data.insert("entry".into(), text.into());
    let object = serde_json::json!({"data": data}).to_string();
    ContentSummary::read(object.as_bytes(), &Keys::All).expect("content")
}

/// An object in that version of which the whole content is known under that key.
pub fn found(key: &DigestKey, uid: &str, resource_version: &str, digest: Digest) -> Found {
    let version = ConfigVersion::new(uid, resource_version);
    let digest = KnownDigest { key_id: key.shared_id(), keys: Keys::All, digest };
    Found { version, digests: vec![digest], keys: None }
}

/// What is decided where nothing is lacking.
#[track_caller]
pub fn decided(input: &Input<'_>, known: &Lookups) -> Decision {
    match decide(input, known) {
        Answer::Decided(decision) => decision,
        Answer::Lacks(queries) => unreachable!("lacks {queries:?}"),
    }
}

/// Such that each of these was seen first in another version than any that is there.
pub fn first_seen<'n>(superseded: impl IntoIterator<Item = &'n ConfigRef>) -> FirstSeen {
    let first = ConfigVersion::new("first", "0");
    superseded.into_iter().map(|object| (object.clone(), first.clone())).collect()
}

/// The object as a whole is missing.
pub fn missing(object: &ConfigRef) -> Missing {
    Missing { object: object.clone(), key: None }
}

/// The object lacks that key.
pub fn missing_key(object: &ConfigRef, key: &str) -> Missing {
    Missing { object: object.clone(), key: Some(key.into()) }
}

/// A config object as the cluster has it.
#[derive(Clone, Debug)]
struct Object {
    content: String,
    keys: BTreeSet<String>,
    uid: String,
    resource_version: u64,
}

/// One workload, the config objects around it, and what of its annotations counts.
#[derive(Clone, Debug)]
pub struct World {
    pub mode: HashMode,
    pub key: DigestKey,
    pub references: References,
    pub uses: TemplateUses,
    pub hash: Option<String>,
    pub observed: Option<String>,
    objects: BTreeMap<ConfigRef, Object>,
    unreachable: BTreeSet<ConfigRef>,
    /// Seen in another version before the live one was recorded.
    pub superseded: BTreeSet<ConfigRef>,
    pub tolerates_unknown: bool,
    /// Secrets are not asked for.
    pub without_secrets: bool,
    writes: u64,
}

impl World {
    /// A workload that lists these `ConfigMap`s and whose template names none of them.
    pub fn listing(configmaps: &str) -> Self {
        Self {
            mode: HashMode::Content,
            key: key(),
            references: sap::references(NAMESPACE, Some(configmaps), None),
            uses: TemplateUses::default(),
            hash: None,
            observed: None,
            objects: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            superseded: BTreeSet::new(),
            tolerates_unknown: false,
            without_secrets: false,
            writes: 0,
        }
    }

    pub fn with(mut self, name: &ConfigRef, content: &str) -> Self {
        self.put(name, content);
        self
    }

    pub fn requiring(mut self, name: &ConfigRef) -> Self {
        self.uses.add(name.clone(), Need::Required);
        self
    }

    pub fn requiring_key(mut self, name: &ConfigRef, key: &str) -> Self {
        self.uses.require_key(name.clone(), key);
        self
    }

    pub fn using_optionally(mut self, name: &ConfigRef) -> Self {
        self.uses.add(name.clone(), Need::Optional);
        self
    }

    /// The workload as the webhook let it be created.
    pub fn created(mut self) -> Self {
        let decision = self.ask(Context::Rollout);
        assert!(matches!(decision.verdict, Verdict::Reload { .. }), "{decision:?}");
        self.apply(&decision.verdict);
        self
    }

    /// The workload as SAP's pod-reloader left it.
    pub fn left_by_sap(mut self) -> Self {
        self.hash = Some(self.saps_hash());
        self
    }

    pub fn put(&mut self, name: &ConfigRef, content: &str) {
        self.writes += 1;
        let uid =
            self.objects.get(name).map_or_else(|| format!("{name}-{}", self.writes), |it| it.uid.clone());
        let keys = self.objects.get(name).map(|it| it.keys.clone()).unwrap_or_default();
        let object = Object { content: content.to_owned(), keys, uid, resource_version: self.writes };
        self.objects.insert(name.clone(), object);
    }

    /// A write of an object that has these keys beside its entry.
    pub fn put_keys(&mut self, name: &ConfigRef, content: &str, keys: &[&str]) {
        self.put(name, content);
        let keys = keys.iter().map(ToString::to_string).collect();
        self.objects.get_mut(name).expect("put").keys = keys;
    }

    /// A write that leaves the content as it is.
    pub fn relabel(&mut self, name: &ConfigRef) {
        let content = self.objects[name].content.clone();
        self.put(name, &content);
    }

    pub fn delete(&mut self, name: &ConfigRef) {
        self.objects.remove(name).expect("it is there");
    }

    /// From now on that object cannot be asked for.
    pub fn cut_off(&mut self, name: &ConfigRef) {
        self.unreachable.insert(name.clone());
    }

    /// It can be asked for again.
    pub fn reconnect(&mut self, name: &ConfigRef) {
        self.unreachable.remove(name);
    }

    pub fn list(&mut self, configmaps: &str, secrets: &str) {
        self.references = sap::references(NAMESPACE, Some(configmaps), Some(secrets));
    }

    pub fn name_in_template(&mut self, uses: &[(&ConfigRef, Need)]) {
        self.uses = TemplateUses::default();
        for (name, need) in uses {
            self.uses.add((*name).clone(), *need);
        }
    }

    pub fn lookups(&self) -> Lookups {
        let names = self.references.objects().into_iter().chain(self.uses.required());
        names
            .map(|name| {
                let lookup = match self.objects.get(name) {
                    _ if self.without_secrets && name.kind == ConfigKind::Secret => Lookup::Unfollowed,
                    _ if self.unreachable.contains(name) => Lookup::Unknown,
                    None => Lookup::Absent,
                    Some(object) => Lookup::Found(self.found(name, object)),
                };
                (name.clone(), lookup)
            })
            .collect()
    }

    fn found(&self, name: &ConfigRef, object: &Object) -> Found {
        let content = summary(&object.content, &object.keys);
        let of = |key: &DigestKey| {
            found(key, &object.uid, &object.resource_version.to_string(), Digest::of(key, name, &content.sum))
        };
        // What is not listed is asked for as metadata only.
        let is_listed = self.references.objects().contains(name);
        let former = self.key.former().iter().flat_map(|key| of(key).digests);
        let found = of(&self.key);
        Found {
            keys: is_listed.then_some(content.keys.clone()),
            digests: found.digests.into_iter().chain(former).collect(),
            ..of(&self.key)
        }
    }

    /// Whether all is known from the start, or only what is asked for, makes no difference.
    pub fn ask(&self, context: Context) -> Decision {
        let decision = self.ask_knowing(context, &self.lookups());
        let (asking, asked) = self.ask_for_what_matters(context);
        assert_eq!(gist(&asking.verdict), gist(&decision.verdict), "{asked:?}");
        assert_eq!(asking.key_was_replaced, decision.key_was_replaced);
        decision
    }

    /// The decision, and what was asked for on the way.
    pub fn ask_for_what_matters(&self, context: Context) -> (Decision, Vec<Query>) {
        self.with_input(context, |input| decided_asking(input, &self.lookups()))
    }

    /// The objects whose content is asked for.
    pub fn reads(&self, context: Context) -> Vec<ConfigRef> {
        let (_, asked) = self.ask_for_what_matters(context);
        let of_content = asked.into_iter().filter(|query| matches!(query.depth, Depth::Content(_)));
        of_content.map(|query| query.object).collect()
    }

    pub fn ask_knowing(&self, context: Context, known: &Lookups) -> Decision {
        self.with_input(context, |input| decided(input, known))
    }

    /// What is asked about the workload.
    pub fn with_input<T>(&self, context: Context, ask: impl FnOnce(&Input<'_>) -> T) -> T {
        ask(&Input {
            mode: self.mode,
            key: &self.key,
            namespace: NAMESPACE,
            references: &self.references.clone().needed_by(&self.uses),
            uses: &self.uses,
            baseline: Baseline { hash: self.hash.as_deref(), observed: self.observed.as_deref() },
            first_seen: &first_seen(&self.superseded),
            tolerates_unknown: self.tolerates_unknown,
            context,
            moves_hash: true,
        })
    }

    /// Writes what the verdict says.
    pub fn apply(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Undecided(_) | Verdict::Keep | Verdict::Defer { .. } => {}
            Verdict::Observe(observed) => {
                self.observed = observed.as_ref().map(|it| it.to_annotation(NAMESPACE));
            }
            Verdict::Act { observed, .. } => self.observed = Some(observed.to_annotation(NAMESPACE)),
            Verdict::Reload { hash, observed, .. } => {
                self.hash = Some(hash.as_str().to_owned());
                self.observed = observed.as_ref().map(|it| it.to_annotation(NAMESPACE));
            }
        }
    }

    /// The hash in SAP's form for what is there now.
    pub fn saps_hash(&self) -> String {
        sap::version_hash(NAMESPACE, self.references.listed(), &self.lookups())
            .expect("all can be asked for")
            .as_str()
            .to_owned()
    }

    /// The hash in our form for what observed-config records.
    pub fn proper_hash(&self) -> String {
        ConfigHash::of_content(&self.key, NAMESPACE, &self.records()).as_str().to_owned()
    }

    pub fn records(&self) -> Records {
        let text = self.observed.as_deref().unwrap_or("");
        Observed::parse(text, NAMESPACE, self.hash.as_deref()).expect("a valid observed-config").records
    }

    pub fn recorded(&self, name: &ConfigRef) -> Seen {
        self.records()[name].seen
    }

    pub fn digest_of(&self, name: &ConfigRef, content: &str) -> Seen {
        Seen::Digest(digest(&self.key, name, content))
    }

    /// Exactly one reload is due, for these causes; afterwards there is nothing left to do.
    #[track_caller]
    pub fn expect_one_reload(&mut self, context: Context, expected: &[Cause]) {
        let before = self.hash.clone();
        let decision = self.ask(context);
        let Verdict::Reload { causes, .. } = &decision.verdict else {
            unreachable!("no reload: {decision:?}");
        };
        assert_eq!(causes, expected);
        self.apply(&decision.verdict);
        assert_ne!(self.hash, before, "a reload is another pod template");
        if self.mode == HashMode::Content {
            assert_eq!(self.hash, Some(self.proper_hash()), "2.1: a pure function of what is recorded");
        }
        self.expect_nothing();
    }

    /// Nothing is to be done: no write at all.
    #[track_caller]
    pub fn expect_nothing(&self) {
        assert_eq!(self.ask(Context::Steady).verdict, Verdict::Keep);
    }

    /// The hash stays while observed-config is written again; afterwards there is nothing left to do.
    #[track_caller]
    pub fn expect_record_only(&mut self) {
        let decision = self.ask(Context::Steady);
        assert!(matches!(decision.verdict, Verdict::Observe(_)), "{decision:?}");
        self.apply(&decision.verdict);
        self.expect_nothing();
    }

    /// A reload is due but has to wait for these.
    #[track_caller]
    pub fn expect_deferral(&self, expected_missing: &[&ConfigRef], expected: &[Cause]) {
        let expected_missing: Vec<_> = expected_missing.iter().map(|object| missing(object)).collect();
        self.expect_deferral_for(&expected_missing, expected);
    }

    /// A reload is due but has to wait for these objects and keys.
    #[track_caller]
    pub fn expect_deferral_for(&self, expected_missing: &[Missing], expected: &[Cause]) {
        let verdict = self.ask(Context::Steady).verdict;
        let Verdict::Defer { missing, causes } = &verdict else {
            unreachable!("not deferred: {verdict:?}");
        };
        assert_eq!(missing, expected_missing);
        assert_eq!(causes, expected);
    }
}
