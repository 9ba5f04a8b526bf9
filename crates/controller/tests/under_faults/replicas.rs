//! Two replicas, of which one leads: each change is one revision whatever befalls them.

use std::time::Duration;

use pod_reloader_stub_api::{Fault, FaultRule, Random, RequestKind, StubApi};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::{in_paused_time, last_revision, paint, revisions, server, shop, thinned, web};

const BOUND: Duration = Duration::from_secs(90);
const WORKLOADS: usize = 4;

/// What befalls the leader, or all.
#[derive(Clone, Copy, Debug)]
enum Disaster {
    None,
    Killed,
    Stopped,
    /// None of its requests is answered for so many seconds, nor carried out.
    Partitioned(u64),
    /// Its requests are carried out, but not answered.
    Deaf(u64),
    /// It cannot renew.
    LeaseFails(u64, Fault),
    /// Its patches arrive when another leads already.
    PatchesLate,
    /// It goes on leading, but its reads hang.
    ReadsHang(u64),
    AllConnectionsHang,
    ServerRestarts,
    LeaseDeleted,
}

const DISASTERS: [Disaster; 16] = [
    Disaster::None,
    Disaster::Killed,
    Disaster::Stopped,
    Disaster::Partitioned(12),
    Disaster::Partitioned(40),
    Disaster::Deaf(12),
    Disaster::Deaf(40),
    Disaster::LeaseFails(40, Fault::HangBeforeHeaders),
    Disaster::LeaseFails(40, Fault::Status(503)),
    Disaster::LeaseFails(12, Fault::LostAnswer),
    Disaster::LeaseFails(40, Fault::Late(Duration::from_secs(9))),
    Disaster::PatchesLate,
    Disaster::ReadsHang(30),
    Disaster::AllConnectionsHang,
    Disaster::ServerRestarts,
    Disaster::LeaseDeleted,
];

const CLIENTS: [[&str; 3]; 2] = [["a", "a/key", "a/lease"], ["b", "b/key", "b/lease"]];

struct Pair {
    stub: StubApi,
    replicas: [Option<Replica>; 2],
}

impl Pair {
    fn leader(&self) -> Option<usize> {
        let leads = |i: usize| self.replicas[i].as_ref().is_some_and(Replica::leads);
        assert!(!(leads(0) && leads(1)), "5.1: both lead");
        (0..2).find(|i| leads(*i))
    }

    /// Waits, and sees meanwhile that never both lead.
    async fn pass(&self, time: Duration) {
        let end = self.stub.elapsed() + time;
        while self.stub.elapsed() < end {
            sleep(Duration::from_millis(250)).await;
            self.leader();
        }
    }

    fn fail_for(&self, clients: &[&str], fault: Fault, kind: Option<RequestKind>, seconds: u64) {
        for client in clients {
            let rule = FaultRule::new(fault).client(client);
            let rule = rule.until(self.stub.elapsed() + Duration::from_secs(seconds));
            self.stub.fail(if let Some(kind) = kind { rule.kind(kind) } else { rule });
        }
    }

    async fn strike(&mut self, disaster: Disaster, leader: usize) {
        let clients = CLIENTS[leader];
        match disaster {
            Disaster::None => {}
            Disaster::Killed => self.replicas[leader] = None,
            Disaster::Stopped => {
                let replica = self.replicas[leader].take().unwrap();
                assert!(replica.stop().await, "it does not stop");
            }
            Disaster::Partitioned(seconds) => {
                self.fail_for(&clients, Fault::HangBeforeHeaders, None, seconds);
            }
            Disaster::Deaf(seconds) => self.fail_for(&clients, Fault::HangAfterHeaders, None, seconds),
            Disaster::LeaseFails(seconds, fault) => {
                self.fail_for(&clients[2..], fault, Some(RequestKind::Lease), seconds);
            }
            Disaster::PatchesLate => {
                let delayed = Fault::Delayed(Duration::from_secs(25));
                self.fail_for(&clients[..1], delayed, Some(RequestKind::Patch), 5);
                self.replicas[leader] = None;
            }
            Disaster::ReadsHang(seconds) => {
                let kind = Some(RequestKind::GetContent);
                self.fail_for(&clients[..1], Fault::HangBeforeHeaders, kind, seconds);
            }
            Disaster::AllConnectionsHang => self.stub.hang_open_connections(),
            Disaster::ServerRestarts => self.stub.restart(),
            Disaster::LeaseDeleted => {
                self.stub.delete("leases", "pod-reloader", pod_reloader_controller::leader::LEASE_NAME);
            }
        }
    }

