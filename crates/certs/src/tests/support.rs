//! As much of an API server as the loop needs, and replicas over it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, Response, StatusCode};
use k8s_openapi::ByteString;
use kube::Client;
use kube::client::Body;
use pod_reloader_serving::certificate::Certificates;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use crate::authority::Authority;
use crate::lifetimes::Lifetimes;
use crate::pair::Pair;
use crate::secret;
use crate::self_made::SelfMade;

pub(super) const SECRETS: &str = "/api/v1/namespaces/ns/secrets";
pub(super) const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
pub(super) const CERTIFICATE: &str = "certificates";
pub(super) const CAS: &str = "cas";
pub(super) const CONFIGURATION: &str = "webhook";
pub(super) const RENEW: &str = "pod-reloader.cs.sap.com/renew";
const TIMEOUT: Duration = Duration::from_mins(1);

/// One object of each name, with versions. Watches never deliver anything, so that every change is found by polling.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) objects: HashMap<String, Value>,
    version: u64,
    pub(super) writes: usize,
    pub(super) refuses_patches: bool,
    pub(super) refuses_replacements: bool,
    pub(super) refuses_configurations: bool,
    /// Every so many requests one is not answered well: in turns it was carried out or not.
    pub(super) fails_every: Option<usize>,
    requests: usize,
}

pub(super) type Server = Arc<Mutex<Fake>>;

impl Fake {
    pub(super) fn put(&mut self, name: &str, mut object: Value) -> (StatusCode, Value) {
        self.version += 1;
        self.writes += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(name.to_owned(), object.clone());
        (StatusCode::OK, object)
    }

    fn answer_or_fail(&mut self, method: &Method, uri: &http::Uri, body: &[u8]) -> (StatusCode, Value) {
        self.requests += 1;
        let lost = failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
        match self.fails_every {
            Some(every) if self.requests.is_multiple_of(2 * every) => lost,
            Some(every) if self.requests.is_multiple_of(every) => {
                self.answer(method, uri, body);
                lost
            }
            _ => self.answer(method, uri, body),
        }
    }

    fn answer(&mut self, method: &Method, uri: &http::Uri, body: &[u8]) -> (StatusCode, Value) {
        let body = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
        let name = [CERTIFICATE, CAS, CONFIGURATION].into_iter().find(|name| {
            path.ends_with(&format!("/{name}"))
                || query.contains(&format!("metadata.name%3D{name}"))
                || body["metadata"]["name"] == *name
        });
        let name = name.unwrap_or_else(|| panic!("{uri}"));
        assert!(path.starts_with(if name == CONFIGURATION { CONFIGURATIONS } else { SECRETS }), "{uri}");
        let old = self.objects.get(name).cloned();
        if name == CONFIGURATION && self.refuses_configurations {
            return failure(StatusCode::FORBIDDEN, "Forbidden");
        }
        match (method.as_str(), old) {
            ("GET", old) => {
                let items: Vec<_> = old.into_iter().collect();
                let version = self.version.to_string();
                (StatusCode::OK, json!({"metadata": {"resourceVersion": version}, "items": items}))
            }
            ("POST", None) => self.put(name, body),
            ("POST", Some(_)) => failure(StatusCode::CONFLICT, "AlreadyExists"),
            ("PUT", Some(_)) if self.refuses_replacements => failure(StatusCode::FORBIDDEN, "Forbidden"),
            ("PUT", Some(old))
                if body["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"] =>
            {
                self.put(name, body)
            }
            ("PUT", Some(_)) => failure(StatusCode::CONFLICT, "Conflict"),
            ("PATCH", Some(_)) if self.refuses_patches => failure(StatusCode::FORBIDDEN, "Forbidden"),
            ("PATCH", Some(mut object)) => {
                let operations: json_patch::Patch = serde_json::from_value(body).unwrap();
                match json_patch::patch(&mut object, &operations) {
                    Ok(()) => self.put(name, object),
                    Err(_) => failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
                }
            }
            _ => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }
}

fn failure(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    (
        code,
        json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code.as_u16(), "message": ""}),
    )
}

pub(super) fn client(server: &Server) -> Client {
    let server = server.clone();
    let service = service_fn(move |request: http::Request<Body>| {
        let server = server.clone();
        async move {
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                std::future::pending::<()>().await;
            }
            // Requests of several replicas take turns.
            tokio::task::yield_now().await;
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let (code, answer) = server.lock().unwrap().answer_or_fail(&parts.method, &parts.uri, &body);
            let answer = Body::from(answer.to_string().into_bytes());
            kube::Result::<_>::Ok(Response::builder().status(code).body(answer).unwrap())
        }
    });
    Client::new(service, "ns")
}

/// The time of the tests, which passes as tokio's does.
pub(super) fn now() -> SystemTime {
    static START: std::sync::OnceLock<SystemTime> = std::sync::OnceLock::new();
    thread_local!(static BEGAN: tokio::time::Instant = tokio::time::Instant::now());
    *START.get_or_init(SystemTime::now) + BEGAN.with(tokio::time::Instant::elapsed)
}

pub(super) struct Replica {
    pub(super) certificates: Arc<Certificates>,
    pub(super) shutdown: CancellationToken,
}

