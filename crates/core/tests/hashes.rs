//! 2.1, 2.2 and 2.4: what digests and config hashes are made of.
//!
//! The fixed vectors were computed by hand with another HMAC. A vector that changes would roll every pod of every
//! user at the upgrade: should one of them fail, the code is wrong, not the vector.

mod support;

use pod_reloader_core::config_hash::ConfigHash;
use pod_reloader_core::content::{ContentSum, ContentSummary};
use pod_reloader_core::decide::{ConfigVersion, Found, Lookup, Lookups};
use pod_reloader_core::dialect::sap;
use pod_reloader_core::digest::{Digest, DigestKey};
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::observed::{Record, Records, Seen};
use pod_reloader_core::reference::Keys;
use serde_json::json;
use support::{NAMESPACE, another_key, cm, content, key, secret};

const SETTINGS: &str = "ulUcLAVPvwmaPJ1MUpSMSg";
const LOGIN: &str = "C4cRU7rP08sf86hHH6SQEA";
const EMPTY: &str = "JM4jP1t-qvMuGbZKAUDOIA";

fn sum(object: &serde_json::Value) -> ContentSum {
    ContentSummary::read(object.to_string().as_bytes(), &Keys::All).expect("content").sum
}

fn digest_of(namespace: &str, name: &ConfigRef, content: &ContentSum) -> Digest {
    Digest::of(&key(), &ConfigRef::new(name.kind, namespace, name.name.clone()), content)
}

fn recorded(digest: &str) -> Seen {
    Seen::Digest(Digest::parse(digest).expect("a digest"))
}

fn hash_of(key: &DigestKey, namespace: &str, records: &[(ConfigRef, Seen)]) -> String {
    let in_namespace = |object: &ConfigRef| ConfigRef::new(object.kind, namespace, object.name.clone());
    let records: Records =
        records.iter().map(|(object, seen)| (in_namespace(object), Record::listed(*seen))).collect();
    ConfigHash::of_content(key, namespace, &records).to_string()
}

#[test]
fn c2_2_digest_vectors_stand() {
    let settings = sum(&json!({"data": {"entry": "one", "other": "\u{e9}"}, "binaryData": {"bin": "AAEC"}}));
    assert_eq!(digest_of("shop", &cm("settings"), &settings).to_string(), SETTINGS);
    let login = sum(&json!({"data": {"password": "c2VjcmV0"}, "type": "Opaque"}));
    assert_eq!(digest_of("shop", &secret("login"), &login).to_string(), LOGIN);
    assert_eq!(digest_of("shop", &cm("empty"), &sum(&json!({}))).to_string(), EMPTY);
}

#[test]
fn c2_1_hash_vectors_stand() {
    let one = [(cm("settings"), recorded(SETTINGS))];
    let all = [
        (cm("settings"), recorded(SETTINGS)),
        (cm("gone"), Seen::Absent),
        (secret("login"), recorded(LOGIN)),
        (secret("lost"), Seen::Uncompared),
    ];
    for (records, expected) in [
        (&[][..], "5889e4090df4766a3fc75d5c069754da1a8cd82a0899f92ac953eff342d2c023"),
        (&one[..], "82b3b33272e90e890d68a83104d87c67b645d9bad18eb634f638ed7838f46b4e"),
        (&all[..], "d93ac4f0716fa8a6da64c5df3364c6d5c1efdbda90e12c090cec6e27729f0e55"),
    ] {
        assert_eq!(hash_of(&key(), "shop", records), expected);
    }
}

