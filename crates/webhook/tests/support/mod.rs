//! A webhook over a stub of the API server, under the real client.
#![allow(dead_code, clippy::unwrap_used, reason = "test code; each test binary uses a part")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use base64::Engine;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::kind::Kinds;
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_k8s::reader::ConfigReader;
use pod_reloader_webhook::admit::Admitter;
use pod_reloader_webhook::caller::Turns;
use pod_reloader_webhook::http::router;
use pod_reloader_webhook::metrics::Metrics;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

pub const OWN_USER: &str = "system:serviceaccount:ops:pod-reloader";
pub const HASH: &str = "pod-reloader.cs.sap.com/config-hash";
pub const OBSERVED: &str = "pod-reloader.cs.sap.com/observed-config";

/// The API server: config objects of the namespace `shop`, by `plural/name`.
#[derive(Clone, Default)]
pub struct Stub(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    statuses: BTreeMap<String, u16>,
    hangs_first: bool,
    delay: Duration,
    requests: Vec<String>,
    writes: usize,
}

impl Stub {
    pub fn put(&self, path: &str, value: &str) {
        self.put_data(path, &json!({"key": value}));
    }

    pub fn put_data(&self, path: &str, data: &Value) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        let (plural, name) = path.split_once('/').unwrap();
        let kind = if plural == "secrets" { "Secret" } else { "ConfigMap" };
        let object = json!({
            "apiVersion": "v1", "kind": kind, "data": data,
            "metadata": {
                "name": name, "namespace": "shop", "uid": format!("uid of {path}"),
                "resourceVersion": state.version.to_string(),
                "annotations": {"last-applied": "\"uid\":\"no\"}".repeat(10)},
            },
        });
        state.objects.insert(path.to_owned(), object);
    }

    /// Requests for that object fail from now on.
    pub fn fail(&self, path: &str, status: u16) {
        self.0.lock().unwrap().statuses.insert(path.to_owned(), status);
    }

    /// The first request of each kind for each object is never answered.
    pub fn hang_first(&self) {
        self.0.lock().unwrap().hangs_first = true;
    }

    /// Each answer takes so long from now on.
    pub fn slow_down(&self, delay: Duration) {
        self.0.lock().unwrap().delay = delay;
    }

    /// What was asked for since the last call: `content`, `metadata` or `list`, and the path.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().requests)
    }

    /// How many requests were made that are no reads.
    pub fn writes(&self) -> usize {
        self.0.lock().unwrap().writes
    }

    fn answer(&self, request: &Request<kube::client::Body>) -> Option<(StatusCode, Value)> {
        let state = &mut *self.0.lock().unwrap();
        state.writes += usize::from(request.method() != http::Method::GET);
        let uri = request.uri();
        // Another namespace, where there is nothing.
        if uri.path().starts_with("/api/v1/namespaces/crowded/") {
            return Some((StatusCode::NOT_FOUND, json!({"kind": "Status", "code": 404})));
        }
        let path = uri.path().strip_prefix("/api/v1/namespaces/shop/").expect("the workload's namespace");
        let accept = request.headers().get("accept").map_or("", |accept| accept.to_str().unwrap());
        let is_metadata = accept.contains("PartialObjectMetadata");
        let query = uri.query().unwrap_or_default();
        let asked = match path.contains('/') {
            true if is_metadata => format!("metadata {path}"),
            true => format!("content {path}"),
            false => {
                assert!(is_metadata, "content of whole namespaces is none of ours");
                format!("list {path} {query}")
            }
        };
        let is_first = !state.requests.contains(&asked);
        state.requests.push(asked);
        if state.hangs_first && is_first {
            return None;
        }
        if let Some(status) = state.statuses.get(path) {
            return Some((StatusCode::from_u16(*status).unwrap(), json!({"kind": "Status", "code": status})));
        }
        if !path.contains('/') {
            let name = query.split_once("metadata.name%3D").map(|(_, rest)| rest.split('&').next().unwrap());
            let items: Vec<_> = state
                .objects
                .iter()
                .filter_map(|(key, object)| Some((key.strip_prefix(path)?.strip_prefix('/')?, object)))
                .filter(|(key, _)| name.is_none_or(|name| name == *key))
                .map(|(_, object)| json!({"metadata": object["metadata"]}))
                .collect();
            return Some((StatusCode::OK, json!({"metadata": {"resourceVersion": "9"}, "items": items})));
        }
        Some(match state.objects.get(path) {
            None => (StatusCode::NOT_FOUND, json!({"kind": "Status", "code": 404})),
            Some(object) if is_metadata => (StatusCode::OK, json!({"metadata": object["metadata"]})),
            Some(object) => (StatusCode::OK, object.clone()),
        })
    }

    fn client(&self) -> kube::Client {
        let stub = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let answer = stub.answer(&request);
            let delay = stub.0.lock().unwrap().delay;
            async move {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                let Some((status, body)) = answer else { return std::future::pending().await };
                let body = kube::client::Body::from(body.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
            }
        });
        kube::Client::new(service, "default")
    }
}