/// How long a CA that no longer signs is trusted here: a day of the loop takes too long.
pub(super) const FORMER: Duration = Duration::from_hours(1);

pub(super) fn lifetimes() -> Lifetimes {
    Lifetimes { overlap: FORMER / 10, former: FORMER, ..Lifetimes::default() }
}

pub(super) fn start_replica(server: &Server) -> Replica {
    now();
    let lifetimes = lifetimes();
    let certificates = Certificates::new(pod_reloader_serving::metrics::Metrics::default());
    let shutdown = CancellationToken::new();
    let settings = SelfMade {
        client: client(server),
        namespace: "ns".into(),
        secret_name: CERTIFICATE.into(),
        ca_secret_name: CAS.into(),
        webhook_configuration: CONFIGURATION.into(),
        default_hosts: vec!["LOCALHOST".into(), "0:0:0:0:0:0:0:1".into()],
        lifetimes,
    };
    tokio::spawn(settings.run_by(Box::new(now), certificates.clone(), shutdown.clone()));
    Replica { certificates, shutdown }
}

pub(super) fn register(server: &Server) {
    register_with(server, "");
}

pub(super) fn register_with(server: &Server, bundle: &str) {
    let mut webhook = json!({"name": "a.b.c", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {"url": "https://[0:0:0:0:0:0:0:2]:9443/mutate"}});
    if !bundle.is_empty() {
        webhook["clientConfig"]["caBundle"] = json!(ByteString(bundle.into()));
    }
    let configuration = json!({"metadata": {"name": CONFIGURATION}, "webhooks": [webhook]});
    server.lock().unwrap().put(CONFIGURATION, configuration);
}

pub(super) fn stored(server: &Server, name: &str) -> Option<k8s_openapi::api::core::v1::Secret> {
    let secret = server.lock().unwrap().objects.get(name).cloned()?;
    Some(serde_json::from_value(secret).unwrap())
}

pub(super) fn has_request(server: &Server, name: &str) -> bool {
    stored(server, name)
        .is_some_and(|secret| secret.metadata.annotations.unwrap_or_default().contains_key(RENEW))
}

pub(super) fn annotate(server: &Server, name: &str, value: &str) {
    let mut fake = server.lock().unwrap();
    let mut secret = fake.objects[name].clone();
    secret["metadata"]["annotations"][RENEW] = json!(value);
    fake.put(name, secret);
}

/// What is stored, if all of it is valid.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    pub(super) authority: Authority,
    pub(super) leaf: Pair,
}

impl State {
    pub(super) fn bundle(&self) -> String {
        self.authority.bundle()
    }
}

pub(super) fn state(server: &Server) -> Option<State> {
    let authority = secret::authority(&stored(server, CAS)?, now(), &lifetimes()).ok()?;
    Some(State { authority, leaf: secret::leaf(&stored(server, CERTIFICATE)?).ok()? })
}

pub(super) fn published(server: &Server) -> String {
    let configuration = server.lock().unwrap().objects.get(CONFIGURATION).cloned();
    let bundle = configuration.map(|object| object["webhooks"][0]["clientConfig"]["caBundle"].clone());
    let bundle: Option<ByteString> = bundle.and_then(|bundle| serde_json::from_value(bundle).ok());
    String::from_utf8(bundle.unwrap_or_default().0).unwrap()
}

pub(super) fn is_published(server: &Server) -> bool {
    state(server).is_some_and(|state| published(server) == state.bundle())
}

pub(super) fn serves(replica: &Replica, leaf: &Pair) -> bool {
    let leaf = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap();
    replica.certificates.served() == Some(leaf)
}

/// Whether the API server would accept what the replica serves now.
pub(super) fn is_trusted(server: &Server, replica: &Replica) -> bool {
    let Some(leaf) = replica.certificates.served() else { return false };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(published(server).as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = pod_reloader_serving::provider::provider();
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return false;
    };
    let host = ServerName::try_from("localhost").unwrap();
    let now = UnixTime::since_unix_epoch(now().duration_since(UNIX_EPOCH).unwrap());
    verifier.verify_server_cert(&leaf, &[], &host, &[], now).is_ok()
}

/// Lets that time pass, and sees that all replicas are trusted all the time.
pub(super) async fn watch_over(server: &Server, replicas: &[&Replica], time: Duration, step: Duration) {
    let end = tokio::time::Instant::now() + time;
    let (mut writes, mut verified_at, mut leaves) = (0, end - time, vec![]);
    while tokio::time::Instant::now() < end {
        let left = end - tokio::time::Instant::now();
        let present: Vec<_> = replicas.iter().map(|replica| replica.certificates.served()).collect();
        let written = server.lock().unwrap().writes;
        // Verified again only where something may be different.
        if written != writes || present != leaves || verified_at.elapsed() > FORMER / 4 {
            for (i, replica) in replicas.iter().enumerate() {
                assert!(is_trusted(server, replica), "replica {i} is not trusted, {left:?} before the end");
            }
            (writes, leaves, verified_at) = (written, present, tokio::time::Instant::now());
        }
        tokio::time::sleep(step).await;
    }
}

pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(TIMEOUT, wait).await.is_ok(), "{what} did not come about");
}
