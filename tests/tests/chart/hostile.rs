//! Whatever stands in a value, it stays a value.

use std::collections::BTreeSet;
use std::fs;

use pod_reloader_e2e::chart;
use serde_json::{Value, json};

use crate::helm::{Case, parse, render, template};
use crate::objects::{kind, name};

/// Each would be something else to YAML, to a template or to a command line.
const HOSTILE: [&str; 6] = [
    "x\nevil: true",
    "x\"\n'- evil",
    "x: {evil: [1, 2]} # &a *b",
    "{{ fail \"evil\" }}",
    "1e3",
    "größe-\u{1F980}",
];

/// Every value that may be any text, as a path.
fn texts(schema: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = [path, std::slice::from_ref(key)].concat();
        let is_text = match &property["type"] {
            Value::Array(types) => types.contains(&json!("string")),
            only => only == "string",
        };
        if is_text && property["enum"].is_null() {
            found.push(path);
        } else {
            texts(property, &path, found);
        }
    }
}

fn values(path: &[String], value: &str) -> Value {
    path.iter().rev().fold(json!(value), |inner, key| json!({key.as_str(): inner}))
}

/// What goes with it, so that it is rendered at all.
fn beside(path: &[String]) -> Value {
    let path = path.join(".");
    let mut beside = json!({
        "metrics": {"serviceMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}},
        "flowSchema": {"enabled": true},
    });
    if path.starts_with("webhook.certManager") {
        beside["webhook"] = json!({"certManager": {"enabled": true}});
        if path.ends_with("issuerGroup") || path.ends_with("issuerKind") {
            beside["webhook"]["certManager"]["issuerName"] = json!("issuer");
        }
    } else if path == "webhook.existingSecret" {
        beside["webhook"] = json!({"annotations": {"cert-manager.io/inject-ca-from-secret": "a/b"}});
    } else if path == "webhook.clientCA.key" {
        beside["webhook"] = json!({"clientCA": {"existingSecret": "ca"}});
    }
    beside
}

fn merged(mut one: Value, other: Value) -> Value {
    match (&mut one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in other {
                let before = one.remove(&key).unwrap_or_else(|| json!({}));
                one.insert(key, merged(before, value));
            }
        }
        (one, other) => *one = other,
    }
    one
}

#[test]
fn no_text_breaks_out_of_its_place() {
    let schema =
        serde_json::from_str(&fs::read_to_string(chart::folder().join("values.schema.json")).unwrap())
            .unwrap();
    let mut paths = vec![];
    texts(&schema, &[], &mut paths);
    assert!(paths.len() > 25, "{paths:?}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("values.json");
    let mut refused = 0;
    let mut wrong = vec![];
    for path in &paths {
        for hostile in HOSTILE {
            fs::write(&file, merged(beside(path), values(path, hostile)).to_string()).unwrap();
            let what = format!("{}={hostile:?}", path.join("."));
            match template("helm", "x", &["--values".into(), file.display().to_string()]) {
                Err(error) => {
                    refused += 1;
                    // The schema's words, or a sentence of the chart's: no parser's.
                    let is_said = error.contains("values don't meet the specifications")
                        || error.contains("execution error at");
                    if !is_said {
                        wrong.push(format!("{what}: {error}"));
                    }
                }
                Ok(text) => match parse(&text) {
                    Ok(objects) => {
                        let is_evil = objects.iter().any(|object| has_key(object, "evil"));
                        let all_named = objects.iter().all(|object| object["metadata"]["name"].is_string());
                        if is_evil || !all_named {
                            wrong.push(format!("{what}: another document"));
                        }
                    }
                    Err(error) => wrong.push(format!("{what}: {error}")),
                },
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong, {refused} refused:\n{}", wrong.len(), wrong.join("\n"));
}

fn has_key(value: &Value, wanted: &str) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| key == wanted || has_key(value, wanted)),
        Value::Array(items) => items.iter().any(|item| has_key(item, wanted)),
        _ => false,
    }
}

/// Namespaces and releases may be called like numbers.
#[test]
fn names_like_numbers_stay_names() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), r#"{"fullnameOverride": "1e3", "metrics": {"serviceMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}}, "networkPolicy": {"enabled": true}, "flowSchema": {"enabled": true}, "webhook": {"certManager": {"enabled": true}}}"#).unwrap();
    let args = ["--namespace=007".into(), "--values".into(), file.path().display().to_string()];
    let objects = parse(&template("helm", "1", &args).unwrap()).unwrap();
    let kinds: BTreeSet<_> = objects.iter().map(kind).collect();
    assert!(kinds.len() > 12, "{kinds:?}");
    for object in &objects {
        assert!(name(object).starts_with("1e3"), "{object}");
        let namespace = &object["metadata"]["namespace"];
        assert!(namespace.is_null() || namespace == "007", "{object}");
    }
}

/// A value that is null is its default, or is refused; it is never half of something.
#[test]
fn nulls_are_defaults_or_refused() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(chart::folder().join("values.schema.json")).unwrap())
            .unwrap();
    let mut paths = vec![];
    leaves(&schema, &[], &mut paths);
    assert!(paths.len() > 100, "{}", paths.len());
    let expected = render(Case { release: "x", values: None }).len();
    let mut wrong = vec![];
    for path in paths {
        let assignment = format!("{}=null", path.join("."));
        match template("helm", "x", &["--set".into(), assignment.clone()]) {
            Err(error)
                if error.contains("values don't meet the specifications")
                    || error.contains("execution error at") => {}
            Err(error) => wrong.push(format!("{assignment}: {error}")),
            Ok(text) => match parse(&text) {
                Ok(objects)
                    if objects.len() == expected
                        || assignment.contains("enabled")
                        || assignment.contains("create") =>
                {
                    if text.contains("<nil>") || text.contains("<no value>") {
                        wrong.push(format!("{assignment}: a nil is rendered"));
                    }
                }
                Ok(objects) => {
                    wrong.push(format!("{assignment}: {} objects rather than {expected}", objects.len()));
                }
                Err(error) => wrong.push(format!("{assignment}: {error}")),
            },
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn leaves(schema: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = [path, std::slice::from_ref(key)].concat();
        found.push(path.clone());
        leaves(property, &path, found);
    }
}
