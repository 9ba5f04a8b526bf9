//! The command line (section 6).

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use pod_reloader_controller::leader::LEASE_NAME;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_k8s::key;
use pod_reloader_k8s::scope::{SYSTEM_NAMESPACE, Scope};

use crate::go_flags::parse_bool;

mod connection;
mod kinds;
mod logging;
mod scope;
mod tls;

pub use connection::ConnectionArgs;
pub use kinds::KindArgs;
pub use logging::{LogFormat, LoggingArgs, ZapEncoder, ZapStacktraceLevel, ZapTimeEncoding};
pub use scope::ScopeArgs;
pub use tls::TlsArgs;

/// Reloads Kubernetes workloads when the `ConfigMaps` and Secrets they list in annotations change.
#[derive(Clone, Debug, Parser)]
#[command(name = "pod-reloader", version, about, args_override_self = true, max_term_width = 110)]
pub struct Args {
    /// Address of /metrics; "0" for none
    #[arg(long, value_name = "[HOST]:PORT", default_value = ":8080", env = "POD_RELOADER_METRICS_BIND_ADDRESS",
          value_parser = BindAddress::parse)]
    pub metrics_bind_address: BindAddress,

    /// Address of /healthz and /readyz; "0" for none
    #[arg(long, value_name = "[HOST]:PORT", default_value = ":8081",
          env = "POD_RELOADER_HEALTH_PROBE_BIND_ADDRESS", value_parser = BindAddress::parse)]
    pub health_probe_bind_address: BindAddress,

    /// Address of the webhook, which serves POST /mutate over TLS; "0" for none, which leaves everything to the
    /// reconciler
    #[arg(long, value_name = "[HOST]:PORT", default_value = ":9443", env = "POD_RELOADER_WEBHOOK_BIND_ADDRESS",
          value_parser = BindAddress::parse)]
    pub webhook_bind_address: BindAddress,

    /// Directory with the webhook's tls.crt and tls.key, which are followed when they change. Without it the operator
    /// makes its own CA and certificate
    #[arg(long, value_name = "DIRECTORY", env = "POD_RELOADER_WEBHOOK_TLS_DIRECTORY")]
    pub webhook_tls_directory: Option<PathBuf>,

    /// Who may call the TLS ports, and what is spoken there.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// Name of the `MutatingWebhookConfiguration` that is given the self-made CA (only without --webhook-tls-directory).
    /// The Secrets with the certificate and its CAs are called after it: `NAME-webhook-certificates`, `NAME-webhook-ca`
    #[arg(
        long,
        value_name = "NAME",
        default_value = "pod-reloader",
        env = "POD_RELOADER_WEBHOOK_CONFIGURATION_NAME",
        value_parser = parse_object_name
    )]
    pub webhook_configuration_name: String,

    /// Enable leader election: only the holder of the Lease reconciles. Needed with several replicas
    #[arg(long, value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, env = "POD_RELOADER_LEADER_ELECT",
          value_parser = parse_bool)]
    pub leader_elect: bool,

    /// Name of the Lease. Installations that share a namespace and have other --namespaces need one each
    #[arg(long, value_name = "NAME", default_value = LEASE_NAME, env = "POD_RELOADER_LEADER_ELECTION_ID",
          value_parser = parse_object_name)]
    pub leader_election_id: String,

    /// The operator's namespace, of the Lease, the digest key and self-made certificates; by default the pod's own, or
    /// the kubeconfig's
    #[arg(long, value_name = "NAMESPACE", env = "POD_RELOADER_LEADER_ELECTION_NAMESPACE")]
    pub leader_election_namespace: Option<String>,

    /// How config hashes are made: from the content, or from uid and resourceVersion as SAP's pod-reloader does
    #[arg(long, value_name = "MODE", default_value = "content", env = "POD_RELOADER_HASH")]
    pub hash: HashArg,

    /// How long a workload's references must have been quiet before it is reloaded, such as 2s or 500ms; 0 for at once
    #[arg(long, value_name = "DURATION", default_value = "2s", env = "POD_RELOADER_SETTLE_WINDOW",
          value_parser = parse_settle_window)]
    pub settle_window: Duration,

    /// Patches of workloads that may be under way at once
    #[arg(long, value_name = "NUMBER", default_value = "16", env = "POD_RELOADER_MAX_CONCURRENT_PATCHES",
          value_parser = parse_patches)]
    pub max_concurrent_patches: usize,

    /// Memory that request bodies, lists and content may take together while they are read, such as 24Mi; by default
    /// three sixteenths of the container's memory limit
    #[arg(long, value_name = "BYTES", env = "POD_RELOADER_MEMORY_BUDGET", value_parser = parse_bytes)]
    pub memory_budget: Option<u64>,

    /// Watch these namespaces only, comma-separated; needs only Roles there
    #[arg(long, value_name = "NAMESPACES", value_delimiter = ',', env = "POD_RELOADER_NAMESPACES",
          value_parser = parse_namespace)]
    pub namespaces: Vec<String>,

    /// What the installation concerns itself with.
    #[command(flatten)]
    pub scope: ScopeArgs,

    /// How long the webhook keeps serving after SIGTERM
    #[arg(long, value_name = "DURATION", default_value = "3s", env = "POD_RELOADER_SHUTDOWN_DELAY",
          value_parser = parse_shutdown_delay)]
    pub shutdown_delay: Duration,

    /// The API server.
    #[command(flatten)]
    pub connection: ConnectionArgs,

    /// What is logged.
    #[command(flatten)]
    pub logging: LoggingArgs,

    /// Deprecated: the subcommand self-test, as charts of former releases call it
    #[arg(long, value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, env = "POD_RELOADER_SELF_TEST",
          value_parser = parse_bool, hide = true)]
    pub self_test: bool,
}

