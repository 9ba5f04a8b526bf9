//! Candidates against a Lease API in memory, in paused time.

mod histories;
mod stub;

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use stub::{Fault, Server};

struct Replica {
    leads: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(server: &Server, identity: &str) -> Self {
        let election = Election {
            client: server.client(identity),
            namespace: "ns".into(),
            name: LEASE_NAME.into(),
            identity: identity.into(),
        };
        let (sender, leads) = watch::channel(false);
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(election, sender, stop.clone()));
        Self { leads, stop, task }
    }

    fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// How long it takes until this replica leads, or no longer does.
    async fn until(&mut self, value: bool, most: Duration) -> Duration {
        let began = Instant::now();
        timeout(most, self.leads.wait_for(|leads| *leads == value)).await.expect("in time").unwrap();
        began.elapsed()
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// What another kind of operator, SAP's say, writes.
fn held_by(holder: &str, renew_time: &str, seconds: i32) -> serde_json::Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": LEASE_NAME, "namespace": "ns"},
        "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": seconds, "leaseTransitions": 4,
            "acquireTime": "2020-01-01T00:00:00.000000Z", "renewTime": renew_time,
        },
    })
}

fn from_now(seconds: i64) -> String {
    let now = k8s_openapi::jiff::Timestamp::now().as_second();
    let time = k8s_openapi::jiff::Timestamp::from_second(now + seconds).unwrap();
    k8s_openapi::jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%S.000000Z", time).unwrap()
}

#[tokio::test(start_paused = true)]
async fn c5_1_a_dead_holders_lease_is_taken_after_its_duration_whatever_its_clock_said() {
    for ahead in [600, 3600, -60, -86_400] {
        let server = Server::default();
        server.put(held_by("dead", &from_now(ahead), 20));
        let mut replica = Replica::start(&server, "a");
        let taken = replica.until(true, 40 * SECOND).await;
        // Neither sooner than the Lease says nor much later.
        assert!((20 * SECOND..24 * SECOND).contains(&taken), "{ahead}: {taken:?}");
        assert_eq!(server.spec()["leaseTransitions"], 5);
    }
}

