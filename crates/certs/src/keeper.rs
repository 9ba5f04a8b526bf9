//! The loop that keeps Secrets, configuration and what is served consistent.
//!
//! Everything is decided from what is stored, one write at a time, and after each write all is read again: whatever is
//! interrupted between two writes is found and continued by the next pass of any replica.
//!
//! - The Secret with the CAs determines what is to be trusted. It is written first.
//! - The configuration and `ca.crt` follow it.
//! - Only then the certificate is replaced, if the CA that signs is another one; until then the one that is served is of a
//!   CA that is still trusted. Such a CA stays trusted until the certificate is replaced, whatever its time.
//!
//! The Secret with the CAs is read last: a replica that writes the configuration or the certificate by an older state
//! of it then also has an older version of those, and is refused.

mod writes;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use pod_reloader_k8s::named::{self, Named, with_causes};
use pod_reloader_serving::certificate::Certificates;
use tokio::time::{Instant, sleep};

use crate::authority::{Authority, is_issued_by};
use crate::error::Error;
use crate::handover::Handover;
use crate::lifetimes::Lifetimes;
use crate::pace::Pace;
use crate::pair::{AuthorityError, Pair};
use crate::{registration, secret};

/// The clock, which tests replace.
pub(crate) type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

/// One pass takes few rounds, one for each write; more would be a bug, and must not become a storm of writes.
const MAX_ROUNDS: usize = 8;
/// So many lost races in a row are no longer ordinary.
const MAX_CONFLICTS: u32 = 5;

pub(crate) struct Keeper {
    pub(crate) secret: Named<Secret>,
    pub(crate) ca: Named<Secret>,
    pub(crate) configuration: Named<MutatingWebhookConfiguration>,
    pub(crate) default_hosts: BTreeSet<String>,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) clock: Clock,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) handover: Handover,
    /// What this replica knew last: it can restore Secrets that were deleted.
    pub(crate) held: Option<Authority>,
    pub(crate) held_leaf: Option<Pair>,
    /// The bundle that is in the configuration, and since when it is known to be.
    pub(crate) published: Option<(String, SystemTime)>,
    /// Whether the present pass wrote anything.
    pub(crate) has_written: bool,
}

/// The versions that a pass saw, to notice when they change.
struct Seen {
    secret: String,
    ca: String,
    configuration: String,
    /// When something is due before the usual time.
    soon: Option<Duration>,
}

/// How a round ended.
enum Round {
    /// Something was written; all is to be read again.
    Again,
    Done(Seen),
}

impl Keeper {
    pub(crate) async fn run(&mut self) {
        let mut pace = Pace::default();
        let mut conflicts = 0;
        let mut last_error = String::new();
        loop {
            self.has_written = false;
            match self.pass().await {
                Ok(seen) => {
                    if !last_error.is_empty() {
                        tracing::info!("the self-made certificates recovered");
                        last_error.clear();
                    }
                    conflicts = 0;
                    if let Some(seen) = seen {
                        self.changed(&seen).await;
                    }
                    sleep(pace.after_pass(self.has_written)).await;
                }
                Err(Error::Request(named::Error::Refused { .. })) if conflicts < MAX_CONFLICTS => {
                    conflicts += 1;
                    tracing::debug!("another replica wrote the certificates first");
                    sleep(pace.after_failure()).await;
                }
                Err(error) => {
                    let error = with_causes(&error);
                    if error != last_error {
                        tracing::error!("cannot keep the self-made certificates: {error}");
                        last_error = error;
                    }
                    sleep(pace.after_failure()).await;
                }
            }
        }
    }

