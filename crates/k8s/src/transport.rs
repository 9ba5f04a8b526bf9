//! The connection under every request: each has a deadline, and one that was never answered moves all that follow to
//! fresh connections.
//!
//! kube's client bounds connecting, but neither the wait for an answer nor the silence of a watch, and it goes on using
//! pooled connections that a load balancer or a lost conntrack entry has made deaf. So this layer keeps a whole client
//! (with its pool) as one *generation*: if a request runs into its deadline, or its caller gives it up after [`STALL`]
//! without any sign of life, the generation is retired and later requests are made by a new one. Requests that are
//! under way on the old one are left alone; its pool is dropped with the last of them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::ready;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tower::{BoxError, Service};

/// How long the head of an answer may take, also that of a watch.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long the body of an answer may be silent, watches apart.
pub const SILENCE_DEADLINE: Duration = Duration::from_secs(10);
/// A server ends a watch after the `timeoutSeconds` it was asked for; one that is still silent so much later is dead.
pub const WATCH_GRACE: Duration = Duration::from_secs(5);
/// What a watch gets that names no `timeoutSeconds`; the API server's own default is 30 to 60 minutes.
const UNBOUNDED_WATCH: Duration = Duration::from_hours(1);
/// A caller that gives a request up after so long without a sign of life distrusts its connection.
pub const STALL: Duration = Duration::from_secs(1);
/// A generation lives at least this long: a server that is merely slow must not be met with a storm of handshakes.
const MIN_AGE: Duration = Duration::from_secs(1);

/// Makes a client with a connection pool of its own.
pub type Connect = Arc<dyn Fn() -> Result<Client, kube::Error> + Send + Sync>;

/// No answer, or no end of one, within a deadline of this layer.
#[derive(Debug, thiserror::Error)]
#[error("no answer from the API server within {} s", .0.as_secs())]
pub struct NoAnswer(pub(crate) Duration);

/// Whether the error is a deadline of this layer.
pub fn is_timeout(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(cause) if cause.is::<NoAnswer>())
}

/// See the module.
#[derive(Clone)]
pub struct Transport(Arc<Shared>);

struct Shared {
    connect: Connect,
    current: Mutex<Generation>,
}

#[derive(Clone)]
struct Generation {
    client: Client,
    number: u64,
    since: Instant,
}

impl Transport {
    /// A transport whose generations are made by `connect`.
    ///
    /// # Errors
    /// If the first one cannot be made.
    pub fn new(connect: Connect) -> Result<Self, kube::Error> {
        let current = Generation { client: connect()?, number: 0, since: Instant::now() };
        Ok(Self(Arc::new(Shared { connect, current: Mutex::new(current) })))
    }
}

impl Shared {
    /// Retires the generation of that number, unless that has been done already.
    fn retire(&self, number: u64) {
        let mut current = self.current.lock();
        if current.number != number || current.since.elapsed() < MIN_AGE {
            return;
        }
        match (self.connect)() {
            Ok(client) => {
                tracing::debug!("a request was not answered: using fresh connections to the API server");
                *current = Generation { client, number: number + 1, since: Instant::now() };
            }
            Err(error) => tracing::warn!(%error, "cannot make fresh connections to the API server"),
        }
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Guarded>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let generation = self.0.current.lock().clone();
        let limit = BodyLimit::of(&request);
        let mut watched = Watched {
            shared: self.0.clone(),
            number: generation.number,
            last_sign: Instant::now(),
            is_open: true,
        };
        Box::pin(async move {
            match timeout(HEAD_DEADLINE, generation.client.send(request)).await {
                Ok(Ok(response)) => {
                    watched.last_sign = Instant::now();
                    Ok(response.map(|body| Guarded::new(body, limit, watched)))
                }
                Ok(Err(error)) => {
                    watched.close();
                    Err(error.into())
                }
                Err(_) => {
                    watched.give_up();
                    Err(NoAnswer(HEAD_DEADLINE).into())
                }
            }
        })
    }
}

