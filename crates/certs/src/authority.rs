//! The self-made CAs, and when to renew what. Nothing here reads the clock.
//!
//! A CA is renewed in three steps, so that no replica and no moment is left untrusted: the next CA is published
//! beside the present one; once it has been for [`Lifetimes::overlap`], it signs; the old one stays published for
//! [`Lifetimes::former`], until when every replica has a certificate of the new one.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::lifetimes::Lifetimes;
use crate::pair::{AuthorityError, Facts, Pair, is_trustworthy, make_ca, split_bundle};

/// CAs that are trusted beside ours at most: a configuration that is filled with more must not keep ours from being
/// stored.
const MAX_FORMER: usize = 20;

/// A CA that does not sign (any more), and until when it is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Former {
    /// In PEM.
    pub(crate) certificate: String,
    pub(crate) until: SystemTime,
}

/// The CAs that all replicas share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// Signs.
    pub(crate) signer: Pair,
    /// Published, and to sign later.
    pub(crate) next: Option<Pair>,
    /// Trusted for a while.
    pub(crate) former: Vec<Former>,
    /// The request for a renewal that was met last: the serial number of the certificate that has to be replaced, and
    /// what was asked for.
    pub(crate) renewed: Option<String>,
}

/// What should happen to the CAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the next CA and publish it.
    Announce,
    /// Sign with the next CA.
    Promote,
    /// The CA has ended, or is not valid yet: start over; the old one stays published as far as it helps.
    StartOver,
    /// No longer publish CAs whose time is over.
    Prune,
}

/// What a user can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A new certificate now, and the next CA in its usual steps.
    Renew,
    /// An attacker has the CA's key: a new CA signs as soon as it is published, and the others are trusted for
    /// [`Lifetimes::former`] at most.
    Compromised,
    /// The others are trusted only until the new certificate is stored.
    CompromisedNow,
}

impl Request {
    /// What that value of the annotation means.
    pub(crate) fn parse(value: &str) -> Self {
        match value.trim().to_ascii_lowercase().as_str() {
            "compromised" => Self::Compromised,
            "compromised-now" => Self::CompromisedNow,
            _ => Self::Renew,
        }
    }

    /// How [`Authority::renewed`] remembers that it was met while that certificate was served.
    pub(crate) fn mark(self, leaf: Option<&Pair>) -> String {
        format!("{} {self:?}", leaf.map_or("none", |leaf| &leaf.facts.serial))
    }
}

impl Authority {
    /// A first CA.
    pub(crate) fn create(now: SystemTime, lifetimes: &Lifetimes) -> Result<Self, AuthorityError> {
        Ok(Self::of(make_ca(now, lifetimes)?))
    }

    /// A CA that there is.
    pub(crate) fn of(signer: Pair) -> Self {
        Self { signer, next: None, former: vec![], renewed: None }
    }

    /// Keeps publishing the CAs of that bundle for a while: other replicas may still serve certificates of theirs. What
    /// is trusted already is not trusted for longer.
    pub(crate) fn also_trusting(mut self, bundle: &str, now: SystemTime, lifetimes: &Lifetimes) -> Self {
        for certificate in split_bundle(bundle) {
            if self.former.len() < MAX_FORMER
                && is_trustworthy(&certificate, now)
                && !self.certificates().any(|known| known == certificate)
            {
                self.former.push(Former { certificate, until: whole_seconds(now + lifetimes.former) });
            }
        }
        self
    }

    /// The CAs to be trusted, in PEM: the one that signs first.
    pub(crate) fn bundle(&self) -> String {
        self.certificates().collect()
    }

    fn certificates(&self) -> impl Iterator<Item = &str> {
        let next = self.next.iter().map(|next| next.certificate.as_str());
        let former = self.former.iter().map(|former| former.certificate.as_str());
        std::iter::once(self.signer.certificate.as_str()).chain(next).chain(former)
    }

    /// Whether one of the CAs issued that certificate, so that it is trusted where they are.
    pub(crate) fn trusts(&self, leaf: &Pair) -> bool {
        is_issued_by(&self.bundle(), leaf)
    }

    fn signed(&self, leaf: &Pair) -> bool {
        leaf.facts.issuer == self.signer.facts.subject
    }

    /// The most pressing step, if one is due. `published_since` says since when the present bundle is known to be in
    /// the webhook configuration.
    pub(crate) fn next_step(
        &self,
        leaf: Option<&Pair>,
        now: SystemTime,
        lifetimes: &Lifetimes,
        published_since: Option<SystemTime>,
    ) -> Option<Step> {
        let is_usable = |ca: &Pair| ca.facts.is_valid(now);
        let next = self.next.as_ref().filter(|next| is_usable(next));
        if !is_usable(&self.signer) {
            // The next one is trusted already, or will be as soon as any other.
            return Some(if next.is_some() { Step::Promote } else { Step::StartOver });
        }
        if next.is_some() && published_since.is_some_and(|since| now >= since + lifetimes.overlap) {
            return Some(Step::Promote);
        }
        // An earlier release made CAs for longer.
        let is_long = self.signer.facts.life() > lifetimes.ca + lifetimes.ca / 10;
        if self.next.is_none() && (is_long || self.signer.facts.is_due(now)) {
            return Some(Step::Announce);
        }
        self.former.iter().any(|former| is_over(former, leaf, now)).then_some(Step::Prune)
    }

