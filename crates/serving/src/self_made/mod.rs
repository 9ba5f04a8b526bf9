//! The operator's own CA and certificate, for installations without cert-manager (4.7).
//!
//! All replicas run the same loop over two shared Secrets, one with the certificate and one with the CAs, and the
//! `MutatingWebhookConfiguration`. Every write is guarded by the version it was decided on, so whichever replica is first
//! wins and the others follow. What the three hold cannot be written at once; the keeper says in which order it is.

mod authority;
mod handover;
mod keeper;
mod objects;
mod pace;
mod pair;
mod registration;
mod secret;

use std::sync::Arc;
use std::time::SystemTime;

use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

pub use authority::Lifetimes;
use keeper::Keeper;
use objects::Object;
pub use pair::AuthorityError;
use pair::normal_host;

use crate::certificate::Certificates;

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

/// Tells the time.
type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

impl SelfMade {
    /// Makes, shares, publishes and renews until shutdown.
    pub async fn run(self, certificates: Arc<Certificates>, shutdown: CancellationToken) {
        self.run_by(Box::new(SystemTime::now), certificates, shutdown).await;
    }

    async fn run_by(self, clock: Clock, certificates: Arc<Certificates>, shutdown: CancellationToken) {
        let secrets = Api::namespaced(self.client.clone(), &self.namespace);
        let mut keeper = Keeper {
            secret: Object {
                api: secrets.clone(),
                name: self.secret_name,
                what: "Secret with the certificate",
            },
            ca: Object { api: secrets, name: self.ca_secret_name, what: "Secret with the CAs" },
            configuration: Object {
                api: Api::all(self.client),
                name: self.webhook_configuration,
                what: "MutatingWebhookConfiguration",
            },
            default_hosts: self.default_hosts.iter().filter_map(|host| normal_host(host)).collect(),
            lifetimes: self.lifetimes,
            clock,
            certificates,
            handover: handover::Handover::default(),
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

#[cfg(test)]
mod tests;
