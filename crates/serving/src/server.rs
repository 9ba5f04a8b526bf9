//! The accept loop: TLS, HTTP/1.1 and HTTP/2, limits, and an orderly end (4.6).

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use http::HeaderValue;
use http::header::CONNECTION;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::clients::reason;
use crate::metrics::Metrics;

/// The first byte of every TLS connection: a handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
const PLAIN_HTTP_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 37\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS, not HTTP.\r\n\r\n";
/// After an error of accept(2), such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is read of a request's body before anybody asks for it. Bodies that wait for room in memory wait on the
/// client's side of the connection.
const READ_AHEAD: u32 = 32 * 1024;

/// Requests at once on an HTTP/2 connection; for more, clients open another. All of their read-ahead has to fit into
/// the connection's window: the API server has one connection for all tenants, and bodies that wait must not take the
/// window from those that are read.
const MAX_STREAMS: u32 = 64;

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the first request to begin.
    pub header: Duration,
    /// After this time without a request a connection is asked to end, so that idle ones do not take the places of
    /// others. Longer than clients keep theirs (Go: 90 seconds): closed by us, an HTTP/1.1 connection may be lost to
    /// the very request that is being sent on it.
    pub idle: Duration,
    /// After this time a connection is asked to end with its next request, so that none stays for ever.
    pub max_age: Duration,
    /// How long requests may take after shutdown began.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(30),
            idle: Duration::from_mins(3),
            max_age: Duration::from_mins(15),
            drain: Duration::from_secs(20),
        }
    }
}

/// When the server stops.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Soon: everything is still answered, but clients are told not to come again on the same connection.
    pub soon: CancellationToken,
    /// Now: no more connections are taken, and what is under way is answered.
    pub now: CancellationToken,
}

