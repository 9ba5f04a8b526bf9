//! Arbitrary inputs.

use std::collections::BTreeSet;

use pod_reloader_core::admission::Baseline;
use pod_reloader_core::config_hash::{ConfigHash, HashMode};
use pod_reloader_core::content::KeyNames;
use pod_reloader_core::decide::{
    ConfigVersion, Context, Decision, Found, Input, Lookup, Lookups, Query, Verdict,
};
use pod_reloader_core::dialect::sap;
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::observed::{Observed, Record, Records, Seen};
use pod_reloader_core::patch::Target;
use pod_reloader_core::reference::References;
use pod_reloader_core::template::{Need, TemplateUses};
use pod_reloader_core::witness::{Witness, Witnesses};
use proptest::bool::weighted;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use serde_json::Value;

use super::{NAMESPACE, another_key, decided, decided_asking, digest, first_seen, found, key};

/// Few enough that they meet, and such that one begins as another ends.
pub fn names() -> impl Strategy<Value = ConfigRef> {
    let kinds = prop_oneof![Just(ConfigKind::ConfigMap), Just(ConfigKind::Secret)];
    (kinds, proptest::sample::select(vec!["a", "aa", "a.a", "b"]))
        .prop_map(|(kind, name)| ConfigRef::new(kind, NAMESPACE, name))
}

fn contents() -> impl Strategy<Value = String> {
    "[xy]"
}

/// Mostly the key that [`records`] are made with.
fn keys() -> impl Strategy<Value = DigestKey> {
    prop_oneof![4 => Just(key()), 1 => Just(another_key())]
}

pub fn records() -> impl Strategy<Value = Records> {
    let record =
        prop_oneof![3 => contents(), 1 => Just("absent".to_owned()), 1 => Just("uncompared".to_owned())];
    btree_map(names(), record, 0..4).prop_map(|records| {
        let record = |(name, content): (ConfigRef, String)| {
            let seen = match content.as_str() {
                "absent" => Seen::Absent,
                "uncompared" => Seen::Uncompared,
                content => Seen::Digest(digest(&key(), &name, content)),
            };
            (name, Record::listed(seen))
        };
        records.into_iter().map(record).collect()
    })
}

/// Such records, some with witnesses: of the version that an object has with that content in [`states`], or of another.
pub fn witnessed_records() -> impl Strategy<Value = (Records, Witnesses)> {
    (records(), btree_map(names(), any::<bool>(), 0..6)).prop_map(|(records, witnessed)| {
        let witness = |(name, record): (&ConfigRef, &Record)| {
            let is_of_live = *witnessed.get(name)?;
            let content =
                ["x", "y"].into_iter().find(|it| record.seen == Seen::Digest(digest(&key(), name, it)))?;
            let resource_version = if is_of_live { content.to_owned() } else { format!("before {content}") };
            let version = ConfigVersion::new(format!("uid-{name}"), resource_version);
            let digest = digest(&key(), name, content);
            Some((name.clone(), Witness::of(&key(), name, &version, &record.keys, digest)))
        };
        let witnesses = records.iter().filter_map(witness).collect();
        (records, witnesses)
    })
}

/// Everything that a decision can meet.
#[derive(Clone, Debug)]
pub struct State {
    pub mode: HashMode,
    pub key: DigestKey,
    pub references: References,
    pub uses: TemplateUses,
    pub hash: Option<String>,
    pub observed: Option<String>,
    pub known: Lookups,
    pub context: Context,
    pub superseded: BTreeSet<ConfigRef>,
    pub tolerates_unknown: bool,
    pub moves_hash: bool,
}

impl State {
    pub fn ask(&self) -> Verdict {
        self.decide().verdict
    }

    pub fn decide(&self) -> Decision {
        self.with_input(|input| decided(input, &self.known))
    }

    /// The same, with what was asked for on the way.
    pub fn decide_asking(&self) -> (Decision, Vec<Query>) {
        self.with_input(|input| decided_asking(input, &self.known))
    }

    /// The same state without witnesses.
    pub fn without_witnesses(&self) -> Self {
        let observed = self.recorded().map(|it| Observed { witnesses: Witnesses::new(), ..it });
        let observed = observed.map(|it| it.to_annotation(NAMESPACE)).or_else(|| self.observed.clone());
        Self { observed, ..self.clone() }
    }

