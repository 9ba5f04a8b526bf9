//! Label selectors bind the reconciler and the webhook in process (1.6).

use std::time::Duration;

use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::selector::Selector;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_stub_api::{Admission, Fault, FaultRule, RequestKind, StubApi, objects};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::webhook::{Webhook, hash_of};
use crate::support::{in_paused_time, paint, revisions, server, shop, web};

const TEAM: &str = "example.com/team";

fn selecting(namespaces: &str, objects: &str) -> Scope {
    Scope {
        namespace_selector: Selector::parse(namespaces).unwrap(),
        object_selector: Selector::parse(objects).unwrap(),
        ..Scope::default()
    }
}

fn label(stub: &StubApi, resource: &str, namespace: &str, name: &str, value: Option<&str>) {
    stub.edit(resource, namespace, name, |object| {
        let labels = &mut object["metadata"]["labels"];
        if labels.is_null() {
            *labels = json!({});
        }
        match value {
            Some(value) => labels[TEAM] = json!(value),
            None => drop(labels.as_object_mut().unwrap().remove(TEAM)),
        }
    });
}

fn label_namespace(stub: &StubApi, name: &str, value: Option<&str>) {
    label(stub, "namespaces", "", name, value);
}

/// What was asked for or written of what lies in a namespace.
fn requests_in(stub: &StubApi, namespace: &str) -> Vec<String> {
    let log = stub.log();
    let within = log.iter().filter(|entry| entry.request.namespace.as_deref() == Some(namespace));
    within.map(|entry| format!("{} {}", entry.request.method, entry.request.path)).collect()
}

/// With Roles alone a namespace is asked for by its name, else they are watched.
fn with_and_without_names() -> [Scope; 2] {
    let watched = selecting("example.com/team in (shop,stock)", "");
    let names = ["shop", "other", "third"].map(str::to_owned).into();
    [Scope { namespaces: Some(names), ..watched.clone() }, watched]
}

#[test]
fn c1_6_a_namespace_that_is_not_selected_is_never_read_for_written_or_told_of() {
    for scope in with_and_without_names() {
        in_paused_time(async {
            let stub = server(5);
            for namespace in ["shop", "other"] {
                shop(&stub, namespace, 2);
                stub.put(objects::listing(namespace, "typos", "no-such-thing,Not_A_Name", "neither"));
            }
            label_namespace(&stub, "shop", Some("shop"));
            label_namespace(&stub, "other", Some("another"));
            let names = scope.namespaces.clone();
            let replica = Replica::start(&stub, Options { scope, ..Options::new("replica") });
            sleep(Duration::from_secs(30)).await;
            assert_eq!(revisions(&stub, "shop"), 1, "{names:?}\n{}", stub.transcript());
            for colour in ["blue", "green"] {
                paint(&stub, "shop", colour);
                paint(&stub, "other", colour);
                stub.edit("deployments", "other", "web", |web| {
                    web["metadata"]["labels"] = json!({"a": colour});
                });
                sleep(Duration::from_secs(30)).await;
            }
            assert_eq!((revisions(&stub, "shop"), revisions(&stub, "other")), (3, 0), "{names:?}");
            let watches = |request: &String| {
                ["deployments", "statefulsets", "daemonsets", "configmaps", "secrets"]
                    .iter()
                    .any(|plural| request.ends_with(&format!("/namespaces/other/{plural}")))
            };
            let mut requests = requests_in(&stub, "other");
            requests.retain(|request| names.is_none() || !watches(request));
            assert_eq!(requests, [""; 0], "{names:?}");
            assert!(replica.metrics().contains("workloads 3"), "{}", replica.metrics());
            assert!(replica.health.silent().is_empty());
            let namespace = if names.is_some() { "shop" } else { "*" };
            let labels = format!("watch_failing{{kind=\"Namespace\",namespace=\"{namespace}\"}} 0");
            assert!(replica.metrics().contains(&labels), "{}", replica.metrics());
        });
    }
}

