//! Leader election by a Lease (5.1), as client-go's `leaderelection` does it, so that SAP's operator can be a candidate
//! for the same Lease.
//!
//! It is written here because kube-lease-manager compares the Lease's `renewTime` with the clock of its own machine: a
//! holder whose clock was ahead kept every other candidate from leading long after it had died, and one whose clock was
//! behind lost its Lease while it renewed. Here no clock is compared with another machine's. A candidate counts from
//! when it saw the Lease change last, by its own monotonic clock, for the duration that the Lease names; `renewTime` is
//! written for people to read. A leader counts from the start of its last successful request and stops leading well
//! before a candidate that saw that renewal may take the Lease.

mod candidate;
mod hint;
mod record;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use candidate::{Attempt, Candidate, Failure, Term};

/// The Lease's name unless another is given; SAP's too, so that the two never lead at once.
pub const LEASE_NAME: &str = "pod-reloader.cs.sap.com";

/// How long a Lease is valid without being renewed: if a leader vanishes, no replica leads for that long.
pub(crate) const LEASE_DURATION: Duration = Duration::from_secs(15);
/// A leader that has not renewed for this long stops leading. The rest of the Lease's duration is for requests of its
/// that are still under way.
pub(crate) const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often a leader renews, and other candidates poll.
pub(crate) const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// The deadline of each request. A renewal that hangs can be tried three times before the renew deadline.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How long giving the Lease back may take, all attempts together.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(8);

/// What an election needs.
#[derive(Clone)]
pub struct Election {
    /// Best one that nothing else uses: after a fault only few idle connections can be dead.
    pub client: Client,
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name, such as [`LEASE_NAME`].
    pub name: String,
    /// Identity of this replica; must be unique.
    pub identity: String,
}

/// Takes part in the election until `stop` is cancelled, then gives the Lease back. `leads` says at any time whether
/// this replica leads.
pub async fn run(election: Election, leads: watch::Sender<bool>, stop: CancellationToken) {
    let hints = Notify::new();
    let mut candidate = Candidate::new(&election);
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = take_part(&mut candidate, &hints, &leads) => {}
        () = hint::watch(&election, &hints) => {}
    }
    // Before the Lease is free: a successor may lead from then on.
    set(&leads, false);
    match timeout(RELEASE_TIMEOUT, candidate.release()).await {
        Ok(Ok(true)) => tracing::info!("released the Lease"),
        Ok(Ok(false)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "cannot release the Lease; it expires"),
        Err(_) => tracing::warn!("cannot release the Lease in time; it expires"),
    }
}

/// Follows and leads by turns; never ends.
async fn take_part(candidate: &mut Candidate, hints: &Notify, leads: &watch::Sender<bool>) {
    loop {
        let term = acquire(candidate, hints).await;
        set(leads, true);
        lead(candidate, hints, term).await;
        set(leads, false);
    }
}

/// Waits for the Lease to be free or expired, and takes it.
async fn acquire(candidate: &mut Candidate, hints: &Notify) -> Term {
    loop {
        match candidate.attempt().await {
            Attempt::Won(term) => return term,
            Attempt::Lost => {}
            Attempt::Failed(error) => candidate.report(&error),
        }
        wait(candidate.jitter.apply(RETRY_PERIOD), hints).await;
    }
}

/// Renews until the Lease is another candidate's or the term is over by our own clock.
async fn lead(candidate: &mut Candidate, hints: &Notify, mut term: Term) {
    loop {
        match timeout_at(term.end(), renew(candidate, hints)).await {
            Ok(Some(renewed)) => term = renewed,
            Ok(None) => {
                tracing::warn!("another replica holds the Lease: this replica no longer leads");
                return;
            }
            Err(_) => {
                tracing::error!("the Lease could not be renewed in time: this replica no longer leads");
                return;
            }
        }
    }
}

/// The next renewal, however many attempts it takes; `None` if the Lease is another candidate's.
async fn renew(candidate: &mut Candidate, hints: &Notify) -> Option<Term> {
    wait(candidate.jitter.apply(RETRY_PERIOD), hints).await;
    loop {
        match candidate.attempt().await {
            Attempt::Won(term) => return Some(term),
            Attempt::Lost => return None,
            Attempt::Failed(error) => {
                candidate.report(&error);
                // One that hung has taken long enough, and its connection is given up with it.
                if !matches!(error, Failure::TimedOut) {
                    sleep(candidate.jitter.apply(RETRY_PERIOD / 2)).await;
                }
            }
        }
    }
}

/// Waits for that long, or until the watch gives a hint that something happened to the Lease.
async fn wait(pause: Duration, hints: &Notify) {
    tokio::select! {
        () = sleep(pause) => {}
        () = hints.notified() => {}
    }
}

/// Makes pauses up to a quarter longer, so that candidates do not ask in step. Follows from the identity alone, which
/// is random enough, and lets a history be played again.
struct Jitter {
    hasher: DefaultHasher,
}

impl Jitter {
    fn new(identity: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        identity.hash(&mut hasher);
        Self { hasher }
    }

    fn apply(&mut self, pause: Duration) -> Duration {
        self.hasher.write_u8(0);
        let thousandths = u32::try_from(self.hasher.finish() % 1000).unwrap_or_default();
        pause + pause * thousandths / 4000
    }
}

fn set(leads: &watch::Sender<bool>, value: bool) {
    let is_news = leads.send_if_modified(|leads| std::mem::replace(leads, value) != value);
    if is_news {
        tracing::info!(leads = value, "leadership changed");
    }
}

#[cfg(test)]
mod tests;
