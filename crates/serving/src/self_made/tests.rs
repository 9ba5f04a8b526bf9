use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use k8s_openapi::ByteString;
use kube::client::Body;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;

const SECRETS: &str = "/api/v1/namespaces/ns/secrets";
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const PATIENCE: Duration = Duration::from_mins(1);

/// As much of an API server as the loop needs: one object of each kind, with versions. Watches never say anything, so
/// that every change is found by looking.
#[derive(Default)]
struct Fake {
    objects: HashMap<&'static str, Value>,
    version: u64,
    writes: usize,
    refuses_patches: bool,
    refuses_replacements: bool,
    refuses_configurations: bool,
}

type Server = Arc<Mutex<Fake>>;

impl Fake {
    fn put(&mut self, kind: &'static str, mut object: Value) -> (StatusCode, Value) {
        self.version += 1;
        self.writes += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(kind, object.clone());
        (StatusCode::OK, object)
    }

    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let kind = if path.starts_with(SECRETS) { SECRETS } else { CONFIGURATIONS };
        let body = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let old = self.objects.get(kind).cloned();
        if kind == CONFIGURATIONS && self.refuses_configurations {
            return failure(StatusCode::FORBIDDEN, "Forbidden");
        }
        match (method.as_str(), old) {
            ("GET", old) => {
                let items: Vec<_> = old.into_iter().collect();
                let version = self.version.to_string();
                (StatusCode::OK, json!({"metadata": {"resourceVersion": version}, "items": items}))
            }
            ("POST", None) => self.put(kind, body),
            ("POST", Some(_)) => failure(StatusCode::CONFLICT, "AlreadyExists"),
            ("PUT", Some(_)) if self.refuses_replacements => failure(StatusCode::FORBIDDEN, "Forbidden"),
            ("PUT", Some(old))
                if body["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"] =>
            {
                self.put(kind, body)
            }
            ("PUT", Some(_)) => failure(StatusCode::CONFLICT, "Conflict"),
            ("PATCH", Some(_)) if self.refuses_patches => failure(StatusCode::FORBIDDEN, "Forbidden"),
            ("PATCH", Some(mut object)) => {
                let operations: json_patch::Patch = serde_json::from_value(body).unwrap();
                match json_patch::patch(&mut object, &operations) {
                    Ok(()) => self.put(kind, object),
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

fn client(server: &Server) -> Client {
    let server = server.clone();
    let service = service_fn(move |request: Request<Body>| {
        let server = server.clone();
        async move {
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                std::future::pending::<()>().await;
            }
            // Requests of several replicas take turns.
            tokio::task::yield_now().await;
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let (code, answer) = server.lock().unwrap().answer(&parts.method, parts.uri.path(), &body);
            let answer = Body::from(answer.to_string().into_bytes());
            kube::Result::<_>::Ok(Response::builder().status(code).body(answer).unwrap())
        }
    });
    Client::new(service, "ns")
}

fn start_replica(server: &Server) -> (Arc<Certificates>, CancellationToken) {
    let certificates = Certificates::new(crate::metrics::Metrics::default());
    let shutdown = CancellationToken::new();
    let settings = SelfMade {
        client: client(server),
        namespace: "ns".into(),
        secret_name: "certificates".into(),
        webhook_configuration: "webhook".into(),
        default_hosts: vec!["LOCALHOST".into(), "0:0:0:0:0:0:0:1".into()],
        lifetimes: Lifetimes::default(),
    };
    tokio::spawn(settings.run(certificates.clone(), shutdown.clone()));
    (certificates, shutdown)
}

fn register(server: &Server) {
    let webhook = json!({"name": "a.b.c", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {"url": "https://[0:0:0:0:0:0:0:2]:9443/mutate"}});
    let configuration = json!({"metadata": {"name": "webhook"}, "webhooks": [webhook]});
    server.lock().unwrap().put(CONFIGURATIONS, configuration);
}

fn secret(server: &Server) -> Option<State> {
    let secret = server.lock().unwrap().objects.get(SECRETS).cloned()?;
    secret::from_secret(&serde_json::from_value(secret).unwrap(), SystemTime::now()).ok()
}

fn published(server: &Server) -> String {
    let configuration = server.lock().unwrap().objects.get(CONFIGURATIONS).cloned();
    let bundle = configuration.map(|object| object["webhooks"][0]["clientConfig"]["caBundle"].clone());
    let bundle: Option<ByteString> = bundle.and_then(|bundle| serde_json::from_value(bundle).ok());
    String::from_utf8(bundle.unwrap_or_default().0).unwrap()
}

fn serves(certificates: &Certificates, state: &State) -> bool {
    let leaf = CertificateDer::from_pem_slice(state.leaf.certificate.as_bytes()).unwrap();
    certificates.served() == Some(leaf)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what} did not come about");
}

#[tokio::test(start_paused = true)]
async fn c4_7_replicas_that_start_at_once_agree() {
    let server = Server::default();
    register(&server);
    let replicas: Vec<_> = (0..3).map(|_| start_replica(&server)).collect();
    until("one CA", || {
        secret(&server).is_some_and(|state| {
            published(&server) == state.bundle()
                && replicas.iter().all(|(certificates, _)| serves(certificates, &state))
        })
    })
    .await;
    // Nothing is left to do, also not for hosts that can be written in several ways.
    let writes = server.lock().unwrap().writes;
    sleep(Duration::from_hours(2)).await;
    assert_eq!(server.lock().unwrap().writes, writes);
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_certificate_is_served_before_anything_is_registered() {
    let server = Server::default();
    let (certificates, _) = start_replica(&server);
    until("a certificate", || certificates.is_loaded()).await;
    register(&server);
    until("the CA's publication", || {
        secret(&server).is_some_and(|state| published(&server) == state.bundle())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c4_7_what_cannot_be_published_is_served_nevertheless() {
    let server = Server::default();
    register(&server);
    server.lock().unwrap().refuses_patches = true;
    let (first, _) = start_replica(&server);
    until("a certificate", || first.is_loaded()).await;
    // Another replica comes while not even reading is allowed.
    server.lock().unwrap().refuses_configurations = true;
    let (second, _) = start_replica(&server);
    until("the stored certificate", || second.is_loaded()).await;

    {
        let mut fake = server.lock().unwrap();
        (fake.refuses_patches, fake.refuses_configurations) = (false, false);
    }
    until("the CA's publication", || {
        secret(&server).is_some_and(|state| published(&server) == state.bundle())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_deleted_secret_comes_back_as_it_was() {
    let server = Server::default();
    let (certificates, _) = start_replica(&server);
    until("a certificate", || certificates.is_loaded()).await;
    let before = secret(&server).unwrap();
    server.lock().unwrap().objects.remove(SECRETS);
    until("the Secret", || secret(&server).is_some()).await;
    assert_eq!(secret(&server).unwrap(), before);
}

#[tokio::test(start_paused = true)]
async fn c4_7_who_cannot_restore_a_secret_keeps_the_old_ca_trusted() {
    let server = Server::default();
    register(&server);
    let (_, shutdown) = start_replica(&server);
    until("the CA's publication", || {
        secret(&server).is_some_and(|state| published(&server) == state.bundle())
    })
    .await;
    let old = published(&server);
    shutdown.cancel();
    server.lock().unwrap().objects.remove(SECRETS);

    let (certificates, _) = start_replica(&server);
    until("a certificate", || secret(&server).is_some_and(|state| serves(&certificates, &state))).await;
    until("the new CA", || secret(&server).is_some_and(|state| published(&server) == state.bundle())).await;
    assert!(published(&server) != old && published(&server).contains(old.trim()));
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_secret_that_is_partly_damaged_keeps_its_ca() {
    let server = Server::default();
    let (certificates, shutdown) = start_replica(&server);
    until("a certificate", || certificates.is_loaded()).await;
    shutdown.cancel();
    let before = secret(&server).unwrap();
    {
        let mut fake = server.lock().unwrap();
        let secret = fake.objects.get_mut(SECRETS).unwrap();
        secret["data"]["tls.key"] = json!("");
        secret["metadata"]["annotations"] = json!({"somebody": "else's"});
    }
    let (certificates, _) = start_replica(&server);
    until("a mended Secret", || secret(&server).is_some_and(|state| serves(&certificates, &state))).await;
    assert_eq!(secret(&server).unwrap().bundle(), before.bundle());
    let fake = server.lock().unwrap();
    assert_eq!(fake.objects[SECRETS]["metadata"]["annotations"], json!({"somebody": "else's"}));
}

#[tokio::test(start_paused = true)]
async fn c4_7_a_pair_of_somebody_elses_in_the_secret_is_not_served() {
    let server = Server::default();
    let (certificates, _) = start_replica(&server);
    until("a certificate", || certificates.is_loaded()).await;
    let (before, hosts) = (secret(&server).unwrap(), ["x".to_owned()].into());
    let other = State::create(&hosts, SystemTime::now(), &Lifetimes::default()).unwrap();
    let mixed = State { leaf: other.leaf.clone(), ..before.clone() };
    let stored = json!(secret::to_secret("certificates", &mixed));
    {
        let mut fake = server.lock().unwrap();
        fake.put(SECRETS, stored);
        fake.refuses_replacements = true;
    }
    sleep(Lifetimes::default().check_every * 3).await;
    assert!(serves(&certificates, &before));

    server.lock().unwrap().refuses_replacements = false;
    until("a certificate of our CA", || {
        secret(&server).is_some_and(|state| !state.is_leaf_foreign() && serves(&certificates, &state))
    })
    .await;
    assert_eq!(secret(&server).unwrap().bundle(), before.bundle());
}
