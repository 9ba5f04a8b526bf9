//! What a start reads where all is right, or nearly so (2.3, 3.21, 5.4).

use std::time::Duration;

use pod_reloader_core::kind::apps;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_stub_api::{Fault, FaultRule, LogEntry, Outcome, RequestKind, StubApi, objects};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::{SETTLE_WINDOW, in_paused_time, paint, server, shop, web};

const WORKLOADS: usize = 20;

/// Each Deployment lists a `ConfigMap` of its own, of which its template requires a key, a Secret, one `ConfigMap` that all
/// share, and one that does not exist.
fn fill(stub: &StubApi) {
    stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
    for i in 0..WORKLOADS {
        let (own, credentials) = (format!("own-{i}"), format!("credentials-{i}"));
        stub.put(objects::config_map("shop", &own, &[("key", "value")]));
        stub.put(objects::secret("shop", &credentials, &[("password", "secret")]));
        let lists = format!("{own},settings,absent");
        let mut web = objects::listing("shop", &web(i), &lists, &credentials);
        web["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": own, "key": "key"}}}]);
        stub.put(web);
    }
}

/// A replica that starts, and what it has read and written half a minute later.
struct Start {
    replica: Replica,
    contents: Vec<String>,
    /// Reads of metadata, of all there is and of what there is not.
    versions: usize,
    patches: usize,
}

async fn start(stub: &StubApi, name: &'static str) -> Start {
    let replica = Replica::start(stub, Options::new(name));
    sleep(Duration::from_secs(30)).await;
    let done = |kind: RequestKind| {
        let is_it = |entry: &&LogEntry| {
            entry.kind() == kind && entry.request.client == name && entry.outcome == Outcome::Answered(200)
        };
        let log = stub.log();
        let names = log.iter().filter(is_it).map(|entry| entry.request.name.clone().unwrap_or_default());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    };
    let asked = |entry: &&LogEntry| entry.kind() == RequestKind::GetMetadata && entry.request.client == name;
    Start {
        replica,
        contents: done(RequestKind::GetContent),
        versions: stub.log().iter().filter(asked).count(),
        patches: done(RequestKind::Patch).len(),
    }
}

/// Strikes the second replica's lists of that resource, streamed or not.
fn fail_lists(stub: &StubApi, fault: Fault, resource: &str) {
    for kind in [RequestKind::List, RequestKind::WatchStart] {
        stub.fail(FaultRule::new(fault).kind(kind).resource(resource).client("second"));
    }
}

/// In whatever order the API server has it: what nobody refers to is not kept, so the workloads have to come first.
#[test]
fn c5_4_a_start_asks_for_nothing_that_its_lists_tell() {
    for lists_of_workloads_take in [0, 1] {
        in_paused_time(async {
            let stub = server(5);
            fill(&stub);
            drop(start(&stub, "first").await.replica);
            fail_lists(&stub, Fault::Late(Duration::from_secs(lists_of_workloads_take)), "deployments");
            let second = start(&stub, "second").await;
            let read = (second.contents.len(), second.versions, second.patches);
            assert_eq!(read, (0, 0, 0), "{}", stub.transcript());
        });
    }
}

/// What lists do not tell in time is read.
#[test]
fn c5_4_a_start_goes_on_without_lists_that_hang() {
    for hanging in ["statefulsets", "configmaps", "secrets"] {
        in_paused_time(async {
            let stub = server(6);
            fill(&stub);
            drop(start(&stub, "first").await.replica);
            paint(&stub, "shop", "blue");
            fail_lists(&stub, Fault::HangBeforeHeaders, hanging);
            let _second = start(&stub, "second").await;
            for i in 0..WORKLOADS {
                assert_eq!(stub.revisions("deployments", "shop", &web(i)), 2, "{hanging}: {i}");
            }
        });
    }
}

#[test]
fn c3_21_a_start_reads_no_content_of_what_is_as_it_was_recorded_and_a_change_is_still_one_reload() {
    in_paused_time(async {
        let stub = server(1);
        fill(&stub);
        let first = start(&stub, "first").await;
        assert_eq!(first.patches, WORKLOADS);
        drop(first.replica);
        let second = start(&stub, "second").await;
        assert_eq!((second.contents, second.patches), (vec![], 0), "{}", stub.transcript());

        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(30)).await;
        for i in 0..WORKLOADS {
            assert_eq!(stub.revisions("deployments", "shop", &web(i)), 2, "{i}");
        }
        drop(second.replica);
        // What was recorded by a reload is as good.
        let third = start(&stub, "third").await;
        assert_eq!((third.contents, third.patches), (vec![], 0), "{}", stub.transcript());
    });
}

