//! The accept loop of a port: TLS or plain, HTTP/1.1 and HTTP/2, limits, and an orderly end (4.6, 4.9).
//!
//! Every port of the process is served by this, whatever it is for. A client is accepted at once; if the port is full
//! then, another connection is asked to end (`connections.rs` says which).
//!
//! ```text
//! accept --> connections (who stays) --> opening (TLS) --> http --> router
//! ```

mod connections;
mod http;
mod limits;
mod load;
mod opening;
mod peer;
mod read_ahead;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustix::io::Errno;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::connections::{Connections, Entry};
pub use self::limits::Limits;
use self::peer::{Peer, canonical};
use self::read_ahead::ReadAhead;
use crate::metrics::{Metrics, PortMetrics};

/// After an error of accept(2).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often to check for a connection that can be closed when all descriptors of a port are taken.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// What a port's clients speak below HTTP.
#[derive(Clone)]
pub enum Transport {
    /// Nothing: HTTP/1.1 over TCP.
    Plain,
    /// TLS, and HTTP/2 or HTTP/1.1 as negotiated. Which clients are let in is a matter of its verifier.
    Tls(Arc<ServerConfig>),
}

// A configuration holds keys.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Tls(_) => "Tls",
        })
    }
}

/// Where to serve, and how.
#[derive(Debug)]
pub struct Port {
    /// What it is called in metrics: `webhook`, `metrics`, `health`.
    pub name: &'static str,
    /// Where clients come in.
    pub listener: TcpListener,
    /// TLS or not.
    pub transport: Transport,
    /// What clients may take.
    pub limits: Limits,
}

/// When the server stops.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Soon: everything is still answered, but responses ask clients to close the connection.
    pub soon: CancellationToken,
    /// Now: no more connections are taken, and what is under way is answered.
    pub now: CancellationToken,
}

/// Serves the router until it is to stop and has answered what was under way. Every request has the peer's address as
/// an extension, `axum::extract::ConnectInfo<SocketAddr>`.
pub async fn serve(port: Port, app: Router, metrics: Metrics, stop: Stop) {
    let Port { name, listener, transport, limits } = port;
    let metrics = metrics.of_port(name);
    let slots = Arc::new(Semaphore::new(limits.connections + limits.leaving));
    let connections = Connections::new(limits.connections, metrics.clone());
    let read_ahead = ReadAhead::new(limits.read_ahead);
    let mut tasks = JoinSet::new();
    loop {
        // Finished tasks are taken off as we go.
        while tasks.try_join_next().is_some() {}
        let accepted = async {
            let (stream, address) = accept(&listener, &connections).await?;
            // Only now: no connection has to leave unless another one needs its place.
            let slot = slot(&slots, &connections).await?;
            Some((stream, address, slot))
        };
        let accepted = tokio::select! {
            () = stop.now.cancelled() => break,
            accepted = accepted => accepted,
        };
        let Some((stream, address, slot)) = accepted else { continue };
        let address = canonical(address);
        let connection = Connection {
            address,
            transport: transport.clone(),
            app: app.clone(),
            limits,
            metrics: metrics.clone(),
            read_ahead: read_ahead.clone(),
            stop: stop.clone(),
        };
        let entry = connections.admit(Peer::of(address));
        tasks.spawn(async move {
            // Given back last, once the socket is closed, also if the connection's task panics.
            let _slot = slot;
            connection.serve(stream, entry).await;
        });
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(limits.drain, all).await.is_err() {
        tracing::debug!(port = name, "requests that took too long are cut off");
    }
}

/// A place among all that the port may hold; another connection is closed for it if there is none.
async fn slot(slots: &Arc<Semaphore>, connections: &Connections) -> Option<OwnedSemaphorePermit> {
    loop {
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            return Some(slot);
        }
        connections.make_room();
        if let Ok(slot) = timeout(FULL_PAUSE, slots.clone().acquire_owned()).await {
            // Never closed.
            return slot.ok();
        }
    }
}

async fn accept(listener: &TcpListener, connections: &Connections) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        // A client that resets its connection does not hold up the next one.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            // Not for want of descriptors of our own, whose number is known, but there may be none in the system.
            let is_full = [Errno::MFILE, Errno::NFILE]
                .map(|errno| Some(errno.raw_os_error()))
                .contains(&error.raw_os_error());
            if is_full {
                connections.make_room();
            }
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

struct Connection {
    address: SocketAddr,
    transport: Transport,
    app: Router,
    limits: Limits,
    metrics: PortMetrics,
    read_ahead: Arc<ReadAhead>,
    stop: Stop,
}

impl Connection {
    async fn serve(&self, stream: TcpStream, entry: Entry) {
        let opened = tokio::select! {
            opened = self.open(stream) => opened,
            () = self.stop.now.cancelled() => return,
            () = entry.leave.cancelled() => return,
        };
        if let Some((stream, protocol)) = opened {
            self.serve_http(stream, protocol, &entry).await;
        }
    }

    fn peer(&self) -> Peer {
        Peer::of(self.address)
    }
}
