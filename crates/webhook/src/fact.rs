//! A config hash that the webhook set, in the log and in the metrics (5.8). The write may fail yet, so there is no Event.

use pod_reloader_core::cause::Cause;

use crate::metrics::Metrics;
use crate::prepare::Open;

/// Causes that a log line names.
const MAX_LOGGED: usize = 20;

/// The webhook's answer gives the workload another config hash.
pub(crate) struct NewHash<'a> {
    /// The request.
    pub(crate) open: &'a Open,
    /// The hash after it.
    pub(crate) hash: &'a str,
    /// Why; the first is counted.
    pub(crate) causes: &'a [Cause],
}

impl NewHash<'_> {
    /// Logs and counts it. A dry run, which changes nothing, is not counted.
    pub(crate) fn publish(&self, metrics: &Metrics) {
        let Self { open, hash, causes } = self;
        let Some(cause) = causes.first() else { return };
        let names: Vec<String> = causes.iter().take(MAX_LOGGED).map(ToString::to_string).collect();
        let name = open.name.as_deref().unwrap_or("(to be generated)");
        let old = open.old.as_ref();
        let old_hash = old.and_then(|old| old.template.config_hash.as_deref()).unwrap_or("none");
        tracing::info!(
            kind = open.kind.label(), namespace = open.namespace, name, old_hash, new_hash = %hash,
            dry_run = open.dry_run, causes = names.join(", "), "the webhook set the config hash"
        );
        if !open.dry_run {
            metrics.count_hash_set(open.kind.label(), cause.label());
        }
    }
}
