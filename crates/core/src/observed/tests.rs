use super::*;

const NAMESPACE: &str = "shop";
const DIGEST: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const WITNESS: &str = "BBBBBBBBBBA";

fn sample() -> Observed {
    let digest = Seen::Digest(Digest::parse(DIGEST).unwrap());
    let listed = [
        (ConfigRef::configmap(NAMESPACE, "a"), digest),
        (ConfigRef::configmap(NAMESPACE, "b"), Seen::Absent),
        (ConfigRef::secret(NAMESPACE, "a"), Seen::Uncompared),
        (ConfigRef::secret(NAMESPACE, "b"), Seen::Unfollowed),
    ];
    let records = listed.map(|(object, seen)| (object, Record::listed(seen)));
    Observed {
        key_id: "k1".into(),
        hash: Some("h".into()),
        records: records.into(),
        witnesses: Witnesses::new(),
    }
}

fn adopted() -> Observed {
    let digest = Seen::Digest(Digest::parse(DIGEST).unwrap());
    let followed = |seen, keys| Record { seen, keys, origin: Origin::Followed };
    let records = [
        (ConfigRef::configmap(NAMESPACE, "a"), followed(digest, Keys::only(["x", "y"]))),
        (ConfigRef::configmap(NAMESPACE, "b"), Record::listed(digest)),
        (ConfigRef::configmap("other", "a"), followed(digest, Keys::All)),
        (ConfigRef::secret(NAMESPACE, "a"), followed(Seen::Absent, Keys::only(["k"]))),
    ];
    Observed { key_id: "k1".into(), hash: None, records: records.into(), witnesses: Witnesses::new() }
}

#[test]
fn c2_3_what_was_written_is_read_back() {
    let text = sample().to_annotation(NAMESPACE);
    assert_eq!(
        text,
        r#"{"version":2,"key":"k1","hash":"h","configmaps":{"a":"AAAAAAAAAAAAAAAAAAAAAA","b":null},"secrets":{"a":"?","b":"-"}}"#
    );
    assert_eq!(Observed::parse(&text, NAMESPACE, Some("h")), Some(sample()));
}

#[test]
fn c2_3_version_2_stands_beside_no_hash_and_says_where_references_come_from_and_which_keys_count() {
    let text = adopted().to_annotation(NAMESPACE);
    assert_eq!(
        text,
        concat!(
            r#"{"version":2,"key":"k1","configmaps":{"b":"AAAAAAAAAAAAAAAAAAAAAA"},"followed":{"configmaps":{"#,
            r#""a":{"digest":"AAAAAAAAAAAAAAAAAAAAAA","keys":["x","y"]},"other/a":"AAAAAAAAAAAAAAAAAAAAAA"},"#,
            r#""secrets":{"a":{"digest":null,"keys":["k"]}}}}"#
        )
    );
    assert_eq!(Observed::parse(&text, NAMESPACE, None), Some(adopted()));
    assert_eq!(Observed::parse(&text, NAMESPACE, Some("h")), None, "a hash that it does not name");
}

/// The same, with a witness of each digest.
fn with_witnesses(observed: Observed) -> Observed {
    let digests = observed.records.iter().filter(|(_, record)| matches!(record.seen, Seen::Digest(_)));
    let witnesses = digests.map(|(object, _)| (object.clone(), Witness::parse(WITNESS).unwrap()));
    Observed { witnesses: witnesses.collect(), ..observed }
}

