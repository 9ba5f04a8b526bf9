//! A digest key that is replaced on purpose (2.2): nothing is reloaded by it, and nothing that changes is missed.
#![allow(clippy::panic, reason = "in tests a panic is a failure")]

mod support;

use pod_reloader_core::admission::Baseline;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::decide::{
    ConfigVersion, Context, Decision, FirstSeen, Found, Input, KnownDigest, Lookup, Lookups, Verdict,
};
use pod_reloader_core::dialect::sap;
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::observed::{Observed, Record, Records, Seen};
use pod_reloader_core::reference::Keys;
use pod_reloader_core::template::TemplateUses;
use support::{NAMESPACE, another_key, cm, decided, digest, key};

fn rotated() -> DigestKey {
    another_key().with_former([key()])
}

/// What is there, in digests of that key and of those that it replaced.
fn lookups(key: &DigestKey, contents: &[(&str, Option<&str>)]) -> Lookups {
    let lookup = |(name, text): &(&str, Option<&str>)| {
        let object = cm(name);
        let found = text.map(|text| {
            let of = |key: &DigestKey| KnownDigest {
                key_id: key.shared_id(),
                keys: Keys::All,
                digest: digest(key, &object, text),
            };
            let version = ConfigVersion::new(format!("uid-{object}"), format!("of-{text}"));
            let digests = std::iter::once(key).chain(key.former()).map(of).collect();
            Lookup::Found(Found { version, digests, keys: None })
        });
        (object.clone(), found.unwrap_or(Lookup::Absent))
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
    let references = sap::references(NAMESPACE, Some(&list), None);
    let input = Input {
        mode: HashMode::Content,
        key,
        namespace: NAMESPACE,
        references: &references,
        uses: &TemplateUses::default(),
        baseline: Baseline { hash, observed },
        first_seen: &FirstSeen::new(),
        tolerates_unknown: false,
        context: Context::Steady,
        moves_hash: true,
    };
    decided(&input, &lookups(key, contents))
}

fn ask_of(before: &Observed, contents: &[(&str, Option<&str>)]) -> Decision {
    ask(&rotated(), contents, before.hash.as_deref(), Some(&before.to_annotation(NAMESPACE)))
}

#[test]
fn c2_2_a_rotation_records_anew_without_a_reload_and_without_a_warning() {
    let contents = [("a", Some("1")), ("b", None)];
    let before = recorded(&key(), &contents);
    let decision = ask_of(&before, &contents);
    assert!(!decision.key_was_replaced);
    let Verdict::Observe(Some(after)) = decision.verdict else { panic!("{decision:?}") };
    assert_eq!((&*after.key_id, &after.hash), (another_key().id(), &before.hash));
    let a = cm("a");
    let expected = Records::from([
        (a.clone(), Record::listed(Seen::Digest(digest(&another_key(), &a, "1")))),
        (cm("b"), Record::listed(Seen::Absent)),
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
    assert_eq!(Some(hash.as_str()), after.hash.as_deref());
    assert_eq!(ask_of(&after, &contents).verdict, Verdict::Keep);
}

#[test]
fn c2_2_what_is_gone_stays_comparable_while_the_former_key_is_kept() {
    let before = recorded(&key(), &[("a", Some("1"))]);
    assert_eq!(ask_of(&before, &[("a", None)]).verdict, Verdict::Keep);
    let back = ask_of(&before, &[("a", Some("1"))]);
    assert!(matches!(back.verdict, Verdict::Observe(Some(_))), "{back:?}");
    let other = ask_of(&before, &[("a", Some("2"))]);
    assert!(matches!(other.verdict, Verdict::Reload { .. }), "{other:?}");
}

/// A reload of another reference does not make it incomparable: it would be reloaded for again when it can be read.
#[test]
fn c2_2_what_cannot_be_read_stays_comparable_across_a_reload_during_a_rotation() {
    let before = recorded(&key(), &[("a", Some("1")), ("b", Some("1"))]);
    for present in [key(), rotated()] {
        let references = sap::references(NAMESPACE, Some("a,b"), None);
        let mut known = lookups(&present, &[("a", Some("2"))]);
        known.insert(cm("b"), Lookup::Unknown);
        let input = Input {
            mode: HashMode::Content,
            key: &present,
            namespace: NAMESPACE,
            references: &references,
            uses: &TemplateUses::default(),
            baseline: Baseline {
                hash: before.hash.as_deref(),
                observed: Some(&before.to_annotation(NAMESPACE)),
            },
            first_seen: &FirstSeen::new(),
            tolerates_unknown: true,
            context: Context::Steady,
            moves_hash: true,
        };
        let decision = decided(&input, &known);
        let Verdict::Reload { observed: Some(after), .. } = decision.verdict else { panic!("{decision:?}") };
        let contents = [("a", Some("2")), ("b", Some("1"))];
        let again = ask(&present, &contents, after.hash.as_deref(), Some(&after.to_annotation(NAMESPACE)));
        assert!(matches!(again.verdict, Verdict::Keep | Verdict::Observe(_)), "{again:?}");
    }
}

#[test]
fn c2_2_a_hash_of_the_former_key_is_known_without_observed_config() {
    let contents = [("a", Some("1"))];
    let before = recorded(&key(), &contents);
    let decision = ask(&rotated(), &contents, before.hash.as_deref(), None);
    let Verdict::Observe(Some(after)) = &decision.verdict else { panic!("{decision:?}") };
    assert_eq!(&*after.key_id, another_key().id());
    let changed = ask(&rotated(), &[("a", Some("2"))], before.hash.as_deref(), None);
    assert!(matches!(changed.verdict, Verdict::Reload { .. }), "{changed:?}");
}

#[test]
fn c2_5_a_key_that_is_no_former_one_was_lost() {
    let contents = [("a", Some("1"))];
    let before = recorded(&DigestKey::new("k3", &[3; DigestKey::LEN]).unwrap(), &contents);
    let decision = ask_of(&before, &contents);
    assert!(decision.key_was_replaced);
    assert!(matches!(decision.verdict, Verdict::Observe(Some(_))));
}
