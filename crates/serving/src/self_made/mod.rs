//! The operator's own CA and certificate, for installations without cert-manager (4.7).
//!
//! All replicas run the same loop over a shared Secret and the `MutatingWebhookConfiguration`. Every write is guarded
//! by the version it was decided on, so whichever replica is first wins and the others follow.

mod authority;
mod registration;
mod secret;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, ObjectList, Patch, PatchParams, PostParams, WatchParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use authority::{AuthorityError, Lifetimes};
use authority::{State, Step};

use crate::certificate::{CertificateError, Certificates};

const FIELD_MANAGER: &str = "pod-reloader";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// One look leads to few steps; more would be a bug, and must not become a storm of writes.
const MOST_STEPS: usize = 5;

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

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("request for the {what} failed")]
    Api { what: &'static str, source: Box<kube::Error> },
    #[error("request for the {what} took too long")]
    Timeout { what: &'static str },
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("another replica was faster")]
    Conflict,
}

const SECRET: &str = "Secret with the certificates";
const CONFIGURATION: &str = "MutatingWebhookConfiguration";

impl SelfMade {
    /// Makes, shares, publishes and renews until shutdown.
    pub async fn run(self, certificates: Arc<Certificates>, shutdown: CancellationToken) {
        let keeper = Keeper {
            secrets: Api::namespaced(self.client.clone(), &self.namespace),
            configurations: Api::all(self.client.clone()),
            settings: self,
            certificates,
        };
        tokio::select! {
            () = keeper.run() => {}
            () = shutdown.cancelled() => {}
        }
    }
}

struct Keeper {
    settings: SelfMade,
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    certificates: Arc<Certificates>,
}

/// The versions that a look saw, to be told when they change.
struct Seen {
    secret: String,
    configuration: String,
}