#[test]
fn c2_3_a_digest_can_have_a_witness() {
    let observed = with_witnesses(sample());
    let text = observed.to_annotation(NAMESPACE);
    assert_eq!(
        text,
        r#"{"version":2,"key":"k1","hash":"h","configmaps":{"a":"AAAAAAAAAAAAAAAAAAAAAA@BBBBBBBBBBA","b":null},"secrets":{"a":"?","b":"-"}}"#
    );
    assert_eq!(Observed::parse(&text, NAMESPACE, Some("h")), Some(observed));
    assert_eq!(without_witnesses(&text), Some(sample().to_annotation(NAMESPACE)));
    assert_eq!(without_witnesses(&sample().to_annotation(NAMESPACE)), None);
    assert_eq!(without_witnesses("no annotation"), None);

    let observed = with_witnesses(adopted());
    let text = observed.to_annotation(NAMESPACE);
    assert!(text.contains(r#"{"digest":"AAAAAAAAAAAAAAAAAAAAAA@BBBBBBBBBBA","keys":["x","y"]}"#), "{text}");
    assert_eq!(Observed::parse(&text, NAMESPACE, None), Some(observed));
    assert_eq!(without_witnesses(&text), Some(adopted().to_annotation(NAMESPACE)));
}

#[test]
fn c2_3_a_malformed_witness_is_a_malformed_annotation() {
    let text = with_witnesses(sample()).to_annotation(NAMESPACE);
    assert!(Observed::parse(&text, NAMESPACE, Some("h")).is_some());
    for broken in [
        text.replace(WITNESS, ""),
        text.replace(WITNESS, "BBBBBBBBBBB"),
        text.replace(WITNESS, "BBBBBBBBBA"),
        text.replace(WITNESS, "BBBBBBBBBBBA"),
        text.replace(WITNESS, "BBBBBBBBB+A"),
        text.replace(WITNESS, &format!("{WITNESS}=")),
        text.replace(WITNESS, &format!("{WITNESS}@")),
        text.replace(WITNESS, &format!("{WITNESS}@{WITNESS}")),
        text.replace(DIGEST, ""),
        text.replace(DIGEST, "?"),
        text.replace("\"?\"", &format!("\"?@{WITNESS}\"")),
        text.replace("\"version\":2", "\"version\":1"),
    ] {
        assert_eq!(Observed::parse(&broken, NAMESPACE, Some("h")), None, "{broken}");
    }
}

#[test]
fn c2_3_version_1_is_read() {
    let text = sample().to_annotation(NAMESPACE).replace("\"version\":2", "\"version\":1");
    assert_eq!(Observed::parse(&text, NAMESPACE, Some("h")), Some(sample()));
    let without_hash = adopted().to_annotation(NAMESPACE).replace("\"version\":2", "\"version\":1");
    assert_eq!(Observed::parse(&without_hash, NAMESPACE, None), None, "it knew no such thing");
    for listed in [r#"{"a":{"digest":null,"keys":["k"]}}"#, r#"{"other/a":null}"#] {
        let text = format!(r#"{{"version":1,"key":"k1","hash":"h","configmaps":{listed}}}"#);
        assert_eq!(Observed::parse(&text, NAMESPACE, Some("h")), None, "it knew no such thing: {text}");
    }
}

#[test]
fn c2_3_malformed_unknown_or_misplaced_counts_as_not_there() {
    let text = sample().to_annotation(NAMESPACE);
    assert_eq!(Observed::parse(&text, NAMESPACE, Some("another hash")), None);
    assert_eq!(Observed::parse(&text, NAMESPACE, None), None);
    for broken in [
        text.replace("\"version\":2", "\"version\":3"),
        text.replace(DIGEST, "AAAA"),
        text.replace(DIGEST, "A"),
        text.replace(&format!("\"{DIGEST}\""), "7"),
        text.replace(&format!("\"{DIGEST}\""), "{\"keys\":[\"a\"],\"more\":1,\"digest\":null}"),
        text.replace("\"key\":\"k1\",", ""),
        text.replace("\"secrets\"", "\"followed\":{\"configmaps\":{\"a\":null}},\"secrets\""),
        text.replace("\"secrets\"", "\"more\":{},\"secrets\""),
        text.replace("\"a\":\"?\"", "\"a/b/c\":\"?\""),
        text.replace("\"a\":\"?\"", "\"/a\":\"?\""),
        text.replace("\"a\":\"?\"", "\"a.b/c\":\"?\""),
        text.replace("\"a\":\"?\"", "\"../../secrets/a\":\"?\""),
        text.replace("\"a\":\"?\"", "\"\\u001b[31m\":\"?\""),
        text[..text.len() - 1].to_owned(),
        format!("{text}x"),
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
    ] {
        assert_eq!(Observed::parse(&broken, NAMESPACE, Some("h")), None, "{broken}");
    }
}