/// Serves the router until it is to stop and has answered what was under way.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    app: Router,
    limits: Limits,
    metrics: Metrics,
    stop: Stop,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let connection = Connection { acceptor: TlsAcceptor::from(tls), app, limits, metrics, stop };
    let mut tasks = JoinSet::new();
    loop {
        // Finished tasks are taken off as we go.
        while tasks.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = connection.stop.now.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else { continue };
        let connection = connection.clone();
        tasks.spawn(async move {
            let _counted = Counted::new(&connection.metrics);
            connection.serve(stream).await;
            drop(slot);
        });
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(limits.drain, all).await.is_err() {
        tracing::warn!("requests that took too long are cut off");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        // That client's business; the next one is not to wait for it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// A connection in the gauge, also if its task panics.
struct Counted(Metrics);

impl Counted {
    fn new(metrics: &Metrics) -> Self {
        metrics.connections.inc();
        Self(metrics.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

/// What a client opened a connection with.
enum Opening {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
    /// Nothing: so do load balancers and probes.
    Closed,
}

#[derive(Clone)]
struct Connection {
    acceptor: TlsAcceptor,
    app: Router,
    limits: Limits,
    metrics: Metrics,
    stop: Stop,
}

impl Connection {
    async fn serve(&self, stream: TcpStream) {
        let handshake = timeout(self.limits.handshake, self.handshake(stream));
        let stream = tokio::select! {
            stream = handshake => stream,
            () = self.stop.now.cancelled() => return,
        };
        match stream {
            Ok(Ok(Opening::Tls(stream))) => self.serve_http(*stream).await,
            Ok(Ok(Opening::Plain(stream))) => {
                self.metrics.count_handshake_error("plain_http");
                // Whether it takes the answer is its own business.
                let _ = timeout(self.limits.handshake, refuse(stream)).await;
            }
            Ok(Ok(Opening::Closed)) => self.metrics.count_handshake_error("closed"),
            Ok(Err(error)) => {
                self.metrics.count_handshake_error(reason(&error));
                tracing::debug!(%error, "a TLS handshake failed");
            }
            Err(_) => self.metrics.count_handshake_error("timeout"),
        }
    }

    async fn handshake(&self, stream: TcpStream) -> io::Result<Opening> {
        stream.set_nodelay(true)?;
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Ok(Opening::Closed);
        }
        if first[0] != TLS_HANDSHAKE {
            return Ok(Opening::Plain(stream));
        }
        self.acceptor.accept(stream).await.map(|stream| Opening::Tls(Box::new(stream)))
    }

    async fn serve_http(&self, stream: TlsStream<TcpStream>) {
        // By what was negotiated, and not by the first bytes: waiting for these would know no time limit.
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let (load, observed) = watch::channel(Load::default());
        // Set once the connection is to end with the next answer.
        let is_last = Arc::new(AtomicBool::new(false));
        let router = TowerToHyperService::new(self.app.clone());
        let service = {
            let is_last = is_last.clone();
            service_fn(move |request| {
                let running = Running::new(load.clone());
                let answer = router.call(request);
                let is_last = is_last.clone();
                async move {
                    let _running = running;
                    let mut answer = answer.await?;
                    if is_last.load(Ordering::Relaxed) && !is_http2 {
                        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    Ok::<_, Infallible>(answer)
                }
            })
        };
        let io = TokioIo::new(stream);
        if is_http2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(10))
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(64 * 1024)
                .initial_stream_window_size(READ_AHEAD)
                .initial_connection_window_size(MAX_STREAMS * READ_AHEAD)
                .serve_connection(io, service);
            let mut connection = std::pin::pin!(connection);
            let is_to_end = async {
                // It would end before it began.
                if self.stop.soon.is_cancelled() {
                    self.stop.now.cancelled().await;
                }
                self.is_to_end(observed).await;
            };
            tokio::select! {
                ended = &mut connection => return log_end(ended),
                () = is_to_end => {}
            }
            // In two steps (RFC 9113, section 6.8): no request is lost between the client and us.
            connection.as_mut().graceful_shutdown();
            self.drain(connection).await;
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .max_buf_size(2 * READ_AHEAD as usize)
                // Covers idle connections too, which end in better order by what follows.
                .header_read_timeout(self.limits.idle + self.limits.header)
                .serve_connection(io, service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = &mut connection => return log_end(ended),
                () = has_begun_too_late(observed.clone(), self.limits.header) => return,
                () = self.is_to_end(observed.clone()) => {}
            }
            // HTTP/1.1 has no word for "send no more": a connection that is closed between two requests may be lost to
            // the second. So its next answer says that it was the last.
            is_last.store(true, Ordering::Relaxed);
            tokio::select! {
                ended = &mut connection => return log_end(ended),
                () = self.stop.now.cancelled() => {}
                () = has_been_idle(observed, self.limits.idle) => {}
            }
            connection.as_mut().graceful_shutdown();
            self.drain(connection).await;
        }
    }

    /// Returns when the connection has lasted long enough.
    async fn is_to_end(&self, load: watch::Receiver<Load>) {
        tokio::select! {
            () = self.stop.soon.cancelled() => {}
            () = self.stop.now.cancelled() => {}
            () = sleep(self.limits.max_age) => {}
            () = has_been_idle(load, self.limits.idle) => {}
        }
    }

    async fn drain(&self, connection: impl Future<Output = hyper::Result<()>>) {
        if let Ok(ended) = timeout(self.limits.drain, connection).await {
            log_end(ended);
        } else {
            tracing::debug!("a connection did not end in time and is closed");
        }
    }
}

/// Tells a client that does not speak TLS that it should.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN_HTTP_ANSWER).await?;
    stream.shutdown().await?;
    // Closing with unread input would reset the connection, and the answer could be lost.
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// What there is to do on a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    running: usize,
    has_begun: bool,
}

/// A request that is under way.
struct Running(watch::Sender<Load>);

impl Running {
    fn new(load: watch::Sender<Load>) -> Self {
        load.send_modify(|load| {
            load.running += 1;
            load.has_begun = true;
        });
        Self(load)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|load| load.running -= 1);
    }
}

/// Returns once no request has been under way for so long.
async fn has_been_idle(mut load: watch::Receiver<Load>, limit: Duration) {
    while load.wait_for(|load| load.running == 0).await.is_ok() {
        if timeout(limit, load.changed()).await.is_err() {
            return;
        }
    }
    // The connection has ended, and whoever waits will hear of it.
    std::future::pending::<()>().await;
}

/// Returns if no request has begun within that time.
async fn has_begun_too_late(mut load: watch::Receiver<Load>, limit: Duration) {
    if timeout(limit, load.wait_for(|load| load.has_begun)).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