impl Keeper {
    async fn run(&self) {
        let mut held = None;
        let mut retry = FIRST_RETRY;
        loop {
            match self.look(&mut held).await {
                Ok(seen) => {
                    retry = FIRST_RETRY;
                    self.news(&seen).await;
                }
                Err(error) => {
                    if matches!(error, Error::Conflict) {
                        tracing::debug!("another replica wrote the certificates first");
                    } else {
                        let error = &error as &dyn std::error::Error;
                        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                        tracing::error!("cannot keep the self-made certificates: {error}{source}");
                    }
                    sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// Brings Secret, configuration and what is served in line. `held` is what this replica knew last.
    async fn look(&self, held: &mut Option<State>) -> Result<Seen, Error> {
        let mut hosts: BTreeSet<_> = self.settings.default_hosts.iter().cloned().collect();
        let (configuration, configuration_version) =
            self.find(&self.configurations, &self.settings.webhook_configuration, CONFIGURATION).await?;
        hosts.extend(configuration.as_ref().map(registration::hosts).unwrap_or_default());

        let (stored, secret_version) = self.find(&self.secrets, &self.settings.secret_name, SECRET).await?;
        let mut secret = match stored {
            Some(secret) => secret,
            None => self.create(held.as_ref(), &hosts).await?,
        };
        let mut state = match secret::from_secret(&secret, SystemTime::now()) {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(%error, "the Secret with the certificates is damaged and is made anew");
                let state = self.remembered_or_new(held.as_ref(), &hosts)?;
                secret = self.replace(&secret, &state).await?;
                state
            }
        };
        // First published, then served: a certificate must be trusted when it is first seen.
        self.publish(configuration, &state).await?;
        self.serve(&state)?;
        *held = Some(state.clone());

        for _ in 0..MOST_STEPS {
            let now = SystemTime::now();
            let Some(step) = state.next_step(&hosts, now, &self.settings.lifetimes, true) else { break };
            state = state.after(step, &hosts, now, &self.settings.lifetimes)?;
            secret = self.replace(&secret, &state).await?;
            tracing::info!(?step, "renewed the self-made certificates");
            if matches!(step, Step::Announce | Step::StartOver | Step::Prune) {
                let (configuration, _) = self
                    .find(&self.configurations, &self.settings.webhook_configuration, CONFIGURATION)
                    .await?;
                self.publish(configuration, &state).await?;
            }
            self.serve(&state)?;
            *held = Some(state.clone());
        }
        Ok(Seen { secret: secret_version, configuration: configuration_version })
    }

    fn serve(&self, state: &State) -> Result<(), Error> {
        self.certificates.install(state.leaf.certificate.as_bytes(), state.leaf.key.as_bytes())?;
        Ok(())
    }

    /// Has the configuration trust the bundle. None yet is no failure: it comes with the installation.
    async fn publish(
        &self,
        configuration: Option<MutatingWebhookConfiguration>,
        state: &State,
    ) -> Result<(), Error> {
        let Some(configuration) = configuration else { return Ok(()) };
        let Some(patch) = registration::patch(&configuration, &state.bundle()) else { return Ok(()) };
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let name = &self.settings.webhook_configuration;
        match timeout(REQUEST_TIMEOUT, self.configurations.patch(name, &params, &Patch::<()>::Json(patch)))
            .await
        {
            Ok(Ok(_)) => {
                tracing::info!(configuration = name, "published the CA");
                Ok(())
            }
            // The guard: it changed meanwhile. Or it is gone.
            Ok(Err(kube::Error::Api(status)))
                if status.is_invalid() || status.is_conflict() || status.is_not_found() =>
            {
                Err(Error::Conflict)
            }
            Ok(Err(error)) => Err(Error::Api { what: CONFIGURATION, source: Box::new(error) }),
            Err(_) => Err(Error::Timeout { what: CONFIGURATION }),
        }
    }

    fn remembered_or_new(
        &self,
        held: Option<&State>,
        hosts: &BTreeSet<String>,
    ) -> Result<State, AuthorityError> {
        match held {
            // What is served already, so that nothing becomes untrusted.
            Some(state) => Ok(state.clone()),
            None => State::create(hosts, SystemTime::now(), &self.settings.lifetimes),
        }
    }

    async fn create(&self, held: Option<&State>, hosts: &BTreeSet<String>) -> Result<Secret, Error> {
        let state = self.remembered_or_new(held, hosts)?;
        let secret = secret::to_secret(&self.settings.secret_name, &state);
        let params = post_params();
        let created = self.secrets.create(&params, &secret);
        let created = settle(timeout(REQUEST_TIMEOUT, created).await, SECRET)?;
        tracing::info!(secret = self.settings.secret_name, "stored self-made certificates");
        Ok(created)
    }

    async fn replace(&self, before: &Secret, state: &State) -> Result<Secret, Error> {
        let mut secret = secret::to_secret(&self.settings.secret_name, state);
        secret.metadata.resource_version.clone_from(&before.metadata.resource_version);
        // Not ours to change once it exists.
        secret.type_.clone_from(&before.type_);
        let params = post_params();
        let replaced = self.secrets.replace(&self.settings.secret_name, &params, &secret);
        settle(timeout(REQUEST_TIMEOUT, replaced).await, SECRET)
    }

    /// The object, if there is one, and a version to watch from.
    async fn find<K>(
        &self,
        api: &Api<K>,
        name: &str,
        what: &'static str,
    ) -> Result<(Option<K>, String), Error>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let by_name = ListParams::default().fields(&format!("metadata.name={name}"));
        let list: ObjectList<K> = settle(timeout(REQUEST_TIMEOUT, api.list(&by_name)).await, what)?;
        Ok((list.items.into_iter().next(), list.metadata.resource_version.unwrap_or_default()))
    }

    /// Returns when one of the objects changed, or when it is time to look anyway.
    async fn news(&self, seen: &Seen) {
        tokio::select! {
            () = changed(&self.secrets, &self.settings.secret_name, &seen.secret) => {}
            () = changed(&self.configurations, &self.settings.webhook_configuration, &seen.configuration) => {}
            () = sleep(self.settings.lifetimes.check_every) => {}
        }
    }
}

/// Returns at the first event of that object since then, or a moment after the watch failed.
async fn changed<K>(api: &Api<K>, name: &str, since: &str)
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let by_name = WatchParams::default().fields(&format!("metadata.name={name}"));
    match api.watch(&by_name, since).await {
        Ok(events) => {
            let is_event = |event: &Result<_, _>| !matches!(event, Ok(kube::api::WatchEvent::Bookmark(_)));
            let mut events = std::pin::pin!(events.boxed());
            while let Some(event) = events.next().await {
                if is_event(&event) {
                    break;
                }
            }
        }
        Err(_) => sleep(LONGEST_RETRY).await,
    }
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}

fn settle<T>(
    result: Result<Result<T, kube::Error>, tokio::time::error::Elapsed>,
    what: &'static str,
) -> Result<T, Error> {
    match result {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
            Err(Error::Conflict)
        }
        Ok(Err(error)) => Err(Error::Api { what, source: Box::new(error) }),
        Err(_) => Err(Error::Timeout { what }),
    }
}
