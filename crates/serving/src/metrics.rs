//! Metrics of serving.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    expiry: Gauge<f64, AtomicU64>,
    reloads: Family<ReloadLabels, Counter>,
    client_ca_reloads: Family<ReloadLabels, Counter>,
    handshake_errors: Family<HandshakeLabels, Counter>,
    connections: Family<PortLabels, Gauge>,
    evictions: Family<EvictionLabels, Counter>,
}

/// The metrics of one port.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortMetrics {
    port: &'static str,
    pub(crate) connections: Gauge,
    evictions: Family<EvictionLabels, Counter>,
    handshake_errors: Family<HandshakeLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabels {
    port: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EvictionLabels {
    port: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    reason: &'static str,
}

impl Metrics {
    /// Registers the metrics under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the serving certificate ends, in seconds since the epoch",
            metrics.expiry.clone(),
        );
        registry.register(
            "certificate_reloads",
            "Serving certificates taken up or turned down, by result",
            metrics.reloads.clone(),
        );
        registry.register(
            "client_ca_reloads",
            "Other CAs of clients taken up or turned down, by result",
            metrics.client_ca_reloads.clone(),
        );
        registry.register(
            "tls_handshake_errors",
            "Connections that got no further than the TLS handshake, by reason",
            metrics.handshake_errors.clone(),
        );
        registry.register("connections", "Open connections, by port", metrics.connections.clone());
        registry.register(
            "connections_evicted",
            "Connections that were ended for the sake of others, by port and reason: idle or unused or busy ones of a \
             full port, and on any those without a request in time (no_request) or with one that took too long (slow)",
            metrics.evictions.clone(),
        );
        metrics
    }

    pub(crate) fn set_expiry(&self, seconds: f64) {
        self.expiry.set(seconds);
    }

    pub(crate) fn count_reload(&self, is_success: bool) {
        let result = if is_success { "success" } else { "failure" };
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    pub(crate) fn count_client_ca_reload(&self, is_success: bool) {
        let result = if is_success { "success" } else { "failure" };
        self.client_ca_reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    pub(crate) fn of_port(&self, port: &'static str) -> PortMetrics {
        PortMetrics {
            port,
            connections: self.connections.get_or_create(&PortLabels { port }).clone(),
            evictions: self.evictions.clone(),
            handshake_errors: self.handshake_errors.clone(),
        }
    }
}

impl PortMetrics {
    pub(crate) fn count_handshake_error(&self, reason: &'static str) {
        self.handshake_errors.get_or_create(&HandshakeLabels { reason }).inc();
    }

    pub(crate) fn count_evicted(&self, reason: &'static str) {
        self.evictions.get_or_create(&EvictionLabels { port: self.port, reason }).inc();
    }
}
