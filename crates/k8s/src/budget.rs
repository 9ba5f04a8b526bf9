//! A process-wide budget of bytes in flight: request bodies, lists and the content of config objects while they are
//! read and parsed. What does not fit waits, so that no client can have the process killed for its memory.
//!
//! One half is for request bodies, the other for what is read from the API server, since an admission request reads
//! while it holds what its body became: with one pool for both, all could hold a part and wait for ever. A caller that
//! holds a part of the second half must not wait for more. Within each half small ones have a share of their own.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::{Instant, timeout_at};

use crate::fair::{FairSemaphore, Party, Permit};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Requests up to this size have a share of their own, so that they never wait behind large ones.
pub const SMALL_BYTES: usize = 256 * KIB;

/// Bodies up to this size are read before they ask for room, and have half of the small ones' share: a client that
/// sends a larger one slowly holds none of theirs.
pub const EARLY_BYTES: usize = 16 * KIB;

/// Where no limit is found: the limit that the chart sets.
const DEFAULT_LIMIT: u64 = 128 * MIB as u64;

/// A budget of bytes; clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shares>);

#[derive(Debug)]
struct Shares {
    total: usize,
    reads: Pool,
    bodies: Pool,
    reserved: AtomicUsize,
    peak: AtomicUsize,
    reserved_gauge: Gauge,
    waits: Family<ShareLabels, Counter>,
    timeouts: Family<ShareLabels, Counter>,
}

