//! Which clients may open a connection: holders of a certificate of that CA, with one of those names (4.10).
//!
//! The names are part of the handshake's verification, so that nothing is read of a request before both are clear. The
//! CA's file is followed as the serving certificate's directory is ([`crate::directory`]).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use tokio_util::sync::CancellationToken;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::metrics::Metrics;
use crate::provider::provider;

/// How often the file is read: by content and not by file events, which the kubelet's swap of a symbolic link does not
/// raise.
pub const POLL: Duration = Duration::from_secs(1);
/// More than any bundle of CAs takes.
const MAX_FILE: u64 = 1 << 20;
/// What is quoted of the names that a certificate has.
const QUOTED: usize = 300;

/// Why a file cannot be taken for the CA of clients.
#[derive(Debug, thiserror::Error)]
pub enum ClientAuthorityError {
    /// Missing, or not readable.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: String,
    },
    /// Not certificates of CAs.
    #[error("{} is no bundle of CA certificates in PEM: {reason}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// The CA of clients, as its file has it, and the names that are let in.
pub struct ClientAuthority {
    file: PathBuf,
    /// Any if empty.
    names: Vec<String>,
    trusted: ArcSwap<Trusted>,
    metrics: Metrics,
}

struct Trusted {
    pem: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
    /// When the first of its CAs ends: one that has ended vouches for no client.
    ends: SystemTime,
}

impl ClientAuthority {
    /// Reads the file. With names, a certificate must have one of them as its common name or as a DNS name, to the
    /// letter.
    ///
    /// # Errors
    /// If the file is no bundle of CAs.
    pub async fn load(
        file: PathBuf,
        names: Vec<String>,
        metrics: Metrics,
    ) -> Result<Arc<Self>, ClientAuthorityError> {
        let pem = read(&file).await?;
        let trusted = Trusted::new(&file, pem, SystemTime::now())?;
        Ok(Arc::new(Self { file, names, trusted: ArcSwap::from_pointee(trusted), metrics }))
    }

    /// Follows the file until shutdown, reading it as often as that ([`POLL`]). An invalid one is reported once, and what was read before stays.
    pub async fn follow(self: Arc<Self>, every: Duration, shutdown: CancellationToken) {
        let mut refused: Option<Vec<u8>> = None;
        let mut reported: Option<String> = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = shutdown.cancelled() => return,
            }
            let error = match read(&self.file).await {
                Ok(pem) if refused.as_ref() == Some(&pem) => continue,
                Ok(pem) => match self.take(&pem, SystemTime::now()) {
                    Ok(()) => {
                        (refused, reported) = (None, None);
                        continue;
                    }
                    Err(error) => {
                        refused = Some(pem);
                        error.to_string()
                    }
                },
                Err(error) => error.to_string(),
            };
            if reported.as_ref() != Some(&error) {
                self.metrics.count_client_ca_reload(false);
                tracing::error!(error, "invalid CA of clients; keeping the previous one");
                reported = Some(error);
            }
        }
    }

    /// Trusts what is in that text from now on, if it is another one or one of the CAs has ended.
    fn take(&self, pem: &[u8], now: SystemTime) -> Result<(), ClientAuthorityError> {
        let current = self.trusted.load();
        if current.pem == pem && now < current.ends {
            return Ok(());
        }
        let trusted = Trusted::new(&self.file, pem.to_vec(), now)?;
        self.trusted.store(Arc::new(trusted));
        self.metrics.count_client_ca_reload(true);
        tracing::info!(file = %self.file.display(), "another CA of clients");
        Ok(())
    }
}

