//! A noisy neighbour delays no other namespace by more than a second (C 13).

use std::time::Duration;

use pod_reloader_stub_api::{Fault, FaultRule, RequestKind, StubApi};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::{
    SETTLE_WINDOW, in_paused_time, last_revision, paint, revisions, server, shop, thinned, web,
};

const BOUND: Duration = SETTLE_WINDOW.saturating_add(Duration::from_secs(1));

/// Changes the configuration of the noisy one and, at some time later, of the others; each of those is reloaded in time.
async fn others_are_served(stub: &StubApi, after: Duration, case: &str) {
    paint(stub, "noisy", "blue");
    sleep(after).await;
    let painted = stub.elapsed();
    for namespace in ["quiet", "still"] {
        paint(stub, namespace, "blue");
    }
    sleep(Duration::from_secs(20)).await;
    for namespace in ["quiet", "still"] {
        let took = last_revision(stub, namespace, "web").saturating_sub(painted);
        assert_eq!(revisions(stub, namespace), 2, "{case}");
        assert!(took <= BOUND, "{case}: {namespace} took {took:?}");
    }
}

fn faults() -> impl Iterator<Item = (Fault, RequestKind)> {
    let faults = [
        Fault::HangBeforeHeaders,
        Fault::HangAfterHeaders,
        Fault::Late(Duration::from_secs(9)),
        Fault::Status(500),
        Fault::Status(409),
        Fault::Status(429),
    ];
    let kinds =
        [RequestKind::Patch, RequestKind::GetContent, RequestKind::GetWorkload, RequestKind::CreateEvent];
    faults.into_iter().flat_map(move |fault| kinds.map(|kind| (fault, kind)))
}

#[test]
fn c5_6_requests_that_fail_in_one_namespace_for_ever_delay_no_other() {
    for (fault, kind) in thinned(faults()) {
        in_paused_time(async {
            let stub = server(7);
            shop(&stub, "noisy", 40);
            shop(&stub, "quiet", 1);
            shop(&stub, "still", 1);
            let _replica = Replica::start(&stub, Options::new("replica"));
            sleep(Duration::from_secs(30)).await;
            stub.fail(FaultRule::new(fault).kind(kind).namespace("noisy"));
            if kind == RequestKind::GetWorkload {
                stub.fail(FaultRule::new(Fault::Status(409)).kind(RequestKind::Patch).namespace("noisy"));
            }
            let case = format!("{fault:?} of {kind:?}");
            others_are_served(&stub, Duration::from_secs(2), &case).await;
            sleep(Duration::from_mins(2)).await;
            // In the middle of retries, too.
            for namespace in ["quiet", "still"] {
                paint(&stub, namespace, "green");
            }
            let painted = stub.elapsed();
            sleep(Duration::from_secs(20)).await;
            for namespace in ["quiet", "still"] {
                let took = last_revision(&stub, namespace, "web").saturating_sub(painted);
                assert!(revisions(&stub, namespace) == 3 && took <= BOUND, "{case}: later {took:?}");
            }
            stub.heal_all();
            sleep(Duration::from_mins(3)).await;
            for i in 0..40 {
                assert_eq!(stub.revisions("deployments", "noisy", &web(i)), 2, "{case}: {i}");
            }
        });
    }
}

#[test]
fn c5_6_a_tenant_with_500_workloads_delays_no_other() {
    in_paused_time(async {
        let stub = server(7);
        shop(&stub, "noisy", 500);
        shop(&stub, "quiet", 1);
        shop(&stub, "still", 1);
        let replica = Replica::start(&stub, Options::new("replica"));
        sleep(Duration::from_mins(1)).await;
        others_are_served(&stub, Duration::from_millis(100), "fan-out").await;
        for i in 0..500 {
            assert_eq!(stub.revisions("deployments", "noisy", &web(i)), 2);
        }
        assert!(replica.budget.peak() <= replica.budget.total());
    });
}
