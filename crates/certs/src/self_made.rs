//! The settings of the keeper of the certificates, and where it starts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kube::{Api, Client};
use pod_reloader_k8s::named::Named;
use pod_reloader_serving::certificate::Certificates;
use tokio_util::sync::CancellationToken;

use crate::handover::Handover;
use crate::keeper::{Clock, Keeper};
use crate::lifetimes::Lifetimes;
use crate::pair::normalize_host;

/// How often an object is read that cannot be watched.
const POLL: Duration = Duration::from_secs(5);

/// What is needed to make certificates.
pub struct SelfMade {
    /// May read and write the Secrets and the configuration.
    pub client: Client,
    /// The Secrets' namespace.
    pub namespace: String,
    /// The name of the Secret with the certificate.
    pub secret_name: String,
    /// The name of the Secret with the CAs.
    pub ca_secret_name: String,
    /// The name of the `MutatingWebhookConfiguration`.
    pub webhook_configuration: String,
    /// Hosts that the certificate is for in any case; those that the configuration calls are added.
    pub default_hosts: Vec<String>,
    /// How long things are valid.
    pub lifetimes: Lifetimes,
}

impl SelfMade {
    /// Makes, shares, publishes and renews until shutdown.
    pub async fn run(self, certificates: Arc<Certificates>, shutdown: CancellationToken) {
        self.run_by(Box::new(SystemTime::now), certificates, shutdown).await;
    }

    pub(crate) async fn run_by(
        self,
        clock: Clock,
        certificates: Arc<Certificates>,
        shutdown: CancellationToken,
    ) {
        let secrets = Api::namespaced(self.client.clone(), &self.namespace);
        let mut keeper = Keeper {
            secret: Named::new(secrets.clone(), self.secret_name, POLL),
            ca: Named::new(secrets, self.ca_secret_name, POLL),
            configuration: Named::new(Api::all(self.client), self.webhook_configuration, POLL),
            default_hosts: self.default_hosts.iter().filter_map(|host| normalize_host(host)).collect(),
            lifetimes: self.lifetimes,
            clock,
            certificates,
            handover: Handover::default(),
            held: None,
            held_leaf: None,
            published: None,
            has_written: false,
        };
        tokio::select! {
            () = keeper.run() => {}
            () = shutdown.cancelled() => {}
        }
    }
}
