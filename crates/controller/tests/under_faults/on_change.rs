//! 9.5: what is done about a change where it is not a rollout, on kinds that have one otherwise.

use std::time::Duration;

use pod_reloader_core::annotation::{OBSERVED_CONFIG, ON_CHANGE};
use pod_reloader_core::dialect::own::AUTO;
use pod_reloader_core::dialect::sap::CONFIGMAPS;
use pod_reloader_core::kind::{KindRef, Kinds, apps, argo};
use pod_reloader_k8s::scope::Scope;
use pod_reloader_stub_api::{Fault, FaultRule, StubApi, objects};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::webhook::{Webhook, hash_of};
use crate::support::{in_paused_time, paint, server};

const SOON: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_mins(3);

fn start(stub: &StubApi) -> Replica {
    let kinds = Kinds::with(&["argo-rollouts".parse().unwrap()]).unwrap();
    let scope = Scope { kinds, ..Scope::default() };
    let replica = Replica::start(stub, Options { scope, ..Options::new("replica") });
    Webhook::of(&replica).install(stub);
    replica
}

fn put(stub: &StubApi, kind: KindRef, annotations: &[(&str, &str)]) {
    stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
    let web = objects::workload(kind, "shop", "web", annotations);
    stub.put(objects::with_env_from(web, "ConfigMap", "settings", false));
}

fn web(stub: &StubApi, kind: KindRef) -> Value {
    (*stub.get(kind.plural, "shop", "web").unwrap()).clone()
}

fn observed(stub: &StubApi, kind: KindRef) -> Option<String> {
    web(stub, kind)["metadata"]["annotations"][OBSERVED_CONFIG].as_str().map(str::to_owned)
}

