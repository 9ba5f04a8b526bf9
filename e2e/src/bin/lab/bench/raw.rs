//! Requests without a Kubernetes client: hyper over TLS, and nothing else. Limits are measured with it, and whatever the
//! harness does at the same time costs as little as it can.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pod_reloader_e2e::{ControlPlane, User};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// How long any single request may take.
const REQUEST_DEADLINE: Duration = Duration::from_mins(1);

/// JSON as it is.
pub(super) const JSON: &str = "application/json";
/// A merge patch (RFC 7386).
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
/// A server-side apply.
pub(super) const APPLY_PATCH: &str = "application/apply-patch+yaml";
/// Asks for the metadata of an object alone.
pub(super) const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
/// Asks for the metadata of a list's objects alone.
pub(super) const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// A request that can be sent any number of times.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    method: Method,
    path: String,
    content_type: &'static str,
    accept: &'static str,
    body: Bytes,
}

impl Outgoing {
    /// A request without a body.
    pub(super) fn get(path: impl Into<String>, accept: &'static str) -> Self {
        Self { method: Method::GET, path: path.into(), content_type: JSON, accept, body: Bytes::new() }
    }

    /// A request with a body, which is answered in JSON.
    pub(super) fn new(
        method: Method,
        path: impl Into<String>,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        Self { method, path: path.into(), content_type, accept: JSON, body: body.into() }
    }

    /// Creates that object.
    pub(super) fn post(path: impl Into<String>, object: &Value) -> Self {
        Self::new(Method::POST, path, JSON, object.to_string())
    }
}

/// A server, and who we are there.
#[derive(Clone)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
    tls: Arc<ClientConfig>,
    token: Option<String>,
    is_http2: bool,
}

impl Endpoint {
    /// The API server over HTTP/1.1, with that user's token.
    pub(super) fn api_server(plane: &ControlPlane, user: User) -> anyhow::Result<Self> {
        Self::api_server_at(&plane.kubeconfig(user))
    }

    /// The same by a kubeconfig of the kit.
    pub(super) fn api_server_at(kubeconfig: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(kubeconfig)?;
        let kubeconfig: Value = serde_json::from_str(&text).context("the kubeconfig is JSON")?;
        let cluster = &kubeconfig["clusters"][0]["cluster"];
        let server = cluster["server"].as_str().context("the kubeconfig has a server")?;
        let (host, port) =
            server.trim_start_matches("https://").rsplit_once(':').context("the server has a port")?;
        let ca = cluster["certificate-authority-data"].as_str().context("the kubeconfig has a CA")?;
        let token = kubeconfig["users"][0]["user"]["token"].as_str().context("the kubeconfig has a token")?;
        Ok(Self {
            host: host.to_owned(),
            port: port.parse()?,
            tls: trusting(&BASE64_STANDARD.decode(ca)?, b"http/1.1")?,
            token: Some(token.to_owned()),
            is_http2: false,
        })
    }

    /// A webhook on this machine over HTTP/2, as the API server calls it.
    pub(super) fn webhook(port: u16, ca_pem: &str) -> anyhow::Result<Self> {
        let tls = trusting(ca_pem.as_bytes(), b"h2")?;
        Ok(Self { host: "127.0.0.1".to_owned(), port, tls, token: None, is_http2: true })
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        let context = || format!("cannot connect to {}:{}", self.host, self.port);
        let open = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(self.host.clone())?;
            let io = TokioIo::new(TlsConnector::from(self.tls.clone()).connect(name, stream).await?);
            let sender = if self.is_http2 {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.initial_stream_window_size(1 << 20).initial_connection_window_size(16 << 20);
                let (sender, connection) = builder.handshake(io).await?;
                // It ends with the last sender, and whoever waits for an answer then hears of errors.
                tokio::spawn(async move { drop(connection.await) });
                Sender::Http2(sender)
            } else {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(async move { drop(connection.await) });
                Sender::Http1(sender)
            };
            anyhow::Ok(Connection { endpoint: self.clone(), sender })
        };
        tokio::time::timeout(REQUEST_DEADLINE, open).await.with_context(context)?.with_context(context)
    }

    /// One request on a connection of its own; the answer as JSON.
    pub(super) async fn request(&self, outgoing: &Outgoing) -> anyhow::Result<Value> {
        let body = self.connect().await?.send(outgoing).await?;
        serde_json::from_slice(&body).context("the answer is not JSON")
    }
}

