//! The connections of a port, and which one is closed when there are too many.
//!
//! Every newcomer is accepted; if the port is full then, an older connection is asked to end in its place:
//!
//! 1. Peers that have less than half of what the largest has are spared, so that no client pays for a crowd that
//!    another makes.
//! 2. Of the others, a connection without a request is closed first: of the peer that has most, the one that has had
//!    none for the longest time. A connection that has not got as far as a request is idle since it was accepted, but
//!    has a second for that.
//! 3. If requests are under way on all of them, the one is closed whose request has been under way longest, if that is
//!    some time: an honest client is answered before. If none is that old, the newcomer may stay as long as there are
//!    descriptors, and those after it wait until something ends.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::load::Load;
use super::peer::Peer;
use crate::metrics::PortMetrics;

/// A request that has been under way for a shorter time than this is not ended for a newcomer.
const YOUNG_REQUEST: Duration = Duration::from_secs(2);

/// Nor is a connection that has had no request yet and is younger than this: clients of Go's dial one for each of many
/// requests at once, and send all of these over those that are ready first.
const YOUNG_CONNECTION: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Connections {
    limit: usize,
    table: Mutex<Table>,
    metrics: PortMetrics,
}

#[derive(Default)]
struct Table {
    next_id: u64,
    /// Those that are not leaving.
    open: HashMap<u64, Open>,
    /// How many of these each peer has.
    peers: HashMap<Peer, usize>,
    /// Those that were asked to end, first the one that was asked first.
    leaving: VecDeque<(u64, Open)>,
}

struct Open {
    peer: Peer,
    load: watch::Receiver<Load>,
    leave: CancellationToken,
    cut: CancellationToken,
}

/// A connection's entry; it ends when this is dropped.
pub(super) struct Entry {
    connections: Arc<Connections>,
    id: u64,
    pub(super) load: Arc<watch::Sender<Load>>,
    /// Cancelled when the connection is to end gracefully, for the sake of another.
    pub(super) leave: CancellationToken,
    /// Cancelled when it is to end at once.
    pub(super) cut: CancellationToken,
}

impl Connections {
    pub(super) fn new(limit: usize, metrics: PortMetrics) -> Arc<Self> {
        Arc::new(Self { limit, table: Mutex::default(), metrics })
    }

    /// Takes a connection in that was just accepted, and asks another to end if there are too many.
    pub(super) fn admit(self: &Arc<Self>, peer: Peer) -> Entry {
        let (load, observed) = watch::channel(Load::new());
        let (leave, cut) = (CancellationToken::new(), CancellationToken::new());
        let mut table = self.table.lock();
        *table.peers.entry(peer).or_default() += 1;
        while table.open.len() >= self.limit && self.evict(&mut table) {}
        let id = table.next_id;
        table.next_id += 1;
        let open = Open { peer, load: observed, leave: leave.clone(), cut: cut.clone() };
        table.open.insert(id, open);
        drop(table);
        self.metrics.connections.inc();
        Entry { connections: self.clone(), id, load: Arc::new(load), leave, cut }
    }

    /// Makes room where there is no descriptor for another connection: cuts off what was asked to end first and has no
    /// request; or asks another to end; or cuts off what has had its time.
    pub(super) fn make_room(&self) {
        let mut table = self.table.lock();
        let dispensable = table.dispensable();
        if dispensable.is_none_or(|(class, _)| class > 0) && self.evict(&mut table) {
            return;
        }
        if let Some((_, open)) = dispensable.and_then(|(_, index)| table.leaving.remove(index)) {
            open.cut.cancel();
        }
    }

    /// Asks one to end; `false` if none may be asked now.
    fn evict(&self, table: &mut Table) -> bool {
        let Some((id, reason)) = table.choose() else { return false };
        let Some(open) = table.open.remove(&id) else { return false };
        table.forget(open.peer);
        open.leave.cancel();
        table.leaving.push_back((id, open));
        self.metrics.count_evicted(reason);
        true
    }
}