#[test]
fn c1_6_a_label_that_comes_later_has_the_workloads_reconciled_and_one_that_goes_leaves_them() {
    for scope in with_and_without_names() {
        in_paused_time(async {
            let stub = server(6);
            shop(&stub, "shop", 3);
            shop(&stub, "other", 3);
            label_namespace(&stub, "other", Some("stock"));
            let _replica = Replica::start(&stub, Options { scope, ..Options::new("replica") });
            sleep(Duration::from_secs(30)).await;
            assert_eq!((revisions(&stub, "shop"), revisions(&stub, "other")), (0, 1));
            for round in 1..3 {
                label_namespace(&stub, "shop", Some("shop"));
                sleep(Duration::from_secs(20)).await;
                for i in 0..3 {
                    let made = stub.revisions("deployments", "shop", &web(i));
                    assert_eq!(made, 2 * round - 1, "{round}: {}\n{}", web(i), stub.transcript());
                }
                paint(&stub, "shop", &format!("selected-{round}"));
                sleep(Duration::from_secs(10)).await;
                assert_eq!(revisions(&stub, "shop"), 2 * round);

                label_namespace(&stub, "shop", None);
                sleep(Duration::from_secs(12)).await;
                let writes = stub.writes().len();
                paint(&stub, "shop", &format!("left-{round}"));
                sleep(Duration::from_mins(1)).await;
                assert_eq!(revisions(&stub, "shop"), 2 * round, "it is left alone");
                assert_eq!(stub.writes().len(), writes + 1, "no Event either");
            }
            // What happens to one is none of the others' business.
            assert_eq!(revisions(&stub, "other"), 1);
        });
    }
}

#[test]
fn c1_6_a_namespace_that_is_made_with_its_label_costs_no_list() {
    in_paused_time(async {
        let stub = server(6);
        let scope = selecting("example.com/team=shop", "");
        let _replica = Replica::start(&stub, Options { scope, ..Options::new("replica") });
        sleep(Duration::from_secs(30)).await;
        let lists = || stub.count(|entry| entry.request.parameter("sendInitialEvents").is_some());
        let before = lists();
        for i in 0..20 {
            let name = format!("shop-{i}");
            stub.put(json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {TEAM: "shop"}},
            }));
            sleep(Duration::from_secs(1)).await;
            shop(&stub, &name, 1);
        }
        sleep(Duration::from_secs(10)).await;
        assert_eq!(lists(), before);
        for i in 0..20 {
            assert_eq!(revisions(&stub, &format!("shop-{i}")), 1);
        }
    });
}

#[test]
fn c1_6_while_namespaces_cannot_be_asked_for_nothing_is_written_and_others_are_served() {
    for scope in with_and_without_names() {
        in_paused_time(async {
            let stub = server(8);
            for namespace in ["shop", "other"] {
                shop(&stub, namespace, 1);
                label_namespace(&stub, namespace, Some("shop"));
            }
            let forbidden = FaultRule::new(Fault::Status(403)).resource("namespaces");
            let has_names = scope.namespaces.is_some();
            let forbidden = if has_names { forbidden.name("shop") } else { forbidden };
            let forbidden = stub.fail(forbidden);
            let replica = Replica::start(&stub, Options { scope, ..Options::new("replica") });
            sleep(Duration::from_mins(5)).await;
            assert_eq!(revisions(&stub, "shop"), 0, "{}", stub.transcript());
            assert_eq!(revisions(&stub, "other"), usize::from(has_names));
            assert!(replica.metrics().contains("watch_failing{kind=\"Namespace\""), "{}", replica.metrics());
            assert_eq!(replica.health.silent(), [""; 0], "a refusal is a sign of life");
            stub.heal(forbidden);
            sleep(Duration::from_mins(1)).await;
            assert_eq!((revisions(&stub, "shop"), revisions(&stub, "other")), (1, 1));
            // And one that is known stays known.
            stub.fail(FaultRule::new(Fault::Status(500)).kind(RequestKind::List).resource("namespaces"));
            paint(&stub, "shop", "blue");
            sleep(Duration::from_mins(1)).await;
            assert_eq!(revisions(&stub, "shop"), 2);
        });
    }
}

