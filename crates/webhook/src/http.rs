//! The HTTP side: bytes in, status code and bytes out (4.6).

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use futures::FutureExt;
use pod_reloader_core::dialect::own::Auto;
use pod_reloader_core::duration;
use pod_reloader_k8s::budget::{Reservation, SMALL_BYTES};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::admit::Admitter;
pub use crate::body::MAX_BODY_BYTES;
use crate::body::{Received, receive};
use crate::caller::Caller;
use crate::prepare::Prepared;
use crate::{review, warning};

/// What the API server allows a webhook, if the request does not say: the default of `timeoutSeconds`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Large bodies are parsed on threads of their own, so many at once: small ones do not wait for them.
static LARGE_BODIES: Semaphore = Semaphore::const_new(2);

/// The router of the webhook's port: `POST /mutate`, and `POST /mutate/auto-true` and the like for namespaces whose label
/// says so (7.4): the API server knows the label, and nothing has to be asked.
pub fn router(admitter: Arc<Admitter>) -> Router {
    let mutate_in = |label| post(move |state, peer, query, body| mutate(state, peer, query, body, label));
    let mut router = Router::new().route("/mutate", mutate_in(Auto::Off));
    for value in Auto::VALUES {
        let label = Auto::parse(value).unwrap_or_default();
        router = router.route(&format!("/mutate/auto-{value}"), mutate_in(label));
    }
    router.with_state(admitter)
}

/// The server adds the peer's address to each request.
type PeerAddress = Option<Extension<ConnectInfo<SocketAddr>>>;

async fn mutate(
    State(admitter): State<Arc<Admitter>>,
    peer: PeerAddress,
    RawQuery(query): RawQuery,
    body: Body,
    label: Auto,
) -> Response {
    let caller = Caller {
        peer: peer.map_or_else(String::new, |Extension(ConnectInfo(address))| address.ip().to_string()),
        deadline: Instant::now() + time_allowed(query.as_deref()),
    };
    // A panic must not take along the other requests of its connection.
    match AssertUnwindSafe(answer(&admitter, body, caller, label)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(rejection)) => {
            admitter.metrics.count_rejected(rejection.reason);
            tracing::debug!(status = rejection.status.as_u16(), why = rejection.text, "rejected a request");
            rejection.into_response()
        }
        Err(_) => {
            admitter.metrics.count_rejected("panic");
            tracing::error!("a bug: answering an admission request panicked");
            (StatusCode::INTERNAL_SERVER_ERROR, "internal error\n").into_response()
        }
    }
}

/// Why a request gets no review as its answer.
pub(crate) struct Rejection {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) text: String,
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        (self.status, self.text + "\n").into_response()
    }
}

async fn answer(
    admitter: &Arc<Admitter>,
    body: Body,
    caller: Caller,
    label: Auto,
) -> Result<Response, Rejection> {
    let (body, reservation) = match receive(body, &admitter.budget, &caller).await? {
        Received::Whole(body, reservation) => (body, reservation),
        Received::NoRoom(uid) => return overloaded(admitter, uid),
    };
    let complete = Instant::now();
    // What stays of the body's room is for what was made of it.
    let (prepared, _room) = prepare(admitter, body, reservation, label).await?;
    let (uid, response) = admitter.admit(prepared, &caller).await;
    tracing::debug!(peer = caller.peer, uid, "answered a review");
    let response = to_review(&response, &uid)?;
    admitter.metrics.observe_duration(complete.elapsed().as_secs_f64());
    Ok(response)
}

/// Parses the body and gives it back, a large one on a thread of its own.
async fn prepare(
    admitter: &Arc<Admitter>,
    body: Vec<u8>,
    mut reservation: Reservation,
    label: Auto,
) -> Result<(Prepared, Reservation), Rejection> {
    let is_small = body.len() <= SMALL_BYTES;
    let work = move |admitter: &Admitter| {
        let prepared = admitter.prepare(&body, label).map_err(|error| Rejection {
            status: StatusCode::BAD_REQUEST,
            reason: "malformed",
            text: error.to_string(),
        })?;
        drop(body);
        reservation.shrink(prepared.weight());
        Ok((prepared, reservation))
    };
    if is_small {
        return work(admitter);
    }
    // Never closed.
    let turn = LARGE_BODIES.acquire().await.ok();
    let admitter = admitter.clone();
    let done = spawn_blocking(move || {
        let done = work(&admitter);
        drop(turn);
        done
    });
    done.await.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_) => Err(Rejection {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: "shutdown",
            text: "shutting down".into(),
        }),
    })
}

/// Without room for its body a request is allowed as it is; the reconciler does what is to be done (4.2).
fn overloaded(admitter: &Admitter, uid: Option<String>) -> Result<Response, Rejection> {
    admitter.metrics.count_overloaded(uid.is_some());
    let Some(uid) = uid else {
        return Err(Rejection {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: "overloaded",
            text: "too many large requests at once; the request has no uid in its first bytes".into(),
        });
    };
    tracing::warn!(uid, "no room for a request's body in time; it is allowed as it is");
    let warnings = vec![warning::left_to_reconciler("too many large requests at once")];
    to_review(&review::Response { warnings, ..review::Response::default() }, &uid)
}

fn to_review(response: &review::Response, uid: &str) -> Result<Response, Rejection> {
    let json = response.to_json(uid).map_err(|error| Rejection {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        reason: "unserializable",
        text: error.to_string(),
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// The time for one request: what the API server gives in `?timeout=`, less a margin for the way back.
fn time_allowed(query: Option<&str>) -> Duration {
    let given = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter_map(|pair| pair.strip_prefix("timeout="))
        .find_map(duration::parse)
        .unwrap_or(DEFAULT_TIMEOUT)
        // The API server allows at most 30 s.
        .min(Duration::from_secs(30));
    let margin = (given / 5).clamp(Duration::from_millis(100), Duration::from_millis(500));
    given.saturating_sub(margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c4_2_the_requests_own_timeout_less_a_margin() {
        for (query, expected) in [
            (None, 9_500),
            (Some("timeout=10s"), 9_500),
            (Some("a=b&timeout=1s"), 800),
            (Some("timeout=1m0s"), 29_500),
            (Some("timeout=500ms"), 400),
            (Some("timeout=50ms"), 0),
            (Some("timeout=x"), 9_500),
            (Some("timeout="), 9_500),
            (Some("timeout=-1s"), 9_500),
            (Some("timeout=99999999999999999999999999h"), 9_500),
        ] {
            assert_eq!(time_allowed(query), Duration::from_millis(expected), "{query:?}");
        }
    }
}
