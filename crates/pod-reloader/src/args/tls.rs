//! Flags of the TLS ports: who may call, and what is spoken.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use pod_reloader_serving::tls::{MinVersion, Policy, Suite};

use crate::go_flags::parse_bool;

/// See the module.
#[derive(Clone, Debug, Args)]
pub struct TlsArgs {
    /// CAs, in PEM, whose client certificates the webhook asks for; followed when the file changes. Without it whoever
    /// reaches the port may ask
    #[arg(long, value_name = "FILE", env = "POD_RELOADER_WEBHOOK_CLIENT_CA")]
    pub webhook_client_ca: Option<PathBuf>,

    /// Common names or DNS names of which a client certificate must have one, comma-separated; without it any
    /// certificate of --webhook-client-ca will do
    #[arg(long, value_name = "NAMES", value_delimiter = ',', env = "POD_RELOADER_WEBHOOK_CLIENT_NAMES",
          requires = "webhook_client_ca", value_parser = parse_client_name)]
    pub webhook_client_names: Vec<String>,

    /// Least version of TLS for webhook and metrics: `VersionTLS12` or `VersionTLS13`
    #[arg(long, value_name = "VERSION", default_value = "VersionTLS12", env = "POD_RELOADER_TLS_MIN_VERSION",
          value_parser = parse_min_version)]
    pub tls_min_version: MinVersion,

    /// Cipher suites of webhook and metrics by their IANA names, comma-separated, and no others; by default all that
    /// are good
    #[arg(long, value_name = "SUITES", value_delimiter = ',', env = "POD_RELOADER_TLS_CIPHER_SUITES",
          value_parser = parse_suite)]
    pub tls_cipher_suites: Vec<Suite>,

    /// Serve /metrics over TLS with the webhook's certificate, for callers whose token the API server knows and who may
    /// `get` the nonResourceURL /metrics
    #[arg(long, value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, env = "POD_RELOADER_METRICS_SECURE",
          value_parser = parse_bool)]
    pub metrics_secure: bool,
}

impl TlsArgs {
    /// What is spoken on the TLS ports.
    pub fn policy(&self) -> Policy {
        Policy { min_version: self.tls_min_version, suites: self.tls_cipher_suites.clone() }
    }

    /// What is wrong with the flags together, each of which is right.
    ///
    /// # Errors
    /// A sentence for the command line.
    pub(super) fn validate(&self, certificates_are_self_made: bool) -> Result<(), String> {
        let policy = self.policy();
        policy.validate().map_err(|error| format!("--tls-min-version and --tls-cipher-suites: {error}"))?;
        let suites = &policy.suites;
        if certificates_are_self_made && !suites.is_empty() && !suites.iter().any(|suite| suite.takes_ecdsa())
        {
            return Err(
                "--tls-cipher-suites: self-made certificates have ECDSA keys, and none of the suites \
                        takes one; add one of TLS 1.3 or a TLS_ECDHE_ECDSA_... one, or use \
                        --webhook-tls-directory"
                    .into(),
            );
        }
        Ok(())
    }
}

fn parse_client_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() {
        return Err("expected names, such as kube-apiserver,apiserver.example.com".into());
    }
    Ok(name.to_owned())
}

fn parse_min_version(text: &str) -> Result<MinVersion, String> {
    match text {
        "VersionTLS12" | "1.2" => Ok(MinVersion::Tls12),
        "VersionTLS13" | "1.3" => Ok(MinVersion::Tls13),
        _ => Err("expected VersionTLS12 or VersionTLS13".into()),
    }
}

fn parse_suite(text: &str) -> Result<Suite, String> {
    Suite::parse(text).map_err(|error| error.to_string())
}
