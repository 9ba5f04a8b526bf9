//! How much HTTP/2 clients may send before the server reads it.
//!
//! A body is read when there is room for it in the memory budget, but what the client's windows allow it may send
//! before, and that is in no budget. So the windows of all connections together are bounded: each connection gets an
//! eighth of what is left for all, and half of what is left for its peer, who has a quarter of all at most. The API
//! server's few connections thus have many requests at once; a client that opens hundreds gets down to the few requests
//! that fit the 64 KiB which the protocol grants every connection, and only then do other clients, too. A client that
//! has more to ask than its connection allows opens another.
//!
//! All streams that a connection may have fit into the connection's window: the API server has one for all tenants, and
//! bodies that wait must not take the window from those that are read.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::peer::Peer;

/// What a stream may send ahead. Not less, since no more than this travels in each round trip.
const STREAM: usize = 32 * 1024;
/// Streams on a connection while there is plenty.
const MAX_STREAMS: usize = 64;
/// A connection's window at the start, which is the protocol's (RFC 9113, section 6.9.2) and can only grow.
const MIN_CONNECTION: usize = 64 * 1024;
/// Where nothing is left: as many streams of half the size as fit.
const MIN_STREAMS: usize = 4;

/// What is left of a port's read-ahead.
pub(super) struct ReadAhead {
    total: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    total: usize,
    peers: HashMap<Peer, usize>,
}

/// A connection's part; given back on drop.
pub(super) struct Share {
    pool: Arc<ReadAhead>,
    peer: Peer,
    held: usize,
    pub(super) streams: u32,
    pub(super) stream_window: u32,
    pub(super) connection_window: u32,
}

impl ReadAhead {
    pub(super) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, held: Mutex::default() })
    }

    /// The part of one more connection of that peer.
    pub(super) fn take(self: &Arc<Self>, peer: Peer) -> Share {
        let mut held = self.held.lock();
        let left = self.total.saturating_sub(held.total);
        let of_peer = held.peers.get(&peer).copied().unwrap_or_default();
        let left_for_peer = (self.total / 4).saturating_sub(of_peer);
        let streams = ((left / 8).min(left_for_peer / 2) / STREAM).min(MAX_STREAMS);
        let (streams, stream, held_now) = if streams > MIN_STREAMS {
            (streams, STREAM, streams * STREAM)
        } else {
            (MIN_STREAMS, MIN_CONNECTION / MIN_STREAMS, 0)
        };
        if held_now > 0 {
            held.total += held_now;
            *held.peers.entry(peer).or_default() += held_now;
        }
        let window = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        Share {
            pool: self.clone(),
            peer,
            held: held_now,
            streams: window(streams),
            stream_window: window(stream),
            connection_window: window(streams * stream),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.pool.held.lock();
        held.total -= self.held;
        if let Some(of_peer) = held.peers.get_mut(&self.peer) {
            *of_peer -= self.held;
            if *of_peer == 0 {
                held.peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of(([10, 0, 0, last], 1).into())
    }

    #[test]
    fn c4_9_unread_bytes_are_bounded_for_all_connections_together() {
        let pool = ReadAhead::new(16 << 20);
        let mut shares = vec![];
        for i in 0..=255 {
            for _ in 0..8 {
                shares.push(pool.take(peer(i)));
            }
        }
        let unread: usize = shares.iter().map(|share| share.connection_window as usize).sum();
        assert!(unread <= (16 << 20) + shares.len() * MIN_CONNECTION, "{unread}");
        for share in &shares {
            assert!(share.streams >= 4 && share.stream_window >= 16 * 1024);
            assert!(share.streams * share.stream_window <= share.connection_window);
        }
        drop(shares);
        assert_eq!(pool.held.lock().total, 0);
        assert!(pool.held.lock().peers.is_empty());
    }

    #[test]
    fn c4_9_a_peer_with_many_connections_leaves_full_windows_to_others() {
        let pool = ReadAhead::new(16 << 20);
        let hog = (0..500).map(|_| pool.take(peer(1))).collect::<Vec<_>>();
        let streams = hog.iter().map(|share| share.streams).collect::<Vec<_>>();
        assert_eq!(streams[..6], [64, 32, 16, 8, 4, 4]);
        assert!(pool.take(peer(2)).streams >= 48);
        drop(hog);
        assert_eq!(pool.take(peer(2)).streams, 64);
    }
}
