//! 2.3 and 7.2: digests over chosen keys of an object say what these hold, and nothing else.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use pod_reloader_core::config_hash::ConfigHash;
use pod_reloader_core::content::ContentSummary;
use pod_reloader_core::digest::Digest;
use pod_reloader_core::observed::{Observed, Record, Records, Seen};
use pod_reloader_core::reference::{Keys, Origin};
use pod_reloader_core::witness::Witnesses;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use serde_json::{Value, json};
use support::{NAMESPACE, cm, key, secret};

const NAMES: [&str; 6] = ["a", "ab", "b", "data", "keys", "none"];

/// A Secret of which keys, values and type are easily mistaken for each other: each key is in `data`, in `binaryData`, or
/// in neither.
#[derive(Clone, Debug, PartialEq)]
struct Content {
    entries: BTreeMap<&'static str, (bool, String)>,
    kind: Option<String>,
}

impl Content {
    fn json(&self) -> Value {
        let of = |binary| -> BTreeMap<_, _> {
            let entries = self.entries.iter().filter(|(_, (is_binary, _))| *is_binary == binary);
            entries.map(|(key, (_, value))| (*key, value.clone())).collect()
        };
        let mut json = json!({"data": of(false), "binaryData": of(true)});
        if let Some(kind) = &self.kind {
            json["type"] = json!(kind);
        }
        json
    }

    fn summary(&self, keys: &Keys) -> ContentSummary {
        ContentSummary::read(self.json().to_string().as_bytes(), keys).expect("content")
    }

    fn digest(&self, keys: &Keys) -> Digest {
        Digest::of(&key(), &secret("s"), &self.summary(keys).sum)
    }

    /// What there is of these keys.
    fn chosen<'c>(&'c self, keys: &'c BTreeSet<&str>) -> BTreeMap<&'static str, &'c (bool, String)> {
        let entries = self.entries.iter().filter(|(key, _)| keys.contains(*key));
        entries.map(|(key, value)| (*key, value)).collect()
    }
}

fn entries() -> impl Strategy<Value = (bool, String)> {
    (any::<bool>(), select(vec!["", "a", "ab", "data", "none", "bina"]).prop_map(str::to_owned))
}

fn contents() -> impl Strategy<Value = Content> {
    let kinds = proptest::option::of(select(vec!["", "Opaque", "a", "none"]).prop_map(str::to_owned));
    (proptest::collection::btree_map(select(NAMES.to_vec()), entries(), 0..5), kinds)
        .prop_map(|(entries, kind)| Content { entries, kind })
}

fn sets() -> impl Strategy<Value = BTreeSet<&'static str>> {
    subsequence(NAMES.to_vec(), 0..=NAMES.len()).prop_map(|keys| keys.into_iter().collect())
}

fn only(keys: &BTreeSet<&str>) -> Keys {
    Keys::only(keys.iter().copied())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c2_3_digests_over_other_keys_are_never_equal_nor_is_one_that_of_a_whole_object(
        one in contents(), other in contents(), keys in sets(), others in sets(),
    ) {
        prop_assert_ne!(one.digest(&only(&keys)), one.digest(&Keys::All));
        prop_assert_ne!(one.digest(&only(&keys)), other.digest(&Keys::All));
        if keys != others {
            prop_assert_ne!(one.digest(&only(&keys)), one.digest(&only(&others)));
            prop_assert_ne!(one.digest(&only(&keys)), other.digest(&only(&others)));
        }
    }

    #[test]
    fn c7_2_digests_over_chosen_keys_are_equal_just_if_these_hold_the_same(
        one in contents(), other in contents(), keys in sets(),
    ) {
        let is_same = one.chosen(&keys) == other.chosen(&keys);
        prop_assert_eq!(one.digest(&only(&keys)) == other.digest(&only(&keys)), is_same);
    }

    #[test]
    fn c7_2_a_key_that_is_added_changed_or_removed_counts_just_where_it_is_chosen(
        content in contents(), at in any::<Index>(), entry in proptest::option::of(entries()), keys in sets(),
    ) {
        let at = *at.get(&NAMES);
        let mut edited = content.clone();
        match entry {
            Some(entry) => drop(edited.entries.insert(at, entry)),
            None => drop(edited.entries.remove(at)),
        }
        let counts = keys.contains(at) && edited != content;
        prop_assert_eq!(edited.digest(&only(&keys)) != content.digest(&only(&keys)), counts);
        prop_assert_eq!(edited.digest(&Keys::All) != content.digest(&Keys::All), edited != content);
    }

    #[test]
    fn c7_2_the_type_of_a_secret_counts_for_whole_objects_only(content in contents(), keys in sets()) {
        let typed = |kind: &str| Content { kind: Some(kind.into()), ..content.clone() };
        let (opaque, tls) = (typed("Opaque"), typed("kubernetes.io/tls"));
        prop_assert_eq!(opaque.digest(&only(&keys)), tls.digest(&only(&keys)));
        prop_assert_ne!(opaque.digest(&Keys::All), tls.digest(&Keys::All));
    }

    #[test]
    fn c7_2_whichever_keys_are_summed_the_whole_and_the_names_of_all_keys_are_told(
        content in contents(), keys in sets(),
    ) {
        let summary = content.summary(&only(&keys));
        prop_assert_eq!(&summary.whole, &content.summary(&Keys::All).sum);
        for name in NAMES {
            prop_assert_eq!(summary.keys.contains(name), content.entries.contains_key(name), "{}", name);
        }
    }

    #[test]
    fn c2_3_observed_config_says_which_keys_count_and_where_a_reference_comes_from(
        content in contents(), sets in proptest::collection::vec(proptest::option::of(sets()), 1..4),
        listed in any::<bool>(),
    ) {
        let records: Records = sets.iter().enumerate().map(|(at, keys)| {
            let keys = keys.as_ref().map_or(Keys::All, only);
            let seen = if at == 1 { Seen::Absent } else { Seen::Digest(content.digest(&keys)) };
            let origin = if listed && keys == Keys::All { Origin::Listed } else { Origin::Followed };
            (cm(&format!("c{at}")), Record { seen, keys, origin })
        }).collect();
        let observed = Observed { key_id: "k1".into(), hash: None, records, witnesses: Witnesses::new() };
        let text = observed.to_annotation(NAMESPACE);
        prop_assert_eq!(Observed::parse(&text, NAMESPACE, None), Some(observed));
    }
}

/// So that a move from a list to `auto` (7.3), which changes nothing that counts, needs no other hash either.
#[test]
fn c2_1_where_a_reference_comes_from_is_no_part_of_the_hash() {
    let content = Content { entries: [("a", (false, "1".to_owned()))].into(), kind: None };
    let hash = |origin| {
        let record = Record { seen: Seen::Digest(content.digest(&Keys::All)), keys: Keys::All, origin };
        ConfigHash::of_content(&key(), NAMESPACE, &[(cm("a"), record)].into())
    };
    assert_eq!(hash(Origin::Listed), hash(Origin::Followed));
}
