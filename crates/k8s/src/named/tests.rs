use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::service_fn;

use super::*;

const POLL: Duration = Duration::from_secs(7);

/// The Secret `it`, over an API server that gives every request the same answer.
fn secret(answer: impl Fn(&str) -> (u16, Vec<Value>) + Send + Sync + 'static) -> Named<Secret> {
    let answer = Arc::new(answer);
    let service = service_fn(move |request: Request<Body>| {
        let (code, lines) = answer(&format!("{} {}", request.method(), request.uri()));
        let text = lines.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n");
        let response = Response::builder().status(StatusCode::from_u16(code).unwrap());
        async move { kube::Result::<_>::Ok(response.body(Body::from(text.into_bytes())).unwrap()) }
    });
    Named::new(Api::namespaced(Client::new(service, "ns"), "ns"), "it", POLL).watched_for(50)
}

fn failure(code: u16, reason: &str) -> (u16, Vec<Value>) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": "no"});
    (code, vec![status])
}

fn event(kind: &str) -> Value {
    let object = match kind {
        "ERROR" => failure(410, "Expired").1.remove(0),
        _ => {
            json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "it", "resourceVersion": "8"}})
        }
    };
    json!({"type": kind, "object": object})
}

/// How long it takes until the object should be read again, and how many failures were reported.
async fn waits(answer: (u16, Vec<Value>)) -> (Duration, usize) {
    let (began, failures) = (Instant::now(), AtomicUsize::new(0));
    let secret = secret(move |request| {
        assert!(request.contains("watch=true") && request.contains("timeoutSeconds=50"), "{request}");
        assert!(request.contains("metadata.name%3Dit") && request.contains("resourceVersion=7"), "{request}");
        answer.clone()
    });
    let count = |_: &kube::Error| {
        failures.fetch_add(1, Ordering::Relaxed);
    };
    secret.changed("7", count).await;
    (began.elapsed(), failures.into_inner())
}

#[tokio::test]
async fn the_object_is_found_by_a_list_with_a_version_to_watch_from() {
    for item in [None, Some(json!({"metadata": {"name": "it", "resourceVersion": "3"}}))] {
        let items = json!(item.iter().collect::<Vec<_>>());
        let secret = secret(move |request| {
            assert_eq!(request, "GET /api/v1/namespaces/ns/secrets?&fieldSelector=metadata.name%3Dit");
            (200, vec![json!({"metadata": {"resourceVersion": "7"}, "items": items})])
        });
        let (found, version) = secret.find().await.unwrap();
        let found = found.and_then(|found| found.metadata.resource_version);
        assert_eq!((found.as_deref(), version.as_str()), (item.map(|_| "3"), "7"));
    }
}

#[tokio::test]
async fn another_replicas_write_is_told_from_a_failure() {
    for (code, reason, is_refused) in [
        (409, "Conflict", true),
        (409, "AlreadyExists", true),
        (422, "Invalid", true),
        (404, "NotFound", true),
        (403, "Forbidden", false),
        (500, "InternalError", false),
    ] {
        let secret = secret(move |_| failure(code, reason));
        let error = secret.replace(&Secret::default()).await.unwrap_err();
        assert_eq!(matches!(error, Error::Refused { .. }), is_refused, "{reason}");
        assert_eq!(error.status().map(|status| status.code), Some(code));
        let text = with_causes(&error);
        assert!(text.contains("Secret it") && text.contains(": "), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_request_has_a_time_limit() {
    let service = service_fn(|_: Request<Body>| std::future::pending::<kube::Result<Response<Body>>>());
    let secret = Named::<Secret>::new(Api::default_namespaced(Client::new(service, "ns")), "it", POLL);
    let began = Instant::now();
    let error = secret.find().await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }) && error.cause().is_none(), "{error}");
    assert_eq!(began.elapsed().as_secs(), REQUEST_TIMEOUT.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_change_is_seen_at_once_and_whatever_else_ends_a_watch_is_followed_by_a_pause() {
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        assert_eq!(waits((200, vec![event(kind)])).await, (Duration::ZERO, 0), "{kind}");
    }
    assert_eq!(waits((200, vec![event("BOOKMARK"), event("MODIFIED")])).await, (Duration::ZERO, 0));
    let pause = WATCH_PAUSE.as_secs();
    for (events, failures) in [(vec![], 0), (vec![event("ERROR")], 0), (vec![json!({"type": "?"})], 1)] {
        let (time, reported) = waits((200, events)).await;
        assert_eq!((time.as_secs(), reported), (pause, failures));
    }
    let (time, reported) = waits(failure(403, "Forbidden")).await;
    assert_eq!((time.as_secs(), reported), (POLL.as_secs(), 1));
}