impl Table {
    fn choose(&self) -> Option<(u64, &'static str)> {
        let largest = self.peers.values().max().copied().unwrap_or_default();
        let now = Instant::now();
        let mut will_be_idle = false;
        let candidate = |(id, open): (&u64, &Open)| {
            let of_peer = self.peers.get(&open.peer).copied().unwrap_or_default();
            if of_peer * 2 < largest {
                return None;
            }
            let load = open.load.borrow();
            let (class, since, reason) = match load.running_since() {
                Some(since) if now.saturating_duration_since(since) < YOUNG_REQUEST => return None,
                Some(since) => (1, since, "busy"),
                None if load.has_begun() => (0, load.idle_since(), "idle"),
                None if now.saturating_duration_since(load.idle_since()) < YOUNG_CONNECTION => {
                    will_be_idle = true;
                    return None;
                }
                None => (0, load.idle_since(), "unused"),
            };
            // Of those that began at the same moment the one that was accepted first.
            Some(((class, Reverse(of_peer), since, *id), reason))
        };
        let ((class, _, _, id), reason) = self.open.iter().filter_map(candidate).min()?;
        // No request is ended while there is one without in a moment.
        (class == 0 || !will_be_idle).then_some((id, reason))
    }

    /// Which of those that are leaving can be cut off: a client that did not hear yet that it should leave may have sent
    /// requests, and these have the same time as any.
    fn dispensable(&self) -> Option<(u8, usize)> {
        let now = Instant::now();
        let class = |open: &Open| match open.load.borrow().running_since() {
            None => Some(0),
            Some(since) if now.saturating_duration_since(since) >= YOUNG_REQUEST => Some(1),
            Some(_) => None,
        };
        let candidates =
            self.leaving.iter().enumerate().filter_map(|(index, (_, open))| Some((class(open)?, index)));
        candidates.min()
    }