/// A request that is under way. Dropped in a silence, it takes its generation along.
struct Watched {
    shared: Arc<Shared>,
    number: u64,
    last_sign: Instant,
    is_open: bool,
}

impl Watched {
    /// The request has ended in some way that says nothing against its connection.
    fn close(&mut self) {
        self.is_open = false;
    }

    fn give_up(&mut self) {
        self.close();
        self.shared.retire(self.number);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.is_open && self.last_sign.elapsed() >= STALL {
            self.give_up();
        }
    }
}

/// How long a body may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLimit {
    /// Of each silence.
    Silence(Duration),
    /// In all: a watch is silent most of the time, and ends when it was asked to.
    Total(Duration),
}

impl BodyLimit {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let value = |name: &str| {
            query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)
        };
        match value("watch") {
            Some((_, "true" | "1")) => {
                let asked = value("timeoutSeconds").and_then(|(_, seconds)| seconds.parse().ok());
                Self::Total(asked.map_or(UNBOUNDED_WATCH, Duration::from_secs) + WATCH_GRACE)
            }
            _ => Self::Silence(SILENCE_DEADLINE),
        }
    }

    const fn duration(self) -> Duration {
        match self {
            Self::Silence(limit) | Self::Total(limit) => limit,
        }
    }
}

/// A body that ends with an error at its deadline.
pub struct Guarded {
    body: Body,
    limit: BodyLimit,
    began: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
    watched: Watched,
}

impl Guarded {
    fn new(body: Body, limit: BodyLimit, mut watched: Watched) -> Self {
        // A watch may be dropped at any time, which says nothing of its connection.
        watched.is_open = matches!(limit, BodyLimit::Silence(_));
        Self { body, limit, began: Instant::now(), deadline: None, watched }
    }

    fn deadline(&self) -> Instant {
        match self.limit {
            BodyLimit::Silence(limit) => self.watched.last_sign + limit,
            BodyLimit::Total(limit) => self.began + limit,
        }
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl HttpBody for Guarded {
    type Data = bytes::Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            match &frame {
                Some(Ok(_)) => {
                    self.watched.last_sign = Instant::now();
                    if matches!(self.limit, BodyLimit::Silence(_)) {
                        self.deadline = None;
                    }
                }
                Some(Err(_)) | None => self.watched.close(),
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        // Most bodies are there at once and never need a timer.
        let at = self.deadline();
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(at)));
        ready!(deadline.as_mut().poll(cx));
        self.watched.give_up();
        Poll::Ready(Some(Err(NoAnswer(self.limit.duration()).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::StreamExt;
    use http_body_util::StreamBody;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{WatchEvent, WatchParams};

    use super::*;
    use crate::connect::client_over;

    const OBJECT: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"ns","uid":"u","resourceVersion":"2"}}"#;

    /// What the connections of one generation do.
    #[derive(Clone, Copy, Debug)]
    enum Line {
        Deaf,
        DeafAfterHead,
        Works,
    }

    /// A client whose n-th generation behaves as the n-th line says, the last for all that follow.
    fn client(lines: &'static [Line]) -> (Client, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let connect: Connect = Arc::new(move || {
            let line = lines[count.fetch_add(1, Ordering::SeqCst).min(lines.len() - 1)];
            Ok(Client::new(tower::service_fn(move |request| answer(line, request)), "ns"))
        });
        (client_over(connect, "ns").unwrap(), made)
    }

