//! Builders that the tests of this crate share.
#![allow(dead_code)] // each test binary uses its part

pub mod arbitrary;
pub mod manifest;

use std::collections::{BTreeMap, BTreeSet};

use pod_reloader_core::config_hash::{ConfigHash, HashMode};
use pod_reloader_core::content::{ContentSum, ContentSummary};
use pod_reloader_core::decide::{
    Cause, Decision, Live, Lookup, Lookups, Missing, Occasion, Question, Verdict, decide,
};
use pod_reloader_core::digest::{Digest, DigestKey};
use pod_reloader_core::observed::{Observed, Record};
use pod_reloader_core::reference::{ConfigKind, ConfigName, ConfigRef, References};
use pod_reloader_core::template::{Need, TemplateUses};

pub const NAMESPACE: &str = "shop";

pub fn key() -> DigestKey {
    DigestKey::new("k1", &[7; DigestKey::LEN]).expect("a proper key")
}

pub fn another_key() -> DigestKey {
    DigestKey::new("k2", &[8; DigestKey::LEN]).expect("a proper key")
}

pub fn cm(name: &str) -> ConfigName {
    ConfigName::configmap(name)
}

pub fn secret(name: &str) -> ConfigName {
    ConfigName::secret(name)
}

/// The sum of an object whose only entry holds that text.
pub fn content(text: &str) -> ContentSum {
    serde_json::from_value(serde_json::json!({"data": {"entry": text}})).expect("content")
}

pub fn digest(key: &DigestKey, name: &ConfigName, text: &str) -> Digest {
    Digest::of(key, &ConfigRef::new(NAMESPACE, name.clone()), &content(text))
}

/// What is kept of an object with that text in its only entry, and these keys beside it.
pub fn summary(text: &str, keys: &BTreeSet<String>) -> ContentSummary {
    let mut data: serde_json::Map<_, _> = keys.iter().map(|key| (key.clone(), "v".into())).collect();
    data.insert("entry".into(), text.into());
    serde_json::from_value(serde_json::json!({"data": data})).expect("content")
}

/// The object as a whole is missing.
pub fn missing(object: &ConfigName) -> Missing {
    Missing { object: object.clone(), key: None }
}

