use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn c1_6_selectors_mean_what_they_mean_to_kubectl() {
    for (selector, matching, others) in [
        ("", &["", "a=b"][..], &[][..]),
        (" \t\n", &["", "a=b"], &[]),
        ("a=b", &["a=b", "a=b,c=d"], &["", "a=c", "b=a"]),
        ("a == b", &["a=b"], &["a=c"]),
        ("a!=b", &["", "a=c"], &["a=b"]),
        ("a=", &["a="], &["", "a=b"]),
        ("a=,b=c", &["a=,b=c"], &["b=c"]),
        ("a!=", &["", "a=b"], &["a="]),
        ("a", &["a=", "a=b"], &["", "b=a"]),
        ("!a", &["", "b=a"], &["a=", "a=b"]),
        ("! a,b", &["b="], &["a=,b="]),
        ("a in (b,c)", &["a=b", "a=c"], &["", "a=d"]),
        ("a in(b)", &["a=b"], &["a="]),
        ("a in (,b)", &["a=", "a=b"], &["", "a=c"]),
        ("a in (b,)", &["a=", "a=b"], &["a=c"]),
        ("a in (,)", &["a="], &["a=b", ""]),
        ("a notin (b, c)", &["", "a=d"], &["a=b", "a=c"]),
        ("in in (in)", &["in=in"], &["in=a", ""]),
        ("notin,in=notin", &["notin=,in=notin"], &["in=notin"]),
        ("a>4,a<8", &["a=5", "a=7"], &["a=4", "a=8", "a=x", ""]),
        ("example.com/a.b_c-D=x.Y", &["example.com/a.b_c-D=x.Y"], &["a.b_c-D=x.Y"]),
        ("a=b,c!=d,e in (f,g),!h", &["a=b,e=f", "a=b,c=x,e=g"], &["a=b", "a=b,e=f,h=", "a=b,c=d,e=f"]),
        ("a=b,a=c", &[], &["a=b", "a=c"]),
        (
            "kubernetes.io/metadata.name notin (kube-system)",
            &["kubernetes.io/metadata.name=shop", ""],
            &["kubernetes.io/metadata.name=kube-system"],
        ),
    ] {
        let parsed = Selector::parse(selector).unwrap();
        assert_eq!(parsed.as_str(), selector.trim());
        for (texts, expected) in [(matching, true), (others, false)] {
            for text in texts {
                let labels = labels(text);
                assert_eq!(parsed.matches(&labels), expected, "{selector} of {text}");
                let object = serde_json::json!({"metadata": {"name": "x", "labels": labels}}).to_string();
                assert_eq!(parsed.matches_json(&object), expected, "{selector} of {object}");
            }
        }
    }
}

