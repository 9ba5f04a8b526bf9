//! Alerts speak of metrics that the operator has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pod_reloader_e2e::paths;

use crate::helm::{CASES, render};
use crate::objects::{list, of_kind, text};

const PREFIX: &str = "pod_reloader_";

#[test]
fn alerts_name_only_metrics_that_there_are() {
    let registered = registered();
    assert!(
        registered.contains("pod_reloader_leader") && registered.contains("pod_reloader_reloads_total"),
        "{registered:?}"
    );
    assert!(!registered.contains("pod_reloader_reloads"), "a counter has a suffix");
    let mut rules = 0;
    for case in CASES {
        for object in of_kind(&render(case), "PrometheusRule") {
            for rule in list(&object["spec"]["groups"][0]["rules"]) {
                rules += 1;
                let expression = text(&rule["expr"]);
                for metric in named_in(expression) {
                    assert!(registered.contains(&metric), "{case:?}: no {metric} among {registered:?}");
                }
                let open = expression.matches(['(', '{', '[']).count();
                assert_eq!(open, expression.matches([')', '}', ']']).count(), "{expression}");
            }
        }
    }
    assert!(rules > 0);
}

/// A result that the operator never counts would make an alert that never fires.
#[test]
fn alerts_name_only_results_that_there_are() {
    let counted = fs::read_to_string(paths::root().join("crates/controller/src/sink/metrics.rs")).unwrap();
    let mut results = 0;
    for case in CASES {
        for object in of_kind(&render(case), "PrometheusRule") {
            let text = object.to_string();
            for part in text.split("result=~\\\"").skip(1) {
                for result in part.split("\\\"").next().unwrap().split('|') {
                    results += 1;
                    assert!(counted.contains(&format!("=> \"{result}\",")), "{case:?}: {result}");
                }
            }
        }
    }
    assert!(results > 0);
}

/// Whoever is woken by an alert is told where to read on.
#[test]
fn every_alert_has_its_section() {
    let page = fs::read_to_string(paths::root().join("docs/alerts.md")).unwrap();
    let mut alerts = BTreeSet::new();
    for case in CASES {
        for object in of_kind(&render(case), "PrometheusRule") {
            for rule in list(&object["spec"]["groups"][0]["rules"]) {
                let alert = text(&rule["alert"]);
                let url = text(&rule["annotations"]["runbook_url"]);
                assert!(
                    url.ends_with(&format!("docs/alerts.md#{}", alert.to_lowercase()))
                        || url.starts_with("https://docs.example.com/alerts.md#"),
                    "{alert}: {url}"
                );
                assert!(page.contains(&format!("\n## {alert}\n")), "docs/alerts.md has no section {alert}");
                alerts.insert(alert.to_owned());
            }
        }
    }
    let sections: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    assert_eq!(sections, alerts, "sections and alerts");
}

fn named_in(expression: &str) -> Vec<String> {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
    expression.split(|c| !is_inner(c)).filter(|word| word.starts_with(PREFIX)).map(str::to_owned).collect()
}

/// The names under which metrics are scraped, from the places in the code where they are registered.
fn registered() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for krate in fs::read_dir(paths::root().join("crates")).unwrap() {
        let sources = krate.unwrap().path().join("src");
        read(&sources.join("metrics.rs"), &mut names);
        read_collectors(&sources, &mut names);
    }
    names
}

/// Reads `encode_descriptor("name", ..)` in all files: gauges that are computed when they are scraped.
fn read_collectors(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_collectors(&path, names);
        } else {
            let code = fs::read_to_string(&path).unwrap();
            let called = code.split("encode_descriptor(").skip(1);
            names.extend(called.map(|call| format!("{PREFIX}{}", call.split('"').nth(1).unwrap())));
        }
    }
}

/// Reads `.register("name", "help", metrics.field.clone())` and `.register_with_unit("name", ..)`, and looks the field's
/// type up.
fn read(file: &Path, names: &mut BTreeSet<String>) {
    let Ok(code) = fs::read_to_string(file) else { return };
    for call in code.split("registry.register").skip(1) {
        let name = call.split('"').nth(1).unwrap();
        let unit = match call.starts_with("_with_unit") {
            true if call.contains("Unit::Bytes") => "_bytes",
            true => "_seconds",
            false => "",
        };
        let field = call.split("metrics.").nth(1).unwrap().split('.').next().unwrap();
        let declared =
            code.lines().find(|line| line.contains(&format!("{field}: ")) && !line.contains("default()"));
        let declared = declared.unwrap_or_else(|| panic!("{}: no {field}", file.display()));
        let suffixes: &[&str] = if declared.contains("Counter") {
            &["_total"]
        } else if declared.contains("Histogram") {
            &["_bucket", "_sum", "_count"]
        } else {
            &[""]
        };
        names.extend(suffixes.iter().map(|suffix| format!("{PREFIX}{name}{unit}{suffix}")));
    }
}
