//! Requests and answers on one connection, and its orderly end.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::time::sleep;

use super::connections::Entry;
use super::load::{AnswerBody, Load, Running, has_been_idle, has_taken_too_long, header_timed_out};
use super::opening::Stream;
use super::read_ahead::Share;
use super::{Connection, Protocol};

/// The most that a request's head may hold. The API server's are of a few hundred bytes.
const MAX_HEAD: u32 = 16 * 1024;
/// A connection that was asked to end and has nothing to do is given this time: an HTTP/2 client answers the GOAWAY
/// with a request that is on its way, or not at all.
const LEAVE: Duration = Duration::from_secs(1);

impl Connection {
    pub(super) async fn serve_http(&self, stream: Box<dyn Stream>, protocol: Protocol, entry: &Entry) {
        let io = TokioIo::new(stream);
        // Set once the connection is to end with the next answer.
        let is_last = Arc::new(AtomicBool::new(false));
        let service = self.service(protocol, entry.load.clone(), is_last.clone());
        let load = || entry.load.subscribe();
        let is_over = async {
            tokio::select! {
                () = entry.cut.cancelled() => {}
                () = has_taken_too_long(load(), self.limits.request) => {
                    self.metrics.count_evicted("slow");
                }
            }
        };
        let served = async {
            match protocol {
                Protocol::Http2 => {
                    let share = self.read_ahead.take(self.peer());
                    let connection = http2_settings(&share).serve_connection(io, service);
                    self.serve_http2(connection, entry).await;
                }
                Protocol::Http1 => {
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .max_buf_size(MAX_HEAD as usize)
                        // Covers idle connections too, which end more gracefully by what follows.
                        .header_read_timeout(self.limits.idle + self.limits.header)
                        .serve_connection(io, service);
                    self.serve_http1(connection, &is_last, entry).await;
                }
            }
        };
        tokio::select! {
            () = served => {}
            () = is_over => tracing::debug!(peer = %self.address, "a connection is cut off"),
        }
    }

    /// The router, which gets the peer's address, and whose requests count from their head to the end of the answer.
    fn service(
        &self,
        protocol: Protocol,
        load: Arc<watch::Sender<Load>>,
        is_last: Arc<AtomicBool>,
    ) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Send
    + 'static {
        let router = TowerToHyperService::new(self.app.clone());
        let address = self.address;
        service_fn(move |mut request: Request<Incoming>| {
            let running = Running::new(load.clone());
            request.extensions_mut().insert(ConnectInfo(address));
            let answer = router.call(request);
            let is_last = is_last.clone();
            async move {
                let mut answer = answer.await?;
                if is_last.load(Ordering::Relaxed) && protocol == Protocol::Http1 {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok(answer.map(|body| Body::new(AnswerBody::new(body, running))))
            }
        })
    }

    async fn serve_http2<S>(&self, connection: http2::Connection<Io, S, TokioExecutor>, entry: &Entry)
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
        S::Future: Send + 'static,
    {
        let mut connection = std::pin::pin!(connection);
        let should_close = async {
            // A connection that is accepted during the shutdown is still served: only `now` and `leave` end it.
            if self.stop.soon.is_cancelled() {
                tokio::select! {
                    () = self.stop.now.cancelled() => {}
                    () = entry.leave.cancelled() => {}
                }
            }
            self.should_close(entry).await;
        };
        tokio::select! {
            ended = &mut connection => return log_end(ended),
            () = should_close => {}
        }
        // In two steps (RFC 9113, section 6.8): no request is lost between the client and us.
        connection.as_mut().graceful_shutdown();
        self.drain(connection, entry).await;
    }

    async fn serve_http1<S>(&self, connection: http1::Connection<Io, S>, is_last: &AtomicBool, entry: &Entry)
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    {
        let load = || entry.load.subscribe();
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = &mut connection => return log_end(ended),
            () = header_timed_out(load(), self.limits.header) => {
                return self.metrics.count_evicted("no_request");
            }
            () = self.should_close(entry) => {}
        }
        // HTTP/1.1 has no word for "send no more": a connection that is closed between two requests may be lost to
        // the second. So its next answer says that it was the last.
        is_last.store(true, Ordering::Relaxed);
        tokio::select! {
            ended = &mut connection => return log_end(ended),
            () = self.stop.now.cancelled() => {}
            () = entry.leave.cancelled() => {}
            () = has_been_idle(load(), self.limits.idle) => {}
        }
        connection.as_mut().graceful_shutdown();
        self.drain(connection, entry).await;
    }

    /// Returns when the connection has lasted long enough.
    async fn should_close(&self, entry: &Entry) {
        tokio::select! {
            () = self.stop.soon.cancelled() => {}
            () = self.stop.now.cancelled() => {}
            () = entry.leave.cancelled() => {}
            () = sleep(self.limits.max_age) => {}
            () = has_been_idle(entry.load.subscribe(), self.limits.idle) => {}
        }
    }

    async fn drain(&self, connection: impl Future<Output = hyper::Result<()>>, entry: &Entry) {
        // Other clients wait for the place of one that was asked to leave.
        let has_left = async {
            entry.leave.cancelled().await;
            has_been_idle(entry.load.subscribe(), LEAVE).await;
        };
        tokio::select! {
            ended = connection => log_end(ended),
            () = sleep(self.limits.drain) => {
                tracing::debug!("a connection did not end in time and is closed");
            }
            () = has_left => {}
        }
    }
}

type Io = TokioIo<Box<dyn Stream>>;

/// All that a client can make us keep or do beside its requests has a limit, which is stated here rather than left to
/// the library's defaults.
fn http2_settings(share: &Share) -> http2::Builder<TokioExecutor> {
    let mut settings = http2::Builder::new(TokioExecutor::new());
    settings
        .timer(TokioTimer::new())
        // A peer that vanished, or that takes nothing, does not answer a PING. One PING of the client's is answered at
        // a time, and nothing more is read before.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(share.streams)
        .initial_stream_window_size(share.stream_window)
        .initial_connection_window_size(share.connection_window)
        .max_frame_size(16 * 1024)
        // Also bounds CONTINUATION frames: as many as such a list takes, and at least five.
        .max_header_list_size(MAX_HEAD)
        .header_table_size(4096)
        // Requests that the client resets before we took them (rapid reset, CVE-2023-44487).
        .max_pending_accept_reset_streams(20)
        // Streams that we reset for what the client did (MadeYouReset, CVE-2025-8671). A client that does not know our
        // limit yet may open a hundred at once, and those beyond the limit count.
        .max_local_error_reset_streams(256)
        // What is kept of each answer that the client does not take.
        .max_send_buf_size(64 * 1024);
    settings
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