#[test]
fn c3_7_a_start_reads_what_was_written_since_and_writes_nothing_if_its_content_is_the_same() {
    in_paused_time(async {
        let stub = server(2);
        fill(&stub);
        drop(start(&stub, "first").await.replica);
        stub.edit("configmaps", "shop", "own-3", |map| map["metadata"]["labels"] = json!({"serial": "1"}));
        let second = start(&stub, "second").await;
        assert_eq!((second.contents, second.patches), (vec!["own-3".to_owned()], 0), "{}", stub.transcript());
        drop(second.replica);
        stub.edit("secrets", "shop", "credentials-5", |secret| {
            secret["data"]["password"] = json!("b3RoZXI=");
        });
        let third = start(&stub, "third").await;
        // Before a reload it is made sure that `own-5` has the key that the template requires.
        let expected = ["credentials-5", "own-3", "own-5"].map(str::to_owned).to_vec();
        assert_eq!((third.contents, third.patches), (expected, 1));
        assert_eq!(stub.revisions("deployments", "shop", &web(5)), 2);
    });
}

/// Its content is known from the record, although the start has not read it.
#[test]
fn c3_1_a_rewrite_with_the_same_content_after_a_start_puts_no_reload_off() {
    in_paused_time(async {
        let stub = server(4);
        fill(&stub);
        drop(start(&stub, "first").await.replica);
        let second = start(&stub, "second").await;
        assert!(second.contents.is_empty());
        paint(&stub, "shop", "blue");
        sleep(SETTLE_WINDOW * 3 / 4).await;
        stub.edit("configmaps", "shop", "own-3", |map| map["metadata"]["labels"] = json!({"serial": "1"}));
        sleep(SETTLE_WINDOW / 2).await;
        assert_eq!(stub.revisions("deployments", "shop", &web(3)), 2, "{}", stub.transcript());
    });
}

/// The content of `own` need not be read to see that nothing changed, but a reload for another reason waits for its key.
#[test]
fn c3_4_a_start_knows_that_a_required_key_is_missing_before_it_reloads() {
    in_paused_time(async {
        let stub = server(3);
        fill(&stub);
        drop(start(&stub, "first").await.replica);
        stub.edit("configmaps", "shop", "own-0", |map| map["data"] = json!({"another": "value"}));
        drop(start(&stub, "second").await.replica);
        paint(&stub, "shop", "blue");
        drop(start(&stub, "third").await.replica);
        assert_eq!(stub.revisions("deployments", "shop", &web(0)), 1, "its pods could not start");
        assert_eq!(stub.revisions("deployments", "shop", &web(1)), 2);
    });
}

/// Has a streamed list name its objects one by one, in such a time each.
fn trickle(stub: &StubApi, resource: &str, every: Duration, objects: u32) {
    for i in 0..=objects {
        let rule = FaultRule::new(Fault::Late(every * i)).kind(RequestKind::WatchStream).resource(resource);
        stub.fail(rule.client("second").times(1));
    }
}

/// A `ConfigMap` that a template requires appears, pods start with it, and it changes a second later.
async fn appears_and_changes(stub: &StubApi) {
    stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
    sleep(Duration::from_secs(1)).await;
    paint(stub, "shop", "blue");
    sleep(Duration::from_mins(1)).await;
}

fn requiring_settings() -> Value {
    objects::with_env_from(objects::listing("shop", "web", "settings", ""), "ConfigMap", "settings", false)
}

/// Of what nobody watches it is not known with which content pods have started.
#[test]
fn c3_13_lists_of_workloads_that_fail_hang_or_trickle_blind_no_start() {
    for (daemon_sets, after) in [("fail", 500), ("hang", 2500), ("trickle", 2500)] {
        in_paused_time(async {
            let stub = server(7);
            stub.put(requiring_settings());
            for i in 0..9 {
                stub.put(objects::workload(apps::DAEMON_SET, "kube-system", &format!("agent-{i}"), &[]));
            }
            drop(start(&stub, "first").await.replica);
            match daemon_sets {
                "fail" => fail_lists(&stub, Fault::Status(403), "daemonsets"),
                "hang" => fail_lists(&stub, Fault::HangBeforeHeaders, "daemonsets"),
                _ => trickle(&stub, "daemonsets", Duration::from_secs(1), 9),
            }
            let _second = Replica::start(&stub, Options::new("second"));
            sleep(Duration::from_millis(after)).await;
            appears_and_changes(&stub).await;
            assert_eq!(
                stub.revisions("deployments", "shop", "web"),
                2,
                "{daemon_sets}: {}",
                stub.transcript()
            );
        });
    }
}

