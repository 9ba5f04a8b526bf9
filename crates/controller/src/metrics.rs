//! Metrics of the reconciler.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use pod_reloader_core::kind::KindRef;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::watch::health::WatchHealth;

/// See the module.
#[derive(Clone, Debug)]
pub struct Metrics {
    reloads: Family<ReloadLabels, Counter>,
    writes: Family<WriteLabels, Counter>,
    deferred: Counter,
    reconcile_duration: Histogram,
    change_to_patch: Histogram,
    pub(crate) workloads: Gauge,
    pub(crate) references: Gauge,
    pub(crate) queued: Gauge,
    leader: Gauge,
    pub(crate) unreadable: Gauge,
    pub(crate) contested: Gauge,
    no_room: Counter,
    /// The state of the watches.
    pub watches: WatchHealth,
    event_errors: Counter,
    reconciled: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    kind: &'static str,
    cause: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    result: &'static str,
}

impl Metrics {
    /// Registers the metrics under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let latency = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let metrics = Self {
            reloads: Family::default(),
            writes: Family::default(),
            deferred: Counter::default(),
            reconcile_duration: latency(),
            change_to_patch: latency(),
            workloads: Gauge::default(),
            references: Gauge::default(),
            queued: Gauge::default(),
            leader: Gauge::default(),
            unreadable: Gauge::default(),
            contested: Gauge::default(),
            no_room: Counter::default(),
            watches: WatchHealth::register(registry),
            event_errors: Counter::default(),
            reconciled: Gauge::default(),
        };
        registry.register(
            "reloads",
            "Reloads by the reconciler, by workload kind, cause and result",
            metrics.reloads.clone(),
        );
        registry.register(
            "records",
            "Writes of observed-config alone, which reload nothing, by result",
            metrics.writes.clone(),
        );
        registry.register(
            "reloads_deferred",
            "Reloads put off because the pod template requires an object that is missing",
            metrics.deferred.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Time to reconcile one workload, reads and writes included",
            Unit::Seconds,
            metrics.reconcile_duration.clone(),
        );
        registry.register_with_unit(
            "change_to_patch",
            "Time from the last change of a reference's content, as reported by the watch, to the patched workload; \
             the settle window included, healed drift and catching up after a restart not",
            Unit::Seconds,
            metrics.change_to_patch.clone(),
        );
        registry.register("workloads", "Workloads that opted in (leader only)", metrics.workloads.clone());
        registry.register(
            "references",
            "Config objects that workloads refer to (leader only)",
            metrics.references.clone(),
        );
        registry.register("queue_length", "Workloads waiting to be reconciled", metrics.queued.clone());
        registry.register("leader", "Whether this replica leads", metrics.leader.clone());
        registry.register(
            "references_unreadable",
            "Workloads with a reference that cannot be read: forbidden, too large, or failing (leader only)",
            metrics.unreadable.clone(),
        );
        registry.register(
            "namespaces_contested",
            "Namespaces that are left alone because another installation writes there (leader only)",
            metrics.contested.clone(),
        );
        registry.register(
            "workloads_left_out",
            "Workloads left out because there is no room for their references in memory",
            metrics.no_room.clone(),
        );
        registry.register(
            "event_errors",
            "Kubernetes Events that could not be written",
            metrics.event_errors.clone(),
        );
        registry.register(
            "last_reconcile_timestamp_seconds",
            "When a workload was last reconciled, in seconds since the epoch",
            metrics.reconciled.clone(),
        );
        metrics
    }

    /// Whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        if !leads {
            self.workloads.set(0);
            self.references.set(0);
            self.queued.set(0);
            self.unreadable.set(0);
            self.contested.set(0);
        }
    }

    pub(crate) fn count_reload(&self, kind: KindRef, cause: &'static str, result: &'static str) {
        self.reloads.get_or_create(&ReloadLabels { kind: kind.label(), cause, result }).inc();
    }

    pub(crate) fn count_record(&self, result: &'static str) {
        self.writes.get_or_create(&WriteLabels { result }).inc();
    }

    pub(crate) fn count_deferred(&self) {
        self.deferred.inc();
    }

    pub(crate) fn observe_reconcile(&self, took: Duration) {
        self.reconcile_duration.observe(took.as_secs_f64());
        if let Ok(now) = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            self.reconciled.set(now.as_secs_f64());
        }
    }

    pub(crate) fn observe_change_to_patch(&self, took: Duration) {
        self.change_to_patch.observe(took.as_secs_f64());
    }

    pub(crate) fn count_left_out(&self) {
        self.no_room.inc();
    }

    pub(crate) fn count_event_error(&self) {
        self.event_errors.inc();
    }
}
