//! The watches, as one stream of what concerns the index.

use std::pin::Pin;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Client, Resource};
use pod_reloader_core::reference::{ConfigKind, WorkloadKind};
use pod_reloader_k8s::objects::{ConfigMeta, Scope, WorkloadObject};

use crate::index::Coverage;

/// A page of the initial list is held as text until it is parsed: this bounds how much that is.
const PAGE_SIZE: u32 = 250;
/// A connection that died silently is noticed a few seconds after this; kube's default is nearly five minutes.
const WATCH_SECONDS: u32 = 60;

/// News from one of the watches.
#[expect(clippy::large_enum_variant, reason = "short-lived, and an allocation per event would cost more")]
pub(crate) enum News {
    Workload(Coverage<WorkloadKind>, Event<WorkloadObject>),
    Object(Coverage<ConfigKind>, Event<ConfigMeta>),
    /// The watch failed and starts again by itself.
    Failure(&'static str, Box<watcher::Error>),
}

type NewsStream = Pin<Box<dyn Stream<Item = News> + Send>>;

/// Watches the three kinds of workload and, as metadata only, the two kinds of config object (5.2). It never ends:
/// a watch that fails is started again, an expired one lists anew (5.7).
pub(crate) fn watch_all(client: &Client, scope: &Scope) -> impl Stream<Item = News> + Send + Unpin + use<> {
    let workloads = WorkloadKind::ALL
        .into_iter()
        .flat_map(|kind| watch::<WorkloadObject>(client, scope, kind, kind.as_str(), News::Workload));
    let objects = [(ConfigKind::ConfigMap, "ConfigMap"), (ConfigKind::Secret, "Secret")];
    let objects = objects
        .into_iter()
        .flat_map(|(kind, name)| watch::<ConfigMeta>(client, scope, kind, name, News::Object));
    let all: Vec<NewsStream> = workloads.chain(objects).collect();
    stream::select_all(all)
}

fn watch<K>(
    client: &Client,
    scope: &Scope,
    kind: K::DynamicType,
    name: &'static str,
    news: fn(Coverage<K::DynamicType>, Event<K>) -> News,
) -> Vec<NewsStream>
where
    K: Resource<Scope = kube::core::DynamicResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
    K::DynamicType: Copy,
{
    let apis = scope.apis::<K>(client, &kind);
    apis.into_iter()
        .map(|api| {
            let coverage = Coverage { kind, namespace: api.namespace().map(str::to_owned) };
            let events = watcher(api, Config::default().page_size(PAGE_SIZE).timeout(WATCH_SECONDS))
                .backoff(Reconnect::default());
            events
                .map(move |event| match event {
                    Ok(event) => news(coverage.clone(), event),
                    Err(error) => News::Failure(name, Box::new(error)),
                })
                .boxed()
        })
        .collect()
}

/// The pause before a watch starts again: short at first, so that an API server that comes back is noticed, and
/// never more than a few seconds (kube's own goes up to 30). It starts over with the first event.
#[derive(Debug, Default)]
struct Reconnect {
    attempts: u32,
}

impl Reconnect {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(5);
}

impl Iterator for Reconnect {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Self::FIRST.saturating_mul(1 << self.attempts.min(8)).min(Self::LONGEST);
        self.attempts += 1;
        // Replicas and streams that lost the same server should not come back in step.
        let jitter = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
        Some(pause.mul_f64(0.75 + jitter / 2.0))
    }
}

impl Backoff for Reconnect {
    fn reset(&mut self) {
        self.attempts = 0;
    }
}