#[test]
fn c1_6_what_was_decided_before_a_label_went_is_not_written_after_it() {
    for of_workload in [true, false] {
        in_paused_time(async {
            let stub = server(9);
            shop(&stub, "shop", 1);
            label_namespace(&stub, "shop", Some("shop"));
            label(&stub, "deployments", "shop", "web", Some("shop"));
            let scope = if of_workload { ("", "example.com/team") } else { ("example.com/team", "") };
            let scope = selecting(scope.0, scope.1);
            let _replica = Replica::start(&stub, Options { scope, ..Options::new("replica") });
            sleep(Duration::from_secs(30)).await;
            assert_eq!(revisions(&stub, "shop"), 1);
            // The watches do not report it: a check before the write is all there is.
            stub.fail(FaultRule::new(Fault::LostEvent).resource("deployments"));
            stub.fail(FaultRule::new(Fault::LostEvent).resource("namespaces"));
            if of_workload {
                label(&stub, "deployments", "shop", "web", None);
            } else {
                label_namespace(&stub, "shop", None);
            }
            let patches = stub.count_kind(RequestKind::Patch);
            paint(&stub, "shop", "blue");
            sleep(Duration::from_secs(30)).await;
            assert_eq!(revisions(&stub, "shop"), 1, "{}", stub.transcript());
            // The version alone keeps a first patch from being made.
            assert!(stub.count_kind(RequestKind::Patch) <= patches + usize::from(of_workload));
        });
    }
}

#[test]
fn c1_6_workloads_are_selected_by_their_labels_as_these_come_and_go() {
    for streaming in [true, false] {
        in_paused_time(async {
            let stub = server(10);
            stub.set_watch_list(streaming);
            shop(&stub, "shop", 2);
            label(&stub, "deployments", "shop", "web", Some("shop"));
            let scope = selecting("", "example.com/team notin (other),example.com/team");
            let replica = Replica::start(&stub, Options { scope, ..Options::new("replica") });
            sleep(Duration::from_secs(30)).await;
            let of_other = || stub.revisions("deployments", "shop", "web-1");
            assert_eq!((revisions(&stub, "shop"), of_other()), (1, 0));
            assert!(replica.metrics().contains("workloads 1"));

            label(&stub, "deployments", "shop", "web", None);
            label(&stub, "deployments", "shop", "web-1", Some("shop"));
            sleep(Duration::from_secs(5)).await;
            paint(&stub, "shop", "blue");
            sleep(Duration::from_secs(10)).await;
            assert_eq!((revisions(&stub, "shop"), of_other()), (1, 2));
            let events: Vec<_> =
                stub.list("events").iter().map(|it| it["regarding"]["name"].clone()).collect();
            assert!(!events.is_empty() && events.iter().all(|name| name == "web-1" || name == "web"));
        });
    }
}

fn creation(namespace: &str, labels: Value) -> Admission {
    let mut new = objects::listing(namespace, "new", "settings,typo,Not_A_Name", "");
    new["metadata"]["labels"] = labels;
    Admission {
        resource: "deployments",
        old: None,
        new,
        user: "alice".into(),
        manager: "kubectl".into(),
        is_dry_run: false,
    }
}

fn webhook(stub: &StubApi, scope: Scope) -> Webhook {
    let key = KeyReader::fixed(DigestKey::new("test", &[7; DigestKey::LEN]).unwrap());
    Webhook::within(stub, "webhook", key, scope)
}

/// As if the registration had no selectors, or another client sent the review.
#[test]
fn c1_6_a_review_of_what_is_not_selected_is_answered_without_a_read_and_without_a_word() {
    in_paused_time(async {
        let stub = server(11);
        for namespace in ["shop", "other"] {
            shop(&stub, namespace, 0);
        }
        label_namespace(&stub, "shop", Some("shop"));
        let by_namespace = webhook(&stub, selecting("example.com/team=shop", ""));
        let by_object = webhook(&stub, selecting("", "tier=web"));
        let by_name = webhook(&stub, selecting("kubernetes.io/metadata.name=shop", "tier in (web,api)"));
        for (webhook, namespace, labels, expected) in [
            (&by_namespace, "shop", json!({}), true),
            (&by_namespace, "other", json!({TEAM: "shop"}), false),
            (&by_namespace, "made-up", json!({}), false),
            (&by_object, "other", json!({"tier": "web"}), true),
            (&by_object, "shop", json!({"tier": "api"}), false),
            (&by_object, "shop", Value::Null, false),
            (&by_name, "shop", json!({"tier": "api"}), true),
            (&by_name, "other", json!({"tier": "api"}), false),
            (&by_name, "shop", json!({"tier": "db"}), false),
        ] {
            let before = stub.log().len();
            let admitted = webhook.admit(&creation(namespace, labels.clone())).await;
            assert_eq!(admitted.hash().is_some(), expected, "{namespace} {labels}");
            assert_eq!(admitted.warnings.is_null(), !expected, "{namespace} {labels}: {}", admitted.warnings);
            let log = stub.log();
            let reads = log[before..].iter().filter(|entry| entry.kind() != RequestKind::Namespace);
            assert_eq!(reads.count() > 0, expected, "{namespace} {labels}");
        }
    });
}

