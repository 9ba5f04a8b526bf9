//! Writes that come at awkward moments, without any fault.

use std::time::Duration;

use http::Request;
use pod_reloader_core::digest::DigestKey;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_stub_api::{Fault, FaultRule, RequestKind, StubApi, objects};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::support::replica::{Options, Replica};
use crate::support::webhook::Webhook;
use crate::support::{in_paused_time, last_revision, paint, plays_all, revisions, server, shop};

/// A Deployment that requires a Secret which is not there yet.
async fn waiting(stub: &StubApi) -> Replica {
    let web = objects::listing("shop", "web", "", "credentials");
    stub.put(objects::with_env_from(web, "Secret", "credentials", false));
    let replica = Replica::start(stub, Options::new("replica"));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(revisions(stub, "shop"), 1);
    replica
}

fn make(stub: &StubApi, password: &str) {
    stub.put(objects::secret("shop", "credentials", &[("password", password)]));
}

/// Appears, then changes (section 3), with watches that lag or not.
#[test]
fn c3_13_a_secret_made_in_steps_reloads_pods_that_started_with_the_first() {
    for lag in [0, 50, 700, 3_000] {
        for (gap, is_deleted) in [10, 200, 900, 1_900].into_iter().flat_map(|gap| [(gap, false), (gap, true)])
        {
            in_paused_time(async {
                let stub = server(gap);
                let _replica = waiting(&stub).await;
                stub.set_watch_lag(Duration::from_millis(lag));
                make(&stub, "temporary");
                sleep(Duration::from_millis(gap)).await;
                if is_deleted {
                    stub.delete("secrets", "shop", "credentials");
                    sleep(Duration::from_millis(gap)).await;
                }
                make(&stub, "final");
                sleep(Duration::from_secs(15)).await;
                assert_eq!(revisions(&stub, "shop"), 2, "lag {lag}, gap {gap}, deleted: {is_deleted}");
            });
        }
    }
}

#[test]
fn c3_12_a_secret_that_appears_once_reloads_nobody_however_often_it_comes_back() {
    in_paused_time(async {
        let stub = server(1);
        let _replica = waiting(&stub).await;
        for _ in 0..5 {
            make(&stub, "same");
            sleep(Duration::from_secs(5)).await;
            stub.delete("secrets", "shop", "credentials");
            sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(revisions(&stub, "shop"), 1);
    });
}

/// The amendment to 3.1: a Secret that is rewritten all the time with the same content delays nothing, reloads nothing.
#[test]
fn c3_1_rewriting_the_same_content_all_the_time_delays_no_reload() {
    in_paused_time(async {
        let stub = server(1);
        make(&stub, "one");
        stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
        let web = objects::listing("shop", "web", "settings", "credentials");
        stub.put(objects::with_env_from(web, "Secret", "credentials", false));
        let _replica = Replica::start(&stub, Options::new("replica"));
        sleep(Duration::from_secs(10)).await;
        let rewriting = stub.clone();
        let _rewriting = AbortOnDropHandle::new(tokio::spawn(async move {
            for serial in 0.. {
                rewriting.edit("secrets", "shop", "credentials", |secret| {
                    secret["metadata"]["annotations"] = json!({"serial": serial.to_string()});
                });
                sleep(Duration::from_millis(300)).await;
            }
        }));
        sleep(Duration::from_secs(30)).await;
        assert_eq!(revisions(&stub, "shop"), 1);
        let painted = stub.elapsed();
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(30)).await;
        assert_eq!(revisions(&stub, "shop"), 2);
        let took = last_revision(&stub, "shop", "web").saturating_sub(painted);
        assert!(took < Duration::from_secs(3), "{took:?}");
    });
}

