//! One candidate's view of the Lease, and its attempts to take or renew it.

use std::future::Future;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use tokio::time::{Instant, timeout};

use super::{Election, Jitter, RENEW_DEADLINE, REQUEST_TIMEOUT, record};

/// How an attempt to take or renew the Lease ended.
pub(crate) enum Attempt {
    /// The Lease is ours.
    Won(Term),
    /// Another candidate's, and valid as far as we know.
    Lost,
    /// Unknown.
    Failed(Failure),
}

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    TimedOut,
    Refused(kube::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut => write!(f, "no answer within {} s", REQUEST_TIMEOUT.as_secs()),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl Failure {
    fn has_code(&self, code: u16) -> bool {
        matches!(self, Self::Refused(kube::Error::Api(status)) if status.code == code)
    }
}

/// From when a candidate leads: the start of the request, since other candidates may have seen its effect from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    began: Instant,
}

impl Term {
    /// When this candidate stops leading unless it renews.
    pub(crate) fn end(self) -> Instant {
        self.began + RENEW_DEADLINE
    }
}

/// The Lease as this candidate saw it last.
struct Observed {
    lease: Lease,
    /// When we first saw what it says, by our own clock.
    since: Instant,
}

/// Takes part in the election.
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    observed: Option<Observed>,
    /// Whether a write may have made us the holder, even if its answer never came.
    may_hold: bool,
    is_failing: bool,
    pub(crate) jitter: Jitter,
}

impl Candidate {
    pub(crate) fn new(election: &Election) -> Self {
        Self {
            api: Api::namespaced(election.client.clone(), &election.namespace),
            name: election.name.clone(),
            identity: election.identity.clone(),
            observed: None,
            may_hold: false,
            is_failing: false,
            jitter: Jitter::new(&election.identity),
        }
    }

    /// Takes the Lease if it is free or expired, renews it if it is ours.
    pub(crate) async fn attempt(&mut self) -> Attempt {
        match self.try_attempt().await {
            // The whole process may have been suspended meanwhile.
            Ok(Some(term)) if term.end() <= Instant::now() => Attempt::Failed(Failure::TimedOut),
            Ok(Some(term)) => {
                self.recovered();
                Attempt::Won(term)
            }
            Ok(None) => {
                self.recovered();
                Attempt::Lost
            }
            Err(failure) => Attempt::Failed(failure),
        }
    }

    async fn try_attempt(&mut self) -> Result<Option<Term>, Failure> {
        // The usual renewal is one request. If another client wrote in between (or if our own write went through and
        // its answer was lost), the Lease is read first.
        if let Some(observed) = &self.observed
            && self.is_ours(&observed.lease)
        {
            match self.write(record::held(&observed.lease, &self.identity)).await {
                Err(failure) if failure.has_code(409) || failure.has_code(404) => {}
                outcome => return outcome.map(Some),
            }
        }
        let Some(lease) = request(self.api.get_opt(&self.name)).await? else {
            self.observed = None;
            return self.create().await;
        };
        let lease = self.observe(lease);
        // A name of our own in it is ours, even if we never heard that the write that put it there went through.
        if record::holder(&lease).is_some() && !self.is_ours(&lease) && !self.has_expired() {
            return Ok(None);
        }
        match self.write(record::held(&lease, &self.identity)).await {
            // Another candidate was faster.
            Err(failure) if failure.has_code(409) && !self.is_ours(&lease) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Gives the Lease back if it is ours. Returns whether it was.
    pub(crate) async fn release(&mut self) -> Result<bool, Failure> {
        if !self.may_hold {
            return Ok(false);
        }
        if let Some(observed) = &self.observed
            && self.is_ours(&observed.lease)
        {
            // A renewal that was cut off may still arrive: then this is a conflict, or has no answer either.
            let released = record::released(&observed.lease);
            if request(self.api.replace(&self.name, &PostParams::default(), &released)).await.is_ok() {
                return Ok(true);
            }
        }
        match request(self.api.get_opt(&self.name)).await? {
            Some(lease) if self.is_ours(&lease) => {
                let released = record::released(&lease);
                request(self.api.replace(&self.name, &PostParams::default(), &released)).await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Warns when requests begin to fail; further failures in a row are logged at level debug.
    pub(crate) fn report(&mut self, failure: &Failure) {
        if std::mem::replace(&mut self.is_failing, true) {
            tracing::debug!(error = %failure, "cannot read or write the Lease");
        } else {
            tracing::warn!(error = %failure, "cannot read or write the Lease; trying again");
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("the Lease can be read and written again");
        }
    }

    async fn create(&mut self) -> Result<Option<Term>, Failure> {
        let began = Instant::now();
        self.may_hold = true;
        let lease = record::first(&self.name, &self.identity);
        match request(self.api.create(&PostParams::default(), &lease)).await {
            Ok(created) => {
                self.observe(created);
                Ok(Some(Term { began }))
            }
            Err(failure) if failure.has_code(409) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Writes the Lease with us as the holder, guarded by the resourceVersion that it was made from.
    async fn write(&mut self, lease: Lease) -> Result<Term, Failure> {
        let began = Instant::now();
        self.may_hold = true;
        let written = request(self.api.replace(&self.name, &PostParams::default(), &lease)).await?;
        self.observe(written);
        Ok(Term { began })
    }

    /// Remembers the Lease. Only what it says counts as a change: not a label, which any user may set.
    fn observe(&mut self, lease: Lease) -> Lease {
        let since = match &self.observed {
            Some(observed) if observed.lease.spec == lease.spec => observed.since,
            _ => Instant::now(),
        };
        self.observed = Some(Observed { lease: lease.clone(), since });
        lease
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        record::holder(lease) == Some(&*self.identity)
    }

    fn has_expired(&self) -> bool {
        self.observed
            .as_ref()
            .is_none_or(|observed| observed.since.elapsed() >= record::duration(&observed.lease))
    }
}

/// A request with a deadline of its own.
async fn request<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match timeout(REQUEST_TIMEOUT, request).await {
        Ok(outcome) => outcome.map_err(Failure::Refused),
        Err(_) => Err(Failure::TimedOut),
    }
}
