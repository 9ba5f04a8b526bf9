//! The gate before an API server in the process.
#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use kube::client::Body as KubeBody;
use serde_json::{Value, json};
use tower::{ServiceExt, service_fn};

use super::*;

/// What the API server does.
#[derive(Default)]
struct Api {
    /// Every question: its path, and its `spec`.
    questions: Mutex<Vec<(String, Value)>>,
    /// Answers with that status.
    fails: Mutex<Option<u16>>,
    hangs: AtomicBool,
    /// Whether the token `prometheus` is still good.
    is_revoked: AtomicBool,
}

impl Api {
    async fn answer(self: Arc<Self>, request: Request<KubeBody>) -> axum::http::Response<Body> {
        let path = request.uri().path().to_owned();
        let body = to_bytes(Body::new(request.into_body()), usize::MAX).await.unwrap();
        let mut review: Value = serde_json::from_slice(&body).unwrap();
        let spec = review["spec"].clone();
        self.questions.lock().unwrap().push((path.clone(), spec.clone()));
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        sleep(Duration::from_millis(2)).await;
        let failure = *self.fails.lock().unwrap();
        let (code, answer) = if let Some(code) = failure {
            (code, json!({"kind": "Status", "status": "Failure", "code": code, "message": "no"}))
        } else {
            review["status"] = match path.as_str() {
                "/apis/authentication.k8s.io/v1/tokenreviews" => self.authenticate(&spec["token"]),
                "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                    json!({"allowed": spec["user"] == "prometheus"})
                }
                other => panic!("{other} is asked for"),
            };
            (201, review)
        };
        axum::http::Response::builder().status(code).body(Body::from(answer.to_string())).unwrap()
    }

    fn authenticate(&self, token: &Value) -> Value {
        let name = match token.as_str().unwrap() {
            "prometheus" if self.is_revoked.load(Ordering::Relaxed) => return json!({"authenticated": false}),
            "tenant" => "tenant",
            known if known.starts_with("prometheus") => "prometheus",
            _ => return json!({"error": "unknown"}),
        };
        let user = json!({"username": name, "uid": "7", "groups": ["a", "b"], "extra": {"x": ["y"]}});
        json!({"authenticated": true, "user": user})
    }

    fn count(&self) -> usize {
        self.questions.lock().unwrap().len()
    }
}

struct Metrics {
    api: Arc<Api>,
    gate: Arc<Gate>,
    registry: Arc<Registry>,
    router: Router,
}