    async fn pass(&mut self) -> Result<Option<Seen>, Error> {
        for _ in 0..MAX_ROUNDS {
            if let Round::Done(seen) = self.round().await? {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    async fn round(&mut self) -> Result<Round, Error> {
        let (stored, secret_version) = self.secret.find().await?;
        let configuration = self.configuration.find().await;
        let ca = self.ca.find().await;
        let now = (self.clock)();
        let leaf = stored.as_ref().map(secret::leaf).transpose();
        if let (Ok(Some(leaf)), Some(stored)) = (&leaf, &stored) {
            self.serve_early(stored, leaf, ca.as_ref().ok().and_then(|(ca, _)| ca.as_ref()))?;
        }
        let ((configuration, configuration_version), (ca, ca_version)) = (configuration?, ca?);
        let mut seen =
            Seen { secret: secret_version, ca: ca_version, configuration: configuration_version, soon: None };
        let known = ca.as_ref().map(|ca| secret::authority(ca, now, &self.lifetimes));
        let is_earlier = stored.as_ref().is_some_and(secret::has_ca_keys);
        seen.soon = self.handover.remaining(is_earlier, Instant::now());
        if let (Some(_), Some(stored)) = (seen.soon, &stored) {
            let ours = known.and_then(Result::ok);
            self.follow_earlier_release(stored, leaf.ok().flatten(), ours, configuration).await?;
            return Ok(Round::Done(seen));
        }
        let leaf = leaf.unwrap_or_else(|error| {
            tracing::error!(%error, "the Secret with the certificate is corrupt, repairing it");
            None
        });

        let authority = match (&ca, known) {
            (Some(_), Some(Ok(authority))) => authority,
            (Some(damaged), Some(Err(error))) => {
                tracing::error!(%error, "the Secret with the CAs is corrupt, repairing it");
                let authority =
                    self.restored(secret::signer(damaged), stored.as_ref(), configuration.as_ref())?;
                return self.store(damaged, authority).await;
            }
            _ => {
                let authority = self.restored(None, stored.as_ref(), configuration.as_ref())?;
                return self.create(authority).await;
            }
        };
        let Some(ca) = ca else { return Ok(Round::Again) };
        self.held = Some(authority.clone());
        if let Some(round) =
            self.advance(&ca, stored.as_ref(), leaf.as_ref(), &authority, configuration.as_ref()).await?
        {
            return Ok(round);
        }

        let mut hosts = self.default_hosts.clone();
        hosts.extend(configuration.as_ref().map(registration::hosts).unwrap_or_default());
        // First published, then served: a certificate must be trusted when it is first seen.
        let publication = self.publish(configuration, &authority.bundle()).await;
        let since = self.published_since(&authority);
        let is_replaced = authority.needs_leaf(leaf.as_ref(), &hosts, now, &self.lifetimes, since);
        let leaf = match leaf {
            Some(leaf) if !is_replaced => leaf,
            // Better a certificate that is not trusted yet than none; but one that is trusted stays.
            Some(leaf) if publication.is_err() && authority.is_usable(&leaf, now) => leaf,
            before => {
                let leaf = self.new_leaf(before, &authority, &hosts)?;
                return self.store_leaf(stored.as_ref(), leaf, &authority, publication).await;
            }
        };
        publication?;
        let wanted = secret::leaf_secret(self.secret.name(), &leaf, &authority);
        if stored.as_ref().is_some_and(|stored| !secret::is_tidy(stored, &wanted)) {
            return self.store_leaf(stored.as_ref(), leaf, &authority, Ok(())).await;
        }
        let publication = authority.awaits_publication(&leaf).then_some(self.lifetimes.publication);
        seen.soon = authority.next_end(now).into_iter().chain(publication).min();
        self.serve(&leaf)?;
        self.held_leaf = Some(leaf);
        Ok(Round::Done(seen))
    }

    /// Before anything else is known to work: what is stored is served, unless it is a pair that a user put there.
    fn serve_early(&self, stored: &Secret, leaf: &Pair, ca: Option<&Secret>) -> Result<(), Error> {
        if self.certificates.is_loaded() {
            return Ok(());
        }
        let ours = ca.and_then(|ca| secret::authority(ca, (self.clock)(), &self.lifetimes).ok());
        let bundle = ours.map_or_else(|| secret::bundle(stored).to_owned(), |ours| ours.bundle());
        if is_issued_by(&bundle, leaf) { self.serve(leaf) } else { Ok(()) }
    }

    /// Replicas of an earlier release keep the Secret. What they publish and serve is trusted; this one only follows.
    async fn follow_earlier_release(
        &mut self,
        stored: &Secret,
        leaf: Option<Pair>,
        ours: Option<Authority>,
        configuration: Option<MutatingWebhookConfiguration>,
    ) -> Result<(), Error> {
        let now = (self.clock)();
        let published = configuration.as_ref().map(registration::bundle).unwrap_or_default();
        let theirs = || secret::earlier_authority(stored, &published);
        let Some(ours) = ours.or_else(|| self.held.clone()).or_else(theirs) else { return Ok(()) };
        let is_untrusted = configuration
            .as_ref()
            .is_some_and(|found| !registration::all_trust(found, &ours.signer.certificate));
        let all = ours.clone().also_trusting(&published, now, &self.lifetimes).bundle();
        if is_untrusted {
            self.publish(configuration, &all).await?;
        }
        match leaf {
            Some(leaf) if leaf.facts.is_valid(now) && is_issued_by(&all, &leaf) => self.serve(&leaf),
            _ => Ok(()),
        }
    }

    /// The next write to the CAs, if one is due.
    async fn advance(
        &mut self,
        ca: &Secret,
        stored: Option<&Secret>,
        leaf: Option<&Pair>,
        authority: &Authority,
        configuration: Option<&MutatingWebhookConfiguration>,
    ) -> Result<Option<Round>, Error> {
        let now = (self.clock)();
        // Replicas of an earlier release have stopped, or will soon; what they published is not dropped at once.
        if stored.is_some_and(secret::has_ca_keys) {
            let published = configuration.map(registration::bundle).unwrap_or_default();
            let trusting = authority.clone().also_trusting(&published, now, &self.lifetimes);
            if trusting != *authority {
                return self.store(ca, trusting).await.map(Some);
            }
        }
        if let Some(request) = secret::request(ca) {
            let asked = authority.clone().asked(request, leaf, now, &self.lifetimes)?;
            tracing::info!(?request, "renewing the self-made certificates, as the Secret's annotation asks");
            return self.store(&secret::without_request(ca.clone()), asked).await.map(Some);
        }
        // There it is removed when the certificate is replaced; until then the CAs record that it is met.
        if let Some(request) = stored.and_then(secret::request)
            && authority.renewed != Some(request.mark(leaf))
        {
            let asked = authority.clone().asked(request, leaf, now, &self.lifetimes)?;
            tracing::info!(?request, "renewing the self-made certificates, as the Secret's annotation asks");
            return self.store(ca, asked).await.map(Some);
        }
        let since = self.published_since(authority);
        if let Some(step) = authority.next_step(leaf, now, &self.lifetimes, since) {
            tracing::info!(?step, "renewing the self-made CAs");
            let next = authority.clone().after(step, leaf, now, &self.lifetimes)?;
            return self.store(ca, next).await.map(Some);
        }
        if !secret::is_tidy(ca, &secret::ca_secret(self.ca.name(), authority)) {
            return self.store(ca, authority.clone()).await.map(Some);
        }
        Ok(None)
    }

    /// The CAs for a Secret that is deleted or corrupt, with as little change to what is trusted as can be.
    fn restored(
        &self,
        signer: Option<Pair>,
        stored: Option<&Secret>,
        configuration: Option<&MutatingWebhookConfiguration>,
    ) -> Result<Authority, AuthorityError> {
        // It knows how long other CAs are trusted: that does not start over.
        if let Some(held) = &self.held {
            return Ok(held.clone());
        }
        let now = (self.clock)();
        let published = configuration.map(registration::bundle).unwrap_or_default();
        let earlier = stored.and_then(|stored| secret::earlier_authority(stored, &published));
        let authority = match (signer.map(Authority::of), earlier) {
            (Some(authority), _) | (None, Some(authority)) => authority,
            (None, None) => Authority::create(now, &self.lifetimes)?,
        };
        // Other replicas still serve what was trusted before.
        Ok(authority.also_trusting(&published, now, &self.lifetimes))
    }

    /// Returns when one of the objects changed, or when it is time for a pass anyway.
    async fn changed(&self, seen: &Seen) {
        tokio::select! {
            () = self.secret.changed(&seen.secret, |_| {}) => {}
            () = self.ca.changed(&seen.ca, |_| {}) => {}
            () = self.configuration.changed(&seen.configuration, |_| {}) => {}
            () = sleep(self.lifetimes.check_every.min(seen.soon.unwrap_or(Duration::MAX))) => {}
        }
    }
}
