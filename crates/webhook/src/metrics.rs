//! Metrics of the webhook.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Requests, how long they took, and hashes set.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    rejected: Family<RejectedLabels, Counter>,
    duration: Histogram,
    hashes_set: Family<HashLabels, Counter>,
    overloaded: Family<OverloadLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OverloadLabels {
    answer: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HashLabels {
    kind: &'static str,
    cause: &'static str,
}

/// How a review was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not ours.
    LeftAlone,
    /// Our reconciler's own patch.
    OwnPatch,
    /// The old object's annotations were kept, without reading the configuration.
    Restored,
    /// Decided from the live configuration.
    Decided,
    /// Could not be decided and was left to the reconciler.
    Undecided,
}

impl Outcome {
    const fn label(self) -> &'static str {
        match self {
            Self::LeftAlone => "left_alone",
            Self::OwnPatch => "own_patch",
            Self::Restored => "restored",
            Self::Decided => "decided",
            Self::Undecided => "undecided",
        }
    }
}

impl Metrics {
    /// Registers the metrics under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            rejected: Family::default(),
            // 0.1 ms to 13 s
            duration: Histogram::new(exponential_buckets(0.0001, 2.0, 18)),
            hashes_set: Family::default(),
            overloaded: Family::default(),
        };
        registry.register(
            "admission_requests",
            "Admission requests answered, by kind, operation and outcome",
            metrics.requests.clone(),
        );
        registry.register(
            "admission_rejected",
            "Requests to the webhook's port that were no admission review, by reason",
            metrics.rejected.clone(),
        );
        registry.register_with_unit(
            "admission_duration",
            "Time from the last byte of an admission request to its answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "admission_hashes_set",
            "Config hashes that the webhook set to a new value, by kind and cause; the write may fail yet",
            metrics.hashes_set.clone(),
        );
        registry.register(
            "admission_overloaded",
            "Requests whose bodies got no room in time: allowed as they were, or refused where they named no uid",
            metrics.overloaded.clone(),
        );
        metrics
    }

    pub(crate) fn count_request(&self, kind: &'static str, operation: &str, outcome: Outcome) {
        let operation = match operation {
            "CREATE" => "create",
            "UPDATE" => "update",
            _ => "other",
        };
        self.requests.get_or_create(&RequestLabels { kind, operation, outcome: outcome.label() }).inc();
    }

    pub(crate) fn count_rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&RejectedLabels { reason }).inc();
    }

    pub(crate) fn count_overloaded(&self, is_allowed: bool) {
        let answer = if is_allowed { "allowed" } else { "refused" };
        self.overloaded.get_or_create(&OverloadLabels { answer }).inc();
    }

    pub(crate) fn observe_duration(&self, seconds: f64) {
        self.duration.observe(seconds);
    }

    pub(crate) fn count_hash_set(&self, kind: &'static str, cause: &'static str) {
        self.hashes_set.get_or_create(&HashLabels { kind, cause }).inc();
    }
}