fn notes(stub: &StubApi) -> Vec<String> {
    stub.list("events").iter().map(|event| event["note"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn c9_5_with_none_a_change_is_recorded_and_told_of_and_the_hash_comes_along_with_the_owners_rollout() {
    for words in [(CONFIGMAPS, "settings"), (AUTO, "true")] {
        in_paused_time(async {
            let stub = server(221);
            put(&stub, apps::DEPLOYMENT, &[words, (ON_CHANGE, "none")]);
            let _replica = start(&stub);
            sleep(SOON).await;
            let first = observed(&stub, apps::DEPLOYMENT).expect("recorded");
            paint(&stub, "shop", "blue");
            sleep(SOON).await;
            assert_eq!(stub.revisions("deployments", "shop", "web"), 0, "{}", stub.transcript());
            let second = observed(&stub, apps::DEPLOYMENT).expect("recorded");
            assert_ne!(second, first);
            assert_eq!(
                notes(&stub),
                ["Nothing is restarted (on-change is none): configmap/settings changed"]
            );
            sleep(LATER).await;
            assert_eq!(observed(&stub, apps::DEPLOYMENT), Some(second), "once");

            let client = stub.client_of("user:jane");
            let deployments = kube::Api::<k8s_openapi::api::apps::v1::Deployment>::namespaced(client, "shop");
            let patch = |patch: Value| {
                let deployments = deployments.clone();
                async move {
                    deployments
                        .patch("web", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch))
                        .await
                        .unwrap()
                }
            };
            patch(json!({"metadata": {"annotations": {CONFIGMAPS: "settings,more"}}})).await;
            sleep(SOON).await;
            assert_eq!(stub.revisions("deployments", "shop", "web"), 0, "nor do lists");
            patch(json!({"spec": {"template": {"metadata": {"labels": {"version": "2"}}}}})).await;
            sleep(SOON).await;
            assert!(hash_of(&web(&stub, apps::DEPLOYMENT)).is_some(), "the owner's own rollout has it");
            assert_eq!(stub.revisions("deployments", "shop", "web"), 1);
            paint(&stub, "shop", "green");
            sleep(SOON).await;
            assert_eq!(stub.revisions("deployments", "shop", "web"), 1, "{}", stub.transcript());
        });
    }
}

#[test]
fn c9_5_a_rollout_is_restarted_without_a_revision() {
    in_paused_time(async {
        let stub = server(222);
        put(&stub, argo::ROLLOUT, &[(CONFIGMAPS, "settings"), (ON_CHANGE, "restart-at")]);
        let template = web(&stub, argo::ROLLOUT)["spec"]["template"].clone();
        let _replica = start(&stub);
        sleep(SOON).await;
        assert!(web(&stub, argo::ROLLOUT)["spec"]["restartAt"].is_null(), "opting in restarts nothing");
        for colour in ["blue", "green"] {
            let before = web(&stub, argo::ROLLOUT)["spec"]["restartAt"].clone();
            paint(&stub, "shop", colour);
            sleep(SOON).await;
            let after = web(&stub, argo::ROLLOUT);
            assert!(after["spec"]["restartAt"].is_string(), "{before} {}", stub.transcript());
            assert_eq!(after["spec"]["template"], template);
        }
        assert_eq!(stub.revisions("rollouts", "shop", "web"), 0);
        let restarts = stub.writes().into_iter().filter(|write| write.resource == "rollouts").count();
        assert_eq!(restarts, 4, "made, recorded, and restarted twice");
        assert!(notes(&stub)[0].starts_with("Pods are restarted (spec.restartAt is 2"), "{:?}", notes(&stub));
    });
}

#[test]
fn c9_5_a_restart_whose_answer_was_lost_happens_once_and_is_told_of() {
    for fault in [Fault::LostAnswer, Fault::LostAnswer500, Fault::HangAfterHeaders, Fault::Reset] {
        in_paused_time(async {
            let stub = server(223);
            put(&stub, argo::ROLLOUT, &[(AUTO, "true"), (ON_CHANGE, "restart-at")]);
            let _replica = start(&stub);
            sleep(SOON).await;
            let before = stub.writes().len();
            let rule =
                FaultRule::new(fault).resource("rollouts").matching(|it| it.method == http::Method::PATCH);
            stub.fail(rule.times(1));
            paint(&stub, "shop", "blue");
            sleep(LATER).await;
            let restarts =
                stub.writes()[before..].iter().filter(|write| write.resource == "rollouts").count();
            assert_eq!(restarts, 1, "{fault:?}\n{}", stub.transcript());
            assert_eq!(notes(&stub).len(), 1, "{fault:?}: {:?}", notes(&stub));
        });
    }
}

#[test]
fn c9_5_what_was_not_done_in_the_end_is_not_told_of() {
    in_paused_time(async {
        let stub = server(225);
        put(&stub, argo::ROLLOUT, &[(AUTO, "true"), (ON_CHANGE, "restart-at")]);
        let _replica = start(&stub);
        sleep(SOON).await;
        let unreadable = FaultRule::new(Fault::Status(500)).resource("rollouts").name("web");
        let unreadable = stub.fail(unreadable.matching(|request| request.method == http::Method::GET));
        paint(&stub, "shop", "blue");
        sleep(SOON).await;
        paint(&stub, "shop", "red");
        sleep(SOON).await;
        stub.heal(unreadable);
        sleep(LATER).await;
        assert!(web(&stub, argo::ROLLOUT)["spec"]["restartAt"].is_null(), "{}", stub.transcript());
        assert_eq!(notes(&stub), [""; 0]);
    });
}

#[test]
fn c9_5_another_word_changes_nothing_that_runs() {
    in_paused_time(async {
        let stub = server(224);
        put(&stub, apps::DEPLOYMENT, &[(AUTO, "true"), (ON_CHANGE, "none")]);
        let _replica = start(&stub);
        sleep(SOON).await;
        paint(&stub, "shop", "blue");
        sleep(SOON).await;
        stub.edit("deployments", "shop", "web", |web| {
            web["metadata"]["annotations"][ON_CHANGE] = json!("rollout");
        });
        sleep(SOON).await;
        assert_eq!(stub.revisions("deployments", "shop", "web"), 0);
        paint(&stub, "shop", "green");
        sleep(SOON).await;
        assert_eq!(stub.revisions("deployments", "shop", "web"), 1, "from then on");
        stub.edit("deployments", "shop", "web", |web| {
            web["metadata"]["annotations"][ON_CHANGE] = json!("restart");
        });
        paint(&stub, "shop", "red");
        sleep(SOON).await;
        assert_eq!(
            stub.revisions("deployments", "shop", "web"),
            2,
            "what it cannot be is as if it were absent"
        );
        let said =
            "on-change is \"restart\": on a Deployment it can be \"rollout\" or \"none\", and is ignored";
        assert!(notes(&stub).iter().any(|note| note == said), "{:?}", notes(&stub));
    });
}
