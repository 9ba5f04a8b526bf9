//! The built binary, without an API server: it serves all the same, and with the cryptography it was built for.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pod_reloader_serving::provider::{IS_FIPS, provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

const TIMEOUT: Duration = Duration::from_mins(1);

/// Ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Place {
    folder: tempfile::TempDir,
    certificate: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let kubeconfig = "{clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}], \
             contexts: [{name: a, context: {cluster: a, user: a}}], users: [{name: a, user: {token: t}}], \
             current-context: a}";
        let certificate = made.cert.pem();
        for (name, content) in [
            ("tls.crt", certificate.as_str()),
            ("tls.key", &made.signing_key.serialize_pem()),
            ("kubeconfig", kubeconfig),
        ] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        Self { folder, certificate }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn command(&self, webhook: u16, metrics: u16, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pod-reloader"));
        command
            .args([
                &format!("--kubeconfig={}", self.path("kubeconfig")),
                &format!("--webhook-tls-directory={}", self.folder.path().display()),
                &format!("--webhook-bind-address=127.0.0.1:{webhook}"),
                &format!("--metrics-bind-address=127.0.0.1:{metrics}"),
                "--health-probe-bind-address=0",
                "--log-format=json",
            ])
            .args(args);
        command
    }

    /// Sends a request over TLS until there is an answer.
    async fn ask(&self, port: u16, request: &str) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        let answered = async {
            loop {
                if let Ok(answer) = exchange(config.clone(), port, request).await {
                    return answer;
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(TIMEOUT, answered).await.unwrap()
    }
}

async fn exchange(config: Arc<ClientConfig>, port: u16, request: &str) -> std::io::Result<String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Two unused ports.
fn ports() -> [u16; 2] {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

#[tokio::test]
async fn c4_11_the_binary_serves_with_the_cryptography_it_was_built_for() {
    let place = Place::new();
    let [webhook, metrics] = ports();
    let log = std::fs::File::create(place.path("log")).unwrap();
    let mut command = place.command(webhook, metrics, &["--metrics-secure"]);
    let _process = Process(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());

    let request = "POST /mutate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                   Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let answer = place.ask(webhook, request).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");

    // No API server is there to say who may read them.
    let request = |more: &str| format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
    let answer = place.ask(metrics, &request("")).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let answer = place.ask(metrics, &request("Authorization: Bearer t\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");

    let log = read(Path::new(&place.path("log")));
    let start = log.lines().find(|line| line.contains("pod-reloader starts")).unwrap();
    let start: serde_json::Value = serde_json::from_str(start).unwrap();
    assert!(start.to_string().contains(&format!(r#""fips":{IS_FIPS}"#)), "{start}");
}

#[test]
fn c4_10_a_client_ca_that_is_no_ca_ends_the_start_and_says_why() {
    let place = Place::new();
    let [webhook, metrics] = ports();
    for (file, text) in [("nowhere", "cannot read "), ("tls.key", "there is no certificate in it")] {
        let ca = format!("--webhook-client-ca={}", place.path(file));
        let output = place.command(webhook, metrics, &[&ca]).stdin(Stdio::null()).output().unwrap();
        let log =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains("--webhook-client-ca") && log.contains(text), "{log}");
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}
