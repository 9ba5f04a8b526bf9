//! The health of the watches: signs of life, and failures, each logged when it begins and when it ends.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// A replica that leads is not ready while one of its watches has been silent for longer. The server ends each watch
/// after 40 s, so that a healthy one is never silent for as long as a minute.
pub const SILENCE_LIMIT: Duration = Duration::from_mins(2);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    kind: &'static str,
    namespace: Option<String>,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} in {namespace}", self.kind),
            None => f.write_str(self.kind),
        }
    }
}

#[derive(Debug)]
struct State {
    last_sign: Instant,
    is_failing: bool,
    /// The last watch was silent to its end, and the present one may be deaf as well: only an event proves that it is
    /// not.
    is_deaf: bool,
}

/// The state of all watches that run. Shared with readiness and metrics.
#[derive(Clone, Debug, Default)]
pub struct WatchHealth {
    streams: Arc<Mutex<BTreeMap<Stream, State>>>,
    errors: Family<ErrorLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    kind: &'static str,
}

impl WatchHealth {
    /// Registers its metrics under the registry's prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let health = Self::default();
        registry.register(
            "watch_errors",
            "Errors of lists and watches, each followed by a new attempt, by kind",
            health.errors.clone(),
        );
        registry.register_collector(Box::new(health.clone()));
        health
    }

    /// The watches that have been silent for too long: neither an event nor any answer, be it a refusal.
    pub fn silent(&self) -> Vec<String> {
        let streams = self.streams();
        let silent = streams.iter().filter(|(_, state)| state.last_sign.elapsed() > SILENCE_LIMIT);
        silent.map(|(stream, _)| stream.to_string()).collect()
    }

    pub(super) fn stream(&self, kind: &'static str, namespace: Option<String>) -> Sign {
        let stream = Stream { kind, namespace };
        let state = State { last_sign: Instant::now(), is_failing: false, is_deaf: false };
        self.streams().insert(stream.clone(), state);
        Sign { health: self.clone(), stream }
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, BTreeMap<Stream, State>> {
        // Held for single map operations, none of which panics.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's part of it, which is dropped with the stream.
pub(super) struct Sign {
    health: WatchHealth,
    stream: Stream,
}

impl Sign {
    /// The API server answered something.
    pub(super) fn alive(&self) {
        self.update(|state| state.last_sign = Instant::now());
    }

    /// The watch delivered an event.
    pub(super) fn delivered(&self) {
        self.update(|state| {
            state.last_sign = Instant::now();
            state.is_deaf = false;
        });
    }

    /// The watch has lasted for a while.
    pub(super) fn lasts(&self) {
        let was_failing = self.update(|state| !state.is_deaf && std::mem::take(&mut state.is_failing));
        if was_failing == Some(true) {
            tracing::info!(watch = %self.stream, "watching again");
        }
    }

    /// The stream is healthy.
    pub(super) fn steady(&self) {
        self.delivered();
        self.lasts();
    }

    /// The stream failed and is going to try again; `is_silence` if nothing came until a deadline.
    pub(super) fn failed(&self, why: &str, is_silence: bool) {
        self.health.errors.get_or_create(&ErrorLabels { kind: self.stream.kind }).inc();
        let was_failing = self.update(|state| {
            state.is_deaf = is_silence;
            std::mem::replace(&mut state.is_failing, true)
        });
        if was_failing == Some(false) {
            tracing::warn!(watch = %self.stream, error = why, "cannot list or watch; trying again with growing pauses");
        } else {
            tracing::debug!(watch = %self.stream, error = why, "still cannot list or watch");
        }
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        self.health.streams().get_mut(&self.stream).map(change)
    }
}

impl Drop for Sign {
    fn drop(&mut self) {
        self.health.streams().remove(&self.stream);
    }
}

impl Collector for WatchHealth {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let streams = self.streams();
        let mut ages = BTreeMap::<&str, f64>::new();
        for (stream, state) in streams.iter() {
            let age = ages.entry(stream.kind).or_default();
            *age = age.max(state.last_sign.elapsed().as_secs_f64());
        }
        let mut metric = encoder.encode_descriptor(
            "watch_age_seconds",
            "Time since the last sign of life of a watch, the longest of each kind (leader only)",
            None,
            MetricType::Gauge,
        )?;
        for (kind, age) in ages {
            ConstGauge::new(age).encode(metric.encode_family(&[("kind", kind)])?)?;
        }
        let mut metric = encoder.encode_descriptor(
            "watch_failing",
            "Whether a list or watch fails, or is refused, and is tried again (leader only)",
            None,
            MetricType::Gauge,
        )?;
        for (stream, state) in streams.iter() {
            let labels = [("kind", stream.kind), ("namespace", stream.namespace.as_deref().unwrap_or("*"))];
            ConstGauge::new(i64::from(state.is_failing)).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    /// Counts what is logged for people: warnings and infos.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<(usize, usize)>>);

    impl Subscriber for Log {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn event(&self, event: &Event<'_>) {
            let (warnings, infos) = &mut *self.0.lock().unwrap();
            match *event.metadata().level() {
                Level::WARN | Level::ERROR => *warnings += 1,
                Level::INFO => *infos += 1,
                _ => {}
            }
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn c5_7_a_trouble_is_logged_when_it_begins_and_when_it_ends() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let sign = WatchHealth::default().stream("Secret", None);
            for trouble in 1..4 {
                for _ in 0..50 {
                    sign.failed("no answer", false);
                    sign.alive();
                }
                assert_eq!(*log.0.lock().unwrap(), (trouble, trouble - 1), "it begins");
                sign.steady();
                sign.steady();
                assert_eq!(*log.0.lock().unwrap(), (trouble, trouble), "it ends");
            }
            // A watch that lasts after one that was silent to its end may be as deaf, until it delivers an event.
            sign.failed("no answer", true);
            sign.lasts();
            assert_eq!(*log.0.lock().unwrap(), (4, 3));
            sign.delivered();
            sign.lasts();
            assert_eq!(*log.0.lock().unwrap(), (4, 4));
        });
    }
}