#[test]
fn c2_1_hash_is_64_lower_case_hex_digits() {
    let hash = hash_of(&key(), NAMESPACE, &[(cm("a"), Seen::Absent)]);
    assert_eq!(hash.len(), 64);
    assert!(hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{hash}");
}

#[test]
fn c2_2_same_content_in_objects_of_another_name_kind_or_namespace_gives_another_digest() {
    let content = content("the same");
    let digests = [
        digest_of("shop", &cm("a"), &content),
        digest_of("shop", &cm("b"), &content),
        digest_of("shop", &secret("a"), &content),
        digest_of("shopa", &cm("a"), &content),
        digest_of("sho", &cm("pa"), &content),
    ];
    for (i, one) in digests.iter().enumerate() {
        assert!(!digests[i + 1..].contains(one), "{i}: {digests:?}");
    }
}

/// Each of these reads the same when its parts are only put one after the other.
#[test]
fn c2_2_the_encoding_is_unambiguous() {
    let objects = [
        json!({"data": {"a": "b"}}),
        json!({"data": {"ab": ""}}),
        json!({"data": {"": "ab"}}),
        json!({"binaryData": {"a": "b"}}),
        json!({"data": {"a": ""}, "type": "b"}),
        json!({"data": {"a": "", "b": ""}}),
        json!({"data": {"a": ""}, "binaryData": {"b": ""}}),
        json!({"type": "ab"}),
    ];
    let digests = objects.map(|object| digest_of("shop", &cm("a"), &sum(&object)));
    for (i, one) in digests.iter().enumerate() {
        assert!(!digests[i + 1..].contains(one), "{i}: {digests:?}");
    }
}

#[test]
fn c2_2_hash_of_the_same_content_differs_by_name_kind_namespace_and_key() {
    let content = content("the same");
    let hash_with = |key: &DigestKey, namespace: &str, name: ConfigRef| {
        let digest = Digest::of(key, &ConfigRef::new(name.kind, namespace, name.name.clone()), &content);
        hash_of(key, namespace, &[(name, Seen::Digest(digest))])
    };
    let hashes = [
        hash_with(&key(), "shop", cm("a")),
        hash_with(&key(), "shop", cm("b")),
        hash_with(&key(), "shop", secret("a")),
        hash_with(&key(), "bank", cm("a")),
        hash_with(&another_key(), "shop", cm("a")),
    ];
    for (i, one) in hashes.iter().enumerate() {
        assert!(!hashes[i + 1..].contains(one), "{i}");
    }
}

/// The hash alone, whatever the digests say: were its parts not under the key too, hashes could be compared.
#[test]
fn c2_2_every_part_of_a_record_goes_into_the_hash() {
    let records = [
        (cm("a"), recorded(SETTINGS)),
        (cm("a"), recorded(LOGIN)),
        (cm("a"), Seen::Absent),
        (cm("a"), Seen::Uncompared),
        (cm("b"), recorded(SETTINGS)),
        (secret("a"), recorded(SETTINGS)),
    ];
    let mut hashes: Vec<_> =
        records.iter().map(|record| hash_of(&key(), "shop", std::slice::from_ref(record))).collect();
    hashes.push(hash_of(&key(), "bank", &records[..1]));
    hashes.push(hash_of(&another_key(), "shop", &records[..1]));
    hashes.push(hash_of(&key(), "shop", &records[3..5]));
    for (i, one) in hashes.iter().enumerate() {
        assert!(!hashes[i + 1..].contains(one), "{i}");
    }
}

#[test]
fn c2_2_a_digest_as_shown_has_at_least_96_bits_and_one_spelling() {
    const { assert!(Digest::LEN * 8 >= 96) };
    let digest = Digest::parse(SETTINGS).unwrap();
    assert_eq!(digest.to_string(), SETTINGS);
    // The last character carries four bits that must be zero.
    for other in
        ["ulUcLAVPvwmaPJ1MUpSMSh", "ulUcLAVPvwmaPJ1MUpSMSg==", "ulUcLAVPvwmaPJ1MUpSMSg ", "ulUcLAVP", ""]
    {
        assert_eq!(Digest::parse(other), None, "{other}");
    }
}

#[test]
fn c2_2_a_key_is_refused_unless_it_is_whole_and_its_id_is_plain() {
    let bytes = [1; DigestKey::LEN];
    assert!(DigestKey::new("a".repeat(64), &bytes).is_some());
    for (id, bytes) in
        [("", &bytes[..]), ("a\"b", &bytes), (&"a".repeat(65), &bytes), ("a", &[1; 31]), ("a", &[1; 33])]
    {
        assert!(DigestKey::new(id, bytes).is_none(), "{id} {}", bytes.len());
    }
}

#[test]
fn c5_8_neither_key_nor_content_shows_in_debug_output() {
    let key = DigestKey::new("id", &[0xAB; DigestKey::LEN]).unwrap();
    assert_eq!(format!("{key:?}"), "DigestKey { id: \"id\", .. }");
    assert_eq!(format!("{:?}", content("secret")), "ContentSum(..)");
}

fn saps(configmaps: &str, secrets: &str, existing: &[ConfigRef]) -> String {
    let references = sap::references("test", Some(configmaps), Some(secrets));
    let lookups: Lookups = references
        .objects()
        .into_iter()
        .map(|name| {
            let uid = format!("{}/test/{}", name.kind.as_str(), name.name);
            let found = Found::version(ConfigVersion::new(uid, "1"));
            let is_there = existing.iter().any(|it| (it.kind, &it.name) == (name.kind, &name.name));
            let lookup = if is_there { Lookup::Found(found) } else { Lookup::Absent };
            (name.clone(), lookup)
        })
        .collect();
    sap::version_hash("test", references.listed(), &lookups).expect("all known").to_string()
}

/// From SAP/pod-reloader, `internal/reloader/suite_test.go`.
#[test]
fn c2_4_saps_vectors_stand() {
    for (configmaps, secrets, existing, expected) in [
        ("", "", &[][..], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("test1", "", &[cm("test1")], "efec662502e54e0608b8416d527adc60299ebc1e67b528d2b835735ddba509cc"),
        ("", "test2", &[secret("test2")], "a324647825255bf77512e38391358b3b1a38405c8f5e0d30e75693524a37a587"),
        (
            "test3,test4",
            "test5,test6",
            &[cm("test3"), secret("test6")],
            "2b5b0e3ced239db9b0121559f6eed4d2e62b699afb9a71ba7adb9fea8355f751",
        ),
    ] {
        assert_eq!(saps(configmaps, secrets, existing), expected, "{configmaps} {secrets}");
    }
}

#[test]
fn c2_4_order_and_repetition_count_and_blanks_do_not() {
    let existing = [cm("a"), cm("b"), secret("a")];
    let plain = saps("a,b", "a", &existing);
    for same in [" a ,b", "a,,b,", ",\ta\n, b "] {
        assert_eq!(saps(same, " a,", &existing), plain, "{same}");
    }
    for (configmaps, secrets) in [("b,a", "a"), ("a,b,a", "a"), ("a,b", "a,a"), ("a", "a"), ("a,b", "")] {
        assert_ne!(saps(configmaps, secrets, &existing), plain, "{configmaps} {secrets}");
    }
}

#[test]
fn c2_4_could_not_ask_gives_no_hash() {
    let references = sap::references(NAMESPACE, Some("a"), None);
    for lookups in [Lookups::new(), [(cm("a"), Lookup::Unknown)].into()] {
        assert_eq!(sap::version_hash("test", references.listed(), &lookups), None);
    }
}
