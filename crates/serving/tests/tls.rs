//! The server over real TLS and real sockets.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pod_reloader_serving::certificate::Certificates;
use pod_reloader_serving::directory;
use pod_reloader_serving::metrics::Metrics;
use pod_reloader_serving::provider::provider;
use pod_reloader_serving::server::{self, Limits, Stop};
use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(20);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn connector(&self, alpn: &[u8]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = provider();
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

struct Server {
    address: SocketAddr,
    authority: Authority,
    certificates: Arc<Certificates>,
    registry: Registry,
    stop: Stop,
    task: JoinHandle<()>,
    /// Lets requests to `/slow` be answered.
    go_on: Arc<Notify>,
    /// Told when a request to `/slow` is under way.
    arrived: Arc<Notify>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let certificates = Certificates::new(metrics.clone());
        let authority = Authority::new();
        let (certificate, key) = authority.issue();
        certificates.install(certificate.as_bytes(), key.as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go_on, arrived) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (go_on, arrived) = (go_on.clone(), arrived.clone());
            move || async move {
                arrived.notify_one();
                go_on.notified().await;
                "slow"
            }
        };
        let stalled = {
            let (go_on, arrived) = (go_on.clone(), arrived.clone());
            move |body: Body| async move {
                arrived.notify_one();
                go_on.notified().await;
                drop(body);
            }
        };
        let app = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
            .route("/stalled", post(stalled))
            .route("/panic", get(|| async { assert!(std::hint::black_box(false), "as the test wants") }))
            .route("/slow", get(slow));
        let stop = Stop::default();
        let tls = certificates.server_config().unwrap();
        let task = tokio::spawn(server::serve(listener, tls, app, limits, metrics, stop.clone()));
        Self { address, authority, certificates, registry, stop, task, go_on, arrived }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        self.connect_with(b"http/1.1").await
    }

    async fn connect_with(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        self.authority.connector(alpn).connect(name, stream).await.unwrap()
    }

    fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|candidate| candidate == line)
    }
}

/// Sends a request over a connection that stays open, and returns the whole answer.
async fn request(stream: &mut TlsStream<TcpStream>, path: &str, body: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    answer(stream, body).await
}