    fn revisions(&self) -> Vec<usize> {
        (0..WORKLOADS).map(|i| self.stub.revisions("deployments", "shop", &web(i))).collect()
    }

    async fn history(disaster: Disaster, seed: u64) {
        let (stub, mut random) = (server(seed), Random::new(seed));
        shop(&stub, "shop", WORKLOADS);
        let first = Replica::start(&stub, Options::electing("a"));
        let second = Replica::start(&stub, Options::electing("b"));
        let mut pair = Self { stub, replicas: [Some(first), Some(second)] };
        pair.pass(Duration::from_secs(40) + Duration::from_millis(random.below(10_000))).await;
        assert_eq!(pair.revisions(), [1; WORKLOADS]);
        let leader = pair.leader().unwrap();
        // Before, in the middle of, or after what happens.
        let (change_first, pause) = (random.chance(0.5), random.below(15_000));
        if change_first {
            paint(&pair.stub, "shop", "blue");
            sleep(Duration::from_millis(pause / 4)).await;
            pair.strike(disaster, leader).await;
        } else {
            pair.strike(disaster, leader).await;
            sleep(Duration::from_millis(pause)).await;
            paint(&pair.stub, "shop", "blue");
        }
        pair.pass(BOUND).await;
        assert_eq!(pair.revisions(), [2; WORKLOADS], "{}", pair.stub.transcript());
        pair.pass(Duration::from_mins(2)).await;
        paint(&pair.stub, "shop", "green");
        pair.pass(Duration::from_secs(10)).await;
        assert_eq!(pair.revisions(), [3; WORKLOADS], "{}", pair.stub.transcript());
    }
}

#[test]
fn c5_1_each_change_is_one_revision_whatever_befalls_the_leader() {
    for disaster in DISASTERS {
        for seed in thinned(0..4) {
            eprintln!("{disaster:?}, seed {seed}");
            in_paused_time(Pair::history(disaster, seed));
        }
    }
}

#[test]
fn c5_1_a_term_that_is_regained_begins_with_fresh_reads() {
    in_paused_time(async {
        let stub = server(5);
        shop(&stub, "shop", WORKLOADS);
        let first = Replica::start(&stub, Options::electing("a"));
        sleep(Duration::from_secs(30)).await;
        let second = Replica::start(&stub, Options::electing("b"));
        let pair = Pair { stub, replicas: [Some(first), Some(second)] };
        assert_eq!(pair.leader(), Some(0));
        // All that the first asks for hangs from here, and its Lease goes.
        pair.fail_for(&CLIENTS[0], Fault::HangBeforeHeaders, None, 30);
        paint(&pair.stub, "shop", "blue");
        pair.pass(Duration::from_secs(32)).await;
        assert_eq!((pair.leader(), pair.revisions()), (Some(1), vec![2; WORKLOADS]));
        pair.pass(Duration::from_secs(15)).await;
        let [first, second] = pair.replicas;
        let began = pair.stub.elapsed();
        paint(&pair.stub, "shop", "green");
        assert!(second.unwrap().stop().await);
        sleep(Duration::from_secs(10)).await;
        assert!(first.unwrap().leads());
        let took = last_revision(&pair.stub, "shop", "web").saturating_sub(began);
        assert!(revisions(&pair.stub, "shop") == 3 && took < Duration::from_secs(6), "{took:?}");
    });
}
