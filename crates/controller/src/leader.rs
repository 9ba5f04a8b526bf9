//! Leader election by a Lease (5.1).
//!
//! kube-lease-manager holds and renews the Lease. What it leaves out is done here: a follower of it sleeps until the
//! expiry that it saw last, so a watch tells when the Lease is released and has it look at once; and a leader that
//! cannot renew stops leading by the clock.

use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use pod_reloader_k8s::connect::REQUEST_TIMEOUT;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The Lease's name; SAP's too, so that the two never lead at once.
pub const LEASE_NAME: &str = "pod-reloader.cs.sap.com";

/// How long a Lease stands without being renewed, in seconds; that long nobody leads if a leader vanishes.
const DURATION_SECONDS: u64 = 15;
/// How long before its end it is renewed, in seconds.
const GRACE_SECONDS: u64 = 10;
const RETRY: Duration = Duration::from_secs(1);
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// What an election needs.
#[derive(Clone)]
pub struct Election {
    /// Should have a read timeout of a few seconds: a renewal that hangs is a renewal that fails.
    pub client: Client,
    /// For watching the Lease; without that timeout, since a watch is quiet most of the time.
    pub watch_client: Client,
    /// The Lease's namespace.
    pub namespace: String,
    /// Names this replica; must be another for each.
    pub identity: String,
}

/// Takes part in the election until `stop` is cancelled, then gives the Lease back. `leads` says at any time whether
/// this replica leads.
pub async fn run(election: Election, leads: watch::Sender<bool>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let manager = LeaseManagerBuilder::new(election.client.clone(), LEASE_NAME)
            .with_namespace(&election.namespace)
            .with_identity(&election.identity)
            .with_duration(DURATION_SECONDS)
            .with_grace(GRACE_SECONDS)
            .build();
        let manager = tokio::select! {
            () = stop.cancelled() => break,
            manager = manager => manager,
        };
        match manager {
            Ok(manager) => take_part(&election, &manager, &leads, &stop).await,
            Err(error) => {
                tracing::warn!(%error, "cannot take part in the leader election; trying again");
                wait(RETRY, &stop).await;
            }
        }
    }
    set(&leads, false);
}

/// Runs one manager until it should be made anew, or until the end.
async fn take_part(
    election: &Election,
    manager: &LeaseManager,
    leads: &watch::Sender<bool>,
    stop: &CancellationToken,
) {
    let mut failing_since: Option<(Instant, Instant)> = None;
    loop {
        let is_leading = *leads.borrow();
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                // Also if it was only just taken, and not told yet; it does nothing to another one's Lease.
                set(leads, false);
                release(manager).await;
                return;
            }
            changed = manager.changed() => match changed {
                Ok(leads_now) => {
                    failing_since = None;
                    set(leads, leads_now);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot renew or take the Lease");
                    let now = Instant::now();
                    // Errors far apart are different troubles: between them a renewal worked.
                    let since = match failing_since {
                        Some((since, last)) if now - last < Duration::from_secs(DURATION_SECONDS) => since,
                        _ => now,
                    };
                    failing_since = Some((since, now));
                    if is_leading && now - since > Duration::from_secs(DURATION_SECONDS - GRACE_SECONDS) {
                        tracing::error!("the Lease could not be renewed in time: this replica no longer leads");
                        set(leads, false);
                        return;
                    }
                    wait(RETRY, stop).await;
                }
            },
            () = released(election), if !is_leading => {
                tracing::debug!("the Lease is free");
                return;
            }
        }
    }
}

/// Returns when a Lease that somebody held is given back or deleted.
async fn released(election: &Election) {
    let api = Api::<Lease>::namespaced(election.watch_client.clone(), &election.namespace);
    let is_free = |lease: &Lease| {
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        holder.is_none_or(str::is_empty)
    };
    // A Lease that was free all along is the manager's to take; waiting for it to be held first keeps us from starting
    // over while it does.
    let mut was_held = false;
    loop {
        match timeout(REQUEST_TIMEOUT, api.get_opt(LEASE_NAME)).await {
            // The manager makes it only when it is made itself.
            Ok(Ok(None)) => return,
            Ok(Ok(Some(lease))) if is_free(&lease) => {
                if was_held {
                    return;
                }
            }
            Ok(Ok(Some(lease))) => {
                was_held = true;
                let by_name =
                    WatchParams::default().fields(&format!("metadata.name={LEASE_NAME}")).timeout(60);
                if let Ok(events) = api.watch(&by_name, &lease.resource_version().unwrap_or_default()).await {
                    let mut events = std::pin::pin!(events);
                    while let Ok(Some(event)) = events.try_next().await {
                        match event {
                            WatchEvent::Deleted(_) => return,
                            WatchEvent::Modified(lease) | WatchEvent::Added(lease) if is_free(&lease) => {
                                return;
                            }
                            WatchEvent::Error(_) => break,
                            _ => {}
                        }
                    }
                }
            }
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

async fn release(manager: &LeaseManager) {
    match timeout(RELEASE_TIMEOUT, manager.release()).await {
        Ok(Ok(())) => tracing::info!("gave the Lease back"),
        Ok(Err(error)) => tracing::warn!(%error, "cannot give the Lease back; it runs out by itself"),
        Err(_) => tracing::warn!("cannot give the Lease back in time; it runs out by itself"),
    }
}

fn set(leads: &watch::Sender<bool>, value: bool) {
    let is_news = leads.send_if_modified(|leads| std::mem::replace(leads, value) != value);
    if is_news {
        tracing::info!(leads = value, "leadership changed");
    }
}

async fn wait(pause: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}
