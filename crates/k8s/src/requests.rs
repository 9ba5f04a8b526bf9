//! How many requests to the API server may be under way at once.
//!
//! Each has a connection, since kube's client speaks HTTP/1.1, and so a file descriptor. What asks for them (admission
//! requests that read, reconciles, Events) is bounded in many places, but not in their sum, and the descriptors of the
//! process are. Watches do not count: their number is known.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use kube::client::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tower::{BoxError, Service};

use crate::transport::{BodyLimit, HEAD_DEADLINE, NoAnswer};

/// Requests at once, over one client.
pub const MAX_REQUESTS: usize = 128;

/// A client that keeps to the limit; clones share it.
#[derive(Clone)]
pub(crate) struct Bounded<S> {
    inner: S,
    slots: Arc<Semaphore>,
}

impl<S> Bounded<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, slots: Arc::new(Semaphore::new(MAX_REQUESTS)) }
    }
}

impl<S, B> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Held<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let slots = self.slots.clone();
        let mut inner = self.inner.clone();
        Box::pin(async move {
            let slot = match BodyLimit::of(&request) {
                BodyLimit::Total(_) => None,
                BodyLimit::Silence(_) => match timeout(HEAD_DEADLINE, slots.acquire_owned()).await {
                    // Never closed.
                    Ok(slot) => slot.ok(),
                    Err(_) => return Err(NoAnswer(HEAD_DEADLINE).into()),
                },
            };
            let response = inner.call(request).await?;
            Ok(response.map(|body| Held { body, _slot: slot }))
        })
    }
}

/// A body whose request counts until it is dropped.
#[derive(Debug)]
pub struct Held<B> {
    body: B,
    _slot: Option<OwnedSemaphorePermit>,
}

impl<B: HttpBody + Unpin> HttpBody for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
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
    use std::time::Duration;

    use futures::future::join_all;
    use http_body::Body as _;
    use tokio::time::{Instant, sleep};

    use super::*;

    fn request(path: &str) -> Request<Body> {
        Request::get(path).body(Body::empty()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn c4_9_requests_to_the_api_server_are_bounded_and_watches_do_not_count() {
        let running = Arc::new(AtomicUsize::new(0));
        let peak = Arc::new(AtomicUsize::new(0));
        let inner = {
            let (running, peak) = (running.clone(), peak.clone());
            tower::service_fn(move |_: Request<Body>| {
                let (running, peak) = (running.clone(), peak.clone());
                async move {
                    peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    sleep(Duration::from_secs(1)).await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, BoxError>(Response::new(Body::empty()))
                }
            })
        };
        let client = Bounded::new(inner);
        let begin = Instant::now();
        let answers = join_all(
            (0..3 * MAX_REQUESTS).map(|_| async { client.clone().call(request("/api")).await.is_ok() }),
        );
        assert!(answers.await.into_iter().all(|is_ok| is_ok));
        assert_eq!(peak.load(Ordering::SeqCst), MAX_REQUESTS);
        assert_eq!(begin.elapsed().as_secs(), 3);

        // Bodies count until they are gone, and a request that waits for a place does not wait for ever.
        let bodies = join_all((0..MAX_REQUESTS).map(|_| client.clone().call(request("/api")))).await;
        assert!(bodies.iter().flatten().all(|response| response.body().is_end_stream()));
        let watch = client.clone().call(request("/api?watch=true"));
        assert!(watch.await.is_ok());
        let error = client.clone().call(request("/api")).await.unwrap_err();
        assert!(error.is::<NoAnswer>());
        drop(bodies);
        assert!(client.clone().call(request("/api")).await.is_ok());
    }
}
