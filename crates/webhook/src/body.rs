//! Receives request bodies under the memory budget.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::BodyExt;
use pod_reloader_k8s::budget::{Budget, Reservation, SMALL_BYTES};
use pod_reloader_k8s::fair::Party;
use pod_reloader_k8s::scan::{Path, Scalar, Scanner, Visitor};
use tokio::time::{Instant, timeout_at};

use crate::caller::Caller;
use crate::http::Rejection;

/// The largest body: a review carries the object twice, and the API server takes objects of 1.5 MiB.
pub const MAX_BODY_BYTES: usize = 8 << 20;

/// How much of a body that is not kept is read, so that the client hears of it.
const MAX_DISCARDED_BYTES: usize = 64 << 20;

/// How long a client may take to send its body; waiting for room is not counted.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a large body may take beside a second for each MiB: while it arrives, others wait for its room.
const LARGE_BODY_GRACE: Duration = Duration::from_secs(2);

/// How much is read before there is room: the API server writes what a review is about before the objects.
const HEAD_BYTES: usize = 4096;

/// A body, or what is known of one that there was no room for.
pub(crate) enum Received {
    /// All of it, with the room that it takes.
    Whole(Vec<u8>, Reservation),
    /// There was no room until the deadline; the uid of the request, if it was found.
    NoRoom(Option<String>),
}

/// Receives a body. It waits for room until shortly before the deadline.
pub(crate) async fn receive(mut body: Body, budget: &Budget, caller: &Caller) -> Result<Received, Rejection> {
    let deadline = caller.deadline;
    let begin = Instant::now();
    let length = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        discard(&mut body, begin + BODY_TIMEOUT).await;
        return Err(too_large());
    }
    let mut head = Head::default();
    while !head.is_read() {
        match next_data(&mut body, begin + BODY_TIMEOUT).await? {
            Some(data) => head.add(data),
            None => break,
        }
    }
    let namespace = head.about.namespace.as_deref().unwrap_or_default();
    let party = Party { key: namespace, caller: &caller.peer };
    // What is left then is for reading the rest of a body that there is no room for.
    let now = Instant::now();
    let room_until = now + deadline.saturating_duration_since(now) / 4 * 3;
    let size = length.unwrap_or(MAX_BODY_BYTES);
    let Some(mut reservation) = budget.reserve_body_until(party, size, room_until).await else {
        let uid = head.about.uid.take();
        drop(head);
        discard(&mut body, deadline).await;
        return Ok(Received::NoRoom(uid));
    };
    let left = BODY_TIMEOUT.saturating_sub(now - begin).min(time_for(size));
    let Some(bytes) = read(&mut body, head.pieces, length, Instant::now() + left).await? else {
        drop(reservation);
        discard(&mut body, begin + BODY_TIMEOUT).await;
        return Err(too_large());
    };
    reservation.shrink(bytes.len());
    Ok(Received::Whole(bytes, reservation))
}

/// The whole body, in one buffer; `None` if it is too large.
async fn read(
    body: &mut Body,
    head: Vec<Bytes>,
    length: Option<usize>,
    until: Instant,
) -> Result<Option<Vec<u8>>, Rejection> {
    let mut bytes = Vec::with_capacity(length.unwrap_or_default());
    for piece in head {
        bytes.extend_from_slice(&piece);
    }
    while bytes.len() <= MAX_BODY_BYTES {
        match next_data(body, until).await? {
            Some(data) => bytes.extend_from_slice(&data),
            None => return Ok(Some(bytes)),
        }
    }
    Ok(None)
}

fn time_for(size: usize) -> Duration {
    if size <= SMALL_BYTES {
        return BODY_TIMEOUT;
    }
    let mebibytes = u32::try_from(size.div_ceil(1 << 20)).unwrap_or(u32::MAX);
    (LARGE_BODY_GRACE + Duration::from_secs(1).saturating_mul(mebibytes)).min(BODY_TIMEOUT)
}

async fn next_data(body: &mut Body, until: Instant) -> Result<Option<Bytes>, Rejection> {
    loop {
        match timeout_at(until, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(error))) => {
                return Err(Rejection {
                    status: StatusCode::BAD_REQUEST,
                    reason: "broken_body",
                    text: format!("the body broke off: {error}"),
                });
            }
            Err(_) => {
                return Err(Rejection {
                    status: StatusCode::REQUEST_TIMEOUT,
                    reason: "slow_body",
                    text: format!(
                        "the body did not arrive within {} s, or 2 s and one for each MiB",
                        BODY_TIMEOUT.as_secs()
                    ),
                });
            }
        }
    }
}

/// Reads what is left and throws it away, up to a point: closing the connection on a client that still sends would
/// lose it the answer.
async fn discard(body: &mut Body, until: Instant) {
    let mut length = 0;
    while let (true, Ok(Some(data))) = (length <= MAX_DISCARDED_BYTES, next_data(body, until).await) {
        length += data.len();
    }
}

fn too_large() -> Rejection {
    Rejection {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        reason: "too_large",
        text: format!("the body is larger than {MAX_BODY_BYTES} bytes"),
    }
}

/// The beginning of a body, and what it says.
#[derive(Default)]
struct Head {
    pieces: Vec<Bytes>,
    length: usize,
    scanner: Scanner,
    about: About,
}

impl Head {
    fn add(&mut self, data: Bytes) {
        let scanned = data.len().min(HEAD_BYTES.saturating_sub(self.length));
        self.scanner.feed(&data[..scanned], &mut self.about);
        self.length += data.len();
        self.pieces.push(data);
    }

    fn is_read(&self) -> bool {
        self.about.is_complete || self.length >= HEAD_BYTES
    }
}

/// What a review is about.
#[derive(Default)]
struct About {
    uid: Option<String>,
    namespace: Option<String>,
    /// What follows are user and objects.
    is_complete: bool,
}

impl Visitor for About {
    fn scalar(&mut self, path: &Path, value: &Scalar<'_>) {
        if path.is(&["request", "uid"]) {
            self.uid = value.string().filter(|uid| !uid.is_empty());
        } else if path.is(&["request", "namespace"]) {
            self.namespace = value.string();
        } else if path.is(&["request", "operation"]) {
            self.is_complete = self.uid.is_some();
        }
    }
}