impl Metrics {
    fn new() -> Self {
        let api = Arc::new(Api::default());
        let answers = api.clone();
        let service = service_fn(move |request| {
            let answer = answers.clone().answer(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut registry = Registry::default();
        let gate = Gate::new(Client::new(service, "default"), &mut registry).unwrap();
        let registry = Arc::new(registry);
        let router = crate::admin::metrics_behind(gate.clone(), registry.clone());
        Self { api, gate, registry, router }
    }

    async fn ask(&self, authorization: &[&str]) -> (u16, String) {
        self.ask_for("/metrics", authorization).await
    }

    async fn ask_for(&self, path: &str, authorization: &[&str]) -> (u16, String) {
        let mut request = Request::get(path);
        for value in authorization {
            request = request.header(header::AUTHORIZATION, *value);
        }
        let answer = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        if status == 401 {
            assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer");
        }
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn counts(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|candidate| candidate == line)
    }
}

const GOOD: &[&str] = &["Bearer prometheus"];

#[tokio::test(start_paused = true)]
async fn c4_11_the_metrics_are_for_those_who_may_get_them() {
    let metrics = Metrics::new();
    for (authorization, status) in [
        (&[][..], 401),
        (&["Bearer"], 401),
        (&["Bearer "], 401),
        (&["Basic cHJvbWV0aGV1cw=="], 401),
        (&["prometheus"], 401),
        (&["Bearer prometheus", "Bearer tenant"], 401),
        (&["Bearer two words"], 401),
    ] {
        assert_eq!(metrics.ask(authorization).await.0, status, "{authorization:?}");
    }
    assert_eq!(metrics.ask(&[&format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1))]).await.0, 401);
    assert_eq!(metrics.api.count(), 0, "without a token there is nothing to ask");

    let (status, text) = metrics.ask(GOOD).await;
    assert_eq!(status, 200);
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert_eq!(metrics.ask(&["bearer prometheus"]).await.0, 200);
    let (status, text) = metrics.ask(&["Bearer tenant"]).await;
    assert_eq!(status, 403);
    assert!(!text.contains("tenant") && text.contains("nonResourceURL /metrics"), "{text}");
    assert_eq!(metrics.ask(&["Bearer stranger"]).await.0, 401);
    // Nor do strangers learn what else there is.
    assert_eq!(metrics.ask_for("/other", &["Bearer stranger"]).await.0, 401);
    assert_eq!(metrics.ask_for("/other", &[]).await.0, 401);

    let asked = metrics.api.questions.lock().unwrap().clone();
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert_eq!(asked[0].1, json!({"token": "prometheus"}));
    let expected = json!({
        "user": "prometheus", "uid": "7", "groups": ["a", "b"], "extra": {"x": ["y"]},
        "nonResourceAttributes": {"path": "/metrics", "verb": "get"}
    });
    assert_eq!(asked[1].1, expected);
    for (result, count) in [("allowed", 2), ("unauthenticated", 11), ("forbidden", 1)] {
        assert!(
            metrics.counts(&format!(r#"metrics_requests_total{{result="{result}"}} {count}"#)),
            "{result}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c4_11_verdicts_last_for_a_short_while_and_no_longer() {
    let metrics = Metrics::new();
    for _ in 0..20 {
        assert_eq!(metrics.ask(GOOD).await.0, 200);
        assert_eq!(metrics.ask(&["Bearer stranger"]).await.0, 401);
    }
    assert_eq!(metrics.api.count(), 3);
    metrics.api.is_revoked.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(55)).await;
    assert_eq!(metrics.ask(GOOD).await.0, 200);
    assert_eq!(metrics.api.count(), 3);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(metrics.ask(GOOD).await.0, 401, "it was revoked");
    metrics.api.is_revoked.store(false, Ordering::Relaxed);
    assert_eq!(metrics.ask(GOOD).await.0, 401);
    sleep(REFUSED_FOR).await;
    assert_eq!(metrics.ask(GOOD).await.0, 200);
    let kept = metrics.gate.verdicts.lock().unwrap();
    assert!(kept.keys().all(|digest| !digest.starts_with(b"prometheus")));
}

#[tokio::test(start_paused = true)]
async fn c4_11_a_flood_of_bad_tokens_neither_storms_the_api_server_nor_shuts_others_out() {
    let metrics = Arc::new(Metrics::new());
    let good: Vec<_> = (0..20).map(|number| format!("Bearer prometheus-{number}")).collect();
    let good_are_let_in = async || {
        let answers = good.iter().map(|token| async { metrics.ask(&[token]).await.0 });
        assert_eq!(futures::future::join_all(answers).await, [200; 20]);
    };
    good_are_let_in().await;
    let flood = tokio::spawn({
        let metrics = metrics.clone();
        async move {
            for round in 0..900 {
                for number in 0..20 {
                    let metrics = metrics.clone();
                    // Half of them do not wait for an answer.
                    let limit = Duration::from_millis(if number % 2 == 0 { 1 } else { 10_000 });
                    tokio::spawn(async move {
                        let token = format!("Bearer {round}-{number}");
                        timeout(limit, metrics.ask(&[&token])).await
                    });
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    });
    // Also after its verdict has expired.
    for _ in 0..16 {
        good_are_let_in().await;
        sleep(Duration::from_secs(5)).await;
    }
    flood.await.unwrap();
    sleep(Duration::from_secs(10)).await;
    // 18,000 bad tokens in 90 s.
    let questions = metrics.api.questions.lock().unwrap();
    let is_bad = |spec: &Value| spec["token"].as_str().is_some_and(|token| !token.starts_with("prometheus"));
    let asked = questions.iter().filter(|(_, spec)| is_bad(spec)).count();
    assert!((100..=900).contains(&asked), "{asked} questions");
    let kept = metrics.gate.verdicts.lock().unwrap().len();
    assert!(kept <= MAX_VERDICTS, "{kept} verdicts are kept");
}

#[tokio::test(start_paused = true)]
async fn c4_11_verdicts_are_bounded_and_bad_ones_push_out_no_good_one() {
    let metrics = Metrics::new();
    let digest = |number: usize| Sha256::digest(number.to_be_bytes()).into();
    let good = MAX_VERDICTS / 2;
    for number in 0..2 * MAX_VERDICTS {
        let verdict = if number < good { Verdict::Allowed } else { Verdict::Unauthenticated };
        metrics.gate.remember(digest(number), verdict);
    }
    for number in 0..good {
        assert_eq!(metrics.gate.remembered(&digest(number)), (Some(Verdict::Allowed), true));
    }
    assert_eq!(metrics.gate.verdicts.lock().unwrap().len(), MAX_VERDICTS);
    metrics.gate.remember(digest(1 << 20), Verdict::Allowed);
    assert_eq!(metrics.gate.remembered(&digest(1 << 20)), (Some(Verdict::Allowed), true));
    assert_eq!(metrics.gate.verdicts.lock().unwrap().len(), MAX_VERDICTS);
    sleep(KNOWN_FOR).await;
    metrics.gate.remember(digest(2 << 20), Verdict::Unauthenticated);
    assert_eq!(metrics.gate.verdicts.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c4_11_many_with_the_same_token_ask_once() {
    let metrics = Metrics::new();
    let answers = futures::future::join_all((0..50).map(|_| metrics.ask(GOOD))).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
    // Two questions for each of those that may ask at once.
    assert!(metrics.api.count() <= 2 * AT_ONCE, "{} questions", metrics.api.count());
}

#[tokio::test(start_paused = true)]
async fn c4_11_without_the_api_server_nobody_is_let_in_and_nobody_hangs() {
    let metrics = Metrics::new();
    for code in [403, 500, 503] {
        *metrics.api.fails.lock().unwrap() = Some(code);
        assert_eq!(metrics.ask(GOOD).await.0, 503, "{code}");
    }
    *metrics.api.fails.lock().unwrap() = None;
    metrics.api.hangs.store(true, Ordering::Relaxed);
    let began = Instant::now();
    assert_eq!(metrics.ask(GOOD).await.0, 503);
    assert!(began.elapsed() <= TURN + ANSWER);
    metrics.api.hangs.store(false, Ordering::Relaxed);
    // What could not be asked is no verdict.
    assert_eq!(metrics.ask(GOOD).await.0, 200);
    assert!(metrics.counts(r#"metrics_requests_total{result="unavailable"} 4"#));
    assert!(metrics.counts(r#"metrics_requests_total{result="allowed"} 1"#));
}

#[test]
fn c4_11_only_a_request_with_one_bearer_token_has_one() {
    let mut headers = HeaderMap::new();
    assert_eq!(bearer_token(&headers), None);
    headers.append(header::AUTHORIZATION, HeaderValue::from_static("BEARER  a.b-c_d "));
    assert_eq!(bearer_token(&headers), Some("a.b-c_d"));
    headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
    assert_eq!(bearer_token(&headers), None);
}
