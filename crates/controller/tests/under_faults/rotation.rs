//! The digest key is replaced on purpose (2.2): no rollout, and no change is missed.

use std::time::Duration;

use pod_reloader_k8s::key::{RENEW, SECRET_NAME};
use pod_reloader_stub_api::{Admission, Fault, FaultRule, RequestKind, StubApi};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::webhook::Webhook;
use crate::support::{in_paused_time, paint, server, shop, thinned, web};

const WORKLOADS: usize = 20;
const KEYS: &str = "pod-reloader";

fn ask(stub: &StubApi) {
    stub.edit("secrets", KEYS, SECRET_NAME, |secret| secret["metadata"]["annotations"][RENEW] = json!("now"));
}

fn key_id(stub: &StubApi) -> String {
    let secret = stub.get("secrets", KEYS, SECRET_NAME).unwrap();
    let id: k8s_openapi::ByteString = serde_json::from_value(secret["data"]["id"].clone()).unwrap();
    String::from_utf8(id.0).unwrap()
}

fn recorded_with(stub: &StubApi, name: &str) -> String {
    let workload = stub.get("deployments", "shop", name).unwrap();
    let observed = &workload["metadata"]["annotations"]["pod-reloader.cs.sap.com/observed-config"];
    let observed: Value = serde_json::from_str(observed.as_str().unwrap()).unwrap();
    observed["key"].as_str().unwrap().to_owned()
}

fn all_are_recorded_with(stub: &StubApi, id: &str) {
    (0..WORKLOADS).for_each(|i| assert_eq!(recorded_with(stub, &web(i)), id, "{i}"));
}

fn all_have(stub: &StubApi, revisions: usize) {
    (0..WORKLOADS).for_each(|i| assert_eq!(stub.revisions("deployments", "shop", &web(i)), revisions, "{i}"));
}

fn warnings(stub: &StubApi) -> Vec<String> {
    let events = stub.list("events");
    let warnings = events.iter().filter(|event| event["type"] == "Warning");
    warnings.map(|event| event["reason"].to_string()).collect()
}

async fn start(stub: &StubApi) -> [Replica; 2] {
    shop(stub, "shop", WORKLOADS);
    let replicas =
        [Replica::start(stub, Options::electing("a")), Replica::start(stub, Options::electing("b"))];
    sleep(Duration::from_mins(1)).await;
    all_have(stub, 1);
    replicas
}

#[test]
fn c2_2_a_new_key_causes_no_rollout_and_no_warning() {
    in_paused_time(async {
        let stub = server(21);
        let replicas = start(&stub).await;
        let before = key_id(&stub);
        for _ in 0..2 {
            ask(&stub);
            sleep(Duration::from_mins(1)).await;
            let now = key_id(&stub);
            assert_ne!(now, before);
            let secret = stub.get("secrets", KEYS, SECRET_NAME).unwrap();
            assert!(secret["metadata"]["annotations"][RENEW].is_null());
            all_are_recorded_with(&stub, &now);
            all_have(&stub, 1);
            assert_eq!(warnings(&stub), Vec::<String>::new());
            assert!(replicas.iter().all(|replica| replica.key.get().is_some_and(|key| key.id() == now)));
        }
        paint(&stub, "shop", "blue");
        sleep(Duration::from_mins(1)).await;
        all_have(&stub, 2);
        // A failover finds all as it should be.
        let [a, b] = replicas;
        let (leader, other) = if a.leads() { (a, b) } else { (b, a) };
        assert!(leader.stop().await);
        sleep(Duration::from_mins(1)).await;
        assert!(other.leads());
        all_have(&stub, 2);
        assert_eq!(warnings(&stub), Vec::<String>::new());
    });
}

/// At whatever moment of it.
#[test]
fn c2_2_a_change_during_a_rotation_is_one_reload() {
    for (seed, moment) in thinned([0, 5, 20, 50, 100, 300, 1000, 2500].into_iter().enumerate()) {
        in_paused_time(async {
            let stub = server(30 + seed as u64);
            let _replicas = start(&stub).await;
            for colour in ["blue", "green"] {
                let is_before = colour == "green";
                if is_before {
                    paint(&stub, "shop", colour);
                } else {
                    ask(&stub);
                }
                sleep(Duration::from_millis(moment)).await;
                if is_before {
                    ask(&stub);
                } else {
                    paint(&stub, "shop", colour);
                }
                sleep(Duration::from_mins(2)).await;
                all_have(&stub, if is_before { 3 } else { 2 });
                all_are_recorded_with(&stub, &key_id(&stub));
                assert_eq!(warnings(&stub), Vec::<String>::new(), "{moment}");
            }
        });
    }
}

