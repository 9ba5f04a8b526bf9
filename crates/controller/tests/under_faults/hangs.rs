//! Connections that die silently (A 1): after a burst of writes all open ones never answer any more, new ones work.

use std::time::Duration;

use pod_reloader_stub_api::{Fault, FaultRule, Random, RequestKind};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::{in_paused_time, last_revision, paint, revisions, server, shop, thinned, web};

/// Within a minute whatever hung (5.7), settle window included.
const BOUND: Duration = Duration::from_mins(1);

/// What hangs besides, once connections are fresh.
#[derive(Clone, Copy, Debug)]
enum Besides {
    Nothing,
    Lists(u64),
    WatchHeads(u64),
    Reads(u64),
    Patches(u64),
}

/// With how long the change took; an error says what is wrong.
async fn history(seed: u64, besides: Besides, pages: bool) -> Result<Duration, String> {
    let (stub, mut random) = (server(seed), Random::new(seed));
    stub.set_watch_list(!pages);
    shop(&stub, "shop", 8);
    let replica = Replica::start(&stub, Options::electing("replica"));
    sleep(Duration::from_secs(40) + Duration::from_millis(random.below(40_000))).await;
    if revisions(&stub, "shop") != 1 {
        return Err("it does not begin".into());
    }
    // A burst of writes, and all goes deaf in its middle.
    paint(&stub, "shop", "green");
    sleep(Duration::from_millis(random.below(4_000))).await;
    stub.hang_open_connections();
    let hangs = |kind, times| FaultRule::new(Fault::HangBeforeHeaders).kind(kind).times(times);
    match besides {
        Besides::Nothing => {}
        Besides::Lists(times) => {
            // A version that is forgotten needs a list.
            stub.compact();
            stub.fail(hangs(RequestKind::List, times));
        }
        Besides::WatchHeads(times) => {
            stub.fail(hangs(RequestKind::WatchStart, times));
        }
        Besides::Reads(times) => {
            stub.fail(hangs(RequestKind::GetContent, times));
        }
        Besides::Patches(times) => {
            stub.fail(hangs(RequestKind::Patch, times).resource("deployments"));
        }
    }
    sleep(Duration::from_millis(random.below(2_000))).await;
    paint(&stub, "shop", "blue");
    let painted = stub.elapsed();
    sleep(Duration::from_mins(5)).await;
    let mut took = Duration::ZERO;
    for i in 0..8 {
        let made = stub.revisions("deployments", "shop", &web(i));
        // Green may have come through or not.
        if !(2..=3).contains(&made) {
            return Err(format!("{made} revisions"));
        }
        took = took.max(last_revision(&stub, "shop", &web(i)).saturating_sub(painted));
    }
    if !replica.leads() {
        return Err("it does not lead".into());
    }
    if replica.stop().await { Ok(took) } else { Err("it does not stop".into()) }
}

#[test]
fn c5_7_a_change_is_seen_within_a_minute_although_all_open_connections_hang() {
    let mut broken = vec![];
    for besides in [
        Besides::Nothing,
        Besides::Lists(1),
        Besides::Lists(3),
        Besides::WatchHeads(1),
        Besides::WatchHeads(5),
        Besides::Reads(1),
        Besides::Reads(3),
        Besides::Patches(1),
        Besides::Patches(4),
    ] {
        for seed in thinned(0..6) {
            match in_paused_time(history(seed, besides, seed % 2 == 1)) {
                Ok(took) if took <= BOUND => {}
                other => broken.push(format!("{besides:?}, seed {seed}: {other:?}")),
            }
        }
    }
    assert!(broken.is_empty(), "{} histories:\n{}", broken.len(), broken.join("\n"));
}

/// The first connections of all are deaf: it begins nevertheless.
#[test]
fn c5_7_a_start_gets_past_requests_that_are_never_answered() {
    for kind in [RequestKind::List, RequestKind::WatchStart, RequestKind::Lease, RequestKind::Other] {
        in_paused_time(async {
            let stub = server(1);
            stub.set_watch_list(false);
            shop(&stub, "shop", 1);
            stub.fail(FaultRule::new(Fault::HangBeforeHeaders).kind(kind).times(3));
            let replica = Replica::start(&stub, Options::electing("replica"));
            sleep(BOUND).await;
            assert_eq!(revisions(&stub, "shop"), 1, "{kind:?}\n{}", stub.transcript());
            assert!(replica.leads() && replica.key.get().is_some());
        });
    }
}
