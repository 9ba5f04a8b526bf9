//! Bodies under the memory budget (4.2, 4.6, 5.2).

mod support;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use http::StatusCode;
use http_body::{Frame, SizeHint};
use serde_json::{Value, json};
use support::{Admitted, Webhook, deployment, reading, review};
use tokio::time::Instant;

/// A review of about that size.
fn large(bytes: usize) -> String {
    let mut object = deployment("", &reading(&["a"]));
    object["metadata"]["annotations"]["notes"] = json!("PLACE");
    in_order(&review("CREATE", &object, None)).replace("PLACE", &"x".repeat(bytes))
}

/// The API server writes what the review is about before the objects.
fn in_order(review: &Value) -> String {
    let request = &review["request"];
    let field = |name: &str| format!("\"{name}\":{}", request[name]);
    let fields =
        ["uid", "kind", "name", "namespace", "operation", "userInfo", "object", "oldObject"].map(field);
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{{}}}}}"#,
        fields.join(",")
    )
}

/// A body whose client stops sending after the beginning.
fn stalled(text: &str) -> Body {
    let head = Bytes::copy_from_slice(&text.as_bytes()[..100_000]);
    Body::from_stream(stream::iter([Ok::<_, Infallible>(head)]).chain(stream::pending()))
}

#[tokio::test(start_paused = true)]
async fn c5_2_thirty_large_bodies_at_once_stay_within_the_budget() {
    let webhook = Webhook::new();
    let body = Bytes::from(large((8 << 20) - 2000));
    let pieces = body.len().div_ceil(16 << 10);
    let answers = join_all((0..30).map(|i| {
        let body = body.clone();
        let webhook = webhook.clone();
        async move {
            // Half of them do not say how long they are.
            let body = if i % 2 == 0 {
                Body::from(body)
            } else {
                Body::from_stream(stream::iter((0..pieces).map(move |i| {
                    let begin = i * (16 << 10);
                    Ok::<_, Infallible>(body.slice(begin..body.len().min(begin + (16 << 10))))
                })))
            };
            webhook.send(body).await
        }
    }))
    .await;
    for (status, body) in answers {
        assert_eq!(status, StatusCode::OK);
        assert_eq!(Admitted::parse(&body, Value::Null).warnings, [""; 0]);
    }
    assert!(webhook.budget.peak() <= webhook.budget.total(), "{}", webhook.budget.peak());
    assert!(webhook.budget.peak() > 7 << 20, "bodies are counted");
    assert_eq!(webhook.budget.reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn c4_2_a_tiny_review_is_answered_while_large_ones_wait() {
    let webhook = Webhook::new();
    webhook.stub.put("configmaps/a", "1");
    let text = large(7 << 20);
    let begin = Instant::now();
    let waiting = join_all((0..20).map(|_| webhook.send(stalled(&text))));
    let tiny = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let admitted = webhook.review(&review("CREATE", &deployment("a", &reading(&["a"])), None)).await;
        assert_eq!(admitted.hash().map(str::len), Some(64));
        assert!(begin.elapsed() < Duration::from_millis(1100), "{:?}", begin.elapsed());
    };
    let (answers, ()) = tokio::join!(waiting, tiny);
    // Those that had the room, one after the other, are too slow; the others never got any.
    let slow = answers.iter().filter(|(status, _)| *status == StatusCode::REQUEST_TIMEOUT).count();
    assert!((1..=4).contains(&slow), "{slow}");
    for (_, body) in answers.iter().filter(|(status, _)| *status != StatusCode::REQUEST_TIMEOUT) {
        let admitted = Admitted::parse(body, Value::Null);
        assert_eq!(admitted.uid, "u-1");
        assert_eq!(
            admitted.warnings,
            ["pod-reloader: too many large requests at once; the config hash is left to the reconciler"]
        );
    }
    assert!(begin.elapsed() < Duration::from_secs(11), "{:?}", begin.elapsed());
    assert_eq!(webhook.budget.reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn c4_2_without_room_and_without_a_uid_the_answer_is_an_error() {
    let webhook = Webhook::new();
    let text = large(7 << 20);
    let no_uid = format!("{{\"notes\":\"{}\",{}", "x".repeat(5 << 20), &text[1..]);
    let (slow, refused) = tokio::join!(webhook.send(stalled(&text)), webhook.send(no_uid.clone()));
    assert_eq!(slow.0, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(refused.0, StatusCode::PAYLOAD_TOO_LARGE, "too large is too large, room or not");
    let no_uid = format!("{{\"notes\":\"{}\",{}", "x".repeat(1 << 20), &large(6 << 20)[1..]);
    // As slow as it may be: it has the room for eight seconds.
    let steady = webhook.send(trickling(large(7800 << 10), 900 << 10, Duration::from_secs(1)));
    let refused = async {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        webhook.send(no_uid.clone()).await
    };
    let (steady, refused) = tokio::join!(steady, refused);
    assert_eq!(steady.0, StatusCode::OK);
    assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.1);
    // With room it is a review like any other.
    assert_eq!(webhook.send(no_uid).await.0, StatusCode::OK);
}

/// A body that comes in pieces of that size, one after each pause.
fn trickling(text: String, piece: usize, pause: Duration) -> Body {
    let length = text.len();
    let text = Bytes::from(text);
    let pieces = stream::iter((0..length).step_by(piece)).then(move |begin| {
        let piece = text.slice(begin..length.min(begin + piece));
        async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(piece)
        }
    });
    Body::new(Sized { body: Body::from_stream(pieces), length: length as u64 })
}

#[tokio::test(start_paused = true)]
async fn c4_6_a_client_that_sends_its_body_slowly_is_given_up_soon() {
    let webhook = Webhook::new();
    let (small, large) = (large(100 << 10), large(4 << 20));
    let second = Duration::from_secs(1);
    for (text, piece, pause, limit) in [
        // A byte a second, of either; then somewhat too slow.
        (&small, 1, second, 3),
        (&large, 1, second, 3),
        (&small, 20 << 10, second, 6),
        (&large, 80_000, second, 4),
        (&large, 700 << 10, second, 8),
        // Fast at first, and then nothing.
        (&small, 90 << 10, 60 * second, 3),
        (&small, 2000, Duration::MAX, 3),
    ] {
        let begin = Instant::now();
        let (status, text) = webhook.send(trickling(text.clone(), piece, pause)).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{piece} {text}");
        assert!(begin.elapsed() < limit * second, "{piece}: {:?}", begin.elapsed());
        assert_eq!(webhook.budget.reserved(), 0);
    }
    for (text, piece, pause) in [
        (&small, 40 << 10, second),
        (&large, 1200 << 10, second),
        // Silent once, after it was fast.
        (&large, 3 << 20, Duration::from_millis(1900)),
    ] {
        let (status, text) = webhook.send(trickling(text.clone(), piece, pause)).await;
        assert_eq!(status, StatusCode::OK, "{piece} {text}");
    }
}

/// As many bodies as there may be, each as slow as it may be, and each about a namespace of its own.
#[tokio::test(start_paused = true)]
async fn c4_6_ordinary_reviews_do_not_wait_for_the_room_of_slow_bodies() {
    for bytes in [12 << 10, 200 << 10] {
        let webhook = Webhook::new();
        webhook.stub.put("configmaps/a", "1");
        let text = large(bytes);
        let mut slow = tokio::task::JoinSet::new();
        for i in 0..300 {
            let text = text.replace("\"shop\"", &format!("\"made-up-{i}\""));
            let (webhook, piece) = (webhook.clone(), (33 << 10).min(text.len() / 2));
            let body = trickling(text, piece, Duration::from_secs(1));
            slow.spawn(async move { webhook.send(body).await });
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let begin = Instant::now();
        let admitted = webhook.review(&review("CREATE", &deployment("a", &reading(&["a"])), None)).await;
        assert_eq!(admitted.hash().map(str::len), Some(64));
        assert!(begin.elapsed() < Duration::from_millis(100), "{bytes}: {:?}", begin.elapsed());
        slow.abort_all();
    }
}

#[tokio::test(start_paused = true)]
async fn c4_6_what_a_client_sent_fast_earns_it_no_long_silence() {
    let webhook = Webhook::new();
    let text = Bytes::from(large(7 << 20));
    let pieces = [text.slice(..100_000), text.slice(100_000..6 << 20)];
    let body = stream::iter(pieces.map(Ok::<_, Infallible>)).chain(stream::pending());
    let begin = Instant::now();
    let body = Sized { body: Body::from_stream(body), length: text.len() as u64 };
    let (status, _) = webhook.send(Body::new(body)).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(begin.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn c4_6_waiting_for_room_is_not_counted_against_the_client() {
    let webhook = Webhook::new();
    let text = large(7 << 20);
    // It has the room for some six seconds.
    let steady = webhook.send(trickling(text.clone(), 1200 << 10, Duration::from_secs(1)));
    let waits = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        webhook.send(trickling(text.clone(), 1200 << 10, Duration::from_secs(1))).await
    };
    let ((first, _), (second, text)) = tokio::join!(steady, waits);
    assert_eq!((first, second), (StatusCode::OK, StatusCode::OK), "{text}");
    assert_eq!(Admitted::parse(&text, Value::Null).warnings, [""; 0]);
}

/// A body of a length that is known beforehand.
struct Sized {
    body: Body,
    length: u64,
}

impl HttpBody for Sized {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