impl Args {
    /// The namespaces to watch, each once; none for all.
    pub fn namespaces(&self) -> Vec<String> {
        let mut namespaces: Vec<String> = vec![];
        for namespace in &self.namespaces {
            if !namespaces.contains(namespace) {
                namespaces.push(namespace.clone());
            }
        }
        namespaces
    }

    /// What this installation concerns itself with, once for the process: it learns the names of kinds. The label of
    /// `own_namespace` does not count: the operator does not reload itself.
    ///
    /// # Errors
    /// If a kind of workload cannot be understood; the text says what would be right.
    pub fn scope(&self, own_namespace: &str) -> Result<Scope, String> {
        let namespaces = self.namespaces();
        let kinds = self.scope.kinds.all()?;
        Ok(Scope {
            kinds,
            namespaces: (!namespaces.is_empty()).then_some(namespaces),
            namespace_selector: self.scope.namespace_selector.clone(),
            object_selector: self.scope.object_selector.clone(),
            secrets: self.scope.secrets,
            namespace_labels: self.scope.namespace_labels,
            object_marks: self.scope.object_marks,
            unlabelled: vec![SYSTEM_NAMESPACE.to_owned(), own_namespace.to_owned()],
        })
    }

    /// What is wrong with flags that are right by themselves.
    ///
    /// # Errors
    /// With what would be right.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.tls.validate(self.webhook_tls_directory.is_none())?;
        self.scope.kinds.all()?;
        if !self.scope.secrets && self.hash == HashArg::Version {
            return Err(
                "--secrets=false needs --hash=content: SAP's hash covers the versions of Secrets".into()
            );
        }
        if self.webhook_bind_address == BindAddress::Off {
            if self.tls.metrics_secure {
                return Err(
                    "--metrics-secure needs the webhook, whose certificate the metrics are served with; \
                            without it, leave them plain, or --metrics-bind-address=0"
                        .into(),
                );
            }
            if self.tls.webhook_client_ca.is_some() {
                return Err("--webhook-client-ca is for the webhook, and --webhook-bind-address=0 says that there is none"
                    .into());
            }
        }
        Ok(())
    }

    /// The operator's own Secrets, in its namespace: a workload that lists one of them learns nothing of it.
    pub fn own_secrets(&self) -> impl Iterator<Item = String> {
        [key::SECRET_NAME.to_owned(), self.certificates_secret(), self.ca_secret()].into_iter()
    }

    /// The Secret with self-made certificates, in the operator's namespace: one for each
    /// `MutatingWebhookConfiguration`, as another installation's CA is not trusted by this one's.
    pub fn certificates_secret(&self) -> String {
        format!("{}-webhook-certificates", self.webhook_configuration_name)
    }

    /// The Secret with the CAs that sign them, and their keys.
    pub fn ca_secret(&self) -> String {
        format!("{}-webhook-ca", self.webhook_configuration_name)
    }
}

