//! A server over real sockets, and clients of it.

#![allow(dead_code, reason = "no test needs all of it")]
#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use pod_reloader_serving::certificate::Certificates;
use pod_reloader_serving::metrics::Metrics;
use pod_reloader_serving::provider::provider;
use pod_reloader_serving::server::{self, Limits, Port, Stop, Transport};
use pod_reloader_serving::tls::Policy;
use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const TIMEOUT: Duration = Duration::from_secs(20);

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    pub fn connector(&self, alpn: &[u8]) -> TlsConnector {
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

/// A server and all that a test may want of it.
pub struct Server {
    pub address: SocketAddr,
    pub authority: Authority,
    pub certificates: Arc<Certificates>,
    pub registry: Registry,
    pub stop: Stop,
    pub task: JoinHandle<()>,
    /// Lets requests to `/slow` be answered.
    pub go_on: Arc<Notify>,
    /// Told when a request to `/slow` is under way.
    pub arrived: Arc<Notify>,
}

impl Server {
    /// Over TLS.
    pub async fn start(limits: Limits) -> Self {
        let tls = |certificates: &Arc<_>| Policy::default().server_config(certificates, None).unwrap();
        Self::start_over(limits, |certificates| Transport::Tls(tls(certificates))).await
    }

    pub async fn start_plain(limits: Limits) -> Self {
        Self::start_over(limits, |_| Transport::Plain).await
    }

    async fn start_over(limits: Limits, transport: impl FnOnce(&Arc<Certificates>) -> Transport) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let certificates = Certificates::new(metrics.clone());
        let authority = Authority::new();
        let (certificate, key) = authority.issue();
        certificates.install(certificate.as_bytes(), key.as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go_on, arrived) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let stop = Stop::default();
        let port = Port { name: "test", listener, transport: transport(&certificates), limits };
        let app = router(&go_on, &arrived);
        let task = tokio::spawn(server::serve(port, app, metrics, stop.clone()));
        Self { address, authority, certificates, registry, stop, task, go_on, arrived }
    }

    pub async fn connect(&self) -> TlsStream<TcpStream> {
        self.connect_with(b"http/1.1").await
    }

    pub async fn connect_with(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        self.tls(TcpStream::connect(self.address).await.unwrap(), alpn).await
    }

    /// A TLS connection of the n-th client of this machine.
    pub async fn connect_from(&self, client: u8) -> TlsStream<TcpStream> {
        self.tls(self.tcp_from(client).await, b"http/1.1").await
    }

    /// A TCP connection of the n-th client of this machine.
    pub async fn tcp_from(&self, client: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, client], 0).into()).unwrap();
        timeout(TIMEOUT, socket.connect(self.address)).await.unwrap().unwrap()
    }

    async fn tls(&self, stream: TcpStream, alpn: &[u8]) -> TlsStream<TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let handshake = self.authority.connector(alpn).connect(name, stream);
        timeout(TIMEOUT, handshake).await.unwrap().unwrap()
    }

    pub fn metric(&self, line: &str) -> bool {
        self.metrics().lines().any(|candidate| candidate == line)
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

fn router(go_on: &Arc<Notify>, arrived: &Arc<Notify>) -> Router {
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
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/large", get(|| async { vec![b'x'; 16 << 20] }))
        .route("/stalled", post(stalled))
        .route("/panic", get(|| async { assert!(std::hint::black_box(false), "as the test wants") }))
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
        .route("/slow", get(slow))
}

/// Sends a request over a connection that stays open, and returns the whole answer.
pub async fn request(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str, body: &str) -> String {
    send(stream, path).await;
    answer(stream, body).await
}

pub async fn send(stream: &mut (impl AsyncWrite + Unpin), path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

pub async fn answer(stream: &mut (impl AsyncRead + Unpin), body: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(body) {
        let mut part = [0; 1024];
        let n = timeout(TIMEOUT, stream.read(&mut part)).await.unwrap().unwrap();
        assert!(n > 0, "the connection ended after {text:?}");
        text.push_str(std::str::from_utf8(&part[..n]).unwrap());
    }
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    text
}

/// Waits until the server has closed or reset the connection.
pub async fn ends(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = vec![];
    let _ = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await.unwrap();
}

pub async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIMEOUT, wait).await.unwrap();
}
