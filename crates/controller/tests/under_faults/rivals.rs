//! Two installations with keys of their own over the same workloads: the later one stands down (C 14).

use std::time::Duration;

use pod_reloader_k8s::key::{SECRET_NAME, STANDING_DOWN};
use pod_reloader_stub_api::{Admission, RequestKind, StubApi};
use serde_json::json;
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::webhook::Webhook;
use crate::support::{in_paused_time, paint, server, shop, thinned, web};

const WORKLOADS: usize = 20;

fn later() -> Options {
    Options { key_namespace: "default", ..Options::new("later") }
}

fn patches(stub: &StubApi) -> usize {
    stub.count(|entry| entry.kind() == RequestKind::Patch && entry.request.resource == "deployments")
}

/// Waits while the two settle it between them. Two that quarrel are stopped at once: an hour of that is no short test.
async fn settle(stub: &StubApi, time: Duration) -> usize {
    let (before, end) = (patches(stub), stub.elapsed() + time);
    let requests = stub.count(|_| true);
    while stub.elapsed() < end {
        sleep(Duration::from_secs(1)).await;
        let made = patches(stub) - before;
        assert!(made <= 4 * WORKLOADS, "{made} patches");
        let requests = stub.count(|_| true) - requests;
        assert!(requests <= 50 * WORKLOADS, "{requests} requests");
    }
    patches(stub) - before
}

fn all_have(stub: &StubApi, revisions: usize) {
    for i in 0..WORKLOADS {
        assert_eq!(stub.revisions("deployments", "shop", &web(i)), revisions, "{i}");
    }
}

fn warnings(stub: &StubApi) -> usize {
    stub.list("events").iter().filter(|event| event["reason"] == "AnotherInstallation").count()
}

fn stands_down(replica: &Replica) -> bool {
    let shown = replica.metrics().contains("standing_down 1");
    assert_eq!(shown, replica.key.is_standing_down());
    shown
}

/// Has the time be over until which it stands down, which is by the calendar and not by the clock that tests pause.
async fn let_the_hour_pass(stub: &StubApi) {
    // What it says is of the wall clock, which tests do not turn.
    sleep(Duration::from_hours(1)).await;
    stub.edit("secrets", "default", SECRET_NAME, |secret| {
        assert!(secret["metadata"]["annotations"][STANDING_DOWN].is_string());
        secret["metadata"]["annotations"][STANDING_DOWN] = json!("2020-01-01T00:00:00Z");
    });
}

#[test]
fn c2_2_of_two_installations_over_the_same_workloads_the_later_one_stands_down() {
    in_paused_time(async {
        let stub = server(11);
        shop(&stub, "shop", WORKLOADS);
        let first = Replica::start(&stub, Options::new("first"));
        sleep(Duration::from_secs(30)).await;
        all_have(&stub, 1);
        let before = patches(&stub);

        let second = Replica::start(&stub, later());
        let made = settle(&stub, Duration::from_mins(1)).await;
        assert!(stands_down(&second) && !stands_down(&first));
        assert_eq!(warnings(&stub), 1, "it is reported once");
        sleep(Duration::from_mins(30)).await;
        assert_eq!(patches(&stub) - before, made, "and no more with time");
        all_have(&stub, 1);

        // The first goes on, alone.
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(10)).await;
        all_have(&stub, 2);
        assert_eq!(patches(&stub) - before, made + WORKLOADS);

        // The other one remembers when it starts again.
        assert!(second.stop().await);
        let second = Replica::start(&stub, later());
        settle(&stub, Duration::from_mins(2)).await;
        assert!(stands_down(&second));
        paint(&stub, "shop", "green");
        sleep(Duration::from_secs(10)).await;
        all_have(&stub, 3);
        assert_eq!(patches(&stub) - before, made + 2 * WORKLOADS);

        // And takes over when it is alone.
        assert!(first.stop().await);
        let_the_hour_pass(&stub).await;
        sleep(Duration::from_mins(2)).await;
        assert!(!stands_down(&second));
        paint(&stub, "shop", "black");
        sleep(Duration::from_secs(10)).await;
        all_have(&stub, 4);
        assert_eq!(warnings(&stub), 1);
    });
}