/// `--hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HashArg {
    /// Keyed, from the content.
    Content,
    /// SAP's own.
    Version,
}

impl From<HashArg> for HashMode {
    fn from(arg: HashArg) -> Self {
        match arg {
            HashArg::Content => Self::Content,
            HashArg::Version => Self::Version,
        }
    }
}

/// Where to listen, in Go's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// Nowhere.
    Off,
    /// At that port of that host; of all addresses, if the host is missing.
    At {
        /// A name or an IP address.
        host: Option<String>,
        /// Zero for any that is free.
        port: u16,
    },
}

impl BindAddress {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "0" {
            return Ok(Self::Off);
        }
        let expected = || "expected [HOST]:PORT, such as :8080, 127.0.0.1:8080 or [::1]:8080".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().map_err(|_| expected())?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or_else(expected)?,
            None if host.contains(':') => return Err(expected()),
            None => host,
        };
        Ok(Self::At { host: (!host.is_empty()).then(|| host.to_owned()), port })
    }
}

fn parse_duration(text: &str, most: Duration) -> Result<Duration, String> {
    let duration = pod_reloader_core::duration::parse(text)
        .ok_or("expected a duration with its unit, such as 2s, 500ms or 1m30s, or 0")?;
    if duration > most {
        return Err(format!("expected at most {} s", most.as_secs()));
    }
    Ok(duration)
}

fn parse_settle_window(text: &str) -> Result<Duration, String> {
    parse_duration(text, Duration::from_hours(1))
}

fn parse_shutdown_delay(text: &str) -> Result<Duration, String> {
    parse_duration(text, Duration::from_mins(10))
}

fn parse_patches(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1024).contains(number));
    number.ok_or_else(|| "expected a number from 1 to 1024".into())
}

/// A number of bytes, with Kubernetes' binary suffixes.
fn parse_bytes(text: &str) -> Result<u64, String> {
    const MIN: u64 = 1 << 20;
    const MAX: u64 = 1 << 34;
    let (number, shift) = [("Ki", 10), ("Mi", 20), ("Gi", 30)]
        .into_iter()
        .find_map(|(suffix, shift)| Some((text.strip_suffix(suffix)?, shift)))
        .unwrap_or((text, 0));
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes
        .filter(|bytes| (MIN..=MAX).contains(bytes))
        .ok_or_else(|| "expected a number of bytes from 1Mi to 16Gi, such as 24Mi".into())
}

/// A name that most objects may have: a DNS subdomain, which leaves room for what is added to it.
fn parse_object_name(text: &str) -> Result<String, String> {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(is_inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    if text.len() <= 231 && text.split('.').all(is_part) {
        Ok(text.to_owned())
    } else {
        Err("expected an object's name, such as pod-reloader or pod-reloader.example.com".into())
    }
}

fn parse_namespace(text: &str) -> Result<String, String> {
    let name = text.trim();
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_proper = (1..=63).contains(&name.len())
        && name.bytes().all(is_inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_proper {
        Ok(name.to_owned())
    } else {
        Err("expected names of namespaces, such as shop,billing".into())
    }
}

#[cfg(test)]
mod tests;