async fn answer(stream: &mut TlsStream<TcpStream>, body: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(body) {
        let mut part = [0; 1024];
        let n = timeout(PATIENCE, stream.read(&mut part)).await.unwrap().unwrap();
        assert!(n > 0, "the connection ended after {text:?}");
        text.push_str(std::str::from_utf8(&part[..n]).unwrap());
    }
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

fn served(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn c4_6_plain_http_is_told_to_speak_https() {
    let server = Server::start(Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    assert!(text.contains("HTTPS"), "{text}");
}

#[tokio::test]
async fn c4_6_a_plain_client_that_stays_is_closed_too() {
    let server = Server::start(Limits { handshake: Duration::from_millis(200), ..Limits::default() }).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    // It has not closed its side.
    until(|| server.metric("connections 0")).await;
    assert!(server.metric(r#"tls_handshake_errors_total{reason="plain_http"} 1"#));
}

#[tokio::test]
async fn c4_6_idle_connections_are_closed_but_none_with_a_request() {
    let limits = Limits {
        idle: Duration::from_millis(200),
        // A connection that was wrongly taken for an idle one would be cut off while the idle ones are waited for.
        drain: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    timeout(PATIENCE, server.arrived.notified()).await.unwrap();

    let mut idle = server.connect().await;
    request(&mut idle, "/", "hello").await;
    assert_eq!(timeout(PATIENCE, idle.read(&mut [0])).await.unwrap().unwrap(), 0);

    let mut idle = server.connect_with(b"h2").await;
    // The preface, an empty SETTINGS frame, and the acknowledgement of the server's.
    idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0")
        .await
        .unwrap();
    let mut all = vec![];
    // It ends without an answer to the server's PING (RFC 9113, section 6.8), which is fine or not.
    let _ = timeout(PATIENCE, idle.read_to_end(&mut all)).await.unwrap();
    // GOAWAY is of type 7 and 8 bytes long.
    assert!(all.windows(4).any(|frame| frame == [0, 0, 8, 7]), "no GOAWAY in {all:?}");

    server.go_on.notify_one();
    answer(&mut busy, "slow").await;
}

#[tokio::test]
async fn c4_6_bodies_that_wait_hold_up_no_other_on_their_connection() {
    let server = Server::start(Limits::default()).await;
    let io = TokioIo::new(server.connect_with(b"h2").await);
    let (client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let send = |path: &str, bytes: usize| {
        let request = http::Request::post(format!("https://localhost{path}"));
        let request = request.body(Full::new(Bytes::from(vec![b'x'; bytes]))).unwrap();
        tokio::spawn(client.clone().send_request(request))
    };
    for _ in 0..60 {
        send("/stalled", 1 << 20);
        server.arrived.notified().await;
    }
    let answer = timeout(PATIENCE, send("/length", 1 << 20)).await.unwrap().unwrap().unwrap();
    let body = timeout(PATIENCE, answer.into_body().collect()).await.unwrap().unwrap().to_bytes();
    assert_eq!(body, (1 << 20).to_string());
}

#[tokio::test]
async fn c4_6_a_panic_harms_no_other_request() {
    let server = Server::start(Limits { connections: 2, ..Limits::default() }).await;
    for _ in 0..3 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /panic HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut rest = vec![];
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    }
    until(|| server.metric("connections 0")).await;
    request(&mut server.connect().await, "/", "hello").await;
}

#[tokio::test]
async fn c6_a_request_that_takes_too_long_is_cut_off() {
    let server = Server::start(Limits { drain: Duration::from_millis(200), ..Limits::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    timeout(PATIENCE, server.arrived.notified()).await.unwrap();
    server.stop.now.cancel();
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn c4_6_stalled_clients_are_closed_and_harm_nobody() {
    let limits = Limits {
        handshake: Duration::from_millis(300),
        header: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Server::start(limits).await;
    // Nothing at all; the start of a handshake; a whole handshake and the start of a request.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut halting = TcpStream::connect(server.address).await.unwrap();
    halting.write_all(&[0x16, 3, 1]).await.unwrap();
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HT").await.unwrap();

    request(&mut server.connect().await, "/", "hello").await;

    let mut rest = vec![];
    for stream in [&mut silent, &mut halting] {
        // Closed or reset: either way it ends.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    }
    let _ = timeout(PATIENCE, slow.read_to_end(&mut rest)).await.unwrap();
    assert!(server.metric(r#"tls_handshake_errors_total{reason="timeout"} 2"#));
}

#[tokio::test]
async fn c4_6_stalled_clients_cannot_keep_all_connections() {
    let limits = Limits { connections: 2, handshake: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(limits).await;
    let _first = TcpStream::connect(server.address).await.unwrap();
    let _second = TcpStream::connect(server.address).await.unwrap();
    let mut good = timeout(PATIENCE, server.connect()).await.unwrap();
    request(&mut good, "/", "hello").await;
}

#[tokio::test]
async fn c6_before_shutdown_clients_are_told_not_to_come_again_and_none_is_cut_off() {
    let server = Server::start(Limits::default()).await;
    let mut reused = server.connect().await;
    assert!(!request(&mut reused, "/", "hello").await.contains("connection: close"));
    let mut waiting = server.connect().await;
    request(&mut waiting, "/", "hello").await;

    server.stop.soon.cancel();
    // It has its place in a client's pool: the next request on it is answered, as the last.
    assert!(request(&mut reused, "/", "hello").await.contains("connection: close"));
    assert_eq!(timeout(PATIENCE, reused.read(&mut [0])).await.unwrap().unwrap(), 0);
    // New ones are served too, for as long as clients come.
    let mut new = server.connect().await;
    assert!(request(&mut new, "/", "hello").await.contains("connection: close"));
    assert!(request(&mut waiting, "/", "hello").await.contains("connection: close"));
}

#[tokio::test]
async fn an_old_connection_ends_with_an_answer_and_not_between_two() {
    let limits = Limits { max_age: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(limits).await;
    let mut stream = server.connect().await;
    request(&mut stream, "/", "hello").await;
    let closed = timeout(Duration::from_millis(200), stream.read(&mut [0])).await;
    assert!(closed.is_err(), "it was closed between two requests");
    assert!(request(&mut stream, "/", "hello").await.contains("connection: close"));
}

#[tokio::test]
async fn c6_shutdown_answers_what_is_under_way_and_takes_nothing_new() {
    let mut server = Server::start(Limits::default()).await;
    let mut idle = server.connect().await;
    request(&mut idle, "/", "hello").await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    timeout(PATIENCE, server.arrived.notified()).await.unwrap();

    server.stop.now.cancel();
    let mut rest = vec![];
    timeout(PATIENCE, idle.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "still listening");
    let early = timeout(Duration::from_millis(100), &mut server.task).await;
    assert!(early.is_err(), "it did not wait for the request under way");
    server.go_on.notify_one();
    answer(&mut stream, "slow").await;
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn c4_7_a_symlink_swap_is_picked_up_without_dropping_a_connection() {
    let server = Server::start(Limits::default()).await;
    let directory = tempfile::tempdir().unwrap();
    // As the kubelet lays a Secret out.
    let write = |version: &str, (certificate, key): &(String, String)| {
        let data = directory.path().join(version);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("tls.crt"), certificate).unwrap();
        std::fs::write(data.join("tls.key"), key).unwrap();
        symlink(version, directory.path().join("..data_tmp")).unwrap();
        std::fs::rename(directory.path().join("..data_tmp"), directory.path().join("..data")).unwrap();
    };
    write("..1", &server.authority.issue());
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), directory.path().join(name)).unwrap();
    }
    let follow =
        directory::follow(directory.path().into(), server.certificates.clone(), server.stop.now.clone());
    let before = served(&server.connect().await);
    let follow = tokio::spawn(follow);
    let first = becomes_other(&server, &before).await;
    let mut open = server.connect().await;
    request(&mut open, "/", "hello").await;

    write("..2", &server.authority.issue());
    let second = becomes_other(&server, &first).await;
    request(&mut open, "/", "hello").await;

    // A key of another certificate, garbage, nothing: the old pair stays, and each is counted once.
    let (certificate, _) = server.authority.issue();
    let (_, key) = server.authority.issue();
    write("..3", &(certificate.clone(), key));
    until(|| server.metric(r#"certificate_reloads_total{result="failure"} 1"#)).await;
    write("..4", &(certificate[..certificate.len() / 2].to_owned(), "garbage".into()));
    until(|| server.metric(r#"certificate_reloads_total{result="failure"} 2"#)).await;
    std::fs::remove_file(directory.path().join("tls.key")).unwrap();
    assert_eq!(served(&server.connect().await), second);
    request(&mut open, "/", "hello").await;

    // And on it goes.
    symlink("..data/tls.key", directory.path().join("tls.key")).unwrap();
    write("..5", &server.authority.issue());
    becomes_other(&server, &second).await;
    server.stop.now.cancel();
    timeout(PATIENCE, follow).await.unwrap().unwrap();
}

async fn becomes_other(server: &Server, before: &[u8]) -> Vec<u8> {
    let other = async {
        loop {
            let now = served(&server.connect().await);
            if now != before {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, other).await.unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap();
}
