//! The writes of a pass, and what this replica knows from them.

use std::collections::BTreeSet;
use std::time::SystemTime;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use pod_reloader_k8s::FIELD_MANAGER;

use super::{Keeper, Round};
use crate::authority::Authority;
use crate::error::Error;
use crate::pair::{AuthorityError, Pair, make_leaf};
use crate::{registration, secret};

impl Keeper {
    pub(super) async fn create(&mut self, authority: Authority) -> Result<Round, Error> {
        self.has_written = true;
        self.ca.create(&secret::ca_secret(self.ca.name(), &authority)).await?;
        tracing::info!(secret = self.ca.name(), "stored a self-made CA");
        self.held = Some(authority);
        Ok(Round::Again)
    }

    pub(super) async fn store(&mut self, before: &Secret, authority: Authority) -> Result<Round, Error> {
        self.has_written = true;
        let new = secret::updated(before, secret::ca_secret(self.ca.name(), &authority));
        self.ca.replace(&new).await?;
        self.held = Some(authority);
        Ok(Round::Again)
    }

    /// The certificate that is to be stored: the one that this replica knew, if it was only lost.
    pub(super) fn new_leaf(
        &self,
        before: Option<Pair>,
        authority: &Authority,
        hosts: &BTreeSet<String>,
    ) -> Result<Pair, AuthorityError> {
        let now = (self.clock)();
        let is_good = |leaf: &&Pair| !authority.needs_leaf(Some(leaf), hosts, now, &self.lifetimes, None);
        if let (None, Some(held)) = (&before, self.held_leaf.as_ref().filter(is_good)) {
            return Ok(held.clone());
        }
        // Never fewer: a name that is no longer asked for may still be called.
        let earlier = before.filter(|leaf| authority.trusts(leaf)).map(|leaf| leaf.facts.hosts);
        let hosts = hosts.iter().cloned().chain(earlier.unwrap_or_default()).collect();
        make_leaf(&authority.signer, &hosts, now, &self.lifetimes)
    }

    pub(super) async fn store_leaf(
        &mut self,
        before: Option<&Secret>,
        leaf: Pair,
        authority: &Authority,
        publication: Result<(), Error>,
    ) -> Result<Round, Error> {
        self.has_written = true;
        let new = secret::leaf_secret(self.secret.name(), &leaf, authority);
        match before {
            // Whatever the user asked for is met now.
            Some(before) => {
                let new = secret::updated(&secret::without_request(before.clone()), new);
                self.secret.replace(&new).await?
            }
            None => self.secret.create(&new).await?,
        };
        tracing::info!(secret = self.secret.name(), "stored a self-made certificate");
        self.held_leaf = Some(leaf.clone());
        if publication.is_err() {
            self.serve(&leaf)?;
        }
        publication.map(|()| Round::Again)
    }

    pub(super) fn serve(&self, leaf: &Pair) -> Result<(), Error> {
        self.certificates.install(leaf.certificate.as_bytes(), leaf.key.as_bytes())?;
        Ok(())
    }

    pub(super) fn published_since(&self, authority: &Authority) -> Option<SystemTime> {
        let (published, since) = self.published.as_ref()?;
        (*published == authority.bundle()).then_some(*since)
    }

    /// Makes the configuration trust the bundle. A missing one is no failure: the installation creates it.
    pub(super) async fn publish(
        &mut self,
        configuration: Option<MutatingWebhookConfiguration>,
        bundle: &str,
    ) -> Result<(), Error> {
        let patch = configuration.as_ref().and_then(|found| registration::patch(found, bundle));
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
            tracing::info!(configuration = self.configuration.name(), "published the CA");
        }
        if self.published.as_ref().is_none_or(|(published, _)| published != bundle) {
            self.published = Some((bundle.to_owned(), (self.clock)()));
        }
        Ok(())
    }
}