/// Where the first is still there after the hour, that is noticed at once, and again costs little.
#[test]
fn c2_2_an_installation_that_stood_down_stands_down_again_if_the_other_is_still_there() {
    in_paused_time(async {
        let stub = server(12);
        shop(&stub, "shop", WORKLOADS);
        let first = Replica::start(&stub, Options::new("first"));
        sleep(Duration::from_secs(30)).await;
        let second = Replica::start(&stub, later());
        settle(&stub, Duration::from_mins(2)).await;
        for _ in 0..3 {
            let_the_hour_pass(&stub).await;
            settle(&stub, Duration::from_mins(3)).await;
            assert!(stands_down(&second) && !stands_down(&first));
        }
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(10)).await;
        all_have(&stub, 2);
    });
}

#[test]
fn c2_2_the_webhook_of_an_installation_that_stands_down_changes_nothing_and_says_nothing() {
    in_paused_time(async {
        let stub = server(13);
        shop(&stub, "shop", 1);
        let first = Replica::start(&stub, Options::new("first"));
        sleep(Duration::from_secs(30)).await;
        let second = Replica::start(&stub, later());
        settle(&stub, Duration::from_mins(1)).await;
        assert!(stands_down(&second));
        let old = (*stub.get("deployments", "shop", "web").unwrap()).clone();
        // An owner who applies a manifest that knows nothing of our annotations.
        let mut new = old.clone();
        new["spec"]["template"]["metadata"] = json!({"labels": {"app": "web"}});
        let webhooks = [("first/webhook", &first), ("later/webhook", &second)];
        for (name, replica) in webhooks {
            let webhook = Webhook::new(&stub, name, replica.key.clone());
            for old in [None, Some(old.clone())] {
                let admission = Admission {
                    resource: "deployments",
                    old,
                    new: new.clone(),
                    user: "user:ann".into(),
                    manager: "kubectl".into(),
                    is_dry_run: false,
                };
                let answer = webhook.admit(&admission).await;
                let is_first = name == "first/webhook";
                assert_eq!(answer.object != new, is_first, "{name}: {answer:?}");
                assert!(is_first || answer.warnings.is_null(), "{name}: {answer:?}");
            }
        }
        assert_eq!(stub.count(|entry| entry.request.client == "later/webhook"), 0);
    });
}

/// The first is gone; the later one, which goes on running, takes over after the hour.
#[test]
fn c2_5_after_the_hour_the_later_one_takes_over_if_it_is_alone() {
    in_paused_time(async {
        let stub = server(14);
        shop(&stub, "shop", WORKLOADS);
        let first = Replica::start(&stub, Options::new("first"));
        sleep(Duration::from_secs(30)).await;
        let second = Replica::start(&stub, later());
        settle(&stub, Duration::from_mins(2)).await;
        assert!(stands_down(&second));
        assert!(first.stop().await);
        let_the_hour_pass(&stub).await;
        sleep(Duration::from_mins(3)).await;
        assert!(!stands_down(&second));
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(30)).await;
        all_have(&stub, 2);
    });
}

/// Also if it was restarted meanwhile, or another of its replicas leads.
#[test]
fn c2_5_after_the_hour_it_is_the_later_one_again_that_stands_down() {
    for seed in thinned(0..6) {
        in_paused_time(async {
            let stub = server(seed);
            shop(&stub, "shop", WORKLOADS);
            let first = Replica::start(&stub, Options::new("first"));
            sleep(Duration::from_secs(30)).await;
            let second = Replica::start(&stub, later());
            settle(&stub, Duration::from_mins(2)).await;
            assert!(second.stop().await);
            let second = Replica::start(&stub, later());
            settle(&stub, Duration::from_mins(2)).await;
            let_the_hour_pass(&stub).await;
            settle(&stub, Duration::from_mins(3)).await;
            assert!(stands_down(&second) && !stands_down(&first), "seed {seed}");
            paint(&stub, "shop", "blue");
            sleep(Duration::from_secs(30)).await;
            all_have(&stub, 2);
        });
    }
}