    fn with_input<T>(&self, ask: impl FnOnce(&Input<'_>) -> T) -> T {
        ask(&Input {
            mode: self.mode,
            key: &self.key,
            namespace: NAMESPACE,
            references: &self.references.clone().needed_by(&self.uses),
            uses: &self.uses,
            baseline: Baseline { hash: self.hash.as_deref(), observed: self.observed.as_deref() },
            first_seen: &first_seen(&self.superseded),
            tolerates_unknown: self.tolerates_unknown,
            context: self.context,
            moves_hash: self.moves_hash,
        })
    }

    pub fn apply(&mut self, verdict: &Verdict) {
        if let Verdict::Reload { hash, observed, .. } = verdict {
            self.hash = Some(hash.to_string());
            self.observed = observed.as_ref().map(|it| it.to_annotation(NAMESPACE));
        } else if let Verdict::Act { observed, .. } = verdict {
            self.observed = Some(observed.to_annotation(NAMESPACE));
        } else if let Verdict::Observe(observed) = verdict {
            self.observed = observed.as_ref().map(|it| it.to_annotation(NAMESPACE));
        }
    }

    /// Whether the hash is the one that SAP's pod-reloader would have set.
    pub fn is_saps(&self) -> bool {
        let saps = sap::version_hash(NAMESPACE, self.references.listed(), &self.known);
        saps.map(|saps| saps.to_string()) == self.hash
    }

    /// What a valid observed-config records.
    pub fn recorded(&self) -> Option<Observed> {
        Observed::parse(self.observed.as_deref()?, NAMESPACE, self.hash.as_deref())
    }

    /// The annotations as they are.
    pub fn target(&self) -> Target {
        Target { hash: self.hash.clone(), observed: self.observed.clone() }
    }
}

/// Whose hash is on the template.
#[derive(Clone, Debug)]
enum Hash {
    None,
    Ours,
    Saps,
    Other,
}

/// How the template uses an object.
#[derive(Clone, Debug)]
enum Use {
    Optional,
    Required,
    Key,
}

/// Mostly such that no key is missing.
fn key_names() -> impl Strategy<Value = Option<KeyNames>> {
    prop_oneof![2 => Just(None), 2 => Just(Some(KeyNames::of(["key"]))), 1 => Just(Some(KeyNames::of([])))]
}

fn lists(listed: &[ConfigRef]) -> References {
    let of = |kind| {
        let names = listed.iter().filter(|name| name.kind == kind).map(|name| &*name.name);
        names.collect::<Vec<_>>().join(",")
    };
    sap::references(NAMESPACE, Some(&of(ConfigKind::ConfigMap)), Some(&of(ConfigKind::Secret)))
}

prop_compose! {
    pub fn states()(
        mode in prop_oneof![Just(HashMode::Content), Just(HashMode::Version)],
        (key, superseded) in (keys(), btree_set(names(), 0..3)),
        listed in vec(names(), 0..5),
        uses in btree_map(names(), prop_oneof![Just(Use::Optional), Just(Use::Required), Just(Use::Key)], 0..4),
        live in btree_map(names(), prop_oneof![
            6 => (contents(), key_names()).prop_map(Some).prop_map(Some), 3 => Just(Some(None)), 1 => Just(None)
        ], 5..8),
        (records, witnesses) in witnessed_records(),
        records_match_lists in any::<bool>(),
        beside in prop_oneof![4 => Just(Hash::Ours), 1 => Just(Hash::Saps), 1 => Just(Hash::None), 1 => Just(Hash::Other)],
        named in prop_oneof![5 => Just(true), 1 => Just(false)],
        has_observed in prop_oneof![5 => Just(true), 1 => Just(false)],
        (context, tolerates_unknown, moves_hash) in
            (prop_oneof![Just(Context::Rollout), Just(Context::Steady)], any::<bool>(), weighted(0.7)),
    ) -> State {
        let references = lists(&listed);
        let mut template = TemplateUses::default();
        for (name, use_) in uses {
            match use_ {
                Use::Optional => template.add(name, Need::Optional),
                Use::Required => template.add(name, Need::Required),
                Use::Key => template.require_key(name, "key"),
            }
        }
        let known: Lookups = references.objects().into_iter().chain(template.required()).map(|name| {
            let lookup = match live.get(name) {
                Some(Some(Some((content, keys)))) => Lookup::Found(Found {
                    keys: keys.clone(),
                    ..found(&key, &format!("uid-{name}"), content, digest(&key, name, content))
                }),
                Some(None) => Lookup::Unknown,
                Some(Some(None)) | None => Lookup::Absent,
            };
            (name.clone(), lookup)
        }).collect();
        let records: Records = if records_match_lists {
            references.objects().into_iter()
                .map(|name| (name.clone(), records.get(name).cloned().unwrap_or(Record::listed(Seen::Absent))))
                .collect()
        } else {
            records
        };
        let ours = ConfigHash::of_content(&key, NAMESPACE, &records).to_string();
        let hash = match beside {
            Hash::None => None,
            Hash::Ours => Some(ours),
            Hash::Saps => sap::version_hash(NAMESPACE, references.listed(), &known).map(|h| h.to_string()),
            Hash::Other => Some("other".to_owned()),
        };
        let names_hash = if named { hash.clone() } else { Some("yet another".to_owned()) };
        let observed = Observed { key_id: "k1".into(), hash: names_hash, records, witnesses };
        let observed = observed.to_annotation(NAMESPACE);
        // As [`Workload::hash_mode`] has it.
        let mode = if moves_hash { mode } else { HashMode::Content };
        State {
            mode, references, uses: template, hash, superseded, tolerates_unknown,
            observed: has_observed.then_some(observed),
            known, context, key, moves_hash,
        }
    }
}

/// Any JSON; objects often have members that mean something in a workload.
pub fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    let member = prop_oneof![
        4 => proptest::sample::select(vec![
            "metadata", "annotations", "labels", "spec", "template", "containers", "initContainers", "volumes",
            "env", "envFrom", "valueFrom", "configMapRef", "secretRef", "secretKeyRef", "name", "optional",
            "projected", "sources", "configMap", "secret", "secretName", "deletionTimestamp",
            "pod-reloader.cs.sap.com/configmaps", "pod-reloader.cs.sap.com/config-hash",
        ]).prop_map(str::to_owned),
        1 => ".{0,4}",
    ];
    leaf.prop_recursive(8, 64, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(member.clone(), inner, 0..5).prop_map(|map| map.into_iter().collect()),
        ]
    })
}
