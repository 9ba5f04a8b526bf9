//! Bounds how many log lines callers can cause (4.10): of each kind of line some at once, and then so many a second.
//! What is left out is counted, and one line says how much it was.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep};
use tracing::callsite::Identifier;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

/// The parts that write lines because a client calls. The reconciler's lines follow from writes of its own, which are
/// paced, and none of them may be missing (5.8).
const CALLED: [&str; 4] =
    ["pod_reloader_webhook", "pod_reloader_serving", "pod_reloader_certs", "pod_reloader_k8s"];

/// Lines of one kind that may come at once: an installation of a thousand workloads is not to lose any.
const BURST: f64 = 2_000.0;
/// And how many each second from then on.
const PER_SECOND: f64 = 5.0;

/// How often a line reports that lines were left out.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Counts the lines of each kind (the place in the code that writes them), and drops what is too much. Clones share the
/// counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct LineLimit(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    kinds: Mutex<HashMap<Identifier, Bucket>>,
    unreported: AtomicU64,
    left_out: Counter,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + since * PER_SECOND).min(BURST);
        self.filled = now;
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }
}

impl LineLimit {
    /// Registers the metric under the registry's prefix.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "log_lines_left_out",
            "Log lines about callers that were left out, since there were too many of a kind",
            self.0.left_out.clone(),
        );
    }

    /// Says from time to time how many lines were left out.
    pub(crate) async fn report(self) {
        loop {
            sleep(REPORT_EVERY).await;
            let count = self.0.unreported.swap(0, Ordering::Relaxed);
            if count > 0 {
                tracing::warn!(count, "log lines were left out: too many of a kind at once");
            }
        }
    }

    fn admits(&self, metadata: &Metadata<'_>, now: Instant) -> bool {
        if !CALLED.iter().any(|target| metadata.target().starts_with(target)) {
            return true;
        }
        // Nothing panics while the lock is held. There are as many kinds as there are places in the code.
        let mut kinds = self.0.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = kinds.entry(metadata.callsite()).or_insert(Bucket { tokens: BURST, filled: now });
        let is_admitted = bucket.take(now);
        if !is_admitted {
            self.0.unreported.fetch_add(1, Ordering::Relaxed);
            self.0.left_out.inc();
        }
        is_admitted
    }
}

impl<S: Subscriber> Filter<S> for LineLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.admits(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::filter::FilterExt;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, fmt};

    use crate::logging::tests::Lines;

    fn webhook_line() {
        tracing::info!(target: "pod_reloader_webhook::admit", "a line");
    }

    fn controller_line() {
        tracing::info!(target: "pod_reloader_controller::sink::log", "reloaded");
    }

    #[tokio::test(start_paused = true)]
    async fn c4_10_what_callers_cause_is_a_bounded_number_of_lines() {
        let (lines, limit) = (Lines::default(), LineLimit::default());
        let layer = fmt::layer().with_ansi(false).with_writer(lines.clone());
        let layer = layer.with_filter(LevelFilter::INFO.and(limit.clone()));
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

        (0..10_000).for_each(|_| webhook_line());
        assert_eq!(lines.count("a line"), 2_000);
        assert_eq!(limit.0.left_out.get(), 8_000);
        // The reconciler's are promised.
        (0..10_000).for_each(|_| controller_line());
        assert_eq!(lines.count("reloaded"), 10_000);

        let reporting = tokio::spawn(limit.clone().report());
        tokio::time::sleep(REPORT_EVERY + Duration::from_millis(1)).await;
        assert_eq!(lines.count("count=8000"), 1);
        (0..10_000).for_each(|_| webhook_line());
        assert_eq!(lines.count("a line"), 2_050);
        reporting.abort();
    }
}
