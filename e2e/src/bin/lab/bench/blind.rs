//! `lab blind-webhook`: a webhook over TLS that allows everything without looking at it. It is a process of its own, so
//! that what it takes can be told from what the clients take.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pod_reloader_e2e::process::Process;
use pod_reloader_e2e::{TIMEOUT, eventually, ports};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::raw::Endpoint;
use super::resources::Resources;
use super::stage::Stage;

/// Serves until it is ended.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder with `tls.crt` and `tls.key`.
    #[arg(long)]
    tls_directory: PathBuf,
    /// On the loopback interface.
    #[arg(long)]
    port: u16,
}

pub(crate) async fn serve(args: &Args) -> anyhow::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(&args.tls_directory)?));
    let listener = TcpListener::bind(("127.0.0.1", args.port)).await.context("cannot listen")?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Whoever only looks whether the port is open leaves before the handshake.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(1 << 20).initial_connection_window_size(16 << 20);
            drop(builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await);
        });
    }
}

fn server_config(directory: &Path) -> anyhow::Result<ServerConfig> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificates = CertificateDer::pem_file_iter(directory.join("tls.crt"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(directory.join("tls.key"))?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let uid = uid(&body).unwrap_or_default();
    let review = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{{"uid":"{uid}","allowed":true}}}}"#
    );
    let mut response = Response::new(Full::from(review));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The first uid: the API server puts that of the request before the objects.
fn uid(review: &[u8]) -> Option<&str> {
    const BEGIN: &[u8] = br#""uid":""#;
    let begin = review.windows(BEGIN.len()).position(|window| window == BEGIN)? + BEGIN.len();
    let length = review[begin..].iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&review[begin..begin + length]).ok()
}

/// A running one. Dropping it kills it.
pub(super) struct Blind {
    process: Process,
    port: u16,
}

impl Blind {
    /// Starts one, with a certificate of the stage's CA.
    pub(super) async fn start(stage: &Stage) -> anyhow::Result<Self> {
        let tls = stage.world.directory().join("blind");
        stage.world.authority.issue(&["localhost", "127.0.0.1"])?.write(&tls)?;
        let [port] = ports::free()?;
        let args = [
            "blind-webhook".to_owned(),
            format!("--tls-directory={}", tls.display()),
            format!("--port={port}"),
        ];
        let env: [(&str, &str); 0] = [];
        let log = stage.world.directory().join("blind.log");
        let process = Process::spawn("blind-webhook", &std::env::current_exe()?, args, env, &log)?;
        eventually("the blind webhook to listen", TIMEOUT, || async {
            TcpStream::connect(("127.0.0.1", port)).await.map(drop).context("not yet")
        })
        .await?;
        Ok(Self { process, port })
    }

    /// Where it is.
    pub(super) fn endpoint(&self, stage: &Stage) -> anyhow::Result<Endpoint> {
        Endpoint::webhook(self.port, &stage.world.authority.pem())
    }

    /// What it takes.
    pub(super) fn resources(&self) -> Resources {
        Resources::of(self.process.id())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_uid_of_the_request_is_found() {
        let review =
            br#"{"kind":"AdmissionReview","request":{"uid":"a-1","object":{"metadata":{"uid":"b-2"}}}}"#;
        assert_eq!(super::uid(review), Some("a-1"));
        assert_eq!(super::uid(br#"{"uid":"unfinished"#), None);
        assert_eq!(super::uid(b""), None);
    }
}