    async fn answer(line: Line, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
        let text =
            if is_watch { format!("{{\"type\":\"ADDED\",\"object\":{OBJECT}}}\n") } else { OBJECT.into() };
        let silence = futures::stream::pending::<Result<Frame<bytes::Bytes>, BoxError>>();
        let parts = match line {
            Line::Deaf => std::future::pending().await,
            Line::DeafAfterHead => futures::stream::empty().chain(silence).boxed(),
            Line::Works => {
                let part = futures::stream::iter([Ok(Frame::data(bytes::Bytes::from(text)))]);
                if is_watch { part.chain(silence).boxed() } else { part.boxed() }
            }
        };
        let bytes = StreamBody::new(parts);
        // kube's body cannot be made from a stream outside of kube; a nested client wraps it.
        let inner = Client::new(
            tower::service_fn({
                let body = Arc::new(Mutex::new(Some(bytes)));
                move |_: Request<Body>| {
                    let body = body.lock().take().unwrap();
                    async move { Ok::<_, BoxError>(Response::new(body)) }
                }
            }),
            "ns",
        );
        Ok(inner.send(Request::new(Body::empty())).await?)
    }

    #[tokio::test(start_paused = true)]
    async fn c5_7_every_request_has_a_deadline_and_the_next_goes_over_a_fresh_connection() {
        for line in [&[Line::Deaf, Line::Works], &[Line::DeafAfterHead, Line::Works]] {
            let (client, made) = client(line);
            let api = Api::<ConfigMap>::namespaced(client, "ns");
            let began = Instant::now();
            tokio::time::sleep(MIN_AGE).await;
            let error = api.get("a").await.unwrap_err();
            assert!(began.elapsed() <= MIN_AGE + HEAD_DEADLINE + SILENCE_DEADLINE, "{line:?}");
            assert!(is_timeout(&error) || error.to_string().contains("no answer"), "{line:?}: {error:?}");
            assert_eq!(api.get("a").await.unwrap().metadata.name.as_deref(), Some("a"), "{line:?}");
            assert_eq!(made.load(Ordering::SeqCst), 2, "{line:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c5_7_a_request_that_its_caller_gives_up_unanswered_moves_the_next_to_a_fresh_connection() {
        for (wait, expected) in [(STALL, 2), (STALL / 2, 1)] {
            let (client, made) = client(&[Line::Deaf, Line::Works]);
            let api = Api::<ConfigMap>::namespaced(client, "ns");
            tokio::time::sleep(MIN_AGE).await;
            timeout(wait, api.get("a")).await.unwrap_err();
            assert_eq!(made.load(Ordering::SeqCst), expected, "{wait:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c5_7_the_head_of_a_watch_has_a_deadline_and_its_stream_ends_soon_after_the_server_should_have() {
        let params = WatchParams::default().timeout(40);
        for (line, limit) in [(Line::Deaf, HEAD_DEADLINE), (Line::Works, Duration::from_secs(45))] {
            let lines: &'static [Line] = Box::leak(Box::new([line, Line::Works]));
            let (client, made) = client(lines);
            let api = Api::<ConfigMap>::namespaced(client, "ns");
            let began = Instant::now();
            let error = async {
                let mut events = std::pin::pin!(api.watch(&params, "1").await?);
                while let Some(event) = events.next().await {
                    assert!(matches!(event?, WatchEvent::Added(_)));
                }
                Ok::<_, kube::Error>(())
            };
            assert!(error.await.is_err(), "{line:?}");
            assert_eq!(began.elapsed().as_secs(), limit.as_secs(), "{line:?}");
            assert_eq!(made.load(Ordering::SeqCst), 2, "{line:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_dropped_in_a_silence_says_nothing_of_its_connection() {
        let (client, made) = client(&[Line::Works]);
        let api = Api::<ConfigMap>::namespaced(client, "ns");
        {
            let mut events = std::pin::pin!(api.watch(&WatchParams::default(), "1").await.unwrap());
            assert!(events.next().await.is_some());
            timeout(Duration::from_secs(30), events.next()).await.map(drop).unwrap_err();
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_server_is_not_met_with_a_storm_of_handshakes() {
        let (client, made) = client(&[Line::Deaf]);
        let api = Api::<ConfigMap>::namespaced(client, "ns");
        let all = (0..100).map(|_| timeout(STALL * 2, api.get("a")));
        assert!(futures::future::join_all(all).await.into_iter().all(|answer| answer.is_err()));
        assert_eq!(made.load(Ordering::SeqCst), 2);
    }
}
