//! Metrics of what this crate asks the API server.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Requests to the API server that failed, and where digests came from.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    api_errors: Family<ApiError, Counter>,
    digests: Family<DigestSource, Counter>,
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
        metrics
    }

    /// Counts a failed request. A closed set of reasons, never a name.
    pub fn count_error(&self, operation: &'static str, error: &kube::Error) {
        self.api_errors.get_or_create(&ApiError { operation, reason: reason(error) }).inc();
    }

    /// Counts a request that ran into our own time limit.
    pub fn count_timeout(&self, operation: &'static str) {
        self.api_errors.get_or_create(&ApiError { operation, reason: "timeout" }).inc();
    }

    pub(crate) fn count_lookup(&self, source: &'static str) {
        self.digests.get_or_create(&DigestSource { source }).inc();
    }
}

fn reason(error: &kube::Error) -> &'static str {
    let kube::Error::Api(status) = error else { return "transport" };
    match status.code {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        409 => "conflict",
        422 => "invalid",
        429 => "too_many_requests",
        400..=499 => "client_error",
        _ => "server_error",
    }
}