/// As good as not running: the reads of the content fail for a while.
#[test]
fn c2_2_a_change_is_seen_also_where_the_rotation_takes_long() {
    in_paused_time(async {
        let stub = server(41);
        let _replicas = start(&stub).await;
        let (from, until) = (stub.elapsed(), stub.elapsed() + Duration::from_mins(20));
        let unreadable =
            FaultRule::new(Fault::Status(500)).resource("configmaps").kind(RequestKind::GetContent);
        stub.fail(unreadable.from(from).until(until));
        ask(&stub);
        sleep(Duration::from_mins(10)).await;
        paint(&stub, "shop", "blue");
        sleep(Duration::from_mins(30)).await;
        all_have(&stub, 2);
        all_are_recorded_with(&stub, &key_id(&stub));
        assert!(!warnings(&stub).iter().any(|reason| reason.contains("KeyReplaced")));
    });
}

/// A replica that has not heard of the new key yet takes what is recorded with it for a rival's neither.
#[test]
fn c2_2_a_replica_that_lags_does_not_take_the_new_key_for_a_foreign_one() {
    in_paused_time(async {
        let stub = server(51);
        let replicas = start(&stub).await;
        let (leader, other) = if replicas[0].leads() { ("a", 1) } else { ("b", 0) };
        // The leader's watch of the Secret says nothing.
        let silent = FaultRule::new(Fault::LostEvent).kind(RequestKind::WatchStream).resource("secrets");
        stub.fail(silent.client(&format!("{leader}/key")));
        sleep(Duration::from_secs(5)).await;
        ask(&stub);
        let id = key_id(&stub);
        for _ in 0..100 {
            sleep(Duration::from_millis(10)).await;
            if key_id(&stub) != id && replicas[other].key.get().is_some_and(|key| key.id() != id) {
                break;
            }
        }
        // The other replica's webhook answers an owner by then.
        let old = (*stub.get("deployments", "shop", "web").unwrap()).clone();
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("another");
        let admission = Admission {
            resource: "deployments",
            old: Some(old),
            new,
            user: "user:ann".into(),
            manager: "kubectl".into(),
            is_dry_run: false,
        };
        let webhook = Webhook::new(&stub, "webhook", replicas[other].key.clone());
        let answer = webhook.admit(&admission).await.object;
        assert!(
            replicas.iter().any(|replica| replica.key.get().is_some_and(|key| key.id() == id)),
            "it lags"
        );
        stub.put(answer);
        let new_id = key_id(&stub);
        assert_eq!(recorded_with(&stub, "web"), new_id);
        sleep(Duration::from_mins(3)).await;
        assert_eq!(stub.revisions("deployments", "shop", "web"), 2);
        all_are_recorded_with(&stub, &new_id);
        assert_eq!(warnings(&stub), Vec::<String>::new());
        assert!(replicas.iter().all(|replica| !replica.key.is_standing_down()));
    });
}

/// What cannot be recorded again is compared under the former key for as long as that is kept, and no longer.
#[test]
fn c2_2_the_former_key_is_kept_with_the_secret_and_ends() {
    in_paused_time(async {
        let stub = server(61);
        let replicas = start(&stub).await;
        let first = key_id(&stub);
        stub.delete("configmaps", "shop", "settings");
        sleep(Duration::from_mins(1)).await;
        ask(&stub);
        sleep(Duration::from_mins(1)).await;
        all_are_recorded_with(&stub, &first);
        // Neither the loss of the Secret nor damage to it costs the former key.
        let before = stub.get("secrets", KEYS, SECRET_NAME).unwrap()["data"].clone();
        stub.delete("secrets", KEYS, SECRET_NAME);
        sleep(Duration::from_mins(2)).await;
        assert_eq!(stub.get("secrets", KEYS, SECRET_NAME).unwrap()["data"], before);
        stub.edit("secrets", KEYS, SECRET_NAME, |secret| secret["data"]["key"] = json!(""));
        sleep(Duration::from_mins(2)).await;
        assert_eq!(stub.get("secrets", KEYS, SECRET_NAME).unwrap()["data"], before);
        // It comes back as it was: nothing happens.
        shop(&stub, "shop", 0);
        sleep(Duration::from_mins(1)).await;
        all_have(&stub, 1);
        all_are_recorded_with(&stub, &key_id(&stub));

        let second = key_id(&stub);
        stub.delete("configmaps", "shop", "settings");
        ask(&stub);
        sleep(Duration::from_mins(1)).await;
        all_are_recorded_with(&stub, &second);
        assert_eq!(warnings(&stub), Vec::<String>::new());
        // A day later.
        stub.edit("secrets", KEYS, SECRET_NAME, |secret| {
            let former: k8s_openapi::ByteString =
                serde_json::from_value(secret["data"]["former"].clone()).unwrap();
            let mut former: Value = serde_json::from_slice(&former.0).unwrap();
            former
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(|key| key["until"] = json!("2020-01-01T00:00:00Z"));
            secret["data"]["former"] = json!(k8s_openapi::ByteString(former.to_string().into_bytes()));
        });
        sleep(Duration::from_mins(2)).await;
        assert!(stub.get("secrets", KEYS, SECRET_NAME).unwrap()["data"]["former"].is_null());
        assert!(replicas.iter().all(|replica| replica.key.get().is_some_and(|key| key.former().is_empty())));
        all_are_recorded_with(&stub, &key_id(&stub));
        assert!(warnings(&stub).iter().all(|reason| reason.contains("KeyReplaced")));
        all_have(&stub, 1);
    });
}