/// The time from a change to its patch is that of changes which a watch reported: what was undone, or found after a
/// start, would count as latencies that no user ever waited for.
#[test]
fn healing_drift_and_catching_up_are_no_latency() {
    in_paused_time(async {
        let stub = server(1);
        shop(&stub, "shop", 1);
        let replica = Replica::start(&stub, Options::new("replica"));
        sleep(Duration::from_secs(10)).await;
        let begun = stub.get("deployments", "shop", "web").unwrap();
        let latencies = |replica: &Replica| {
            let metrics = replica.metrics();
            let count = metrics.lines().find_map(|line| line.strip_prefix("change_to_patch_seconds_count "));
            count.unwrap().parse::<usize>().unwrap()
        };
        assert_eq!((revisions(&stub, "shop"), latencies(&replica)), (1, 0), "the first hash");
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(10)).await;
        assert_eq!((revisions(&stub, "shop"), latencies(&replica)), (2, 1));

        // A user past the webhook: once with the annotations of another time, once with none.
        stub.edit("deployments", "shop", "web", |web| {
            web["metadata"]["annotations"] = begun["metadata"]["annotations"].clone();
            web["spec"]["template"]["metadata"] = begun["spec"]["template"]["metadata"].clone();
        });
        sleep(Duration::from_secs(10)).await;
        assert_eq!((revisions(&stub, "shop"), latencies(&replica)), (4, 1), "drift");
        stub.edit("deployments", "shop", "web", |web| web["spec"]["template"]["metadata"] = json!({}));
        sleep(Duration::from_secs(10)).await;
        assert_eq!((revisions(&stub, "shop"), latencies(&replica)), (6, 1), "no annotations");

        // What changed while the operator was not running.
        assert!(replica.stop().await);
        paint(&stub, "shop", "green");
        let replica = Replica::start(&stub, Options::new("replica"));
        sleep(Duration::from_secs(10)).await;
        assert_eq!((revisions(&stub, "shop"), latencies(&replica)), (7, 0), "after a start");
        paint(&stub, "shop", "black");
        sleep(Duration::from_secs(10)).await;
        assert_eq!((revisions(&stub, "shop"), latencies(&replica)), (8, 1));
    });
}

/// An Event says why a workload was reloaded: once, also if its write fails for a while.
#[test]
fn c5_8_a_reload_is_told_of_once_although_writing_the_event_fails() {
    for fault in [
        Fault::HangBeforeHeaders,
        Fault::HangAfterHeaders,
        Fault::Reset,
        Fault::Status(500),
        Fault::Status(429),
        Fault::LostAnswer,
        Fault::LostAnswer500,
    ] {
        in_paused_time(async {
            let stub = server(1);
            shop(&stub, "shop", 1);
            let _replica = Replica::start(&stub, Options::new("replica"));
            sleep(Duration::from_secs(30)).await;
            let events = || stub.list("events").len();
            let before = events();
            let rule = stub.fail(FaultRule::new(fault).kind(RequestKind::CreateEvent).times(3));
            paint(&stub, "shop", "blue");
            sleep(Duration::from_mins(1)).await;
            assert!(stub.hits(rule) > 0, "{fault:?}");
            assert_eq!((revisions(&stub, "shop"), events() - before), (2, 1), "{fault:?}");
        });
    }
}

/// Three loops of label patches (5.5).
#[test]
fn c5_5_a_workload_that_others_write_all_the_time_is_reloaded_within_seconds_over_the_stub() {
    in_paused_time(async {
        let stub = server(1);
        let key = KeyReader::fixed(DigestKey::new("test", &[7; DigestKey::LEN]).unwrap());
        Webhook::new(&stub, "webhook", key.clone()).install(&stub);
        shop(&stub, "shop", 1);
        let _replica = Replica::start(&stub, Options { fixed_key: Some(key), ..Options::new("replica") });
        sleep(Duration::from_secs(10)).await;
        let _loops: Vec<_> =
            (0..3).map(|i| AbortOnDropHandle::new(tokio::spawn(label(stub.clone(), i)))).collect();
        let changes = if plays_all() { 3 } else { 1 };
        for made in 2..2 + changes {
            sleep(Duration::from_secs(5)).await;
            let painted = stub.elapsed();
            paint(&stub, "shop", &made.to_string());
            sleep(Duration::from_secs(10)).await;
            assert_eq!(revisions(&stub, "shop"), made);
            let took = last_revision(&stub, "shop", "web").saturating_sub(painted);
            assert!(took < Duration::from_secs(5), "{took:?}");
        }
    });
}

async fn label(stub: StubApi, controller: usize) {
    let client = stub.client_of(&format!("user:controller-{controller}"));
    for serial in 0.. {
        let patch = json!({"metadata": {"labels": {format!("serial-{controller}"): serial.to_string()}}});
        let request = Request::patch("/apis/apps/v1/namespaces/shop/deployments/web?fieldManager=other")
            .header("content-type", "application/merge-patch+json");
        // Conflicts among themselves are their own affair.
        let _ = client.request::<Value>(request.body(patch.to_string().into_bytes()).unwrap()).await;
        sleep(Duration::from_millis(3)).await;
    }
}