impl Trusted {
    fn new(file: &Path, pem: Vec<u8>, now: SystemTime) -> Result<Self, ClientAuthorityError> {
        let unusable = |reason: String| ClientAuthorityError::Unusable { path: file.to_owned(), reason };
        let mut roots = RootCertStore::empty();
        let mut ends: Option<SystemTime> = None;
        let mut ended = 0;
        for (number, certificate) in (1..).zip(CertificateDer::pem_slice_iter(&pem)) {
            // The parser's errors quote the line, and an administrator may have mounted a key by mistake.
            let certificate = certificate.map_err(|_| unusable(format!("certificate {number} is broken")))?;
            let facts = Anchor::of(&certificate)
                .map_err(|reason| unusable(format!("certificate {number} {reason}")))?;
            if facts.not_after <= now {
                ended += 1;
                continue;
            }
            roots
                .add(certificate)
                .map_err(|error| unusable(format!("certificate {number} is refused: {error}")))?;
            ends = Some(ends.map_or(facts.not_after, |ends| ends.min(facts.not_after)));
        }
        let Some(ends) = ends else {
            return Err(unusable(match ended {
                0 => "there is no certificate in it".into(),
                _ => "all of its certificates have ended".into(),
            }));
        };
        if ended > 0 {
            tracing::warn!(file = %file.display(), ended, "CAs of clients that have ended are not trusted");
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { pem, verifier, ends })
    }
}

/// What there is to know of a CA's certificate.
struct Anchor {
    not_after: SystemTime,
}

impl Anchor {
    fn of(certificate: &CertificateDer<'_>) -> Result<Self, &'static str> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| "cannot be read")?;
        if !parsed.is_ca() {
            return Err("is not a CA's");
        }
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
        Ok(Self { not_after: UNIX_EPOCH + Duration::from_secs(seconds) })
    }
}

async fn read(file: &Path) -> Result<Vec<u8>, ClientAuthorityError> {
    let unreadable = |error: String| ClientAuthorityError::Unreadable { path: file.to_owned(), error };
    let facts = tokio::fs::metadata(file).await.map_err(|error| unreadable(error.to_string()))?;
    if !facts.is_file() {
        return Err(unreadable("it is not a file".into()));
    }
    if facts.len() > MAX_FILE {
        return Err(unreadable(format!("it has {} bytes, more than {MAX_FILE}", facts.len())));
    }
    tokio::fs::read(file).await.map_err(|error| unreadable(error.to_string()))
}

/// A certificate of the CA whose names are not let in.
#[derive(Debug, thiserror::Error)]
#[error("the client certificate's names are not among those that are let in: {0}")]
struct NameRefused(String);

impl ClientCertVerifier for ClientAuthority {
    /// None: it would disclose to any client which CAs are trusted, and clients of one certificate do not need it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let trusted = self.trusted.load();
        let verified = trusted.verifier.verify_client_cert(end_entity, intermediates, now)?;
        if self.names.is_empty() {
            return Ok(verified);
        }
        let presented = names(end_entity)?;
        if presented.iter().any(|name| self.names.contains(name)) {
            return Ok(verified);
        }
        let shown: String = presented.join(", ").chars().take(QUOTED).collect();
        let refused = NameRefused(format!("{shown:?}"));
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trusted.load().verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trusted.load().verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.load().verifier.supported_verify_schemes()
    }
}

/// Common names and DNS names.
fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, Error> {
    let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| bad())?;
    let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let alternative = parsed.subject_alternative_name().map_err(|_| bad())?;
    let alternative = alternative.iter().flat_map(|names| &names.value.general_names);
    let dns = alternative.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    Ok(common.chain(dns).map(str::to_owned).collect())
}

/// What the metrics call that error of a handshake.
pub(crate) fn reason(error: &std::io::Error) -> &'static str {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    match error {
        Some(Error::NoCertificatesPresented) => "no_client_certificate",
        Some(Error::InvalidCertificate(error)) => match error {
            CertificateError::UnknownIssuer => "client_ca_unknown",
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => "client_certificate_expired",
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "client_certificate_purpose"
            }
            CertificateError::Other(other) if other.0.is::<NameRefused>() => "client_name_refused",
            _ => "client_certificate_invalid",
        },
        _ => "failed",
    }
}

impl fmt::Debug for ClientAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, names, .. } = self;
        f.debug_struct("ClientAuthority").field("file", file).field("names", names).finish_non_exhaustive()
    }
}
