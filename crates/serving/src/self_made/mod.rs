//! The operator's own CA and certificate, for installations without cert-manager (4.7).
//!
//! All replicas run the same loop over a shared Secret and the `MutatingWebhookConfiguration`. Every write is guarded
//! by the version it was decided on, so whichever replica is first wins and the others follow.

mod authority;
mod objects;
mod pace;
mod pair;
mod registration;
mod secret;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use authority::Lifetimes;
use authority::State;
use objects::{Error, FIELD_MANAGER, Object};
use pace::Pace;
pub use pair::AuthorityError;
use pair::normal_host;

use crate::certificate::Certificates;

/// One look leads to few steps; more would be a bug, and must not become a storm of writes.
const MOST_STEPS: usize = 3;
/// So many lost races in a row are no longer ordinary.
const MOST_CONFLICTS: u32 = 5;

/// What is needed to make certificates.
pub struct SelfMade {
    /// May read and write the Secret and the configuration.
    pub client: Client,
    /// The Secret's namespace.
    pub namespace: String,
    /// The Secret's name.
    pub secret_name: String,
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
        let hosts = self.default_hosts.iter().filter_map(|host| normal_host(host)).collect();
        let mut keeper = Keeper {
            secret: Object {
                api: Api::namespaced(self.client.clone(), &self.namespace),
                name: self.secret_name,
                what: "Secret with the certificates",
            },
            configuration: Object {
                api: Api::all(self.client),
                name: self.webhook_configuration,
                what: "MutatingWebhookConfiguration",
            },
            default_hosts: hosts,
            lifetimes: self.lifetimes,
            certificates,
            held: None,
            published: None,
            has_written: false,
        };
        tokio::select! {
            () = keeper.run() => {}
            () = shutdown.cancelled() => {}
        }
    }
}

struct Keeper {
    secret: Object<Secret>,
    configuration: Object<MutatingWebhookConfiguration>,
    default_hosts: BTreeSet<String>,
    lifetimes: Lifetimes,
    certificates: Arc<Certificates>,
    /// What this replica knew last: it can restore a Secret that somebody deleted.
    held: Option<State>,
    /// The bundle that is in the configuration, and since when it is known to be.
    published: Option<(String, SystemTime)>,
    /// Whether the present look wrote anything.
    has_written: bool,
}

/// The versions that a look saw, to be told when they change.
struct Seen {
    secret: String,
    configuration: String,
}

impl Keeper {
    async fn run(&mut self) {
        let mut pace = Pace::default();
        let mut conflicts = 0;
        let mut last_error = String::new();
        loop {
            self.has_written = false;
            match self.look().await {
                Ok(seen) => {
                    if !last_error.is_empty() {
                        tracing::info!("the self-made certificates are in order again");
                        last_error.clear();
                    }
                    conflicts = 0;
                    self.news(&seen).await;
                    sleep(pace.after_look(self.has_written)).await;
                }
                Err(Error::Refused { .. }) if conflicts < MOST_CONFLICTS => {
                    conflicts += 1;
                    tracing::debug!("another replica wrote the certificates first");
                    sleep(pace.after_failure()).await;
                }
                Err(error) => {
                    let error = error.with_causes();
                    if error != last_error {
                        tracing::error!("cannot keep the self-made certificates: {error}");
                        last_error = error;
                    }
                    sleep(pace.after_failure()).await;
                }
            }
        }
    }

