//! From the release before, which keeps everything in one Secret, and back to it.

use std::sync::Arc;

use super::legacy::Legacy;
use super::*;
use crate::lifetimes::Lifetimes;
use crate::pair::split_bundle;

const STEP: Duration = Duration::from_millis(50);

fn has_keys(server: &Server) -> bool {
    stored(server, CERTIFICATE).as_ref().is_some_and(secret::has_ca_keys)
}

async fn of_the_release_before(replicas: usize) -> (Server, Vec<(Replica, Arc<std::sync::Mutex<usize>>)>) {
    let server = Server::default();
    register(&server);
    let old: Vec<_> = (0..replicas).map(|_| Legacy::start(&server)).collect();
    until("certificates of the release before", || {
        has_keys(&server) && old.iter().all(|(replica, _)| is_trusted(&server, replica))
    })
    .await;
    (server, old)
}

#[tokio::test(start_paused = true)]
async fn c4_7_an_upgrade_moves_the_keys_and_replaces_a_long_ca_in_order() {
    let (server, old) = of_the_release_before(1).await;
    old[0].0.shutdown.cancel();
    let before = published(&server);
    let replicas = [start_replica(&server), start_replica(&server)];
    until("a certificate", || replicas.iter().all(|replica| replica.certificates.is_loaded())).await;
    let all: Vec<_> = replicas.iter().collect();
    watch_over(&server, &all, Duration::from_mins(2), STEP).await;
    assert!(!has_keys(&server));
    let moved = state(&server).unwrap();
    assert_eq!(moved.authority.signer.certificate, before, "the same CA");
    assert!(serves(&replicas[0], &moved.leaf));
    let next = moved.authority.next.clone().expect("the five years are shortened");
    assert!(next.facts.life() <= Lifetimes::default().ca);

    watch_over(&server, &all, FORMER / 5, Duration::from_secs(1)).await;
    let promoted = state(&server).unwrap();
    assert_eq!(promoted.authority.signer, next);
    assert!(published(&server).contains(&before), "not for long");
    watch_over(&server, &all, FORMER, Duration::from_secs(10)).await;
    assert_eq!(published(&server), next.certificate);
}

#[tokio::test(start_paused = true)]
async fn c4_7_while_old_replicas_run_beside_new_ones_all_are_trusted() {
    for stays in [Duration::from_secs(20), Duration::from_secs(50), Duration::from_mins(15)] {
        let (server, old) = of_the_release_before(2).await;
        let new = [start_replica(&server), start_replica(&server)];
        until("a certificate", || new.iter().all(|replica| replica.certificates.is_loaded())).await;
        let all: Vec<_> = old.iter().map(|(replica, _)| replica).chain(&new).collect();
        let writes = server.lock().unwrap().writes;
        watch_over(&server, &all, stays, STEP).await;
        // An old one that stays takes a Secret without the keys for damaged, but is not made to do so all the time.
        let complaints: usize = old.iter().map(|(_, complaints)| *complaints.lock().unwrap()).sum();
        assert!(complaints <= 24, "{complaints}");
        let writes = server.lock().unwrap().writes - writes;
        assert!(writes <= 120, "{writes} in {stays:?}");
        for (replica, _) in &old {
            replica.shutdown.cancel();
        }
        watch_over(&server, &new.iter().collect::<Vec<_>>(), Duration::from_mins(12), STEP * 4).await;
        assert!(!has_keys(&server) && is_published(&server));
    }
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_rollback_works_and_so_does_the_next_upgrade() {
    let (server, old) = of_the_release_before(1).await;
    old[0].0.shutdown.cancel();
    let new = start_replica(&server);
    until("the keys to be moved", || !has_keys(&server) && is_trusted(&server, &new)).await;
    sleep(FORMER / 5).await;

    // Back, replica by replica: the new one stops when the old one is there.
    let (back, _) = Legacy::start(&server);
    until("a certificate", || back.certificates.is_loaded()).await;
    watch_over(&server, &[&new, &back], Duration::from_secs(40), STEP).await;
    new.shutdown.cancel();
    watch_over(&server, &[&back], FORMER / 4, Duration::from_secs(1)).await;
    assert!(has_keys(&server));

    let again = start_replica(&server);
    until("a certificate", || again.certificates.is_loaded()).await;
    watch_over(&server, &[&again, &back], Duration::from_secs(40), STEP).await;
    back.shutdown.cancel();
    watch_over(&server, &[&again], Duration::from_mins(5), STEP).await;
    assert!(!has_keys(&server) && is_published(&server));
    watch_over(&server, &[&again], FORMER * 3 / 2, Duration::from_secs(10)).await;
    let end = state(&server).unwrap();
    assert_eq!(split_bundle(&end.bundle()).len(), 1);
    assert!(end.authority.signer.facts.life() <= lifetimes().ca);
}
