//! Who is let in (4.10), and what is spoken (4.11): over real TLS and real sockets.

#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::routing::get;
use pod_reloader_serving::certificate::Certificates;
use pod_reloader_serving::clients::ClientAuthority;
use pod_reloader_serving::metrics::Metrics;
use pod_reloader_serving::provider::{IS_FIPS, provider};
use pod_reloader_serving::server::{self, Limits, Port, Stop, Transport};
use pod_reloader_serving::tls::{MinVersion, Policy, Suite};
use prometheus_client::registry::Registry;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const TIMEOUT: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_hours(24);
const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
type Pair = (String, String);

impl Authority {
    /// All alike, so that only the signature distinguishes them.
    fn new() -> Self {
        Self::named("clients", SystemTime::now() + DAY)
    }

    fn named(name: &str, end: SystemTime) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = end.into();
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn client(&self, common_name: &str) -> Pair {
        self.issue(common_name, &[], ExtendedKeyUsagePurpose::ClientAuth, SystemTime::now() + DAY)
    }

    fn issue(
        &self,
        common_name: &str,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        end: SystemTime,
    ) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![usage];
        params.not_after = end.into();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

struct Server {
    address: SocketAddr,
    serving: Authority,
    registry: Registry,
    requests: Arc<AtomicUsize>,
    stop: Stop,
}

impl Server {
    async fn start(policy: Policy, clients: Option<(&Path, &[&str])>) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let certificates = Certificates::new(metrics.clone());
        let serving = Authority::new();
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let (certificate, key) = serving.issue("x", &["localhost"], usage, SystemTime::now() + DAY);
        certificates.install(certificate.as_bytes(), key.as_bytes()).unwrap();
        let stop = Stop::default();
        let clients = match clients {
            None => None,
            Some((file, names)) => {
                let names = names.iter().map(|name| (*name).to_owned()).collect();
                let clients = ClientAuthority::load(file.into(), names, metrics.clone()).await.unwrap();
                tokio::spawn(clients.clone().follow(Duration::from_millis(100), stop.now.clone()));
                Some(clients)
            }
        };
        let requests = Arc::new(AtomicUsize::new(0));
        let app = {
            let requests = requests.clone();
            Router::new()
                .route("/", get(|| async move { requests.fetch_add(1, Ordering::Relaxed).to_string() }))
        };
        let tls = policy.server_config(&certificates, clients).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let port = Port { name: "test", listener, transport: Transport::Tls(tls), limits: Limits::webhook() };
        tokio::spawn(server::serve(port, app, metrics, stop.clone()));
        Self { address, serving, registry, requests, stop }
    }

