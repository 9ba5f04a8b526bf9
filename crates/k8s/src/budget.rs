//! A process-wide budget of bytes in flight: request bodies, lists and the content of config objects while they are
//! read and parsed. What does not fit waits, so that nobody can have the process killed for its memory.
//!
//! One half is for request bodies, the other for what is read from the API server, since an admission request reads
//! while it holds what its body became: with one pool for both, all could hold a part and wait for ever. Whoever holds
//! a part of the second half must not wait for more. Within each half small ones have a share of their own.

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

/// Bodies up to this size are read before they ask for room, and have half of the small ones' share: whoever sends a
/// larger one slowly holds none of theirs.
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
            // Before others can have it, so that the counter never shows more than the budget.
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
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn c5_2_the_budget_follows_from_the_memory_limit() {
        let mib = |bytes: u64| bytes * MIB as u64;
        for (limit, expected) in [
            (None, mib(24)),
            (Some(mib(128)), mib(24)),
            (Some(mib(64)), mib(12)),
            (Some(mib(16)), mib(8)),
            (Some(0), mib(8)),
            (Some(mib(512)), mib(96)),
            (Some(mib(64 * 1024)), mib(256)),
            (Some(u64::MAX), mib(256)),
        ] {
            assert_eq!(in_flight_bytes(limit), expected, "{limit:?}");
        }
    }

    #[test]
    fn c5_2_the_lowest_limit_along_the_cgroups_path_counts() {
        let mount = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = mount.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        write("memory.max", "max\n");
        write("pods/memory.max", "1000\n");
        write("pods/one/memory.max", "2000\n");
        write("free/memory.max", "max\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/box/memory.limit_in_bytes", "3000\n");
        for (groups, expected) in [
            ("0::/pods/one\n", Some(1000)),
            ("0::/free/not/mounted\n", None),
            ("0::/\n", None),
            ("", None),
            ("nonsense", None),
            ("4:cpu,memory:/box/inner\n3:pids:/\n0::/free\n", Some(3000)),
            ("4:memory:/\n", None),
        ] {
            assert_eq!(cgroup_limit(groups, mount.path()), expected, "{groups:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c5_2_small_requests_never_wait_behind_large_ones() {
        let budget = Budget::new(16 * MIB);
        let mut large = budget.reserve("a", 64 * MIB).await;
        assert_eq!(large.bytes(), budget.largest());
        let deadline = || Instant::now() + Duration::from_secs(1);
        assert!(budget.reserve_until("b", SMALL_BYTES + 1, deadline()).await.is_none());
        let small = budget.reserve_until("b", SMALL_BYTES, deadline()).await.unwrap();
        assert_eq!(budget.reserved(), large.bytes() + SMALL_BYTES);
        large.shrink(MIB);
        let other = budget.reserve_until("b", 2 * MIB, deadline()).await.unwrap();
        assert_eq!(budget.reserved(), 3 * MIB + SMALL_BYTES);
        drop((large, small, other));
        assert_eq!(budget.reserved(), 0);
        assert!(budget.peak() <= budget.total());
    }

    #[tokio::test(start_paused = true)]
    async fn c5_2_bodies_leave_room_for_the_reads_that_they_wait_for() {
        let budget = Budget::new(8 * MIB);
        let mut bodies = vec![];
        let soon = || Instant::now() + Duration::from_millis(1);
        for i in 0..4000 {
            bodies.extend(budget.reserve_body_until(&i.to_string(), 8 * KIB, soon()).await);
            bodies.extend(budget.reserve_body_until(&i.to_string(), 64 * KIB, soon()).await);
            bodies.extend(budget.reserve_body_until(&i.to_string(), 512 * KIB, soon()).await);
        }
        assert_eq!(budget.reserved(), budget.total() / 2);
        assert!(budget.reserve_until("a", 100 * KIB, soon()).await.is_some());
        assert!(budget.reserve_until("a", 2 * MIB, soon()).await.is_some());
        assert!(budget.peak() <= budget.total());
    }

    #[tokio::test(start_paused = true)]
    async fn c5_2_what_is_reserved_never_passes_the_budget() {
        let budget = Budget::new(8 * MIB);
        let tasks: Vec<_> = (0..200_usize)
            .map(|i| {
                let budget = budget.clone();
                tokio::spawn(async move {
                    let namespace = (i % 5).to_string();
                    let never = Instant::now() + Duration::from_hours(1);
                    let mut held = match i % 2 {
                        0 => budget.reserve(&namespace, i * 40 * KIB).await,
                        _ => budget.reserve_body_until(&namespace, i * 40 * KIB, never).await.unwrap(),
                    };
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    held.shrink(held.bytes() / 2);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(budget.peak() <= budget.total() && budget.peak() > 5 * MIB, "{}", budget.peak());
        assert_eq!(budget.reserved(), 0);
    }
}
