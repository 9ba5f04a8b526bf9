//! What there is to do on a connection: which requests are under way, and since when there are none.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// What there is to do on a connection.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// When each request that is under way began.
    running: Vec<Instant>,
    has_begun: bool,
    /// When the last request ended or, before the first, when the connection was accepted.
    idle_since: Instant,
}

impl Load {
    /// Of a connection that was accepted now.
    pub(super) fn new() -> Self {
        Self { running: vec![], has_begun: false, idle_since: Instant::now() }
    }

    /// Whether there has been a request.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Since when the oldest request has been under way; `None` if there is none.
    pub(super) fn running_since(&self) -> Option<Instant> {
        self.running.iter().min().copied()
    }

    pub(super) fn idle_since(&self) -> Instant {
        self.idle_since
    }
}

/// A request that is under way: from its head until the client has taken the answer.
pub(super) struct Running {
    load: Arc<watch::Sender<Load>>,
    since: Instant,
}

impl Running {
    pub(super) fn new(load: Arc<watch::Sender<Load>>) -> Self {
        let since = Instant::now();
        load.send_modify(|load| {
            load.running.push(since);
            load.has_begun = true;
        });
        Self { load, since }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.load.send_modify(|load| {
            if let Some(index) = load.running.iter().position(|since| *since == self.since) {
                load.running.swap_remove(index);
            }
            load.idle_since = Instant::now();
        });
    }
}

/// The body of an answer, with which its request ends. It is given away in pieces, and each only when the one before has
/// been taken: in one, all of it would be in the connection's keeping at once, taken or not.
pub(super) struct AnswerBody {
    body: Body,
    rest: Bytes,
    _running: Running,
}

/// The most that is given away at once.
const PIECE: usize = 16 * 1024;

impl AnswerBody {
    pub(super) fn new(body: Body, running: Running) -> Self {
        Self { body, rest: Bytes::new(), _running: running }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context))
                .map(|frame| frame.map(Frame::into_data))
            {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// Returns once no request has been under way for so long.
pub(super) async fn has_been_idle(mut load: watch::Receiver<Load>, limit: Duration) {
    while load.wait_for(|load| load.running.is_empty()).await.is_ok() {
        if timeout(limit, load.changed()).await.is_err() {
            return;
        }
    }
    // The connection has ended, which the caller's `select!` notices by itself.
    std::future::pending::<()>().await;
}

/// Returns if no request has begun within that time.
pub(super) async fn header_timed_out(mut load: watch::Receiver<Load>, limit: Duration) {
    if timeout(limit, load.wait_for(|load| load.has_begun)).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Returns once a request has been under way for so long.
pub(super) async fn has_taken_too_long(mut load: watch::Receiver<Load>, limit: Duration) {
    loop {
        let oldest = load.borrow_and_update().running_since();
        let is_over = async {
            match oldest {
                Some(since) => sleep_until(since + limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = is_over => return,
            changed = load.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
