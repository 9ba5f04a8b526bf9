//! What the clients of a port may take.

use std::time::Duration;

const MIB: usize = 1 << 20;

/// What clients of a port may take. All of them together, and each of them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. For one more, another is asked to end: see [`crate::server`].
    pub connections: usize,
    /// Connections beyond these that were asked to end and have not ended yet. If there are more, those that were asked
    /// first are cut off.
    pub leaving: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the first request to begin, on HTTP/1.1.
    pub header: Duration,
    /// After this time without a request a connection is asked to end, so that idle ones do not take the places of
    /// other clients. Longer than clients keep theirs (Go: 90 seconds): closed by us, an HTTP/1.1 connection may be
    /// lost to the very request that is being sent on it.
    pub idle: Duration,
    /// For one request, from its head until the client has taken the answer; its connection is then closed. Longer than
    /// any request may take by its own deadline, so it only meets clients that do not take their answers.
    pub request: Duration,
    /// After this time a connection is asked to end with its next request, so that none stays for ever.
    pub max_age: Duration,
    /// How long requests may take after shutdown began.
    pub drain: Duration,
    /// Bytes of request bodies that all HTTP/2 clients together may send before the server reads them, beyond the 64
    /// KiB that the protocol allows each connection anyway.
    pub read_ahead: usize,
}

impl Limits {
    /// For the webhook: the API server's replicas, each with one connection or a few.
    ///
    /// The numbers fit a container of 128 MiB: when every client does its worst, connections have 384 times 64 KiB
    /// unread, 16 MiB of read-ahead, and some 40 KiB each of state and TLS records; the rest is the memory budget's.
    pub const fn webhook() -> Self {
        Self {
            connections: 384,
            leaving: 64,
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(30),
            idle: Duration::from_mins(3),
            request: Duration::from_secs(45),
            max_age: Duration::from_mins(15),
            drain: Duration::from_secs(20),
            read_ahead: 16 * MIB,
        }
    }

    /// For health and metrics: a kubelet and some Prometheus servers, whose requests have no bodies and are answered at
    /// once.
    pub const fn admin() -> Self {
        Self {
            connections: 64,
            leaving: 16,
            header: Duration::from_secs(10),
            request: Duration::from_secs(30),
            // A client that keeps its connection does not hold up the shutdown.
            drain: Duration::from_secs(1),
            read_ahead: 0,
            ..Self::webhook()
        }
    }

    /// The descriptors that a port with these limits may hold: connections, those that are leaving, one that waits for
    /// a place among these, and the listener.
    pub const fn descriptors(&self) -> usize {
        self.connections + self.leaving + 2
    }

    /// The same with at most so many descriptors, as far as a port can work at all.
    #[must_use]
    pub(crate) fn with_descriptors(self, descriptors: usize) -> Self {
        let sockets = descriptors.saturating_sub(2);
        let leaving = self.leaving.min(sockets / 6).max(1);
        let connections = self.connections.min(sockets.saturating_sub(leaving)).max(2);
        Self { connections, leaving, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::webhook()
    }
}
