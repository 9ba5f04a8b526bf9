//! The watches: lists and watch streams of five kinds, as one channel of changes.
//!
//! kube's watcher has no deadlines, starts its backoff over with the first item of a list, restarts a stream that ends
//! at once without a pause, and never looks again at what it believes to know. So this is a loop of our own:
//!
//! ```text
//! list (streamed, else in pages) --> watch --ends in order--> watch again, from the version seen last
//!   ^                                  |
//!   +---- pause, longer each time -----+-- failed, expired, or the slow resync is due
//! ```
//!
//! Deadlines are those of [`pod_reloader_k8s::transport`]; `pace` says how long to pause, `health` what is told of
//! it all, `requests` speaks to the API server,
//! `text` bounds what is read of it.

pub mod health;
mod pace;
mod requests;
mod stream;
mod text;

use std::sync::Arc;

use kube::core::DynamicResourceScope;
use kube::{Client, Resource};
use pod_reloader_core::reference::{ConfigKind, WorkloadKind};
use pod_reloader_k8s::objects::{ConfigMeta, Scope, WorkloadObject};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use health::WatchHealth;
use requests::Requests;

/// Changes that wait for the controller; a stream that is faster waits, too.
const CHANNEL_CAPACITY: usize = 64;
/// Lists under way at once: each holds one object, or one page, as text.
const CONCURRENT_LISTS: usize = 4;

/// What a watch stream covers: one kind, in one namespace or in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Coverage<K> {
    pub(crate) kind: K,
    pub(crate) namespace: Option<String>,
}

impl<K: PartialEq> Coverage<K> {
    pub(crate) fn contains(&self, kind: &K, namespace: &str) -> bool {
        self.kind == *kind && self.namespace.as_deref().is_none_or(|covered| covered == namespace)
    }
}

/// What a stream tells of its objects.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// A list begins: what it does not name until [`Change::ListEnds`] is gone.
    ListBegins,
    /// An object of the list.
    Listed(K),
    /// The list is complete.
    ListEnds,
    /// An object was created or changed.
    Applied(K),
    /// An object was deleted; this is its last version.
    Deleted(K),
}

/// A change of a workload or of a config object.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "short-lived, and an allocation per event would cost more")]
pub(crate) enum Update {
    Workload(Coverage<WorkloadKind>, Change<WorkloadObject>),
    Object(Coverage<ConfigKind>, Change<ConfigMeta>),
}

/// The running watches. They end when this is dropped.
pub(crate) struct Watches {
    updates: mpsc::Receiver<Update>,
    streams: JoinSet<()>,
}

impl Watches {
    /// Watches the three kinds of workload and, as metadata only, the two kinds of config object (5.2), for ever (5.7).
    pub(crate) fn start(client: &Client, scope: &Scope, health: &WatchHealth) -> Self {
        let (sender, updates) = mpsc::channel(CHANNEL_CAPACITY);
        let mut start = Start {
            client,
            scope,
            health,
            sender,
            turns: Arc::new(Semaphore::new(CONCURRENT_LISTS)),
            streams: JoinSet::new(),
        };
        for kind in WorkloadKind::ALL {
            start.watch::<WorkloadObject>(kind, kind.as_str(), Update::Workload);
        }
        for (kind, name) in [(ConfigKind::ConfigMap, "ConfigMap"), (ConfigKind::Secret, "Secret")] {
            start.watch::<ConfigMeta>(kind, name, Update::Object);
        }
        Self { updates, streams: start.streams }
    }

    /// The next change; pending while there is none.
    ///
    /// # Panics
    /// If a stream ended, which none ever should: a bug must not become a watch that is missing unseen.
    pub(crate) async fn next(&mut self) -> Option<Update> {
        tokio::select! {
            update = self.updates.recv() => update,
            Some(ended) = self.streams.join_next() => match ended {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                ended => unreachable!("a watch ended: {ended:?}"),
            },
        }
    }
}

struct Start<'a> {
    client: &'a Client,
    scope: &'a Scope,
    health: &'a WatchHealth,
    sender: mpsc::Sender<Update>,
    turns: Arc<Semaphore>,
    streams: JoinSet<()>,
}

impl Start<'_> {
    fn watch<K>(
        &mut self,
        kind: K::DynamicType,
        name: &'static str,
        update: fn(Coverage<K::DynamicType>, Change<K>) -> Update,
    ) where
        K: Resource<Scope = DynamicResourceScope> + DeserializeOwned + Send + 'static,
        K::DynamicType: Copy + Send + Sync + 'static,
    {
        let namespaces = match self.scope {
            Scope::Cluster => vec![None],
            Scope::Namespaces(namespaces) => namespaces.iter().cloned().map(Some).collect(),
        };
        for namespace in namespaces {
            let sign = self.health.stream(name, namespace.clone());
            let requests = Requests::<K>::new(self.client.clone(), kind, namespace.clone());
            let out = Out { coverage: Coverage { kind, namespace }, update, sender: self.sender.clone() };
            self.streams.spawn(stream::follow(requests, out, sign, self.turns.clone()));
        }
    }
}

/// Where a stream puts its changes.
struct Out<K: Resource> {
    coverage: Coverage<K::DynamicType>,
    update: fn(Coverage<K::DynamicType>, Change<K>) -> Update,
    sender: mpsc::Sender<Update>,
}

impl<K: Resource> Out<K>
where
    K::DynamicType: Copy,
{
    async fn send(&self, change: Change<K>) {
        // Without a receiver the streams are about to be aborted.
        let _ = self.sender.send((self.update)(self.coverage.clone(), change)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// What the process would end with if that were one of its streams.
    async fn end_of(stream: impl Future<Output = ()> + Send + 'static) -> Option<String> {
        // A channel that stays open: other streams go on.
        let (_sender, updates) = mpsc::channel(1);
        let mut streams = JoinSet::new();
        streams.spawn(stream);
        let mut watches = Watches { updates, streams };
        let next = tokio::spawn(async move { watches.next().await.is_some() });
        let ended = timeout(Duration::from_mins(1), next).await.ok()?;
        let panic = ended.expect_err("there are no updates").into_panic();
        match panic.downcast::<String>() {
            Ok(text) => Some(*text),
            Err(panic) => panic.downcast::<&str>().ok().map(|text| (*text).to_owned()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c5_7_a_watch_that_ends_takes_the_process_along() {
        let ended = end_of(async {}).await;
        assert!(ended.as_ref().is_some_and(|text| text.contains("a watch ended")), "{ended:?}");
        let panicked = end_of(async { panic!("a bug in a stream") }).await;
        assert_eq!(panicked.as_deref(), Some("a bug in a stream"));
    }
}