    /// One connection of that peer less.
    fn forget(&mut self, peer: Peer) {
        if let Some(count) = self.peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&peer);
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut table = self.connections.table.lock();
        if let Some(open) = table.open.remove(&self.id) {
            table.forget(open.peer);
        } else {
            table.leaving.retain(|(id, _)| *id != self.id);
        }
        self.connections.metrics.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::super::load::Running;
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of(([127, 0, 0, last], 1).into())
    }

    async fn admit(connections: &Arc<Connections>, last: u8) -> Entry {
        advance(Duration::from_millis(10)).await;
        connections.admit(peer(last))
    }

    async fn fill(limit: usize, last: u8) -> (Arc<Connections>, Vec<Entry>) {
        let connections = Connections::new(limit, PortMetrics::default());
        let mut entries = vec![];
        for _ in 0..limit {
            entries.push(admit(&connections, last).await);
        }
        advance(YOUNG_CONNECTION).await;
        (connections, entries)
    }

    fn leaving(entries: &[Entry]) -> Vec<usize> {
        (0..entries.len()).filter(|i| entries[*i].leave.is_cancelled()).collect()
    }

    fn cut(entries: &[Entry]) -> Vec<usize> {
        (0..entries.len()).filter(|i| entries[*i].cut.is_cancelled()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn c4_9_the_longest_idle_connection_goes_and_none_with_a_request() {
        let (connections, mut entries) = fill(4, 1).await;
        let running = Running::new(entries[0].load.clone());
        advance(Duration::from_millis(10)).await;
        drop(Running::new(entries[1].load.clone()));
        entries.push(admit(&connections, 1).await);
        assert_eq!(leaving(&entries), [2], "it never had a request, and was accepted before the other");
        entries.push(admit(&connections, 1).await);
        assert_eq!(leaving(&entries), [2, 3]);
        advance(YOUNG_REQUEST * 2).await;
        entries.push(admit(&connections, 1).await);
        assert_eq!(leaving(&entries), [1, 2, 3], "the request on the first goes on");
        drop(running);
        entries.push(admit(&connections, 1).await);
        assert_eq!(leaving(&entries), [1, 2, 3, 4], "the first was idle last");
    }

    #[tokio::test(start_paused = true)]
    async fn c4_9_whoever_has_most_connections_loses_first() {
        let (connections, mut entries) = fill(8, 1).await;
        for other in 2..=4 {
            entries.push(admit(&connections, other).await);
        }
        assert_eq!(leaving(&entries), [0, 1, 2]);
        // The largest peer's requests are not safe from it either, but those of the others are.
        let mut running =
            entries[3..8].iter().map(|entry| Running::new(entry.load.clone())).collect::<Vec<_>>();
        advance(YOUNG_REQUEST).await;
        entries.push(admit(&connections, 2).await);
        assert_eq!(leaving(&entries), [0, 1, 2, 3], "the idle ones are of peers that have much less");
        // From here on no peer has less than half of what another has.
        entries.push(admit(&connections, 2).await);
        assert_eq!(leaving(&entries), [0, 1, 2, 3, 8], "an idle one before those with a request");
        running.clear();
    }

    #[tokio::test(start_paused = true)]
    async fn c4_9_requests_that_have_just_begun_are_not_ended_for_a_newcomer() {
        let (connections, mut entries) = fill(3, 1).await;
        let _first = Running::new(entries[1].load.clone());
        advance(Duration::from_secs(1)).await;
        let _others = [0, 2].map(|i| Running::new(entries[i].load.clone()));
        entries.push(admit(&connections, 1).await);
        assert_eq!(leaving(&entries), [0; 0]);
        let _fourth = Running::new(entries[3].load.clone());
        advance(Duration::from_millis(1100)).await;
        entries.push(admit(&connections, 1).await);
        assert_eq!(leaving(&entries), [1], "the only one that has run for long");
    }

    #[tokio::test(start_paused = true)]
    async fn c4_9_those_that_were_asked_first_are_cut_off_first() {
        let (connections, mut entries) = fill(2, 1).await;
        entries.push(admit(&connections, 1).await);
        entries.push(admit(&connections, 1).await);
        assert_eq!(leaving(&entries), [0, 1]);
        connections.make_room();
        assert_eq!(cut(&entries), [0]);
        // The second has ended by itself; then another is asked, and has some time before it is cut off.
        entries.remove(1);
        advance(YOUNG_CONNECTION).await;
        connections.make_room();
        assert_eq!(leaving(&entries), [0, 1]);
        assert_eq!(cut(&entries), [0]);
        connections.make_room();
        assert_eq!(cut(&entries), [0, 1]);
        entries.clear();
        let table = connections.table.lock();
        assert!(table.open.is_empty() && table.peers.is_empty() && table.leaving.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn c4_9_requests_that_came_before_a_client_heard_that_it_should_leave_are_not_cut_off() {
        let (connections, mut entries) = fill(3, 1).await;
        for _ in 0..3 {
            entries.push(admit(&connections, 1).await);
        }
        assert_eq!(leaving(&entries), [0, 1, 2]);
        advance(YOUNG_CONNECTION).await;
        let running = Running::new(entries[0].load.clone());
        let _other = Running::new(entries[2].load.clone());
        connections.make_room();
        assert_eq!(cut(&entries), [1], "the only one without a request");
        connections.make_room();
        assert_eq!((cut(&entries), leaving(&entries)), (vec![1], vec![0, 1, 2, 3]));
        connections.make_room();
        assert_eq!(cut(&entries), [1, 3]);
        drop(running);
        advance(YOUNG_REQUEST).await;
        connections.make_room();
        assert_eq!(cut(&entries), [0, 1, 3]);
        (0..4).for_each(|_| connections.make_room());
        assert_eq!(cut(&entries), [0, 1, 3, 4, 5], "all that have no request come first");
        connections.make_room();
        assert_eq!(cut(&entries), [0, 1, 2, 3, 4, 5], "its request has had its time");
    }

    #[tokio::test(start_paused = true)]
    async fn c4_9_a_burst_of_connections_has_time_to_send_what_it_came_for() {
        let connections = Connections::new(4, PortMetrics::default());
        let mut entries: Vec<_> = (0..6).map(|_| connections.admit(peer(1))).collect();
        assert_eq!(leaving(&entries), [0; 0]);
        let _running = Running::new(entries[0].load.clone());
        advance(YOUNG_CONNECTION).await;
        entries.push(admit(&connections, 1).await);
        assert_eq!(
            leaving(&entries),
            [1, 2, 3],
            "as many as there are too many, and not the one that is in use"
        );
    }
}