    fn client(
        &self,
        shown: Option<Pair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.serving.0.der().clone()).unwrap();
        let builder =
            ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        Arc::new(match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        })
    }

    /// Sends a request; how the handshake went, or `None` if there was no answer.
    async fn ask(&self, client: &Arc<ClientConfig>) -> Option<HandshakeKind> {
        let exchange = async {
            let stream = TcpStream::connect(self.address).await.ok()?;
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = TlsConnector::from(client.clone()).connect(name, stream).await.ok()?;
            let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            stream.get_ref().1.handshake_kind()
        };
        timeout(TIMEOUT, exchange).await.unwrap()
    }

    fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|candidate| candidate == line)
    }

    async fn counts(&self, line: &str) {
        let counted = async {
            while !self.metric(line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = timeout(TIMEOUT, counted).await;
        assert!(waited.is_ok(), "the metrics lack {line}");
    }
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

#[tokio::test]
async fn c4_10_a_client_without_a_good_certificate_gets_no_request_read() {
    let (good, foreign) = (Authority::new(), Authority::new());
    let other = Authority::named("others", SystemTime::now() + DAY);
    let ca = file(&good.0.pem());
    let server = Server::start(Policy::default(), Some((ca.path(), &["kube-apiserver"]))).await;
    let (client_auth, server_auth) =
        (ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth);
    let (now, later) = (SystemTime::now(), SystemTime::now() + DAY);
    // The certificate, and under which reason its refusal counts.
    let cases = [
        (None, "no_client_certificate"),
        (Some(foreign.client("kube-apiserver")), "client_certificate_invalid"),
        (Some(other.client("kube-apiserver")), "client_ca_unknown"),
        (Some(good.client("kubelet")), "client_name_refused"),
        (Some(good.client("")), "client_name_refused"),
        (Some(good.client("kube-apiserver.evil.example")), "client_name_refused"),
        (Some(good.client("KUBE-APISERVER")), "client_name_refused"),
        (Some(good.client("*")), "client_name_refused"),
        (Some(good.issue("x", &["*.example"], client_auth.clone(), later)), "client_name_refused"),
        (Some(good.issue("kube-apiserver", &[], client_auth, now - DAY / 24)), "client_certificate_expired"),
        (Some(good.issue("kube-apiserver", &[], server_auth, later)), "client_certificate_purpose"),
    ];
    let mut expected = std::collections::BTreeMap::<_, u32>::new();
    for version in [TLS12, TLS13] {
        for (shown, reason) in &cases {
            let client = server.client(shown.clone(), &[version]);
            assert_eq!(server.ask(&client).await, None, "{reason} with {version:?}");
            let count = expected.entry(*reason).or_default();
            *count += 1;
            server.counts(&format!(r#"tls_handshake_errors_total{{reason="{reason}"}} {count}"#)).await;
        }
        let client = server.client(Some(good.client("kube-apiserver")), &[version]);
        assert!(server.ask(&client).await.is_some(), "{version:?}");
    }
    assert_eq!(server.requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn c4_10_the_error_says_which_name_was_presented() {
    use rustls::server::danger::ClientCertVerifier;
    let good = Authority::new();
    let ca = file(&good.0.pem());
    let names = vec!["kube-apiserver".to_owned()];
    let clients = ClientAuthority::load(ca.path().into(), names, Metrics::default()).await.unwrap();
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let long = format!("kubelet\n{}", "x".repeat(5_000));
    for common_name in ["kubelet", &long] {
        let shown = good.issue(common_name, &["node.example"], usage.clone(), SystemTime::now() + DAY);
        let certificate = CertificateDer::from_pem_slice(shown.0.as_bytes()).unwrap();
        let now = rustls::pki_types::UnixTime::now();
        let error = clients.verify_client_cert(&certificate, &[], now).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("kubelet") && !text.contains('\n') && text.len() < 500, "{text}");
        assert!(long == common_name || text.contains("node.example"), "{text}");
    }
}

#[tokio::test]
async fn c4_10_a_common_name_or_a_dns_name_lets_in_and_without_names_any_does() {
    let good = Authority::new();
    let ca = file(&good.0.pem());
    let names = ["kube-apiserver", "api.example"];
    let server = Server::start(Policy::default(), Some((ca.path(), &names))).await;
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let by_dns = good.issue("x", &["other.example", "api.example"], usage, SystemTime::now() + DAY);
    for shown in [good.client("kube-apiserver"), good.client("api.example"), by_dns] {
        assert!(server.ask(&server.client(Some(shown), &[TLS13])).await.is_some());
    }
    let server = Server::start(Policy::default(), Some((ca.path(), &[]))).await;
    assert!(server.ask(&server.client(Some(good.client("anybody")), &[TLS13])).await.is_some());
    assert!(server.ask(&server.client(None, &[TLS13])).await.is_none());
    assert!(server.ask(&server.client(Some(Authority::new().client("anybody")), &[TLS13])).await.is_none());
}

#[tokio::test]
async fn c4_10_without_a_ca_nobody_is_asked_for_a_certificate() {
    let server = Server::start(Policy::default(), None).await;
    for version in [TLS12, TLS13] {
        let client = server.client(None, &[version]);
        assert_eq!(server.ask(&client).await, Some(HandshakeKind::Full));
        assert_eq!(server.ask(&client).await, Some(HandshakeKind::Resumed));
    }
}

#[tokio::test]
async fn c4_10_another_ca_counts_at_once_also_for_those_who_come_again() {
    let (old, new) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    // As the kubelet lays a Secret or a ConfigMap out.
    let write = |version: &str, content: &str| {
        let data = directory.path().join(version);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("ca.crt"), content).unwrap();
        symlink(version, directory.path().join("..data_tmp")).unwrap();
        std::fs::rename(directory.path().join("..data_tmp"), directory.path().join("..data")).unwrap();
    };
    write("..1", &old.0.pem());
    let path = directory.path().join("ca.crt");
    symlink("..data/ca.crt", &path).unwrap();
    let server = Server::start(Policy::default(), Some((&path, &[]))).await;
    let former: Vec<_> =
        [TLS12, TLS13].map(|version| server.client(Some(old.client("former")), &[version])).into();
    let next = server.client(Some(new.client("next")), &[TLS13]);
    for client in &former {
        // No session is kept, which would stand for the certificate.
        assert_eq!(server.ask(client).await, Some(HandshakeKind::Full));
        assert_eq!(server.ask(client).await, Some(HandshakeKind::Full));
    }
    assert_eq!(server.ask(&next).await, None);

    // Both, while clients change over.
    write("..2", &format!("{}{}", old.0.pem(), new.0.pem()));
    server.counts(r#"client_ca_reloads_total{result="success"} 1"#).await;
    assert!(server.ask(&next).await.is_some());
    assert!(server.ask(&former[0]).await.is_some());

    write("..3", &new.0.pem());
    server.counts(r#"client_ca_reloads_total{result="success"} 2"#).await;
    for client in &former {
        assert_eq!(server.ask(client).await, None);
    }
    assert!(server.ask(&next).await.is_some());

    // An invalid file changes nothing, and is reported once.
    write("..4", "garbage");
    server.counts(r#"client_ca_reloads_total{result="failure"} 1"#).await;
    std::fs::remove_file(&path).unwrap();
    server.counts(r#"client_ca_reloads_total{result="failure"} 2"#).await;
    assert!(server.ask(&next).await.is_some());
    assert_eq!(server.ask(&former[0]).await, None);
    symlink("..data/ca.crt", &path).unwrap();
    write("..5", &old.0.pem());
    server.counts(r#"client_ca_reloads_total{result="success"} 3"#).await;
    assert!(server.ask(&former[1]).await.is_some());
    assert!(server.metric(r#"client_ca_reloads_total{result="failure"} 2"#));
    server.stop.now.cancel();
}

#[tokio::test]
async fn c4_10_a_file_that_is_no_ca_is_an_error_that_says_what_is_wrong() {
    let good = Authority::new();
    let (leaf, key) = good.client("x");
    let ended = Authority::named("clients", SystemTime::now() - DAY).0.pem();
    let load = async |content: &str| {
        let file = file(content);
        let loaded = ClientAuthority::load(file.path().into(), vec![], Metrics::default()).await;
        loaded.map(drop).map_err(|error| error.to_string())
    };
    let pem = good.0.pem();
    for (content, part) in [
        (String::new(), "there is no certificate in it"),
        ("garbage".into(), "there is no certificate in it"),
        (key.clone(), "there is no certificate in it"),
        (pem[..pem.len() / 2].into(), "certificate 1 is broken"),
        (format!("{pem}{leaf}"), "certificate 2 is not a CA's"),
        (ended.clone(), "have ended"),
        ("x".repeat(2 << 20), "more than 1048576"),
    ] {
        let error = load(&content).await.unwrap_err();
        assert!(error.contains(part) && error.contains('/') && error.len() < 300, "{error}");
    }
    // One that ended is left out.
    load(&format!("{ended}{pem}")).await.unwrap();
    for path in ["/nowhere/ca.crt", "/tmp"] {
        let loaded = ClientAuthority::load(path.into(), vec![], Metrics::default()).await;
        let error = loaded.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read {path}: ")), "{error}");
    }
}

#[tokio::test]
async fn c4_11_versions_and_suites_are_those_that_were_chosen() {
    let suites = |names: &[&str]| names.iter().map(|name| Suite::parse(name).unwrap()).collect::<Vec<_>>();
    let aes256 = suites(&["TLS_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]);
    for (min_version, suites, tls12, tls13) in [
        (MinVersion::Tls12, vec![], true, true),
        (MinVersion::Tls13, vec![], false, true),
        (MinVersion::Tls12, suites(&["TLS_AES_256_GCM_SHA384"]), false, true),
        (MinVersion::Tls12, suites(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]), true, false),
        (MinVersion::Tls12, aes256.clone(), true, true),
        (MinVersion::Tls13, aes256, false, true),
    ] {
        let chosen: Vec<_> = suites.iter().map(|suite| suite.name()).collect();
        let server = Server::start(Policy { min_version, suites }, None).await;
        for (version, expected) in [(TLS12, tls12), (TLS13, tls13)] {
            let client = server.client(None, &[version]);
            let answered = server.ask(&client).await.is_some();
            assert_eq!(answered, expected, "{version:?} with {min_version:?} and {chosen:?}");
        }
    }
}

#[test]
fn c4_11_a_build_for_fips_serves_with_the_validated_module() {
    assert_eq!(provider().fips(), IS_FIPS);
    assert_eq!(IS_FIPS, cfg!(feature = "fips"));
}