/// The webhook, and what it is made of.
#[derive(Clone)]
pub struct Webhook {
    pub stub: Stub,
    pub budget: Budget,
    router: Router,
}

impl Webhook {
    pub fn new() -> Self {
        Self::with_budget(24 << 20)
    }

    pub fn with_budget(bytes: usize) -> Self {
        Self::within(Scope::default(), bytes)
    }

    /// A webhook that is also for these kinds.
    pub fn of_kinds(kinds: &Kinds) -> Self {
        Self::within(Scope { kinds: kinds.clone(), ..Scope::default() }, 24 << 20)
    }

    fn within(scope: Scope, bytes: usize) -> Self {
        let stub = Stub::default();
        let budget = Budget::new(bytes);
        let mut registry = Registry::default();
        let api_metrics = pod_reloader_k8s::metrics::Metrics::register(&mut registry);
        let admitter = Admitter {
            turns: Turns::default(),
            reader: Arc::new(ConfigReader::new(stub.client(), budget.clone(), api_metrics)),
            key: KeyReader::fixed(DigestKey::new("test", &[7; DigestKey::LEN]).unwrap()),
            own_user: watch::channel(Some(OWN_USER.to_owned())).1,
            mode: HashMode::Content,
            scope,
            budget: budget.clone(),
            metrics: Metrics::register(&mut registry),
        };
        Self { stub, budget, router: router(Arc::new(admitter)) }
    }

    pub async fn send(&self, body: impl Into<Body>) -> (StatusCode, String) {
        self.send_from([10, 0, 0, 1], body).await
    }

    /// Sends a body from that address.
    pub async fn send_from(&self, address: [u8; 4], body: impl Into<Body>) -> (StatusCode, String) {
        let mut request = Request::post("/mutate?timeout=10s").body(body.into()).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((address, 1))));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Sends a review; the response, which has to be one that allows.
    pub async fn review(&self, review: &Value) -> Admitted {
        let (status, body) = self.send(review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        Admitted::parse(&body, review["request"]["object"].clone())
    }
}

/// What became of a write.
#[derive(Debug)]
pub struct Admitted {
    pub uid: String,
    /// The object with the patch applied.
    pub object: Value,
    pub is_patched: bool,
    pub warnings: Vec<String>,
}

impl Admitted {
    pub fn parse(body: &str, mut object: Value) -> Self {
        let answer: Value = serde_json::from_str(body).unwrap();
        let response = &answer["response"];
        assert_eq!(response["allowed"], true, "{answer}");
        let patch = response["patch"].as_str().map(|patch| {
            let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
            serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()
        });
        if let Some(patch) = &patch {
            json_patch::patch(&mut object, patch).unwrap();
        }
        let warnings = response["warnings"].as_array().cloned().unwrap_or_default();
        Self {
            uid: response["uid"].as_str().unwrap().to_owned(),
            object,
            is_patched: patch.is_some(),
            warnings: warnings.iter().map(|warning| warning.as_str().unwrap().to_owned()).collect(),
        }
    }

    pub fn hash(&self) -> Option<&str> {
        self.object.pointer("/spec/template/metadata/annotations")?[HASH].as_str()
    }

    pub fn observed(&self) -> Value {
        let observed = self.object["metadata"]["annotations"][OBSERVED].as_str().unwrap_or("null");
        serde_json::from_str(observed).unwrap()
    }
}

pub fn deployment(configmaps: &str, containers: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "app", "namespace": "shop",
            "annotations": {"pod-reloader.cs.sap.com/configmaps": configmaps},
        },
        "spec": {"template": {"spec": {"containers": containers}}},
    })
}

/// A container that reads these `ConfigMaps`.
pub fn reading(names: &[&str]) -> Value {
    let sources: Vec<_> = names.iter().map(|name| json!({"configMapRef": {"name": name}})).collect();
    json!([{"name": "main", "image": "app:1", "envFrom": sources}])
}

/// A review, with its fields in the order in which the API server writes them.
pub fn review(operation: &str, object: &Value, old_object: Option<&Value>) -> Value {
    let head = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1",
        "kind":{"group":"apps","version":"v1","kind":"Deployment"},"name":"app","namespace":"shop"}}"#;
    let mut review: Value = serde_json::from_str(head).unwrap();
    let request = &mut review["request"];
    request["operation"] = json!(operation);
    request["userInfo"] = json!({"username": "alice"});
    request["object"] = object.clone();
    request["oldObject"] = old_object.cloned().unwrap_or_default();
    request["options"] = json!({"fieldManager": "kubectl"});
    review
}