#[test]
fn c1_6_an_object_without_labels_is_one_with_none() {
    let (present, absent) = (Selector::parse("a").unwrap(), Selector::parse("!a").unwrap());
    for object in ["{}", r#"{"metadata":null}"#, r#"{"metadata":{}}"#, r#"{"metadata":{"labels":null}}"#] {
        assert!(!present.matches_json(object) && absent.matches_json(object), "{object}");
    }
    assert!(present.matches_json(r#"{"metadata":{"labels":{"b":null,"a":null}}}"#), "null is empty");
    for broken in ["", "[", r#"{"metadata":{"labels":[]}}"#, r#"{"metadata":{"labels":{"a":1}}}"#] {
        assert!(!present.matches_json(broken) && !absent.matches_json(broken), "{broken}");
        assert!(Selector::default().matches_json(broken), "nothing is read where all are meant");
    }
}

#[test]
fn c1_6_what_is_no_selector_is_an_error_that_says_what_is_wrong() {
    let long = "x".repeat(64);
    for (selector, wrong) in [
        (",", "',' where a label's key"),
        ("a,", "the end where a label's key"),
        ("a,,b", "',' where a label's key"),
        ("=b", "'=' where a label's key"),
        ("!", "the end where a label's key"),
        ("!!a", "'!' where a label's key"),
        ("!a=b", "'=' where a comma"),
        ("a b", "'b' after the key 'a'"),
        ("a In (b)", "'In' after the key 'a'"),
        ("a=b c", "'c' where a comma"),
        ("a=(b)", "'(' where a value"),
        ("a=!b", "'!' where a value"),
        ("a==b==c", "'==' where a comma"),
        ("a===b", "'=' where a value"),
        ("a in b", "'b' where '('"),
        ("a in", "the end where '('"),
        ("a in ()", "no values"),
        ("a in (b", "the end where ',' or ')'"),
        ("a in (b c)", "'c' where ',' or ')'"),
        ("a in ((b))", "'(' where ',' or ')'"),
        ("a in (b))", "')' where a comma"),
        ("a!b", "'!' after the key"),
        ("a>b", "'b' is no whole number"),
        ("a>", "'' is no whole number"),
        ("a>-1", "'-1' is no value"),
        ("a/b/c=d", "'a/b/c' is no key"),
        ("A.b/c=d", "'A.b/c' is no key"),
        ("/a=b", "'/a' is no key"),
        ("a/=b", "'a/' is no key"),
        ("-a=b", "'-a' is no key"),
        ("a=-b", "'-b' is no value"),
        ("a=b/c", "'b/c' is no value"),
        ("a=\u{e9}", "'?' is no value"),
        ("a=\"b\"", "'\"b\"' is no value"),
        (&long, "is no key"),
    ] {
        let error = Selector::parse(selector).unwrap_err();
        assert!(error.contains(wrong), "{selector}: {error}");
        assert!(error.ends_with("such as team=shop,tier!=test,env in (a,b),!legacy"), "{error}");
    }
    assert!(Selector::parse(&format!("a={}", "x".repeat(63))).is_ok());
    assert!(Selector::parse(&"(".repeat(100_000)).unwrap_err().len() < 300);
}

#[test]
fn c1_6_labels_can_be_made_that_a_selector_means() {
    for (selector, expected) in [
        ("", Some("")),
        ("a=b,c,d in (e,f),!g,h!=i,n>4", Some("a=b,c=,d=e,n=5")),
        ("a=b,a", Some("a=b")),
        ("a=b,a!=b", None),
        ("a,!a", None),
    ] {
        let example = Selector::parse(selector).unwrap().example();
        assert_eq!(example, expected.map(labels), "{selector}");
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?",
        Just("in".to_owned()),
        Just("notin".to_owned())
    ]
}

fn key() -> impl Strategy<Value = String> {
    let prefix = prop_oneof![Just(String::new()), "[a-z0-9]{1,4}(\\.[a-z0-9]{1,3}){0,2}/"];
    (prefix, word()).prop_map(|(prefix, name)| prefix + &name)
}

fn term() -> impl Strategy<Value = String> {
    let blank = "[ \t\r\n]{0,2}";
    let value = prop_oneof![Just(String::new()), word()];
    let operator = prop_oneof![Just("="), Just("=="), Just("!=")];
    let set = prop_oneof![Just("in"), Just("notin")];
    let values = prop::collection::vec(value.clone(), 1..4).prop_filter("'()'", |it| it != &[""]);
    prop_oneof![
        (key(), blank).prop_map(|(key, blank)| blank + &key),
        (key(), blank).prop_map(|(key, blank)| format!("!{blank}{key}")),
        (key(), blank, operator, value).prop_map(|(k, b, o, v)| format!("{k}{b}{o}{b}{v}")),
        (key(), blank, set, values).prop_map(|(k, b, s, v)| format!("{k} {b}{s}{b}({b}{}{b})", v.join(","))),
        (key(), any::<u32>()).prop_map(|(key, bound)| format!("{key}<{bound}")),
    ]
}

proptest! {
    #[test]
    fn c1_6_whatever_kubectl_takes_is_taken(terms in prop::collection::vec(term(), 1..6)) {
        let text = terms.join(",");
        let selector = Selector::parse(&text);
        prop_assert!(selector.is_ok(), "{text:?}: {selector:?}");
        prop_assert_eq!(selector.unwrap().requirements.len(), terms.len());
    }

    #[test]
    fn c1_6_no_text_harms_the_parser(text in ".{0,60}", signs in "[ab=!(),<> in]{0,40}") {
        for text in [text, signs] {
            if let Err(error) = Selector::parse(&text) {
                prop_assert!(error.len() < 400, "{error}");
            }
        }
    }

    #[test]
    fn c1_6_an_example_is_meant(terms in prop::collection::vec(term(), 0..4)) {
        let selector = Selector::parse(&terms.join(",")).unwrap();
        if let Some(example) = selector.example() {
            prop_assert!(selector.matches(&example));
        }
    }
}
