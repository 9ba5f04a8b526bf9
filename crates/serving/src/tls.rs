//! What is spoken on a TLS port: versions, cipher suites, and whether clients show a certificate (4.10, 4.11).

use std::sync::Arc;

use rustls::server::NoServerSessionStorage;
pub use rustls::server::ServerConfig;
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use crate::certificate::Certificates;
use crate::clients::ClientAuthority;
use crate::provider::{IS_FIPS, provider};

/// The least version of TLS that clients must speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// 1.2 and 1.3.
    #[default]
    Tls12,
    /// 1.3 alone.
    Tls13,
}

/// A cipher suite that the provider has, by its IANA name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suite(SupportedCipherSuite);

/// What is spoken on a port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// The least version.
    pub min_version: MinVersion,
    /// These suites and no others; the provider's own choice if there are none.
    pub suites: Vec<Suite>,
}

/// Why a policy or a suite cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No such suite, or not with this provider.
    #[error("there is no cipher suite {name:?}; known are {}", Suite::names().join(", "))]
    UnknownSuite {
        /// What was asked for.
        name: String,
    },
    /// Nothing could be negotiated.
    #[error("TLS 1.3 is the least version, but all of the cipher suites are for TLS 1.2; those of TLS 1.3 are {}",
        Suite::names_where(Suite::is_for_tls13).join(", "))]
    NoSuiteForVersion,
    /// Not what this build is for.
    #[error("this build is for FIPS, but its TLS is not in FIPS mode")]
    NotFips,
    /// rustls refused.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

impl Suite {
    /// The suite of that name. Go's names without a hash at the end are taken, too.
    ///
    /// # Errors
    /// If there is none; the error names those there are.
    pub fn parse(name: &str) -> Result<Self, PolicyError> {
        let name = name.trim();
        let iana = match name {
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => {
                format!("{name}_SHA256")
            }
            _ => name.to_owned(),
        };
        Self::all()
            .find(|suite| suite.name() == iana)
            .ok_or_else(|| PolicyError::UnknownSuite { name: name.chars().take(80).collect() })
    }

    fn all() -> impl Iterator<Item = Self> {
        provider().cipher_suites.clone().into_iter().map(Self)
    }

    /// Its IANA name.
    pub fn name(self) -> String {
        // rustls has a prefix of its own for those of TLS 1.3.
        let name = self.0.suite().as_str().unwrap_or_default();
        name.strip_prefix("TLS13_").map_or_else(|| name.to_owned(), |rest| format!("TLS_{rest}"))
    }

    fn names() -> Vec<String> {
        Self::names_where(|_| true)
    }

    fn names_where(filter: impl Fn(Self) -> bool) -> Vec<String> {
        Self::all().filter(|suite| filter(*suite)).map(Self::name).collect()
    }

    fn is_for_tls13(self) -> bool {
        self.0.tls13().is_some()
    }

    /// Whether it takes a server's certificate with an ECDSA key, as the self-made ones have it.
    pub fn takes_ecdsa(self) -> bool {
        self.is_for_tls13() || self.name().starts_with("TLS_ECDHE_ECDSA_")
    }
}

impl Policy {
    /// Whether anything can be negotiated.
    ///
    /// # Errors
    /// If no suite fits the versions.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let leaves_none = self.min_version == MinVersion::Tls13
            && !self.suites.is_empty()
            && !self.suites.iter().any(|suite| suite.is_for_tls13());
        if leaves_none { Err(PolicyError::NoSuiteForVersion) } else { Ok(()) }
    }

    /// The configuration of a port: whatever certificate is current at each handshake, for HTTP/2 and HTTP/1.1, and for
    /// clients of that authority alone, if there is one.
    ///
    /// # Errors
    /// If nothing could be negotiated, or if a build for FIPS is not in FIPS mode.
    pub fn server_config(
        &self,
        certificates: &Arc<Certificates>,
        clients: Option<Arc<ClientAuthority>>,
    ) -> Result<Arc<ServerConfig>, PolicyError> {
        self.validate()?;
        let mut chosen = (*provider()).clone();
        if !self.suites.is_empty() {
            chosen.cipher_suites.retain(|suite| self.suites.contains(&Suite(*suite)));
        }
        let versions: &[&SupportedProtocolVersion] = match self.min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let builder =
            ServerConfig::builder_with_provider(Arc::new(chosen)).with_protocol_versions(versions)?;
        let mut config = match clients {
            None => builder.with_no_client_auth().with_cert_resolver(certificates.clone()),
            Some(clients) => {
                let verifier = builder.with_client_cert_verifier(clients);
                let mut config = verifier.with_cert_resolver(certificates.clone());
                // A resumed session has its client's certificate from the first handshake, unverified: it would outlive
                // the certificate and the CA.
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
                config
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if IS_FIPS && !config.fips() {
            return Err(PolicyError::NotFips);
        }
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn c4_11_suites_have_their_iana_names() {
        for name in Suite::names() {
            assert!(name.starts_with("TLS_") && !name.starts_with("TLS13_"), "{name}");
            assert_eq!(Suite::parse(&name).unwrap().name(), name);
        }
        assert!(Suite::parse(" TLS_AES_256_GCM_SHA384 ").unwrap().is_for_tls13());
        assert!(!Suite::parse("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256").unwrap().is_for_tls13());
        if !IS_FIPS {
            let short = Suite::parse("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305").unwrap();
            assert_eq!(short.name(), "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256");
        }
        for name in ["", "TLS_RSA_WITH_AES_128_CBC_SHA", "tls_aes_256_gcm_sha384", "TLS13_AES_256_GCM_SHA384"]
        {
            let error = Suite::parse(name).unwrap_err().to_string();
            assert!(error.contains("known are TLS_AES_256_GCM_SHA384, "), "{error}");
        }
    }

    #[test]
    fn c4_11_a_floor_that_no_suite_reaches_is_an_error() {
        let certificates = Certificates::new(Metrics::default());
        let suites = |names: &[&str]| names.iter().map(|name| Suite::parse(name).unwrap()).collect();
        let old = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        let new = "TLS_AES_128_GCM_SHA256";
        for (min_version, names, fits) in [
            (MinVersion::Tls12, &[][..], true),
            (MinVersion::Tls12, &[old], true),
            (MinVersion::Tls12, &[new], true),
            (MinVersion::Tls13, &[], true),
            (MinVersion::Tls13, &[old, new], true),
            (MinVersion::Tls13, &[old], false),
        ] {
            let policy = Policy { min_version, suites: suites(names) };
            assert_eq!(policy.validate().is_ok(), fits, "{policy:?}");
            let config = policy.server_config(&certificates, None);
            assert_eq!(config.is_ok(), fits, "{policy:?}");
            if let Ok(config) = config {
                assert_eq!(config.fips(), IS_FIPS);
            }
        }
    }
}
