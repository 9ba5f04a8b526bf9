//! The self-made CA and certificate, and when to renew which. Nothing here reads the clock.
//!
//! A CA is renewed in three steps, so that no replica and no moment is left untrusted: the next CA is published
//! beside the present one; once it has been for [`Lifetimes::overlap`], it signs a new certificate; the old CA stays
//! published until it ends.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::pair::{AuthorityError, Pair, has_ended, is_trustworthy, make_ca, make_leaf, split_bundle};

/// How long things are valid.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Of a CA; it is renewed after two thirds of it.
    pub ca: Duration,
    /// Of a serving certificate; likewise.
    pub leaf: Duration,
    /// How long the next CA is published before it signs: long enough for everybody to have heard of it.
    pub overlap: Duration,
    /// How often all is looked at, if nothing happens.
    pub check_every: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Self {
            ca: day * 5 * 365,
            leaf: day * 90,
            overlap: Duration::from_hours(1),
            check_every: Duration::from_secs(30),
        }
    }
}

/// All that the replicas share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// What is served.
    pub(crate) leaf: Pair,
    /// Signs.
    pub(crate) signer: Pair,
    /// Published, and to sign later.
    pub(crate) next: Option<Pair>,
    /// CAs that signed before: certificates in PEM.
    pub(crate) former: Vec<String>,
}

/// What should happen to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the next CA and publish it.
    Announce,
    /// Have the next CA sign.
    Promote,
    /// Make a new certificate.
    Renew,
    /// The CA has ended, or is not valid yet: begin anew, the old one stays published as far as it helps.
    StartOver,
    /// No longer publish CAs that have ended.
    Prune,
}

impl State {
    /// A first CA and its certificate.
    pub(crate) fn create(
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        Self::from_signer(make_ca(now, lifetimes)?, hosts, now, lifetimes)
    }

    /// A CA that there is, and a new certificate of it.
    pub(crate) fn from_signer(
        signer: Pair,
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        let leaf = make_leaf(&signer, hosts, now, lifetimes)?;
        Ok(Self { leaf, signer, next: None, former: vec![] })
    }

    /// Keeps publishing the CAs of that bundle: other replicas may still serve certificates of theirs.
    pub(crate) fn also_trusting(mut self, bundle: &str, now: SystemTime) -> Self {
        for pem in split_bundle(bundle) {
            if is_trustworthy(&pem, now) && !split_bundle(&self.bundle()).contains(&pem) {
                self.former.push(pem);
            }
        }
        self
    }

    /// The CAs to be trusted, in PEM: the one that signs first.
    pub(crate) fn bundle(&self) -> String {
        let next = self.next.iter().map(|next| next.certificate.as_str());
        let former = self.former.iter().map(String::as_str);
        std::iter::once(self.signer.certificate.as_str()).chain(next).chain(former).collect()
    }

    /// Whether the certificate is of another CA than ours, so that nobody would trust it.
    pub(crate) fn is_leaf_foreign(&self) -> bool {
        self.leaf.facts.issuer != self.signer.facts.subject
    }

    /// The most pressing step, if one is due. `published_since` says since when the present bundle is known to be in
    /// the webhook configuration.
    pub(crate) fn next_step(
        &self,
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
        published_since: Option<SystemTime>,
    ) -> Option<Step> {
        let is_usable = |ca: &Pair| now < ca.facts.not_after && !ca.facts.is_from_future(now);
        let next = self.next.as_ref().filter(|next| is_usable(next));
        if !is_usable(&self.signer) {
            // The next one is trusted already, or will be as soon as any other.
            return Some(if next.is_some() { Step::Promote } else { Step::StartOver });
        }
        if next.is_some() && published_since.is_some_and(|since| now >= since + lifetimes.overlap) {
            return Some(Step::Promote);
        }
        let is_due = self.leaf.facts.is_due(now) || self.leaf.facts.is_from_future(now);
        if self.is_leaf_foreign() || is_due || !hosts.is_subset(&self.leaf.facts.hosts) {
            return Some(Step::Renew);
        }
        if self.next.is_none() && self.signer.facts.is_due(now) {
            return Some(Step::Announce);
        }
        self.former.iter().any(|pem| has_ended(pem, now)).then_some(Step::Prune)
    }

    /// The state after a renewal that somebody asked for: the present CA signs a new certificate, and the next CA is
    /// published, to sign after the overlap.
    pub(crate) fn renewed(
        self,
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        let state = self.after(Step::Renew, hosts, now, lifetimes)?;
        if state.next.is_some() {
            return Ok(state);
        }
        state.after(Step::Announce, hosts, now, lifetimes)
    }

    /// The state after a step.
    pub(crate) fn after(
        mut self,
        step: Step,
        hosts: &BTreeSet<String>,
        now: SystemTime,
        lifetimes: &Lifetimes,
    ) -> Result<Self, AuthorityError> {
        // Never shrink: a name that is no longer asked for may still be called.
        let hosts: BTreeSet<_> = hosts.union(&self.leaf.facts.hosts).cloned().collect();
        match step {
            Step::Announce => self.next = Some(make_ca(now, lifetimes)?),
            Step::Promote => {
                if let Some(next) = self.next.take() {
                    let former = std::mem::replace(&mut self.signer, next);
                    self.former.push(former.certificate);
                    self.leaf = make_leaf(&self.signer, &hosts, now, lifetimes)?;
                }
            }
            Step::Renew => self.leaf = make_leaf(&self.signer, &hosts, now, lifetimes)?,
            Step::StartOver => {
                let mut former = std::mem::take(&mut self.former);
                // One that is not valid yet may have signed what other replicas serve until they hear of this.
                former.push(self.signer.certificate);
                self = Self::create(&hosts, now, lifetimes)?;
                self.former = former;
            }
            Step::Prune => {}
        }
        self.former.retain(|pem| !has_ended(pem, now));
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