#[tokio::test(start_paused = true)]
async fn c5_1_a_holder_whose_clock_is_behind_keeps_its_lease() {
    let server = Server::default();
    server.put(held_by("behind", &from_now(-60), 15));
    let mut replica = Replica::start(&server, "a");
    for round in 0..60 {
        sleep(2 * SECOND).await;
        assert!(!replica.leads(), "round {round}");
        server.put(held_by("behind", &from_now(round * 2 - 60), 15));
    }
    assert_eq!(server.spec()["holderIdentity"], "behind");
    // And then it dies.
    replica.until(true, 20 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn c5_1_a_label_on_the_lease_is_no_renewal() {
    let server = Server::default();
    let mut lease = held_by("dead", &from_now(0), 15);
    server.put(lease.clone());
    let mut replica = Replica::start(&server, "a");
    for round in 0..7 {
        sleep(2 * SECOND).await;
        lease["metadata"]["labels"] = json!({"round": round.to_string()});
        server.put(lease.clone());
    }
    replica.until(true, 6 * SECOND).await;
    assert_eq!(server.lease().unwrap()["metadata"]["labels"]["round"], "6", "kept when it is taken");
}

#[tokio::test(start_paused = true)]
async fn c5_1_a_released_lease_has_a_leader_at_once() {
    let server = Server::default();
    let mut first = Replica::start(&server, "a");
    first.until(true, SECOND).await;
    let mut second = Replica::start(&server, "b");
    sleep(7 * SECOND).await;
    assert!(!second.leads());

    first.stop.cancel();
    let took = second.until(true, SECOND).await;
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert!(!first.leads());
    first.task.await.unwrap();
    assert_eq!(server.spec()["holderIdentity"], "b");

    second.stop.cancel();
    second.task.await.unwrap();
    let spec = server.spec();
    assert_eq!((&spec["holderIdentity"], &spec["leaseDurationSeconds"]), (&json!(""), &json!(1)));
    assert_eq!(spec["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn c5_1_a_released_lease_is_noticed_without_a_watch_too() {
    let server = Server::default();
    server.state().has_no_watch = true;
    let mut first = Replica::start(&server, "a");
    first.until(true, SECOND).await;
    let mut second = Replica::start(&server, "b");
    sleep(7 * SECOND).await;
    first.stop.cancel();
    second.until(true, 3 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn c5_1_a_deleted_lease_is_there_again_at_once_and_one_leads() {
    let server = Server::default();
    let mut first = Replica::start(&server, "a");
    first.until(true, SECOND).await;
    let second = Replica::start(&server, "b");
    for _ in 0..10 {
        sleep(3 * SECOND).await;
        server.delete();
        sleep(SECOND / 10).await;
        let holder = server.spec()["holderIdentity"].as_str().unwrap().to_owned();
        assert_eq!((first.leads(), second.leads()), (holder == "a", holder == "b"));
    }
}

#[tokio::test(start_paused = true)]
async fn c5_1_a_stolen_lease_ends_leadership_at_once() {
    let server = Server::default();
    let mut replica = Replica::start(&server, "a");
    replica.until(true, SECOND).await;
    sleep(5 * SECOND).await;
    server.put(held_by("thief", &from_now(0), 15));
    replica.until(false, SECOND / 10).await;
    replica.until(true, 20 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn c5_1_an_acquisition_whose_answer_was_lost_is_understood() {
    for fault in [Fault::LosesAnswer, Fault::HangsAfter] {
        let server = Server::default();
        server.state().on_writes = vec![fault];
        let mut replica = Replica::start(&server, "a");
        let took = replica.until(true, 10 * SECOND).await;
        assert!(took < 7 * SECOND, "{fault:?}: {took:?}");

        // A renewal likewise: the Lease says that it is ours, by a version that we never saw.
        let writes = server.state().writes;
        server.state().on_writes = vec![fault];
        sleep(12 * SECOND).await;
        assert!(replica.leads(), "{fault:?}");
        assert!(server.state().writes > writes + 2);
        assert_eq!(server.spec()["leaseTransitions"], 0);
    }
}

#[tokio::test(start_paused = true)]
async fn c5_1_a_renewal_that_hangs_is_given_up_and_tried_again_at_once() {
    let server = Server::default();
    let mut replica = Replica::start(&server, "a");
    replica.until(true, SECOND).await;
    for _ in 0..10 {
        server.state().on_writes = vec![Fault::HangsBefore, Fault::HangsBefore];
        assert!(timeout(15 * SECOND, replica.leads.wait_for(|leads| !leads)).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn c5_1_who_cannot_renew_stops_leading_by_its_own_clock_before_another_may_lead() {
    let server = Server::default();
    let mut first = Replica::start(&server, "a");
    first.until(true, SECOND).await;
    let mut second = Replica::start(&server, "b");
    sleep(SECOND).await;
    for _ in 0..5 {
        let holder = if first.leads() { "a" } else { "b" };
        server.state().cut_off = Some(holder.into());
        let (old, new) = if holder == "a" { (&mut first, &mut second) } else { (&mut second, &mut first) };
        let stopped = old.until(false, 20 * SECOND).await;
        assert!(stopped <= RENEW_DEADLINE, "{stopped:?}");
        let margin = new.until(true, 20 * SECOND).await;
        assert!(margin >= 3 * SECOND, "{margin:?}");
        server.state().cut_off = None;
        sleep(30 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn c5_1_the_term_counts_from_the_start_of_the_request() {
    let server = Server::default();
    // The acquisition is answered after almost three seconds, and nothing afterwards.
    server.state().delay = Duration::from_millis(2900);
    let mut replica = Replica::start(&server, "a");
    replica.until(true, 10 * SECOND).await;
    server.state().cut_off = Some("a".into());
    let stopped = replica.until(false, 20 * SECOND).await;
    assert!(stopped + 2 * SECOND < RENEW_DEADLINE, "{stopped:?}");
}

#[tokio::test(start_paused = true)]
async fn c5_1_a_shutdown_releases_a_lease_that_a_lost_answer_gave() {
    let server = Server::default();
    server.state().on_writes = vec![Fault::HangsAfter];
    let replica = Replica::start(&server, "a");
    sleep(SECOND).await;
    assert_eq!(server.spec()["holderIdentity"], "a");
    assert!(!replica.leads());
    replica.stop.cancel();
    replica.task.await.unwrap();
    assert_eq!(server.spec()["holderIdentity"], "");
}

#[tokio::test(start_paused = true)]
async fn c5_1_a_steady_election_asks_little() {
    let server = Server::default();
    let mut first = Replica::start(&server, "a");
    first.until(true, SECOND).await;
    let _second = Replica::start(&server, "b");
    sleep(60 * SECOND).await;
    let before = server.state().requests;
    sleep(600 * SECOND).await;
    // A renewal and a poll every two seconds, and two watches a minute.
    let requests = server.state().requests - before;
    assert!((450..650).contains(&requests), "{requests}");
}
