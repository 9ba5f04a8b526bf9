//! 4.3: which writes make another pod template.

mod support;

use pod_reloader_core::annotation::CONFIG_HASH;
use pod_reloader_core::kind::apps::DEPLOYMENT;
use pod_reloader_core::template_diff;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use support::arbitrary::json_values;

fn differs(old: &str, new: &str) -> bool {
    template_diff::differs(DEPLOYMENT, old, new)
}

fn object(template: &Value) -> Value {
    json!({"spec": {"replicas": 1, "template": template}})
}

fn text(template: &Value) -> String {
    object(template).to_string()
}

/// The same comparison by trees, as the webhook once made it.
fn differs_by_trees(old: &Value, new: &Value) -> bool {
    without_hash(old.clone()) != without_hash(new.clone())
}

fn without_hash(mut template: Value) -> Value {
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(CONFIG_HASH);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
        metadata.retain(|_, value| !value.is_null());
        if metadata.is_empty() {
            template.as_object_mut().map(|template| template.remove("metadata"));
        }
    }
    template
}

#[test]
fn c4_3_only_our_hash_is_left_out_of_the_comparison() {
    let bare = json!({"spec": {"containers": []}});
    let with =
        |annotations: Value| json!({"metadata": {"annotations": annotations}, "spec": {"containers": []}});
    for (old, new, expected) in [
        (bare.clone(), bare.clone(), false),
        (bare.clone(), with(json!({CONFIG_HASH: "h"})), false),
        (with(json!({CONFIG_HASH: "h"})), with(json!({CONFIG_HASH: "i"})), false),
        (
            with(json!({CONFIG_HASH: "h"})),
            json!({"metadata": {"creationTimestamp": null}, "spec": {"containers": []}}),
            false,
        ),
        (with(json!({CONFIG_HASH: "h"})), with(json!({CONFIG_HASH: "h", "restartedAt": "now"})), true),
        (bare.clone(), with(json!({"a": "b"})), true),
        (bare, json!({"spec": {"containers": [{"image": "x"}]}}), true),
    ] {
        assert_eq!(differs(&text(&old), &text(&new)), expected, "{old} {new}");
    }
}

