//! The serving certificate of the moment.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::metrics::Metrics;
use crate::provider::provider;

/// Why a pair of certificate and key cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// No certificate in the PEM text, or a broken one.
    #[error("tls.crt holds no certificate that can be read: {0}")]
    Certificate(String),
    /// No key in the PEM text, or a broken one.
    #[error("tls.key holds no private key that can be read: {0}")]
    Key(String),
    /// The two do not belong together, or the key's kind is unknown.
    #[error("tls.crt and tls.key do not match: {0}")]
    Mismatch(#[from] rustls::Error),
}

/// Holds the pair that is served now. Swapping it needs no lock and touches no open connection.
pub struct Certificates {
    current: ArcSwapOption<Current>,
    metrics: Metrics,
}

struct Current {
    key: Arc<CertifiedKey>,
    key_pem: Vec<u8>,
    validity: Validity,
}

#[derive(Clone, Copy)]
struct Validity {
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Validity {
    fn of(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| CertificateError::Certificate(error.to_string()))?;
        let time = |time: ASN1Time| {
            UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
        };
        Ok(Self {
            not_before: time(parsed.validity().not_before),
            not_after: time(parsed.validity().not_after),
        })
    }

    /// Why it is not valid at that time.
    fn problem(self, now: SystemTime) -> Option<String> {
        if now < self.not_before {
            Some(format!("the serving certificate is not valid before {}", rfc_3339(self.not_before)))
        } else if now >= self.not_after {
            Some(format!("the serving certificate expired at {}", rfc_3339(self.not_after)))
        } else {
            None
        }
    }
}

fn rfc_3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let Ok(time) = ASN1Time::from_timestamp(seconds) else { return "the end of time".into() };
    let time = time.to_datetime();
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
}

impl Certificates {
    /// None yet.
    pub fn new(metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { current: ArcSwapOption::empty(), metrics })
    }

    /// Serves that pair from now on, if it is valid; the old one stays if not. Returns whether it is another pair than
    /// before.
    ///
    /// # Errors
    /// If either does not parse, or if they do not belong together.
    pub fn install(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<bool, CertificateError> {
        let result = self.parse(certificate_pem, key_pem);
        match result {
            Ok(None) => Ok(false),
            Ok(Some(current)) => {
                let validity = current.validity;
                let not_after = validity.not_after;
                let seconds = not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                self.current.store(Some(Arc::new(current)));
                self.metrics.count_reload(true);
                // Exact up to 2^53 seconds.
                #[expect(clippy::cast_precision_loss, reason = "times are far smaller")]
                self.metrics.set_expiry(seconds as f64);
                if let Some(problem) = validity.problem(SystemTime::now()) {
                    tracing::warn!("{problem}");
                }
                tracing::info!(not_after = seconds, "serving another certificate");
                Ok(true)
            }
            Err(error) => {
                self.metrics.count_reload(false);
                Err(error)
            }
        }
    }

    /// `None` if it is the pair that is served already.
    fn parse(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<Option<Current>, CertificateError> {
        let certificates = CertificateDer::pem_slice_iter(certificate_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CertificateError::Certificate(describe(&error).into()))?;
        let leaf = certificates.first().ok_or_else(|| CertificateError::Certificate("it is empty".into()))?;
        let validity = Validity::of(leaf)?;
        if let Some(current) = &*self.current.load()
            && current.key.cert == certificates
            && current.key_pem == key_pem
        {
            return Ok(None);
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem)
            .map_err(|error| CertificateError::Key(describe(&error).into()))?;
        // Fails if the key is another certificate's.
        let key = CertifiedKey::from_der(certificates, key, &provider())?;
        Ok(Some(Current { key: Arc::new(key), key_pem: key_pem.to_vec(), validity }))
    }

    /// What is served, in DER.
    pub fn served(&self) -> Option<CertificateDer<'static>> {
        self.current.load().as_ref().map(|current| current.key.cert[0].clone())
    }

    /// Whether there is a pair to serve.
    pub fn is_loaded(&self) -> bool {
        self.current.load().is_some()
    }

    /// When the certificate that is served ends.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.current.load().as_ref().map(|current| current.validity.not_after)
    }

    /// Why clients do not trust what is served at that time, if they do not: there is nothing, or it is not valid yet or
    /// any longer.
    pub fn problem(&self, now: SystemTime) -> Option<String> {
        match &*self.current.load() {
            None => Some("no serving certificate is loaded".into()),
            Some(current) => current.validity.problem(now),
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|current| current.key.clone())
    }
}

