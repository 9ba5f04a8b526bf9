//! Metrics of what this crate asks the API server.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::unreadable::{Unreadable, status_reason};

/// Requests to the API server that failed, and where digests came from.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    api_errors: Family<ApiError, Counter>,
    digests: Family<DigestSource, Counter>,
    digest_bytes: Gauge,
    standing_down: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiError {
    operation: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DigestSource {
    source: &'static str,
}

impl Metrics {
    /// Registers the metrics under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "api_errors",
            "Requests to the API server that failed, by operation and reason",
            metrics.api_errors.clone(),
        );
        registry.register(
            "config_lookups",
            "Lookups of config objects, by where the answer came from: memory (uid and resourceVersion match), \
             content, or absent",
            metrics.digests.clone(),
        );
        registry.register_with_unit(
            "config_digests",
            "Memory that remembered digests take",
            Unit::Bytes,
            metrics.digest_bytes.clone(),
        );
        registry.register(
            "standing_down",
            "Whether this installation stands down, since another one writes the same workloads",
            metrics.standing_down.clone(),
        );
        metrics
    }

    pub(crate) fn set_standing_down(&self, is_standing_down: bool) {
        self.standing_down.set(i64::from(is_standing_down));
    }

    /// Counts a failed request. A closed set of reasons, never a name.
    pub fn count_error(&self, operation: &'static str, error: &kube::Error) {
        self.api_errors.get_or_create(&ApiError { operation, reason: reason(error) }).inc();
    }

    /// Counts a request that ran into our own time limit.
    pub fn count_timeout(&self, operation: &'static str) {
        self.api_errors.get_or_create(&ApiError { operation, reason: "timeout" }).inc();
    }

    /// Counts a read that failed.
    pub(crate) fn count_unreadable(&self, operation: &'static str, error: Unreadable) {
        self.api_errors.get_or_create(&ApiError { operation, reason: error.label() }).inc();
    }

    pub(crate) fn set_digest_bytes(&self, bytes: usize) {
        self.digest_bytes.set(bytes.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn count_lookup(&self, source: &'static str) {
        self.digests.get_or_create(&DigestSource { source }).inc();
    }
}

fn reason(error: &kube::Error) -> &'static str {
    let kube::Error::Api(status) = error else { return "transport" };
    status_reason(status.code)
}
