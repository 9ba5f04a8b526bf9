//! A digest key that is replaced on purpose (2.2): nothing is reloaded by it, and nothing that changes is missed.
#![allow(clippy::panic, reason = "in tests a panic is a failure")]

mod support;

use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::{Decision, Live, Lookup, Lookups, Occasion, Question, Verdict};
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::observed::{Observed, Record};
use pod_reloader_core::reference::{ConfigName, References};
use pod_reloader_core::rotation::decide_rotating;
use pod_reloader_core::template::TemplateUses;
use std::collections::{BTreeMap, BTreeSet};
use support::{another_key, digest, key};

fn rotated() -> DigestKey {
    another_key().with_former([key()])
}

fn lookups(key: &DigestKey, contents: &[(&str, Option<&str>)]) -> Lookups {
    let lookup = |(name, text): &(&str, Option<&str>)| {
        let name = ConfigName::configmap(*name);
        let live = text.map(|text| {
            Lookup::Known(Live {
                uid: format!("uid-{name}"),
                resource_version: format!("of-{text}"),
                digest: Some(digest(key, &name, text)),
                keys: None,
            })
        });
        (name, live.unwrap_or(Lookup::Absent))
    };
    contents.iter().map(lookup).collect()
}

/// What is recorded with that key over those contents, with its hash.
fn recorded(key: &DigestKey, contents: &[(&str, Option<&str>)]) -> Observed {
    match ask(key, contents, None, None).verdict {
        Verdict::Reload { observed: Some(observed), .. } => observed,
        other => panic!("{other:?}"),
    }
}

fn ask(
    key: &DigestKey,
    contents: &[(&str, Option<&str>)],
    hash: Option<&str>,
    observed: Option<&str>,
) -> Decision {
    let list = contents.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
    let references = References::parse(Some(&list), None);
    let live = lookups(key, contents);
    let question = Question {
        mode: HashMode::Content,
        key,
        namespace: "ns",
        references: &references,
        uses: &TemplateUses::default(),
        hash,
        observed,
        live: &live,
        superseded: &BTreeSet::new(),
        tolerates_unknown: false,
        occasion: Occasion::Standing,
    };
    decide_rotating(&question, |former| lookups(former, contents))
}

fn ask_of(before: &Observed, contents: &[(&str, Option<&str>)]) -> Decision {
    ask(&rotated(), contents, Some(&before.hash), Some(&before.to_annotation()))
}

#[test]
fn c2_2_a_rotation_records_anew_without_a_reload_and_without_a_warning() {
    let contents = [("a", Some("1")), ("b", None)];
    let before = recorded(&key(), &contents);
    let decision = ask_of(&before, &contents);
    assert!(!decision.key_was_replaced);
    let Verdict::Record(Some(after)) = decision.verdict else { panic!("{decision:?}") };
    assert_eq!((after.key_id.as_str(), after.hash.as_str()), (another_key().id(), before.hash.as_str()));
    let a = ConfigName::configmap("a");
    let expected = BTreeMap::from([
        (a.clone(), Record::Digest(digest(&another_key(), &a, "1"))),
        (ConfigName::configmap("b"), Record::Absent),
    ]);
    assert_eq!(after.records, expected);
    assert_eq!(ask_of(&after, &contents).verdict, Verdict::Keep, "once");
}

#[test]
fn c2_2_what_changes_during_a_rotation_is_one_reload() {
    let before = recorded(&key(), &[("a", Some("1"))]);
    let contents = [("a", Some("2"))];
    let decision = ask_of(&before, &contents);
    assert!(!decision.key_was_replaced);
    let Verdict::Reload { observed: Some(after), hash, .. } = decision.verdict else {
        panic!("{decision:?}")
    };
    assert_eq!(after, recorded(&another_key(), &contents));
    assert_eq!(hash.as_str(), after.hash);
    assert_eq!(ask_of(&after, &contents).verdict, Verdict::Keep);
}

#[test]
fn c2_2_what_is_gone_stays_comparable_while_the_former_key_is_kept() {
    let before = recorded(&key(), &[("a", Some("1"))]);
    assert_eq!(ask_of(&before, &[("a", None)]).verdict, Verdict::Keep);
    let back = ask_of(&before, &[("a", Some("1"))]);
    assert!(matches!(back.verdict, Verdict::Record(Some(_))), "{back:?}");
    let other = ask_of(&before, &[("a", Some("2"))]);
    assert!(matches!(other.verdict, Verdict::Reload { .. }), "{other:?}");
}

/// A reload of another reference does not make it incomparable: it would be reloaded for again when it can be read.
#[test]
fn c2_2_what_cannot_be_read_stays_comparable_across_a_reload_during_a_rotation() {
    let before = recorded(&key(), &[("a", Some("1")), ("b", Some("1"))]);
    for present in [key(), rotated()] {
        let references = References::parse(Some("a,b"), None);
        let unreadable = |key: &DigestKey| {
            let mut lookups = lookups(key, &[("a", Some("2"))]);
            lookups.insert(ConfigName::configmap("b"), Lookup::Unknown);
            lookups
        };
        let live = unreadable(&present);
        let question = Question {
            mode: HashMode::Content,
            key: &present,
            namespace: "ns",
            references: &references,
            uses: &TemplateUses::default(),
            hash: Some(&before.hash),
            observed: Some(&before.to_annotation()),
            live: &live,
            superseded: &BTreeSet::new(),
            tolerates_unknown: true,
            occasion: Occasion::Standing,
        };
        let decision = decide_rotating(&question, unreadable);
        let Verdict::Reload { observed: Some(after), .. } = decision.verdict else { panic!("{decision:?}") };
        let contents = [("a", Some("2")), ("b", Some("1"))];
        let again = ask(&present, &contents, Some(&after.hash), Some(&after.to_annotation()));
        assert!(matches!(again.verdict, Verdict::Keep | Verdict::Record(_)), "{again:?}");
    }
}

#[test]
fn c2_2_a_hash_of_the_former_key_is_known_without_observed_config() {
    let contents = [("a", Some("1"))];
    let before = recorded(&key(), &contents);
    let decision = ask(&rotated(), &contents, Some(&before.hash), None);
    let Verdict::Record(Some(after)) = &decision.verdict else { panic!("{decision:?}") };
    assert_eq!(after.key_id, another_key().id());
    let changed = ask(&rotated(), &[("a", Some("2"))], Some(&before.hash), None);
    assert!(matches!(changed.verdict, Verdict::Reload { .. }), "{changed:?}");
}

#[test]
fn c2_5_a_key_that_is_no_former_one_was_lost() {
    let contents = [("a", Some("1"))];
    let before = recorded(&DigestKey::new("k3", &[3; DigestKey::LEN]).unwrap(), &contents);
    let decision = ask_of(&before, &contents);
    assert!(decision.key_was_replaced);
    assert!(matches!(decision.verdict, Verdict::Record(Some(_))));
}
