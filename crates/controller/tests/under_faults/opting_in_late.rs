//! What opts in for a workload is not known yet, known late, or gone while nobody looked (7.4): no change is lost, and nothing
//! restarts.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, PostParams};
use pod_reloader_core::annotation::OBSERVED_CONFIG;
use pod_reloader_core::dialect::own::AUTO;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_stub_api::{Fault, FaultRule, RequestInfo, StubApi, objects};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::opting_in::{
    SOON, annotate, bystander, followed, label_namespace, observed, patches, set_password, start,
};
use crate::support::replica::{Options, Replica};
use crate::support::{in_paused_time, revisions, server};

fn is_of_namespaces(request: &RequestInfo) -> bool {
    request.method == http::Method::GET && request.path == "/api/v1/namespaces"
}

fn is_of_shop_itself(request: &RequestInfo) -> bool {
    request.method == http::Method::GET && request.path == "/api/v1/namespaces/shop"
}

/// Creates a Deployment through the webhook.
async fn create(stub: &StubApi, object: Value) -> Value {
    let object: Deployment = serde_json::from_value(object).unwrap();
    Api::namespaced(stub.client(), "shop").create(&PostParams::default(), &object).await.unwrap();
    let name = object.metadata.name.unwrap();
    Value::clone(&stub.get("deployments", "shop", &name).unwrap())
}

fn new() -> Value {
    objects::with_env_from(objects::deployment("shop", "new", &[]), "Secret", "login", false)
}

#[test]
fn c7_4_a_start_before_labels_are_known_loses_no_change() {
    let named = Scope::of_namespaces(vec!["shop".to_owned()]);
    let of_all = |fault, times| {
        (Scope::default(), Some(FaultRule::new(fault).times(times).matching(is_of_namespaces)))
    };
    let of_one =
        |fault, times| (named.clone(), Some(FaultRule::new(fault).times(times).matching(is_of_shop_itself)));
    let cases = [
        (Scope::default(), None),
        of_all(Fault::Status(500), 1),
        of_all(Fault::Status(500), 4),
        of_all(Fault::HangBeforeHeaders, 1),
        (named.clone(), None),
        of_one(Fault::Status(403), 1),
        of_one(Fault::HangBeforeHeaders, 2),
    ];
    for (case, (scope, fault)) in cases.into_iter().enumerate() {
        in_paused_time(async {
            let stub = server(91);
            bystander(&stub, "shop");
            label_namespace(&stub, "shop", Some("true"));
            let replica = start(&stub, scope.clone());
            sleep(SOON).await;
            assert_eq!(followed(&stub).len(), 2);
            assert!(replica.stop().await);
            let before = patches(&stub);
            set_password(&stub, "changed meanwhile");
            if let Some(fault) = fault {
                stub.fail(fault);
            }
            let _replica = start(&stub, scope);
            sleep(2 * SOON).await;
            assert_eq!(
                (revisions(&stub, "shop"), followed(&stub).len()),
                (1, 2),
                "{case}\n{}",
                stub.transcript()
            );
            assert_eq!(patches(&stub) - before, 1, "{case}\n{}", stub.transcript());
        });
    }
}

#[test]
fn c7_4_a_label_that_goes_while_nobody_looks_is_noticed_once_it_is_known() {
    for scope in [Scope::default(), Scope::of_namespaces(vec!["shop".to_owned()])] {
        in_paused_time(async {
            let stub = server(92);
            bystander(&stub, "shop");
            label_namespace(&stub, "shop", Some("true"));
            let replica = start(&stub, scope.clone());
            sleep(SOON).await;
            assert!(replica.stop().await);
            label_namespace(&stub, "shop", None);
            stub.fail(FaultRule::new(Fault::Status(500)).times(2).matching(is_of_namespaces));
            stub.fail(FaultRule::new(Fault::Status(500)).times(2).matching(is_of_shop_itself));
            let _replica = start(&stub, scope);
            sleep(2 * SOON).await;
            assert_eq!(observed(&stub), None, "{}", stub.transcript());
        });
    }
}

#[test]
fn c7_4_what_is_created_before_the_label_is_seen_is_not_forgotten() {
    for (scope, is_late) in [
        (Scope::default(), false),
        (Scope::default(), true),
        (Scope::of_namespaces(vec!["shop".to_owned()]), false),
    ] {
        in_paused_time(async {
            let stub = server(93);
            bystander(&stub, "shop");
            let _replica = start(&stub, scope.clone());
            sleep(SOON).await;
            if is_late {
                let late = FaultRule::new(Fault::Late(Duration::from_secs(30))).times(1);
                stub.fail(late.matching(|request| request.path == "/api/v1/namespaces"));
            }
            label_namespace(&stub, "shop", Some("true"));
            let is_recorded = |object: &Value| object["metadata"]["annotations"][OBSERVED_CONFIG].is_string();
            assert!(is_recorded(&create(&stub, new()).await));
            sleep(Duration::from_secs(5)).await;
            assert!(is_recorded(&stub.get("deployments", "shop", "new").unwrap()), "{}", stub.transcript());
            set_password(&stub, "two");
            sleep(2 * SOON).await;
            assert_eq!(stub.revisions("deployments", "shop", "new"), 1, "{is_late}\n{}", stub.transcript());
        });
    }
}

#[test]
fn c7_4_a_create_with_copied_annotations_of_one_that_follows_a_mark_restarts_nothing() {
    in_paused_time(async {
        let stub = server(94);
        bystander(&stub, "shop");
        let _replica = start(&stub, Scope::default());
        annotate(&stub, "secrets", "login", AUTO, Some("true"));
        sleep(SOON).await;
        assert_eq!(followed(&stub), ["login"]);
        let mut copy = Value::clone(&stub.get("deployments", "shop", "web").unwrap());
        set_password(&stub, "two");
        sleep(SOON).await;
        assert_eq!(revisions(&stub, "shop"), 1);
        let metadata = copy["metadata"].as_object_mut().unwrap();
        metadata.retain(|key, _| ["annotations", "labels", "namespace"].contains(&key.as_str()));
        metadata.insert("name".into(), json!("copy"));
        create(&stub, copy).await;
        sleep(SOON).await;
        assert_eq!(stub.revisions("deployments", "shop", "copy"), 0, "{}", stub.transcript());
        set_password(&stub, "three");
        sleep(SOON).await;
        assert_eq!(stub.revisions("deployments", "shop", "copy"), 1, "{}", stub.transcript());
    });
}

#[test]
fn c3_25_opting_out_past_the_webhook_and_in_again_restarts_nothing() {
    let without_marks = Scope { object_marks: false, ..Scope::default() };
    for (scope, by_label) in [(Scope::default(), true), (without_marks, true), (Scope::default(), false)] {
        in_paused_time(async {
            let stub = server(95);
            bystander(&stub, "shop");
            let _replica = Replica::start(&stub, Options { scope, ..Options::new("replica") });
            let opt_in = |value: &str| {
                if by_label {
                    label_namespace(&stub, "shop", (value == "true").then_some(value));
                } else {
                    annotate(&stub, "deployments", "web", AUTO, Some(value));
                }
            };
            opt_in("true");
            sleep(SOON).await;
            assert_eq!(followed(&stub).len(), 2);
            opt_in("false");
            sleep(SOON).await;
            assert_eq!(observed(&stub), None, "{}", stub.transcript());
            set_password(&stub, "two");
            sleep(SOON).await;
            opt_in("true");
            sleep(SOON).await;
            assert_eq!((revisions(&stub, "shop"), followed(&stub).len()), (0, 2), "{}", stub.transcript());
        });
    }
}