    /// The CAs after a step.
    pub(crate) fn after(
        mut self,
        step: Step,
        leaf: Option<&Pair>,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        let until = whole_seconds(now + lifetimes.former);
        match step {
            Step::Announce => self.next = Some(make_ca(now, lifetimes)?),
            Step::Promote => {
                if let Some(next) = self.next.take() {
                    let former = std::mem::replace(&mut self.signer, next);
                    self.former.push(Former { certificate: former.certificate, until });
                }
            }
            // One that is not valid yet may have signed what other replicas serve until they hear of this.
            Step::StartOver => self = self.replaced(until, now, lifetimes)?,
            Step::Prune => self.former.retain(|former| !is_over(former, leaf, now)),
        }
        self.former.retain(|former| is_trustworthy(&former.certificate, now));
        Ok(self)
    }

    /// A new CA signs, and all others are trusted until then at most.
    fn replaced(
        self,
        until: SystemTime,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        let mut new = Self { renewed: self.renewed, ..Self::create(now, lifetimes)? };
        let earlier = |former: Former| Former { until: former.until.min(until), ..former };
        new.former = self.former.into_iter().map(earlier).collect();
        // A next one has signed nothing.
        new.former.push(Former { certificate: self.signer.certificate, until });
        Ok(new)
    }

    /// The CAs once that request is met, which was made while `leaf` was served. The certificate follows.
    pub(crate) fn asked(
        self,
        request: Request,
        leaf: Option<&Pair>,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        let mut state = match request {
            Request::Renew if self.next.is_some() => self,
            Request::Renew => self.after(Step::Announce, leaf, now, lifetimes)?,
            Request::Compromised => self.replaced(whole_seconds(now + lifetimes.former), now, lifetimes)?,
            // The certificate of the new CA is stored by then, and other replicas have read it.
            Request::CompromisedNow => {
                self.replaced(whole_seconds(now + lifetimes.publication * 2), now, lifetimes)?
            }
        };
        state.renewed = Some(request.mark(leaf));
        Ok(state)
    }

    /// Whether a new certificate has to be made.
    pub(crate) fn needs_leaf(
        &self,
        leaf: Option<&Pair>,
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
        published_since: Option<SystemTime>,
    ) -> bool {
        let Some(leaf) = leaf.filter(|leaf| self.is_usable(leaf, now)) else { return true };
        if !self.signed(leaf) {
            // It is still trusted; one of the new CA has to be when it is first seen.
            return published_since.is_some_and(|since| now >= since + lifetimes.publication);
        }
        let is_asked_for = self
            .renewed
            .as_ref()
            .and_then(|renewed| renewed.split_once(' '))
            .is_some_and(|(serial, _)| serial == leaf.facts.serial);
        is_asked_for || leaf.facts.is_due(now) || !hosts.is_subset(&leaf.facts.hosts)
    }

    /// Whether that certificate may be served.
    pub(crate) fn is_usable(&self, leaf: &Pair, now: SystemTime) -> bool {
        self.trusts(leaf) && leaf.facts.is_valid(now)
    }

    /// When the trust in a CA ends next.
    pub(crate) fn next_end(&self, now: SystemTime) -> Option<Duration> {
        self.former.iter().filter_map(|former| former.until.duration_since(now).ok()).min()
    }

    /// Whether the certificate is waiting for the publication of the CA that is to sign its successor.
    pub(crate) fn awaits_publication(&self, leaf: &Pair) -> bool {
        !self.signed(leaf)
    }
}

/// Whether one of the CAs of that bundle issued the certificate.
pub(crate) fn is_issued_by(bundle: &str, leaf: &Pair) -> bool {
    split_bundle(bundle)
        .iter()
        .any(|ca| Facts::read(ca).is_ok_and(|ca| ca.is_ca && ca.subject == leaf.facts.issuer))
}

/// Whether that CA need not be trusted any longer: its time is over, and what is served is not of it.
fn is_over(former: &Former, leaf: Option<&Pair>, now: SystemTime) -> bool {
    if !is_trustworthy(&former.certificate, now) {
        return true;
    }
    let is_in_use =
        leaf.is_some_and(|leaf| leaf.facts.is_valid(now) && is_issued_by(&former.certificate, leaf));
    now >= former.until && !is_in_use
}

/// Stored times have no fractions.
pub(crate) fn whole_seconds(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests;