/// The object lacks that key.
pub fn missing_key(object: &ConfigName, key: &str) -> Missing {
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
    objects: BTreeMap<ConfigName, Object>,
    unreachable: BTreeSet<ConfigName>,
    /// Seen in another version before the live one was recorded.
    pub superseded: BTreeSet<ConfigName>,
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
            references: References::parse(Some(configmaps), None),
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

    pub fn with(mut self, name: &ConfigName, content: &str) -> Self {
        self.put(name, content);
        self
    }

    pub fn requiring(mut self, name: &ConfigName) -> Self {
        self.uses.add(name.clone(), Need::Required);
        self
    }

    pub fn requiring_key(mut self, name: &ConfigName, key: &str) -> Self {
        self.uses.require_key(name.clone(), key);
        self
    }

    pub fn using_optionally(mut self, name: &ConfigName) -> Self {
        self.uses.add(name.clone(), Need::Optional);
        self
    }

    /// The workload as the webhook let it be created.
    pub fn created(mut self) -> Self {
        let decision = self.ask(Occasion::OwnersRollout);
        assert!(matches!(decision.verdict, Verdict::Reload { .. }), "{decision:?}");
        self.apply(&decision.verdict);
        self
    }

    /// The workload as SAP's pod-reloader left it.
    pub fn left_by_sap(mut self) -> Self {
        self.hash = Some(self.saps_hash());
        self
    }

    pub fn put(&mut self, name: &ConfigName, content: &str) {
        self.writes += 1;
        let uid =
            self.objects.get(name).map_or_else(|| format!("{name}-{}", self.writes), |it| it.uid.clone());
        let keys = self.objects.get(name).map(|it| it.keys.clone()).unwrap_or_default();
        let object = Object { content: content.to_owned(), keys, uid, resource_version: self.writes };
        self.objects.insert(name.clone(), object);
    }

    /// A write of an object that has these keys beside its entry.
    pub fn put_keys(&mut self, name: &ConfigName, content: &str, keys: &[&str]) {
        self.put(name, content);
        let keys = keys.iter().map(ToString::to_string).collect();
        self.objects.get_mut(name).expect("put").keys = keys;
    }

    /// A write that leaves the content as it is.
    pub fn relabel(&mut self, name: &ConfigName) {
        let content = self.objects[name].content.clone();
        self.put(name, &content);
    }

    pub fn delete(&mut self, name: &ConfigName) {
        self.objects.remove(name).expect("it is there");
    }

    /// From now on that object cannot be asked for.
    pub fn cut_off(&mut self, name: &ConfigName) {
        self.unreachable.insert(name.clone());
    }

    /// It can be asked for again.
    pub fn reconnect(&mut self, name: &ConfigName) {
        self.unreachable.remove(name);
    }

    pub fn list(&mut self, configmaps: &str, secrets: &str) {
        self.references = References::parse(Some(configmaps), Some(secrets));
    }

    pub fn name_in_template(&mut self, uses: &[(&ConfigName, Need)]) {
        self.uses = TemplateUses::default();
        for (name, need) in uses {
            self.uses.add((*name).clone(), *need);
        }
    }

    pub fn lookups(&self) -> Lookups {
        let names = self.references.names().into_iter().chain(self.uses.required());
        names
            .map(|name| {
                let lookup = match self.objects.get(name) {
                    _ if self.without_secrets && name.kind == ConfigKind::Secret => Lookup::Unfollowed,
                    _ if self.unreachable.contains(name) => Lookup::Unknown,
                    None => Lookup::Absent,
                    Some(object) => Lookup::Known(self.live(name, object)),
                };
                (name.clone(), lookup)
            })
            .collect()
    }

    fn live(&self, name: &ConfigName, object: &Object) -> Live {
        let content = summary(&object.content, &object.keys);
        let digest = Digest::of(&self.key, &ConfigRef::new(NAMESPACE, name.clone()), &content.sum);
        // What is not listed is asked for as metadata only.
        let is_listed = self.references.names().contains(name);
        Live {
            uid: object.uid.clone(),
            resource_version: object.resource_version.to_string(),
            digest: Some(digest),
            keys: is_listed.then_some(content.keys),
        }
    }

    pub fn ask(&self, occasion: Occasion) -> Decision {
        decide(&Question {
            mode: self.mode,
            key: &self.key,
            namespace: NAMESPACE,
            references: &self.references,
            uses: &self.uses,
            hash: self.hash.as_deref(),
            observed: self.observed.as_deref(),
            live: &self.lookups(),
            superseded: &self.superseded,
            tolerates_unknown: self.tolerates_unknown,
            occasion,
        })
    }

    /// Writes what the verdict says.
    pub fn apply(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Undecided(_) | Verdict::Keep | Verdict::Defer { .. } => {}
            Verdict::Record(observed) => self.observed = observed.as_ref().map(Observed::to_annotation),
            Verdict::Reload { hash, observed, .. } => {
                self.hash = Some(hash.as_str().to_owned());
                self.observed = observed.as_ref().map(Observed::to_annotation);
            }
        }
    }

    /// The hash in SAP's form for what is there now.
    pub fn saps_hash(&self) -> String {
        ConfigHash::of_versions(NAMESPACE, self.references.listed(), &self.lookups())
            .expect("all can be asked for")
            .as_str()
            .to_owned()
    }

    /// The hash in our form for what observed-config records.
    pub fn proper_hash(&self) -> String {
        ConfigHash::of_content(&self.key, NAMESPACE, &self.records()).as_str().to_owned()
    }

    pub fn records(&self) -> BTreeMap<ConfigName, Record> {
        let (text, hash) = (self.observed.as_deref().unwrap_or(""), self.hash.as_deref().unwrap_or(""));
        Observed::parse(text, hash).expect("a valid observed-config").records
    }

    pub fn recorded(&self, name: &ConfigName) -> Record {
        self.records()[name]
    }

    pub fn digest_of(&self, name: &ConfigName, content: &str) -> Record {
        Record::Digest(digest(&self.key, name, content))
    }

    /// Exactly one reload is due, for these causes; afterwards there is nothing left to do.
    #[track_caller]
    pub fn expect_one_reload(&mut self, occasion: Occasion, expected: &[Cause]) {
        let before = self.hash.clone();
        let decision = self.ask(occasion);
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
        assert_eq!(self.ask(Occasion::Standing).verdict, Verdict::Keep);
    }

    /// The hash stays while observed-config is written anew; afterwards there is nothing left to do.
    #[track_caller]
    pub fn expect_record_only(&mut self) {
        let decision = self.ask(Occasion::Standing);
        assert!(matches!(decision.verdict, Verdict::Record(_)), "{decision:?}");
        self.apply(&decision.verdict);
        self.expect_nothing();
    }

    /// A reload is due but has to wait for these.
    #[track_caller]
    pub fn expect_deferral(&self, expected_missing: &[&ConfigName], expected: &[Cause]) {
        let expected_missing: Vec<_> = expected_missing.iter().map(|object| missing(object)).collect();
        self.expect_deferral_for(&expected_missing, expected);
    }

    /// A reload is due but has to wait for these objects and keys.
    #[track_caller]
    pub fn expect_deferral_for(&self, expected_missing: &[Missing], expected: &[Cause]) {
        let verdict = self.ask(Occasion::Standing).verdict;
        let Verdict::Defer { missing, causes } = &verdict else {
            unreachable!("not deferred: {verdict:?}");
        };
        assert_eq!(missing, expected_missing);
        assert_eq!(causes, expected);
    }
}
