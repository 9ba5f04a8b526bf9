//! Lists and watches that fail for good: few requests, and others are served (A 2 and 3).

use std::collections::BTreeMap;
use std::time::Duration;

use pod_reloader_k8s::objects::Scope;
use pod_reloader_stub_api::{Fault, FaultRule, RequestKind, StubApi, objects};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::{in_paused_time, paint, revisions, server, shop, thinned};

/// Attempts of one stream in its first minute of trouble.
const MAX_ATTEMPTS: usize = 12;
/// And in each later one.
const MAX_LATER_ATTEMPTS: usize = 5;

/// Lists, and watches that were begun, of each stream since then.
fn attempts(stub: &StubApi, since: Duration) -> BTreeMap<String, usize> {
    let mut attempts = BTreeMap::new();
    for entry in stub.log().iter().filter(|entry| entry.at >= since && entry.request.client == "replica") {
        if matches!(entry.kind(), RequestKind::List | RequestKind::WatchStart) {
            *attempts.entry(format!("{:?} {}", entry.kind(), entry.request.path)).or_default() += 1;
        }
    }
    attempts
}

fn assert_few(stub: &StubApi, since: Duration, limit: usize, case: &str) {
    for (stream, count) in attempts(stub, since) {
        assert!(count <= limit, "{case}: {count} times {stream}");
    }
}

fn is_failing(replica: &Replica, labels: &str) -> bool {
    replica.metrics().contains(&format!("watch_failing{{{labels}}} 1"))
}

#[test]
fn c5_7_streams_that_always_fail_make_few_requests() {
    let faults =
        Fault::ALL.into_iter().filter(|fault| !matches!(fault, Fault::DuplicateEvents | Fault::StaleList(_)));
    let cases = faults.flat_map(|fault| {
        [RequestKind::List, RequestKind::WatchStart, RequestKind::WatchStream].map(|kind| (fault, kind))
    });
    for (fault, kind) in thinned(cases) {
        // A stream that is merely late is none that fails.
        if matches!(fault, Fault::Late(_) | Fault::Delayed(_)) && kind == RequestKind::WatchStream {
            continue;
        }
        in_paused_time(async {
            let stub = server(3);
            stub.set_watch_list(false);
            shop(&stub, "shop", 1);
            let replica = Replica::start(&stub, Options::new("replica"));
            sleep(Duration::from_secs(30)).await;
            let struck = stub.elapsed();
            stub.fail(FaultRule::new(fault).kind(kind).client("replica"));
            stub.compact();
            stub.put(objects::config_map("third", "unused", &[]));
            stub.compact();
            stub.restart();
            let case = format!("{fault:?} of {kind:?}");
            sleep(Duration::from_mins(1)).await;
            assert_few(&stub, struck, MAX_ATTEMPTS, &case);
            let later = stub.elapsed();
            sleep(Duration::from_mins(10)).await;
            assert_few(&stub, later, 10 * MAX_LATER_ATTEMPTS, &case);
            // The state shows meanwhile, and ends. What comes late is none, nor is half a bookmark.
            let is_none = matches!(fault, Fault::Late(_) | Fault::Delayed(_) | Fault::Truncated);
            assert!(is_none || is_failing(&replica, "kind=\"ConfigMap\",namespace=\"*\""), "{case}");
            stub.heal_all();
            paint(&stub, "shop", "blue");
            sleep(Duration::from_mins(1)).await;
            assert_eq!(revisions(&stub, "shop"), 2, "{case}");
            sleep(Duration::from_secs(30)).await;
            assert!(
                !is_failing(&replica, "kind=\"ConfigMap\",namespace=\"*\""),
                "{case}\n{}",
                replica.metrics()
            );
        });
    }
}

