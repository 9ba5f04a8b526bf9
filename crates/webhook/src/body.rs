//! Receives request bodies under the memory budget, and at no less than a certain pace.
//!
//! A body takes a place among its connection's requests and, once it is read, room in memory; a client that sends a byte
//! now and then must not keep either. So it has [`GRACE`] and earns more time with every byte: a body's average rate
//! must not stay below a minimum, and no silence may last longer than [`SILENCE`]. Only the time counts in which we wait
//! for the client: while a body waits for room, the client's windows are closed, and it cannot send. The API server
//! writes a body at once and as fast as the network allows, some hundred times faster than what is asked here.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::BodyExt;
use pod_reloader_k8s::budget::{Budget, EARLY_BYTES, Reservation, SMALL_BYTES};
use pod_reloader_k8s::fair::Party;
use pod_reloader_k8s::scan::{Path, Scalar, Scanner, Visitor};
use tokio::time::{Instant, timeout_at};

use crate::caller::Caller;
use crate::http::Rejection;

/// The largest body: a review carries the object twice, and the API server takes objects of 1.5 MiB.
pub const MAX_BODY_BYTES: usize = 8 << 20;

/// How much of a body that is not kept is read, so that the client hears of it.
const MAX_DISCARDED_BYTES: usize = 64 << 20;

/// The longest that a body may take whose room is given up for lost: what is left of it is thrown away.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take beside the time that its bytes earn.
const GRACE: Duration = Duration::from_secs(2);

/// How long it may send nothing, whatever it sent before.
const SILENCE: Duration = Duration::from_secs(3);

/// Bytes a second of a small body: 10 s for the largest.
const SMALL_RATE: usize = 32 << 10;

/// Bytes a second of a large one: while it arrives, other requests wait for its room.
const LARGE_RATE: usize = 1 << 20;

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
    let length = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        discard(&mut body, Instant::now() + DISCARD_TIMEOUT).await;
        return Err(too_large());
    }
    let mut pace = Pace::new(SMALL_RATE);
    let mut head = Head::default();
    // Most reviews are as small as that. They are read before room is reserved: a slow one then holds what its window
    // holds anyway, and not room that other requests need.
    let is_early = length.is_some_and(|length| length <= EARLY_BYTES);
    while is_early || !head.is_read() {
        match next_data(&mut body, &mut pace).await? {
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
    if size > SMALL_BYTES {
        pace = Pace::new(LARGE_RATE);
    }
    let Some(bytes) = read(&mut body, head.pieces, length, &mut pace).await? else {
        drop(reservation);
        discard(&mut body, Instant::now() + DISCARD_TIMEOUT).await;
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
    pace: &mut Pace,
) -> Result<Option<Vec<u8>>, Rejection> {
    let mut bytes = Vec::with_capacity(length.unwrap_or_default());
    for piece in head {
        bytes.extend_from_slice(&piece);
    }
    while bytes.len() <= MAX_BODY_BYTES {
        match next_data(body, pace).await? {
            Some(data) => bytes.extend_from_slice(&data),
            None => return Ok(Some(bytes)),
        }
    }
    Ok(None)
}

/// How fast a body arrives.
struct Pace {
    bytes_per_second: usize,
    received: usize,
    waited: Duration,
}

impl Pace {
    fn new(bytes_per_second: usize) -> Self {
        Self { bytes_per_second, received: 0, waited: Duration::ZERO }
    }

    /// How long the client may take for the next bytes.
    fn time_limit(&self) -> Duration {
        let micros = self.received.saturating_mul(1_000_000) / self.bytes_per_second;
        let earned = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        (GRACE + earned).saturating_sub(self.waited).min(SILENCE)
    }
}

/// The next bytes, of which there is at least one: frames without any make no progress.
async fn next_data(body: &mut Body, pace: &mut Pace) -> Result<Option<Bytes>, Rejection> {
    let begin = Instant::now();
    let until = begin + pace.time_limit();
    loop {
        match timeout_at(until, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if !data.is_empty() => {
                    pace.waited += begin.elapsed();
                    pace.received += data.len();
                    return Ok(Some(data));
                }
                _ => {}
            },
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
                        "the body arrives too slowly: after {} s fewer than {} bytes a second, or nothing for {} s",
                        GRACE.as_secs(),
                        pace.bytes_per_second,
                        SILENCE.as_secs()
                    ),
                });
            }
        }
    }
}

/// Reads what is left and throws it away, up to a point: closing the connection on a client that still sends would
/// lose it the answer.
async fn discard(body: &mut Body, until: Instant) {
    let mut pace = Pace::new(LARGE_RATE);
    let all = async {
        while let (true, Ok(Some(_))) =
            (pace.received <= MAX_DISCARDED_BYTES, next_data(body, &mut pace).await)
        {}
    };
    // What is late is not read.
    let _ = timeout_at(until, all).await;
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