/// The list began before it, and cannot tell that what it refers to is absent.
#[test]
fn c3_13_a_workload_that_comes_during_a_slow_list_of_config_objects_is_looked_at_at_once() {
    in_paused_time(async {
        let stub = server(10);
        for i in 0..9 {
            stub.put(objects::config_map("kube-system", &format!("other-{i}"), &[("key", "value")]));
        }
        drop(start(&stub, "first").await.replica);
        trickle(&stub, "configmaps", Duration::from_secs(1), 9);
        let _second = Replica::start(&stub, Options::new("second"));
        sleep(Duration::from_secs(2)).await;
        stub.put(requiring_settings());
        sleep(Duration::from_secs(2)).await;
        appears_and_changes(&stub).await;
        assert_eq!(stub.revisions("deployments", "shop", "web"), 2, "{}", stub.transcript());
    });
}

/// However long they go on: what changed while nobody led.
#[test]
fn c5_7_a_change_is_seen_while_the_first_lists_go_on() {
    for (resource, at_most) in [("daemonsets", 5), ("configmaps", 15)] {
        in_paused_time(async {
            let stub = server(11);
            fill(&stub);
            for i in 0..80 {
                let name = format!("other-{i}");
                stub.put(objects::workload(apps::DAEMON_SET, "kube-system", &name, &[]));
                stub.put(objects::config_map("kube-system", &name, &[("key", "value")]));
            }
            drop(start(&stub, "first").await.replica);
            paint(&stub, "shop", "blue");
            trickle(&stub, resource, Duration::from_millis(1500), 80 + 60);
            let _second = Replica::start(&stub, Options::new("second"));
            sleep(Duration::from_secs(at_most)).await;
            assert_eq!(
                stub.revisions("deployments", "shop", &web(0)),
                2,
                "{resource}: {}",
                stub.transcript()
            );
        });
    }
}

/// Nor do very many lists, of which there are few at a time.
#[test]
fn c5_7_with_many_namespaces_a_start_waits_for_no_list() {
    in_paused_time(async {
        let stub = server(12);
        let names: Vec<String> = (0..100).map(|i| format!("n-{i}")).collect();
        for name in &names {
            shop(&stub, name, 1);
        }
        let options = |name| Options { scope: Scope::of_namespaces(names.clone()), ..Options::new(name) };
        let first = Replica::start(&stub, options("first"));
        sleep(Duration::from_mins(2)).await;
        drop(first);
        for kind in [RequestKind::List, RequestKind::WatchStart] {
            stub.fail(FaultRule::new(Fault::Late(Duration::from_millis(100))).kind(kind).client("second"));
        }
        paint(&stub, "n-0", "blue");
        let _second = Replica::start(&stub, options("second"));
        sleep(2 * SETTLE_WINDOW).await;
        assert_eq!(stub.revisions("deployments", "n-0", "web"), 2, "{}", stub.transcript());
    });
}

/// A list that began before it does not tell of what it refers to.
#[test]
fn c5_4_a_workload_that_comes_during_a_list_is_not_put_off_by_it() {
    in_paused_time(async {
        let stub = server(8);
        for kind in [RequestKind::List, RequestKind::WatchStart] {
            let late = Fault::Late(Duration::from_secs(2));
            stub.fail(FaultRule::new(late).kind(kind).resource("configmaps").times(1));
        }
        let _replica = Replica::start(&stub, Options::new("replica"));
        sleep(Duration::from_secs(1)).await;
        stub.put(objects::listing("shop", "web", "absent", ""));
        sleep(Duration::from_secs(1) + 2 * SETTLE_WINDOW).await;
        assert_eq!(stub.revisions("deployments", "shop", "web"), 1, "{}", stub.transcript());
    });
}

/// What is refused is not waited for.
#[test]
fn c5_4_a_change_after_a_start_is_reloaded_in_time_although_secrets_cannot_be_listed() {
    in_paused_time(async {
        let stub = server(9);
        fill(&stub);
        drop(start(&stub, "first").await.replica);
        fail_lists(&stub, Fault::Status(403), "secrets");
        let _second = Replica::start(&stub, Options::new("second"));
        sleep(Duration::from_secs(1)).await;
        paint(&stub, "shop", "blue");
        sleep(2 * SETTLE_WINDOW).await;
        assert_eq!(stub.revisions("deployments", "shop", &web(0)), 2, "{}", stub.transcript());
    });
}

/// It refers to nothing else of which a list would tell.
#[test]
fn c5_4_a_workload_that_waited_for_a_refused_list_goes_on_at_once() {
    in_paused_time(async {
        let stub = server(13);
        stub.put(objects::secret("shop", "credentials", &[("password", "secret")]));
        stub.put(objects::listing("shop", "web", "", "credentials"));
        drop(start(&stub, "first").await.replica);
        stub.edit("secrets", "shop", "credentials", |secret| {
            secret["data"]["password"] = json!("b3RoZXI=");
        });
        fail_lists(&stub, Fault::Status(403), "secrets");
        let _second = Replica::start(&stub, Options::new("second"));
        sleep(2 * SETTLE_WINDOW).await;
        assert_eq!(stub.revisions("deployments", "shop", "web"), 2, "{}", stub.transcript());
    });
}