#[derive(Debug)]
struct Pool {
    /// For bodies alone.
    early: Option<FairSemaphore>,
    small: FairSemaphore,
    large: FairSemaphore,
    labels: [&'static str; 2],
}

impl Pool {
    fn new(units: usize, labels: [&'static str; 2]) -> Self {
        let small = (units / 8).max(1);
        Self {
            early: None,
            small: FairSemaphore::new(small),
            large: FairSemaphore::new((units - small).max(1)),
            labels,
        }
    }

    fn of_bodies(units: usize) -> Self {
        let small = units / 8;
        Self {
            early: Some(FairSemaphore::new(small / 2)),
            small: FairSemaphore::new(small - small / 2),
            ..Self::new(units, ["small_bodies", "large_bodies"])
        }
    }

    fn share(&self, bytes: usize) -> (&FairSemaphore, ShareLabels) {
        let [small, large] = self.labels;
        match &self.early {
            Some(early) if bytes <= EARLY_BYTES => (early, ShareLabels { share: "early_bodies" }),
            _ if bytes <= SMALL_BYTES => (&self.small, ShareLabels { share: small }),
            _ => (&self.large, ShareLabels { share: large }),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShareLabels {
    share: &'static str,
}

/// Reserved bytes; they are given back on drop.
#[derive(Debug)]
pub struct Reservation {
    permit: Permit,
    shares: Arc<Shares>,
}

impl Budget {
    /// A budget of that many bytes, half of it for bodies; in each half an eighth is for small ones.
    pub fn new(total_bytes: usize) -> Self {
        let units = (total_bytes / KIB).max(4);
        Self(Arc::new(Shares {
            total: units * KIB,
            reads: Pool::new(units / 2, ["small_reads", "large_reads"]),
            bodies: Pool::of_bodies(units - units / 2),
            reserved: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            reserved_gauge: Gauge::default(),
            waits: Family::default(),
            timeouts: Family::default(),
        }))
    }

    /// The budget that the flag gives or, without it, one that fits the memory limit of the process's cgroup.
    pub fn detect(flag: Option<u64>) -> Self {
        let bytes = flag.unwrap_or_else(|| {
            let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            in_flight_bytes(cgroup_limit(&groups, Path::new("/sys/fs/cgroup")))
        });
        Self::new(usize::try_from(bytes).unwrap_or(usize::MAX / 2))
    }

    /// Registers the budget's metrics under the registry's prefix.
    pub fn register(&self, registry: &mut Registry) {
        let total: Gauge = Gauge::default();
        total.set(self.0.total.try_into().unwrap_or(i64::MAX));
        registry.register_with_unit(
            "memory_budget",
            "Bytes that may be in flight at once: request bodies, lists and content while it is read",
            Unit::Bytes,
            total,
        );
        registry.register_with_unit(
            "memory_budget_reserved",
            "Bytes in flight that are reserved now",
            Unit::Bytes,
            self.0.reserved_gauge.clone(),
        );
        registry.register(
            "memory_budget_waits",
            "Reservations that had to wait for room, by share (small ones are of up to 256 KiB, early ones of up to 16 KiB)",
            self.0.waits.clone(),
        );
        registry.register(
            "memory_budget_timeouts",
            "Reservations that got no room before their deadline, by share",
            self.0.timeouts.clone(),
        );
    }

    /// All bytes of the budget.
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// The largest body or read that is counted in full; a larger one takes the whole share of large ones.
    pub fn largest(&self) -> usize {
        self.0.reads.large.total().min(self.0.bodies.large.total()) * KIB
    }

    /// The bytes that are reserved now.
    pub fn reserved(&self) -> usize {
        self.0.reserved.load(Ordering::SeqCst)
    }

    /// The most bytes that were ever reserved at once.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::SeqCst)
    }

    /// Waits for room to read that many bytes from the API server, in turns over namespaces and their callers. What is larger than its
    /// share takes the whole share. Nothing that waits here may hold such a reservation already.
    pub async fn reserve(&self, party: impl Into<Party<'_>>, bytes: usize) -> Reservation {
        self.reserve_in(&self.0.reads, party.into(), bytes).await
    }

    /// As [`Self::reserve`], but not after the deadline; `None` if there was no room until then.
    pub async fn reserve_until(
        &self,
        party: impl Into<Party<'_>>,
        bytes: usize,
        deadline: Instant,
    ) -> Option<Reservation> {
        self.reserve_in_until(&self.0.reads, party.into(), bytes, deadline).await
    }

    /// Waits for room for a request's body; `None` if there was none until the deadline.
    pub async fn reserve_body_until(
        &self,
        party: impl Into<Party<'_>>,
        bytes: usize,
        deadline: Instant,
    ) -> Option<Reservation> {
        self.reserve_in_until(&self.0.bodies, party.into(), bytes, deadline).await
    }

    async fn reserve_in(&self, pool: &Pool, party: Party<'_>, bytes: usize) -> Reservation {
        let (share, label) = pool.share(bytes);
        let mut acquire = pin!(share.acquire(party, bytes.div_ceil(KIB)));
        let at_once = std::future::poll_fn(|context| Poll::Ready(acquire.as_mut().poll(context))).await;
        let permit = match at_once {
            Poll::Ready(permit) => permit,
            Poll::Pending => {
                self.0.waits.get_or_create(&label).inc();
                acquire.await
            }
        };
        self.0.add(permit.permits());
        Reservation { permit, shares: self.0.clone() }
    }

    async fn reserve_in_until(
        &self,
        pool: &Pool,
        party: Party<'_>,
        bytes: usize,
        deadline: Instant,
    ) -> Option<Reservation> {
        let reservation = timeout_at(deadline, self.reserve_in(pool, party, bytes)).await.ok();
        if reservation.is_none() {
            self.0.timeouts.get_or_create(&pool.share(bytes).1).inc();
        }
        reservation
    }
}

impl Shares {
    fn add(&self, units: usize) {
        let before = self.reserved.fetch_add(units * KIB, Ordering::SeqCst);
        self.peak.fetch_max(before + units * KIB, Ordering::SeqCst);
        self.reserved_gauge.inc_by(to_i64(units * KIB));
    }

    fn remove(&self, units: usize) {
        self.reserved.fetch_sub(units * KIB, Ordering::SeqCst);
        self.reserved_gauge.dec_by(to_i64(units * KIB));
    }
}

fn to_i64(bytes: usize) -> i64 {
    bytes.try_into().unwrap_or(i64::MAX)
}

impl Reservation {
    /// How many bytes are reserved.
    pub fn bytes(&self) -> usize {
        self.permit.permits() * KIB
    }

    /// Gives back what is more than `bytes`, once the size is known.
    pub fn shrink(&mut self, bytes: usize) {
        let to = bytes.div_ceil(KIB);
        let surplus = self.permit.permits().saturating_sub(to);
        if surplus > 0 {
            // Before another request can reserve it, so that the counter never shows more than the budget.
            self.shares.remove(surplus);
            self.permit.shrink(to);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shares.remove(self.permit.permits());
    }
}

/// What may be in flight under that memory limit: three sixteenths of it, at least 8 and at most 256 MiB. The rest is
/// for what stays (index, digests, buffers of connections) and for what parsing adds.
fn in_flight_bytes(limit: Option<u64>) -> u64 {
    let bytes = limit.unwrap_or(DEFAULT_LIMIT) / 16 * 3;
    bytes.clamp(8 * MIB as u64, 256 * MIB as u64)
}

/// The lowest memory limit along the process's cgroup path, given `/proc/self/cgroup`'s text and where the cgroup
/// file systems are mounted. In a container the path may be the host's, of which only the root is mounted.
fn cgroup_limit(groups: &str, mount: &Path) -> Option<u64> {
    let along = |path: &str, mount: &Path, file: &str| {
        let path = Path::new(path.trim_start_matches('/'));
        let limits = path.ancestors().filter_map(|ancestor| read_limit(&mount.join(ancestor).join(file)));
        limits.min()
    };
    groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            if controllers.is_empty() {
                along(path, mount, "memory.max")
            } else if controllers.split(',').any(|controller| controller == "memory") {
                along(path, &mount.join("memory"), "memory.limit_in_bytes")
            } else {
                None
            }
        })
        .min()
}

/// `max` (version 2) and values close to the largest number (version 1) mean no limit.
fn read_limit(file: &Path) -> Option<u64> {
    let limit = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (limit < 1 << 60).then_some(limit)
}

#[cfg(test)]
mod tests;
