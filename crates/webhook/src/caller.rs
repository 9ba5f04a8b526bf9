//! The caller of a review, and how many reads it may cause (4.10).

use pod_reloader_k8s::fair::{FairSemaphore, Party, Permit};
use pod_reloader_k8s::reader::CONCURRENT_READS;
use tokio::time::{Instant, timeout_at};

/// Reads for reviews that may be under way at once.
const READS: usize = 256;

/// Who sent a review, and until when an answer is of use.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The address that the request came from; empty where the server does not know it.
    pub(crate) peer: String,
    pub(crate) deadline: Instant,
}

/// The reads that callers cause, handed out in turns over the addresses they call from: where no client certificate is
/// asked for, any client may call, and must not take what the API server needs.
#[derive(Debug)]
pub struct Turns(FairSemaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(FairSemaphore::new(READS))
    }
}

impl Turns {
    /// Waits for a turn to look up so many references in that namespace; `None` if there is none in time. Within an
    /// address, which may be the API server's and so that of all users, namespaces take turns.
    pub(crate) async fn take(&self, caller: &Caller, namespace: &str, references: usize) -> Option<Permit> {
        let party = Party { key: &caller.peer, caller: namespace };
        let permits = references.clamp(1, CONCURRENT_READS);
        // Some time has to be left for the reads themselves.
        let now = Instant::now();
        let until = now + caller.deadline.saturating_duration_since(now) / 4 * 3;
        timeout_at(until, self.0.acquire(party, permits)).await.ok()
    }
}