#[test]
fn c4_3_the_same_template_in_another_spelling_is_no_other_template() {
    for (old, new, expected) in [
        (
            r#"{"a":"x\u0026y","b":[1,{"c":null}]}"#,
            r#" { "b" : [ 1 , { "c" : null } ] , "a" : "x&y" } "#,
            false,
        ),
        (r#"{"a":"\ud83d\ude00\n"}"#, "{\"a\":\"\u{1f600}\\u000A\"}", false),
        (r#"{"\u0061":1.50}"#, r#"{"a":1.5}"#, false),
        (r#"{"a":1}"#, r#"{"a":1.0}"#, true),
        (r#"{"a":1,"b":2}"#, r#"{"b":1,"a":2}"#, true),
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"c":1}"#, true),
        (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, true),
        (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#, true),
        (r#"{"a":[1]}"#, r#"{"a":[1,1]}"#, true),
        (r#"{"a":""}"#, r#"{"a":null}"#, true),
        (r#"{"a":{}}"#, r#"{"a":[]}"#, true),
        ("[]", "[]", false),
        (r#""metadata""#, r#""meta""#, true),
    ] {
        let object = |template: &str| format!(r#"{{"spec":{{"template":{template}}}}}"#);
        assert_eq!(differs(&object(old), &object(new)), expected, "{old} {new}");
        assert_eq!(differs(&object(new), &object(old)), expected, "{new} {old}");
    }
}

#[test]
fn c4_3_what_cannot_be_read_counts_as_changed() {
    let good = text(&json!({"spec": {}}));
    for bad in ["", "{", "[]x", r#"{"spec":7}"#, r#"{"spec":{"template":{"a"}}}"#, r#"{"spec":{},"spec":{}}"#]
    {
        assert!(differs(bad, &good) && differs(&good, bad) && differs(bad, bad), "{bad}");
    }
    for none in ["{}", r#"{"spec":null}"#, r#"{"spec":{"template":null}}"#] {
        assert!(differs(none, &good) && !differs(none, "{}"), "{none}");
    }
}

/// The last of several members of one name counts, and only Kubernetes' own texts are known to have one of each.
#[test]
fn c4_3_a_member_that_stands_there_twice_hides_no_change() {
    for (old, new) in [
        (r#"{"metadata":{"labels":{"a":"b"}},"metadata":{}}"#, r#"{"metadata":{"labels":{"a":"b"}}}"#),
        (r#"{"metadata":{"labels":{"a":"b"},"labels":null}}"#, r#"{"metadata":{"labels":{"a":"b"}}}"#),
        (r#"{"spec":{"x":1,"x":1,"y":2}}"#, r#"{"spec":{"y":2,"x":1,"z":3}}"#),
        (r#"{"spec":{"x":1,"y":2,"y":2}}"#, r#"{"spec":{"z":3,"y":2,"x":1}}"#),
    ] {
        let object = |template: &str| format!(r#"{{"spec":{{"template":{template}}}}}"#);
        assert!(differs(&object(old), &object(new)) && differs(&object(new), &object(old)), "{old} {new}");
    }
}

#[test]
fn c4_6_deep_nesting_and_many_members_in_another_order_end_soon() {
    let nested = |depth: usize, leaf: &str| {
        format!(r#"{{"spec":{{"template":{}{leaf}{}}}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    assert!(!differs(&nested(500_000, "1"), &nested(500_000, "1")), "equal text");
    assert!(differs(&nested(500_000, "1"), &nested(500_000, "2")));
    // Beside something large there is budget for a descent that the stack would not bear.
    let beside = |leaf| format!("{leaf}{},\"{}\"", "]".repeat(4_500), "x".repeat(3_000_000));
    let padded = |leaf| format!(r#"{{"spec":{{"template":[{}{}]}}}}"#, "[".repeat(4_500), beside(leaf));
    assert!(differs(&padded(" 1"), &padded("1 ")), "not entered");
    assert!(differs(&nested(50, "1"), &nested(50, "2")));
    assert!(!differs(&nested(50, " 1"), &nested(50, "1 ")));

    let member = |n: usize| format!(r#""key{n}":{n}"#);
    let forth: Vec<_> = (0..50_000).map(member).collect();
    let back: Vec<_> = (0..50_000).rev().map(member).collect();
    let of =
        |members: &[String]| format!(r#"{{"spec":{{"template":{{"spec":{{{}}}}}}}}}"#, members.join(","));
    assert!(differs(&of(&forth), &of(&back)), "too expensive to compare");
    assert!(!differs(&of(&forth[..100]), &of(&back[49_900..])));
}

/// Another spelling of the same value: members in another order, blanks, escapes.
fn respell(value: &Value, choices: &mut impl Iterator<Item = u8>) -> String {
    let mut choice = || choices.next().unwrap_or_default();
    let blank = [" ", "", "\n", ""][usize::from(choice() % 4)];
    let string = |text: &str, choice: u8| {
        if choice.is_multiple_of(2) {
            return Value::from(text).to_string();
        }
        let units: Vec<_> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{}\"", units.concat())
    };
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            if !members.is_empty() {
                let by = usize::from(choice()) % members.len();
                members.rotate_left(by);
            }
            let member = |(key, value): (&String, &Value)| {
                let key = string(key, choices.next().unwrap_or_default());
                format!("{key}{blank}:{blank}{}", respell(value, choices))
            };
            let members: Vec<_> = members.into_iter().map(member).collect();
            format!("{{{blank}{}{blank}}}", members.join(&format!("{blank},")))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| respell(item, choices)).collect();
            format!("[{blank}{}]", items.join(&format!(",{blank}")))
        }
        Value::String(text) => string(text, choice()),
        other => other.to_string(),
    }
}

/// Templates whose metadata often holds nothing but our hash.
fn templates() -> impl Strategy<Value = Value> {
    let annotations = prop_oneof![
        Just(json!({})),
        Just(Value::Null),
        Just(json!({CONFIG_HASH: "h"})),
        Just(json!({CONFIG_HASH: "i", "other": "x"})),
        Just(json!({"other": "x"})),
        Just(json!("odd")),
    ];
    let metadata = prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        Just(Some(json!({}))),
        Just(Some(json!("odd"))),
        annotations.clone().prop_map(|annotations| Some(json!({"annotations": annotations}))),
        annotations.prop_map(|annotations| {
            Some(json!({"annotations": annotations, "creationTimestamp": null, "labels": {"a": "b"}}))
        }),
    ];
    let spec = prop_oneof![Just(json!({"containers": []})), json_values()];
    let of_parts = (metadata, spec).prop_map(|(metadata, spec)| {
        let mut template = Map::new();
        template.insert("spec".into(), spec);
        template.extend(metadata.map(|metadata| ("metadata".to_owned(), metadata)));
        Value::Object(template)
    });
    // An absent template is another matter.
    prop_oneof![4 => of_parts, 1 => json_values().prop_filter("a template", |value| !value.is_null())]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c4_3_texts_are_compared_as_trees_would_be(
        one in templates(), other in templates(), choices in vec(any::<u8>(), 200),
    ) {
        let mut choices = choices.into_iter();
        let mut respelled = |template| {
            format!(r#"{{"spec":{{"template":{},"replicas":1}}}}"#, respell(template, &mut choices))
        };
        let (one_text, other_text) = (respelled(&one), respelled(&other));
        prop_assert_eq!(differs(&one_text, &other_text), differs_by_trees(&one, &other));
        prop_assert_eq!(differs(&text(&one), &one_text), false);
        prop_assert_eq!(differs(&text(&one), &text(&other)), differs_by_trees(&one, &other));
    }

    #[test]
    fn c4_6_no_text_makes_the_comparison_panic(
        text in r#"[\[\]{}:,"\\u0-9a-f ]{0,40}"#, value in json_values(), at in any::<prop::sample::Index>(),
    ) {
        let whole = format!(r#"{{"spec":{{"template":{text}}}}}"#);
        let _ = differs(&whole, &some_object());
        let mut cut = object(&value).to_string();
        let mut end = at.index(cut.len());
        while !cut.is_char_boundary(end) { end -= 1; }
        cut.truncate(end);
        prop_assert!(differs(&cut, &some_object()));
    }
}

fn some_object() -> String {
    text(&json!({"spec": {}}))
}