#[test]
fn c1_6_an_update_is_of_a_selected_workload_if_it_was_one_before() {
    in_paused_time(async {
        let stub = server(11);
        shop(&stub, "shop", 0);
        let webhook = webhook(&stub, selecting("", "tier=web"));
        let created = webhook.admit(&creation("shop", json!({"tier": "web"}))).await.object;
        let hash = hash_of(&created).unwrap().to_owned();
        for (before, after, expected) in
            [("web", "web", true), ("web", "api", true), ("api", "web", true), ("api", "api", false)]
        {
            let mut old = created.clone();
            old["metadata"]["labels"]["tier"] = json!(before);
            // A full replace, which drops the hash.
            let update = Admission { old: Some(old), ..creation("shop", json!({"tier": after})) };
            let admitted = webhook.admit(&update).await;
            assert_eq!(admitted.hash(), expected.then_some(&*hash), "{before} to {after}");
        }
    });
}

#[test]
fn c1_6_while_the_namespace_cannot_be_asked_for_an_update_keeps_its_hash_and_a_create_has_none() {
    in_paused_time(async {
        let stub = server(11);
        shop(&stub, "shop", 0);
        label_namespace(&stub, "shop", Some("shop"));
        let webhook = webhook(&stub, selecting("example.com/team=shop", ""));
        let created = webhook.admit(&creation("shop", json!({}))).await.object;
        sleep(Duration::from_secs(10)).await;
        stub.fail(FaultRule::new(Fault::Status(500)).kind(RequestKind::Namespace));
        let before = stub.log().len();
        let update = Admission { old: Some(created.clone()), ..creation("shop", json!({"new": "label"})) };
        assert_eq!(webhook.admit(&update).await.hash(), hash_of(&created));
        let admitted = webhook.admit(&creation("shop", json!({}))).await;
        assert_eq!(admitted.hash(), None);
        assert!(admitted.warnings.to_string().contains("labels could not be read"), "{}", admitted.warnings);
        assert!(admitted.took < Duration::from_secs(10));
        assert!(stub.log()[before..].iter().all(|entry| entry.kind() == RequestKind::Namespace));
    });
}

/// Names are chosen by whoever sends reviews.
#[test]
fn c1_6_a_namespace_is_asked_for_once_in_a_while_however_many_reviews_there_are() {
    in_paused_time(async {
        let stub = server(11);
        shop(&stub, "shop", 0);
        label_namespace(&stub, "shop", Some("shop"));
        let webhook = webhook(&stub, selecting("example.com/team=shop", ""));
        for i in 0..200 {
            for namespace in ["shop", "other"] {
                webhook.admit(&creation(namespace, json!({}))).await;
            }
            if i == 100 {
                sleep(Duration::from_millis(1_500)).await;
            }
        }
        let of = |name| {
            stub.count(|it| it.kind() == RequestKind::Namespace && it.request.name.as_deref() == Some(name))
        };
        let seconds = usize::try_from(stub.elapsed().as_secs()).unwrap();
        assert!(
            of("shop") <= seconds / 5 + 1 && of("other") <= seconds + 1,
            "{} {}",
            of("shop"),
            of("other")
        );
        // A label that was put on a moment ago counts.
        sleep(Duration::from_secs(1)).await;
        shop(&stub, "other", 0);
        label_namespace(&stub, "other", Some("shop"));
        assert!(webhook.admit(&creation("other", json!({}))).await.hash().is_some());
    });
}
