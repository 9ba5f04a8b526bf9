use super::*;
use crate::dialect::sap;
use crate::exclusion::Exclusions;
use crate::kind::apps::DEPLOYMENT;
use serde_json::json;

fn read(object: &serde_json::Value) -> Workload {
    // Through text, as both the webhook and the watches do.
    Workload::read(DEPLOYMENT, &object.to_string()).unwrap()
}

#[test]
fn what_concerns_us_is_read() {
    let workload = read(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "status": {"replicas": 1},
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7",
            "labels": {"a": "b", sap::DISABLED: "true"},
            "annotations": {sap::SECRETS: "s", annotation::CONFIG_HASH: "t", "other": "\u{e9}\n"}
        },
        "spec": {"template": {
            "metadata": {"annotations": {annotation::CONFIG_HASH: "h"}},
            "spec": {"containers": [{"name": "c"}]}}}
    }));
    assert_eq!((workload.name.as_deref(), workload.uid.as_deref()), (Some("web"), Some("u")));
    assert!(workload.is_ignored && !workload.is_deleting && workload.references.opted_in());
    assert_eq!(workload.template.config_hash.as_deref(), Some("h"));
    assert_eq!(workload.sap_trigger.as_deref(), Some("t"));
    let expected = sap::SECRETS.len() + 1 + annotation::CONFIG_HASH.len() + 1 + "other".len() + 3;
    assert_eq!(workload.annotations, AnnotationRoom { is_present: true, bytes: expected });
}

#[test]
fn nulls_and_missing_parts_are_nothing() {
    let empty = Workload { open_to: Some(Exclusions::default()), ..Workload::default() };
    for object in [
        json!({}),
        json!({"metadata": null, "spec": null}),
        json!({"metadata": {"annotations": null, "labels": null, "deletionTimestamp": null, "name": ""}}),
        json!({"spec": {"template": null}}),
        json!({"spec": {"template": {"metadata": null, "spec": {"containers": null}}}}),
    ] {
        let mut workload = read(&object);
        // How far the way to the template goes is known, too.
        workload.template.steps = 0;
        assert_eq!(workload, empty, "{object}");
    }
}

#[test]
fn labels_count_only_when_true() {
    for (value, expected) in [("true", true), ("false", false), ("True", false), ("", false)] {
        let workload = read(&json!({"metadata": {"labels": {sap::IGNORED: value}}}));
        assert_eq!(workload.is_ignored, expected, "{value}");
    }
}

#[test]
fn c3_1_a_workloads_own_settle_window_is_read() {
    for (value, expected) in [
        ("30s", SettleWindow::Of(Duration::from_secs(30))),
        (" 1h30m ", SettleWindow::Of(Duration::from_mins(90))),
        ("0", SettleWindow::Of(Duration::ZERO)),
        ("24h", SettleWindow::Of(Duration::from_hours(24))),
        ("24h1s", SettleWindow::Invalid),
        ("-1s", SettleWindow::Invalid),
        ("30", SettleWindow::Invalid),
        ("", SettleWindow::Invalid),
    ] {
        let workload = read(&json!({"metadata": {"annotations": {annotation::SETTLE_WINDOW: value}}}));
        assert_eq!(workload.settle_window, expected, "{value}");
    }
    assert_eq!(read(&json!({})).settle_window, SettleWindow::Unset);
}

#[test]
fn annotations_that_are_not_strings_are_an_error() {
    for annotations in [json!([]), json!("x"), json!({"a": 1}), json!({"a": {}})] {
        let object = json!({"metadata": {"annotations": annotations}}).to_string();
        assert!(Workload::read(DEPLOYMENT, &object).is_err(), "{object}");
    }
}
