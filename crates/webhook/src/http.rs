//! The HTTP side: bytes in, status code and bytes out (4.6).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http_body_util::BodyExt;
use pod_reloader_core::duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use crate::admit::Admitter;
use crate::review::Request;

/// The largest body: a review carries the object twice, and the API server takes objects of 1.5 MiB.
pub const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// How much of a body that is too large is read, so that the client hears of it.
const MOST_THROWN_AWAY: usize = 64 * 1024 * 1024;

/// What all bodies that are being read or answered may take together. Without it, a few clients with many requests each
/// could have the process killed.
const MAX_BYTES_OF_ALL_BODIES: usize = 256 * 1024 * 1024;
static BODY_BYTES: Semaphore = Semaphore::const_new(MAX_BYTES_OF_ALL_BODIES);

/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the API server allows a webhook, if the request does not say: the default of `timeoutSeconds`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The router of the webhook's port: `POST /mutate`.
pub fn router(admitter: Arc<Admitter>) -> Router {
    Router::new().route("/mutate", post(mutate)).with_state(admitter)
}

async fn mutate(State(admitter): State<Arc<Admitter>>, RawQuery(query): RawQuery, body: Body) -> Response {
    let arrived = Instant::now();
    // A panic must not take along the other requests of its connection.
    match AssertUnwindSafe(answer(&admitter, query.as_deref(), body, arrived)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(rejection)) => {
            admitter.metrics.count_rejected(rejection.reason);
            tracing::debug!(
                status = rejection.status.as_u16(),
                why = rejection.text,
                "turned a request away"
            );
            rejection.into_response()
        }
        Err(_) => {
            admitter.metrics.count_rejected("panic");
            tracing::error!("a bug: answering an admission request panicked");
            (StatusCode::INTERNAL_SERVER_ERROR, "internal error\n").into_response()
        }
    }
}

struct Rejection {
    status: StatusCode,
    reason: &'static str,
    text: String,
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        (self.status, self.text + "\n").into_response()
    }
}

async fn answer(
    admitter: &Admitter,
    query: Option<&str>,
    body: Body,
    arrived: Instant,
) -> Result<Response, Rejection> {
    let (body, _bytes) = read_body(body).await?;
    let complete = Instant::now();
    let request = Request::parse(&body).map_err(|error| Rejection {
        status: StatusCode::BAD_REQUEST,
        reason: "malformed",
        text: error.to_string(),
    })?;
    let response = admitter.admit(&request, arrived + time_allowed(query)).await;
    let json = response.to_json(&request.uid).map_err(|error| Rejection {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        reason: "unserializable",
        text: error.to_string(),
    })?;
    admitter.metrics.observe_duration(complete.elapsed().as_secs_f64());
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

async fn read_body(body: Body) -> Result<(Bytes, Held), Rejection> {
    match timeout(BODY_TIMEOUT, collect(body)).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(Rejection {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            reason: "too_large",
            text: format!("the body is larger than {MAX_BODY_BYTES} bytes"),
        }),
        Ok(Err(error)) => Err(Rejection {
            status: StatusCode::BAD_REQUEST,
            reason: "broken_body",
            text: format!("the body broke off: {error}"),
        }),
        Err(_) => Err(Rejection {
            status: StatusCode::REQUEST_TIMEOUT,
            reason: "slow_body",
            text: format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs()),
        }),
    }
}

/// A body's part of [`BODY_BYTES`].
type Held = Option<SemaphorePermit<'static>>;

/// The body; `None` if it is too large. What is too much is read and thrown away, up to a point: closing the
/// connection on a client that still sends would lose it the answer.
async fn collect(mut body: Body) -> Result<Option<(Bytes, Held)>, axum::Error> {
    let mut bytes = BytesMut::new();
    let mut held: Held = None;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        length += data.len();
        if length <= MAX_BODY_BYTES {
            // Waits if there is no room, within the time that a body has.
            let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
            if let Ok(more) = BODY_BYTES.acquire_many(count).await {
                match &mut held {
                    Some(held) => held.merge(more),
                    None => held = Some(more),
                }
            }
            bytes.extend_from_slice(&data);
        } else if length <= MOST_THROWN_AWAY {
            bytes = BytesMut::new();
            held = None;
        } else {
            return Ok(None);
        }
    }
    Ok((length <= MAX_BODY_BYTES).then(|| (bytes.freeze(), held)))
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
