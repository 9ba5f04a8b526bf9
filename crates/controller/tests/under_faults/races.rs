//! What happens between two words of the watches: reads that are ahead, comparisons under way, records that are held up.

use std::time::Duration;

use http::Request;
use pod_reloader_stub_api::{Fault, FaultRule, RequestKind, StubApi, objects};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::support::replica::{Options, Replica};
use crate::support::webhook::Webhook;
use crate::support::{in_paused_time, paint, revisions, server, shop, thinned};

fn label(stub: &StubApi, serial: usize) {
    stub.edit("deployments", "shop", "web", |web| {
        web["metadata"]["labels"]["serial"] = json!(serial.to_string());
    });
}

/// Also while a user labels the workload.
#[test]
fn c3_2_a_change_and_its_reversal_cause_nothing_beside_a_write_of_the_workload() {
    let mut broken = vec![];
    for gap in [0_u64, 1, 3, 5, 10, 20, 40] {
        for seed in thinned(0..4) {
            let made = in_paused_time(async {
                let stub = server(seed);
                shop(&stub, "shop", 1);
                let _replica = Replica::start(&stub, Options::new("replica"));
                sleep(Duration::from_secs(10)).await;
                assert_eq!(revisions(&stub, "shop"), 1);
                paint(&stub, "shop", "blue");
                sleep(Duration::from_millis(gap)).await;
                label(&stub, 1);
                sleep(Duration::from_secs(1)).await;
                paint(&stub, "shop", "red");
                sleep(Duration::from_mins(1)).await;
                revisions(&stub, "shop")
            });
            if made != 1 {
                broken.push(format!("gap {gap} seed {seed}: {made} revisions"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The same in a loop.
#[test]
fn c3_2_a_change_and_its_reversal_cause_nothing_beside_label_loops() {
    let mut broken = vec![];
    for seed in thinned(0..6) {
        let made = in_paused_time(async {
            let stub = server(seed);
            shop(&stub, "shop", 1);
            let _replica = Replica::start(&stub, Options::new("replica"));
            sleep(Duration::from_secs(10)).await;
            let labelling = stub.clone();
            let _labelling = AbortOnDropHandle::new(tokio::spawn(async move {
                for serial in 0.. {
                    label(&labelling, serial);
                    sleep(Duration::from_millis(30)).await;
                }
            }));
            sleep(Duration::from_secs(5)).await;
            assert_eq!(revisions(&stub, "shop"), 1);
            paint(&stub, "shop", "blue");
            sleep(Duration::from_secs(1)).await;
            paint(&stub, "shop", "red");
            sleep(Duration::from_mins(1)).await;
            revisions(&stub, "shop")
        });
        if made != 1 {
            broken.push(format!("seed {seed}: {made} revisions"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The watch of ConfigMaps lags, and something else has the workload ask the API server: a Secret that it lists, too.
#[test]
fn c5_7_a_change_that_was_read_early_and_taken_back_is_not_lost() {
    let mut broken = vec![];
    for lag in [3_000_u64, 20_000] {
        let (made, hash_is_old) = in_paused_time(async {
            let stub = server(1);
            stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
            stub.put(objects::secret("shop", "credentials", &[("password", "one")]));
            stub.put(objects::with_env_from(
                objects::listing("shop", "web", "settings", "credentials"),
                "ConfigMap",
                "settings",
                false,
            ));
            let _replica = Replica::start(&stub, Options::new("replica"));
            sleep(Duration::from_secs(10)).await;
            paint(&stub, "shop", "green");
            sleep(Duration::from_secs(10)).await;
            assert_eq!(revisions(&stub, "shop"), 2);
            stub.fail(
                FaultRule::new(Fault::Late(Duration::from_millis(lag)))
                    .kind(RequestKind::WatchStream)
                    .resource("configmaps")
                    .client("replica"),
            );
            paint(&stub, "shop", "blue");
            stub.put(objects::secret("shop", "credentials", &[("password", "two")]));
            sleep(Duration::from_millis(2700)).await;
            let made = revisions(&stub, "shop");
            assert_eq!(made, 3);
            let blue = stub.get("deployments", "shop", "web").unwrap()["spec"]["template"].clone();
            paint(&stub, "shop", "green");
            sleep(Duration::from_mins(5)).await;
            let now = stub.get("deployments", "shop", "web").unwrap()["spec"]["template"].clone();
            (revisions(&stub, "shop"), now == blue)
        });
        if hash_is_old {
            broken.push(format!(
                "lag {lag}: {made} revisions, pods run blue, config is green for five minutes"
            ));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn c5_5_a_reference_that_is_forbidden_delays_no_change_of_the_others() {
    let mut longest = Duration::ZERO;
    for seed in thinned(0..6) {
        let took = in_paused_time(async {
            let stub = server(seed);
            stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
            stub.put(objects::secret("shop", "credentials", &[("password", "x")]));
            stub.put(objects::listing("shop", "web", "settings", "credentials"));
            stub.fail(
                FaultRule::new(Fault::Status(403))
                    .kind(RequestKind::GetContent)
                    .resource("secrets")
                    .namespace("shop"),
            );
            let _replica = Replica::start(&stub, Options::new("replica"));
            sleep(Duration::from_mins(10) + Duration::from_secs(7 * seed)).await;
            let before = revisions(&stub, "shop");
            let painted = stub.elapsed();
            paint(&stub, "shop", "blue");
            sleep(Duration::from_mins(5)).await;
            assert_eq!(revisions(&stub, "shop"), before + 1);
            crate::support::last_revision(&stub, "shop", "web").saturating_sub(painted)
        });
        longest = longest.max(took);
    }
    assert!(longest < Duration::from_secs(10), "{longest:?}");
}

/// What the template requires beside the lists is gone, and whether it is there cannot be asked: a reload waits.
#[test]
fn c4_3_what_could_not_be_asked_does_not_count_as_being_there() {
    for fault in [Fault::Status(500), Fault::Status(503), Fault::HangBeforeHeaders, Fault::Reset] {
        in_paused_time(async {
            let stub = server(1);
            stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
            stub.put(objects::secret("shop", "credentials", &[("password", "x")]));
            let web = objects::listing("shop", "web", "settings", "");
            stub.put(objects::with_env_from(web, "Secret", "credentials", false));
            let replica = Replica::start(&stub, Options::new("replica"));
            sleep(Duration::from_secs(30)).await;
            assert_eq!(revisions(&stub, "shop"), 1);
            assert!(replica.stop().await);
            stub.delete("secrets", "shop", "credentials");
            paint(&stub, "shop", "blue");
            let rule = stub.fail(FaultRule::new(fault).resource("secrets").client("replica"));
            let _replica = Replica::start(&stub, Options::new("replica"));
            sleep(Duration::from_secs(25)).await;
            let during = revisions(&stub, "shop");
            stub.heal(rule);
            sleep(Duration::from_mins(2)).await;
            assert_eq!((during, revisions(&stub, "shop")), (1, 1), "{fault:?}: pods that cannot start");
        });
    }
}

#[test]
fn c3_13_what_one_workload_recorded_another_may_not_have() {
    in_paused_time(async {
        let stub = server(1);
        for name in ["one", "two"] {
            let web = objects::listing("shop", name, "", "credentials");
            stub.put(objects::with_env_from(web, "Secret", "credentials", false));
        }
        let _replica = Replica::start(&stub, Options::new("replica"));
        sleep(Duration::from_secs(30)).await;
        let before = stub.revisions("deployments", "shop", "two");
        let rule = stub.fail(FaultRule::new(Fault::Status(503)).kind(RequestKind::Patch).name("two"));
        stub.put(objects::secret("shop", "credentials", &[("password", "first")]));
        sleep(Duration::from_secs(2)).await;
        stub.delete("secrets", "shop", "credentials");
        sleep(Duration::from_secs(2)).await;
        stub.put(objects::secret("shop", "credentials", &[("password", "second")]));
        sleep(Duration::from_secs(2)).await;
        stub.heal(rule);
        sleep(Duration::from_mins(3)).await;
        for name in ["one", "two"] {
            assert_eq!(stub.revisions("deployments", "shop", name), before + 1, "{name}");
        }
    });
}

/// The owner's rollout carries other content, which the webhook reads and remembers before the reconciler compares it.
/// Then it is taken back: pods that run with it have to follow, although the reconciler never read anything else.
#[test]
fn c3_3_content_that_only_the_webhook_saw_and_that_is_taken_back_is_a_change() {
    let mut lost = vec![];
    for is_recreated in [false, true] {
        for gap in [0_u64, 10, 30, 60, 100, 200, 300, 1000, 5000] {
            let made = in_paused_time(async {
                let stub = server(gap);
                shop(&stub, "shop", 1);
                let replica = Replica::start(&stub, Options::new("replica"));
                sleep(Duration::from_secs(5)).await;
                Webhook::of(&replica).install(&stub);
                sleep(Duration::from_secs(30)).await;
                let before = revisions(&stub, "shop");
                // What is written all the time is compared a few times a second.
                for serial in 0..5 {
                    stub.edit("configmaps", "shop", "settings", |it| {
                        it["metadata"]["annotations"] = json!({"serial": serial.to_string()});
                    });
                    sleep(Duration::from_millis(30)).await;
                }
                if is_recreated {
                    stub.delete("configmaps", "shop", "settings");
                    stub.put(objects::config_map("shop", "settings", &[("colour", "green")]));
                }
                paint(&stub, "shop", "blue");
                let rollout = json!({"spec": {"template": {"metadata": {"annotations": {"rollout": "1"}}}}});
                let request =
                    Request::patch("/apis/apps/v1/namespaces/shop/deployments/web?fieldManager=kubectl")
                        .header("content-type", "application/merge-patch+json")
                        .body(rollout.to_string().into_bytes());
                stub.client_of("user:ann").request::<Value>(request.unwrap()).await.unwrap();
                sleep(Duration::from_millis(gap)).await;
                paint(&stub, "shop", "red");
                sleep(Duration::from_mins(2)).await;
                revisions(&stub, "shop") - before
            });
            if made != 2 {
                lost.push(format!("recreated: {is_recreated}, gap {gap}: {made} revisions"));
            }
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}
