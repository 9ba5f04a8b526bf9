//! Who may read the metrics with `--metrics-secure` (4.11): whose bearer token the API server knows (`TokenReview`), and
//! who may `get` the nonResourceURL `/metrics` (`SubjectAccessReview`).
//!
//! Verdicts are kept for a short while, under a keyed digest of the token and never under the token. However many bad
//! tokens come, the API server is asked about a few of them at once and a few in a second, and those that were good
//! before do not wait behind them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kube::Client;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout};

mod review;

/// How long a caller that was let in is let in again, whatever became of its rights.
const ALLOWED_FOR: Duration = Duration::from_mins(1);
/// How long a caller that was refused is refused again.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long a token that was good is reviewed apart from unknown ones.
const KNOWN_FOR: Duration = Duration::from_hours(1);
/// Verdicts that are kept.
const MAX_VERDICTS: usize = 1024;
/// Reviews at once, for tokens that were good before and for others each.
const AT_ONCE: usize = 2;
/// How long the place of a review stays taken that ended without access: eight such reviews in a second at most.
const PACE: Duration = Duration::from_millis(250);
/// How long a review waits for its turn, and how long it may take. Prometheus gives up after ten seconds.
const TURN: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);
/// More than any token has.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What the API server says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allowed,
    /// Known, without the right.
    Forbidden,
    /// Not known.
    Unauthenticated,
}

#[derive(Clone, Copy)]
struct Judged {
    verdict: Verdict,
    at: Instant,
}

impl Judged {
    fn counts(self, now: Instant) -> bool {
        let lasts = if self.verdict == Verdict::Allowed { ALLOWED_FOR } else { REFUSED_FOR };
        now.duration_since(self.at) < lasts
    }

    fn is_known(self, now: Instant) -> bool {
        self.verdict == Verdict::Allowed && now.duration_since(self.at) < KNOWN_FOR
    }
}

type TokenDigest = [u8; 32];

/// See the module.
pub(crate) struct Gate {
    client: Client,
    /// Keys the digests of tokens.
    salt: [u8; 32],
    verdicts: Mutex<HashMap<TokenDigest, Judged>>,
    for_known: Arc<Semaphore>,
    for_others: Arc<Semaphore>,
    is_failing: AtomicBool,
    requests: Family<RequestLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    result: &'static str,
}

/// The API server gave no verdict.
#[derive(Clone, Copy, Debug)]
struct Unavailable;

impl Gate {
    /// Asks by that client, and counts in that registry.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(crate) fn new(client: Client, registry: &mut Registry) -> Result<Arc<Self>, getrandom::Error> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)?;
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register(
            "metrics_requests",
            "Requests for the metrics with --metrics-secure, by result",
            requests.clone(),
        );
        Ok(Arc::new(Self {
            client,
            salt,
            verdicts: Mutex::default(),
            for_known: Arc::new(Semaphore::new(AT_ONCE)),
            for_others: Arc::new(Semaphore::new(AT_ONCE)),
            is_failing: AtomicBool::new(false),
            requests,
        }))
    }

    /// What was said of that token lately, and whether it is one that was good.
    fn remembered(&self, token: &TokenDigest) -> (Option<Verdict>, bool) {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let judged = verdicts.get(token);
        let verdict = judged.filter(|judged| judged.counts(now)).map(|judged| judged.verdict);
        (verdict, judged.is_some_and(|judged| judged.is_known(now)))
    }

    fn remember(&self, token: TokenDigest, verdict: Verdict) {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if verdicts.len() >= MAX_VERDICTS {
            verdicts.retain(|_, judged| judged.counts(now) || judged.is_known(now));
        }
        if verdicts.len() >= MAX_VERDICTS && !verdicts.contains_key(&token) {
            // In the place of a bad one, never of a good one.
            let bad = verdicts.iter().find(|(_, judged)| judged.verdict != Verdict::Allowed);
            let Some(bad) = bad.map(|(token, _)| *token) else { return };
            verdicts.remove(&bad);
        }
        verdicts.insert(token, Judged { verdict, at: now });
    }

    async fn judge(self: &Arc<Self>, token: &str) -> Result<Verdict, Unavailable> {
        let digest: TokenDigest = Sha256::new().chain_update(self.salt).chain_update(token).finalize().into();
        let (verdict, is_known) = self.remembered(&digest);
        if let Some(verdict) = verdict {
            return Ok(verdict);
        }
        let turns = if is_known { &self.for_known } else { &self.for_others };
        let Ok(Ok(turn)) = timeout(TURN, turns.clone().acquire_owned()).await else {
            tracing::debug!("too many tokens wait for their review");
            return Err(Unavailable);
        };
        // Another request with the same token may have asked meanwhile.
        if let (Some(verdict), _) = self.remembered(&digest) {
            return Ok(verdict);
        }
        // A task of its own: a caller that disconnects avoids neither the review nor the pause behind it.
        let (sender, answer) = oneshot::channel();
        let (gate, token) = (self.clone(), token.to_owned());
        tokio::spawn(async move {
            let verdict = gate.ask(&token).await;
            if let Ok(verdict) = verdict {
                gate.remember(digest, verdict);
            }
            let is_good = matches!(verdict, Ok(Verdict::Allowed));
            // The caller may have given up meanwhile.
            let _ = sender.send(verdict);
            if !is_good {
                sleep(PACE).await;
            }
            drop(turn);
        });
        answer.await.unwrap_or(Err(Unavailable))
    }

    async fn ask(&self, token: &str) -> Result<Verdict, Unavailable> {
        let error = match timeout(ANSWER, review::review(&self.client, token)).await {
            Ok(Ok(verdict)) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("callers of the metrics can be authenticated again");
                }
                return Ok(verdict);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(error, "callers of the metrics cannot be authenticated");
        }
        Err(Unavailable)
    }
}

/// Lets callers through that the API server vouches for.
pub(crate) async fn require(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let judged = match bearer_token(request.headers()) {
        Some(token) => gate.judge(token).await,
        None => Ok(Verdict::Unauthenticated),
    };
    let (result, refusal) = match judged {
        Ok(Verdict::Allowed) => ("allowed", None),
        Ok(Verdict::Unauthenticated) => ("unauthenticated", Some(unauthorized())),
        Ok(Verdict::Forbidden) => {
            let text = "forbidden: it takes the right to get the nonResourceURL /metrics\n";
            ("forbidden", Some((StatusCode::FORBIDDEN, text).into_response()))
        }
        Err(Unavailable) => {
            let text = "the API server cannot be asked who you are\n";
            ("unavailable", Some((StatusCode::SERVICE_UNAVAILABLE, text).into_response()))
        }
    };
    gate.requests.get_or_create(&RequestLabels { result }).inc();
    match refusal {
        None => next.run(request).await,
        Some(refusal) => refusal,
    }
}

fn unauthorized() -> Response {
    let text = "unauthorized: it takes a bearer token that the API server knows\n";
    let mut response = (StatusCode::UNAUTHORIZED, text).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// The one token of the request.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let is_token = scheme.eq_ignore_ascii_case("bearer")
        && (1..=MAX_TOKEN_BYTES).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then_some(token)
}

#[cfg(test)]
mod tests;