// Never the key.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("not_after", &self.not_after()).finish_non_exhaustive()
    }
}

/// The errors' own texts quote the line at fault, and that can be the key: if its line breaks were lost, all of it.
fn describe(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        pem::Error::NoItemsFound => "it is empty",
        _ => "it is not PEM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    fn certificates() -> Arc<Certificates> {
        Certificates::new(Metrics::default())
    }

    #[test]
    fn c4_7_a_pair_is_taken_up_once() {
        let certificates = certificates();
        let (certificate, key) = pair();
        assert!(!certificates.is_loaded());
        assert!(certificates.install(certificate.as_bytes(), key.as_bytes()).unwrap());
        assert!(certificates.is_loaded());
        assert!(!certificates.install(certificate.as_bytes(), key.as_bytes()).unwrap());
        assert!(certificates.not_after().unwrap() > SystemTime::now());
    }

    #[test]
    fn c4_7_an_expired_certificate_is_better_than_none() {
        let certificates = certificates();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.not_after = (SystemTime::now() - Duration::from_mins(1)).into();
        let certificate = params.self_signed(&key).unwrap().pem();
        assert!(certificates.install(certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap());
        assert!(certificates.not_after().unwrap() < SystemTime::now());
    }

    #[test]
    fn c4_8_a_certificate_that_is_not_valid_now_is_a_problem() {
        let certificates = certificates();
        let now = SystemTime::now();
        assert_eq!(certificates.problem(now).as_deref(), Some("no serving certificate is loaded"));
        let day = Duration::from_hours(24);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        (params.not_before, params.not_after) = ((now + day).into(), (now + 3 * day).into());
        let certificate = params.self_signed(&key).unwrap().pem();
        certificates.install(certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        for (at, problem) in [
            (now, Some("the serving certificate is not valid before 2")),
            (now + 2 * day, None),
            (now + 4 * day, Some("the serving certificate expired at 2")),
        ] {
            let found = certificates.problem(at);
            assert_eq!(found.is_some(), problem.is_some());
            assert!(found.unwrap_or_default().starts_with(problem.unwrap_or_default()));
        }
    }

    #[test]
    fn times_are_written_as_in_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (253_402_300_800, "the end of time"),
        ] {
            assert_eq!(rfc_3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn c4_7_a_bad_pair_changes_nothing_and_its_key_is_not_shown() {
        let certificates = certificates();
        let (certificate, key) = pair();
        certificates.install(certificate.as_bytes(), key.as_bytes()).unwrap();
        let served = certificates.served();
        let (other, other_key) = pair();
        let one_line = other_key.replace('\n', "");
        // The errors of the PEM parser print bytes as numbers.
        let secret = &one_line[80..100]; // behind what all such keys begin with
        let as_numbers = format!("{:?}", secret.as_bytes());
        let as_numbers = as_numbers.trim_matches(['[', ']']);
        for (certificate, key, part) in [
            (other.as_str(), key.as_str(), "do not match"),
            ("", key.as_str(), "tls.crt"),
            (other.as_str(), "", "tls.key"),
            (other.as_str(), &one_line, "END"),
            (other.as_str(), one_line.trim_end_matches('-'), "BEGIN"),
            (one_line.as_str(), &one_line, "END"),
            (other.as_str(), &other_key[..100], "END"),
            (&other[..100], other_key.as_str(), "tls.crt"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &other_key, "tls.crt"),
        ] {
            let error = certificates.install(certificate.as_bytes(), key.as_bytes()).unwrap_err();
            for text in [error.to_string(), format!("{error:?}")] {
                assert!(!text.contains(secret) && !text.contains(as_numbers), "{text}");
            }
            assert!(error.to_string().contains(part), "{error} does not say {part}");
        }
        assert_eq!(certificates.served(), served);
        assert!(!format!("{certificates:?}").contains("key"));
    }
}