/// As behind a proxy that holds back what is streamed.
#[test]
fn c5_7_a_change_is_seen_although_no_stream_says_anything() {
    for fault in [Fault::HangAfterHeaders, Fault::Reset, Fault::EndAtOnce, Fault::Status(500)] {
        in_paused_time(async {
            let stub = server(3);
            shop(&stub, "shop", 1);
            stub.fail(FaultRule::new(fault).kind(RequestKind::WatchStream).client("replica"));
            let _replica = Replica::start(&stub, Options::new("replica"));
            // Four lists at a time.
            sleep(Duration::from_mins(1)).await;
            assert_eq!(revisions(&stub, "shop"), 1, "{fault:?}\n{}", stub.transcript());
            for made in 2..6 {
                paint(&stub, "shop", &made.to_string());
                sleep(Duration::from_secs(90)).await;
                assert_eq!(revisions(&stub, "shop"), made, "{fault:?}\n{}", stub.transcript());
            }
        });
    }
}

#[test]
fn c5_7_a_forbidden_namespace_costs_little_and_the_others_are_served() {
    for streaming in [true, false] {
        in_paused_time(async {
            let stub = server(3);
            stub.set_watch_list(streaming);
            for namespace in ["shop", "other", "third"] {
                shop(&stub, namespace, 1);
            }
            stub.fail(FaultRule::new(Fault::Status(403)).namespace("other").client("replica"));
            let scope = Scope::of_namespaces(["shop", "other", "third"].map(str::to_owned).into());
            let replica = Replica::start(&stub, Options { scope, ..Options::new("replica") });
            sleep(Duration::from_mins(1)).await;
            assert_few(&stub, Duration::ZERO, MAX_ATTEMPTS, "forbidden");
            for (namespace, expected) in [("shop", false), ("other", true), ("third", false)] {
                for kind in ["ConfigMap", "Secret", "Deployment", "StatefulSet", "DaemonSet"] {
                    let labels = format!("kind=\"{kind}\",namespace=\"{namespace}\"");
                    assert_eq!(is_failing(&replica, &labels), expected, "{labels}");
                }
            }
            // A refusal is a sign of life: readiness does not depend on it.
            assert_eq!(replica.health.silent(), [""; 0]);
            for namespace in ["shop", "third"] {
                paint(&stub, namespace, "blue");
            }
            sleep(Duration::from_secs(5)).await;
            assert_eq!(["shop", "third"].map(|namespace| revisions(&stub, namespace)), [2, 2]);
            // And it is read again when it may be.
            stub.heal_all();
            sleep(Duration::from_mins(1)).await;
            assert_eq!(revisions(&stub, "other"), 1);
            assert!(!is_failing(&replica, "kind=\"Secret\",namespace=\"other\""));
        });
    }
}

#[test]
fn c5_7_what_no_watch_ever_tells_of_is_found_within_an_hour() {
    for resource in ["configmaps", "deployments"] {
        in_paused_time(async {
            let stub = server(3);
            shop(&stub, "shop", 1);
            let _replica = Replica::start(&stub, Options::new("replica"));
            sleep(Duration::from_secs(30)).await;
            let lost = FaultRule::new(Fault::LostEvent).resource(resource);
            let lost = lost.matching(|request| request.parameter("sendInitialEvents").is_none());
            let lost = stub.fail(lost);
            let lists = stub.count(|entry| entry.request.parameter("sendInitialEvents").is_some());
            if resource == "configmaps" {
                paint(&stub, "shop", "blue");
            } else {
                // A user past the webhook, too.
                stub.edit(resource, "shop", "web", |web| {
                    web["spec"]["template"]["metadata"]["annotations"] = serde_json::json!({});
                });
            }
            sleep(Duration::from_mins(5)).await;
            let (before, expected) = if resource == "configmaps" { (1, 2) } else { (2, 3) };
            assert_eq!(revisions(&stub, "shop"), before, "no watch reports it");
            assert!(stub.hits(lost) > 0);
            sleep(Duration::from_mins(55)).await;
            assert_eq!(revisions(&stub, "shop"), expected, "{resource}");
            let lists = stub.count(|entry| entry.request.parameter("sendInitialEvents").is_some()) - lists;
            assert!(lists <= 5 * 9, "slowly: {lists}");
        });
    }
}