    /// Brings Secret, configuration and what is served in line.
    async fn look(&mut self) -> Result<Seen, Error> {
        let (stored, secret_version) = self.secret.find().await?;
        let known = stored.as_ref().map(|secret| secret::from_secret(secret, SystemTime::now()));
        // Better a certificate that is not trusted yet than none.
        if let Some(Ok(state)) = &known
            && !self.certificates.is_loaded()
        {
            self.serve(state)?;
        }
        let (configuration, configuration_version) = self.configuration.find().await?;
        let mut hosts = self.default_hosts.clone();
        hosts.extend(configuration.as_ref().map(registration::hosts).unwrap_or_default());

        let (mut secret, mut state) = match (stored, known) {
            (Some(secret), Some(Ok(state))) => (secret, state),
            (Some(damaged), Some(Err(error))) => {
                tracing::error!(%error, "the Secret with the certificates is damaged and is mended");
                let state = self.restored(Some(&damaged), configuration.as_ref(), &hosts)?;
                (self.replace(&damaged, &state).await?, state)
            }
            _ => {
                let state = self.restored(None, configuration.as_ref(), &hosts)?;
                (self.create(&state).await?, state)
            }
        };
        // First published, then served: a certificate must be trusted when it is first seen.
        self.publish(configuration, &state).await?;
        self.serve(&state)?;
        self.held = Some(state.clone());

        if secret::is_renewal_asked(&secret) {
            let now = SystemTime::now();
            state = state.renewed(&hosts, now, &self.lifetimes)?;
            // Its replacement no longer asks.
            secret = self.replace(&secret, &state).await?;
            tracing::info!("renewed the self-made certificates, as the Secret's annotation asks");
            self.follow(&state).await?;
        }
        for _ in 0..MOST_STEPS {
            let now = SystemTime::now();
            let since = self.published.as_ref().map(|(_, since)| *since);
            let Some(step) = state.next_step(&hosts, now, &self.lifetimes, since) else { break };
            state = state.after(step, &hosts, now, &self.lifetimes)?;
            secret = self.replace(&secret, &state).await?;
            tracing::info!(?step, "renewed the self-made certificates");
            self.follow(&state).await?;
        }
        Ok(Seen { secret: secret_version, configuration: configuration_version })
    }

    /// Has the configuration, and what is served, follow a state that was just stored.
    async fn follow(&mut self, state: &State) -> Result<(), Error> {
        self.held = Some(state.clone());
        let (configuration, _) = self.configuration.find().await?;
        self.publish(configuration, state).await?;
        self.serve(state)
    }

    fn serve(&self, state: &State) -> Result<(), Error> {
        // Somebody's own pair in the Secret: it is about to be replaced.
        if !state.is_leaf_foreign() {
            self.certificates.install(state.leaf.certificate.as_bytes(), state.leaf.key.as_bytes())?;
        }
        Ok(())
    }

    /// Has the configuration trust the bundle. None yet is no failure: it comes with the installation.
    async fn publish(
        &mut self,
        configuration: Option<MutatingWebhookConfiguration>,
        state: &State,
    ) -> Result<(), Error> {
        let bundle = state.bundle();
        let patch = configuration.as_ref().and_then(|found| registration::patch(found, &bundle));
        if patch.is_none()
            && let Some(disown) = configuration.and_then(|found| registration::disown(&found, FIELD_MANAGER))
        {
            self.has_written = true;
            self.configuration.patch(disown).await?;
        }
        if let Some(patch) = patch {
            self.published = None;
            self.has_written = true;
            self.configuration.patch(patch).await?;
            tracing::info!(configuration = self.configuration.name, "published the CA");
        }
        if self.published.as_ref().is_none_or(|(published, _)| *published != bundle) {
            self.published = Some((bundle, SystemTime::now()));
        }
        Ok(())
    }

    /// The state for a Secret that is gone or damaged, with as little change to what is trusted as can be.
    fn restored(
        &self,
        damaged: Option<&Secret>,
        configuration: Option<&MutatingWebhookConfiguration>,
        hosts: &BTreeSet<String>,
    ) -> Result<State, AuthorityError> {
        let now = SystemTime::now();
        let state = match (&self.held, damaged.and_then(secret::signer)) {
            (Some(held), _) => held.clone(),
            (None, Some(signer)) => State::from_signer(signer, hosts, now, &self.lifetimes)?,
            (None, None) => State::create(hosts, now, &self.lifetimes)?,
        };
        // Other replicas still serve what was trusted before.
        let published = configuration.map(registration::bundle).unwrap_or_default();
        let stored = damaged.map(secret::bundle).unwrap_or_default();
        Ok(state.also_trusting(stored, now).also_trusting(&published, now))
    }

    async fn create(&mut self, state: &State) -> Result<Secret, Error> {
        self.has_written = true;
        let secret = self.secret.create(&secret::to_secret(&self.secret.name, state)).await?;
        tracing::info!(secret = self.secret.name, "stored self-made certificates");
        Ok(secret)
    }

    async fn replace(&mut self, before: &Secret, state: &State) -> Result<Secret, Error> {
        self.has_written = true;
        self.secret.replace(&secret::updated(before, state)).await
    }

    /// Returns when one of the objects changed, or when it is time to look anyway.
    async fn news(&self, seen: &Seen) {
        tokio::select! {
            () = self.secret.changed(&seen.secret) => {}
            () = self.configuration.changed(&seen.configuration) => {}
            () = sleep(self.lifetimes.check_every) => {}
        }
    }
}

#[cfg(test)]
mod tests;