fn trusting(ca_pem: &[u8], protocol: &[u8]) -> anyhow::Result<Arc<ClientConfig>> {
    // It may have been installed before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem).context("the CA is not PEM")?)?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An open connection.
pub(super) struct Connection {
    endpoint: Endpoint,
    sender: Sender,
}

impl Connection {
    /// The same connection for another concurrent client; `None` over HTTP/1.1, which has no such thing.
    pub(super) fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => {
                let sender = Sender::Http2(sender.clone());
                Some(Self { endpoint: self.endpoint.clone(), sender })
            }
        }
    }

    /// Sends it and gives the body of the answer; an error unless the status is 2xx.
    pub(super) async fn send(&mut self, outgoing: &Outgoing) -> anyhow::Result<Bytes> {
        let exchange = async {
            let response = self.open(outgoing).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            ensure_success(outgoing, status, &body)?;
            Ok(body)
        };
        let context = || format!("no answer to {} {}", outgoing.method, outgoing.path);
        tokio::time::timeout(REQUEST_DEADLINE, exchange).await.with_context(context)?
    }

    /// Sends it and gives the answer as it begins, for watches.
    pub(super) async fn open(&mut self, outgoing: &Outgoing) -> anyhow::Result<Response<Incoming>> {
        let Endpoint { host, port, token, is_http2, .. } = &self.endpoint;
        let path = &outgoing.path;
        let mut request = Request::builder()
            .method(&outgoing.method)
            .uri(if *is_http2 { format!("https://{host}:{port}{path}") } else { path.clone() })
            .header("accept", outgoing.accept)
            .header("content-type", outgoing.content_type)
            .header("user-agent", "lab-bench");
        if !is_http2 {
            request = request.header("host", format!("{host}:{port}"));
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(outgoing.body.clone()))?;
        let context = || format!("{} {path} failed", outgoing.method);
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.with_context(context)?;
                sender.send_request(request).await.with_context(context)
            }
            Sender::Http2(sender) => {
                sender.ready().await.with_context(context)?;
                sender.send_request(request).await.with_context(context)
            }
        }
    }
}

fn ensure_success(outgoing: &Outgoing, status: StatusCode, body: &[u8]) -> anyhow::Result<()> {
    if !status.is_success() {
        let text = String::from_utf8_lossy(&body[..body.len().min(500)]);
        bail!("{} {} was answered {status}: {text}", outgoing.method, outgoing.path);
    }
    Ok(())
}

/// Open connections, each with one request at a time.
pub(super) struct Clients(Vec<Connection>);

impl Clients {
    /// Opens so many.
    pub(super) async fn open(endpoint: &Endpoint, connections: usize) -> anyhow::Result<Self> {
        let mut opened = vec![];
        for _ in 0..connections {
            opened.push(endpoint.connect().await?);
        }
        Ok(Self(opened))
    }

    /// Sends `count` requests, and gives how long each took.
    pub(super) async fn send_all(
        self,
        count: usize,
        request: impl Fn(usize) -> Outgoing + Send + Sync + 'static,
    ) -> anyhow::Result<Vec<Duration>> {
        let request = Arc::new(request);
        let next = Arc::new(AtomicUsize::new(0));
        let mut running = JoinSet::new();
        for mut connection in self.0 {
            let (request, next) = (request.clone(), next.clone());
            running.spawn(async move {
                let mut latencies = vec![];
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return anyhow::Ok(latencies);
                    }
                    let outgoing = request(index);
                    let begin = Instant::now();
                    connection.send(&outgoing).await?;
                    latencies.push(begin.elapsed());
                }
            });
        }
        let mut latencies = vec![];
        while let Some(done) = running.join_next().await {
            latencies.extend(done.context("a client panicked")??);
        }
        ensure!(latencies.len() == count, "{} of {count} requests were answered", latencies.len());
        Ok(latencies)
    }
}
