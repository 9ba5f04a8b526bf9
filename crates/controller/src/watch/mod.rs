//! The watches: lists and watch streams of several kinds, as one channel of changes.
//!
//! kube's watcher has no deadlines, starts its backoff over with the first item of a list, restarts a stream that ends
//! at once without a pause, and never resyncs. So this is a loop of our own:
//!
//! ```text
//! list (streamed, else in pages) --> watch --ends cleanly---> watch again, from the version seen last
//!   ^                                  |
//!   +---- pause, longer each time -----+-- failed, expired, or the slow resync is due
//! ```
//!
//! Deadlines are those of [`pod_reloader_k8s::transport`]; `pace` says how long to pause, `health` keeps track of
//! failures, `requests` speaks to the API server, `text` bounds what is read of it.

pub mod health;
mod lookout;
mod pace;
mod page;
mod poll;
mod relist;
mod requests;
mod stream;
mod text;

use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Resource};
use pod_reloader_core::dialect::own::AUTO;
use pod_reloader_core::kind::{BUILT_IN, Entry, KindRef};
use pod_reloader_core::reference::ConfigKind;
use pod_reloader_core::selector::Selector;
use pod_reloader_k8s::objects::{ConfigMeta, NamespaceMeta, Scope, Watched, WorkloadObject};
use pod_reloader_k8s::reader::ConfigReader;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use health::WatchHealth;
use lookout::Lookout;
pub(crate) use relist::Relister;
use requests::Requests;
use stream::Presence;

/// Changes that wait for the controller; a stream that is faster waits, too.
const CHANNEL_CAPACITY: usize = 64;
/// Lists under way at once: each holds one object, or one page, as text.
const CONCURRENT_LISTS: usize = 4;

/// How often a namespace is asked for where it cannot be watched: whether it is selected at all, and what its label says.
/// There may be hundreds.
const SELECTED_PERIOD: Duration = Duration::from_secs(10);
const LABEL_PERIOD: Duration = Duration::from_secs(30);

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

/// What a stream reports of its objects.
#[derive(Debug)]
pub(crate) enum Change<K> {
    /// A list begins: what it does not name until [`Change::ListEnds`] has been deleted.
    ListBegins,
    /// An object of the list.
    Listed(K),
    /// The list is complete.
    ListEnds,
    /// The list failed. Another one follows after a pause.
    ListFailed,
    /// An object was created or changed.
    Applied(K),
    /// An object was deleted; this is its last version.
    Deleted(K),
}

/// A change of a workload or of a config object.
#[derive(Debug)]
pub(crate) enum Update {
    Workload(Coverage<KindRef>, Change<WorkloadObject>),
    Object(Coverage<ConfigKind>, Change<ConfigMeta>),
    /// Of a list of one namespace, beside the watches.
    Relisted(Coverage<KindRef>, Change<WorkloadObject>),
    /// Of the namespaces whose label may have workloads follow something (7.4).
    Label(Coverage<()>, Change<NamespaceMeta>),
    /// Of the namespaces that are selected by their labels, where there is a selector.
    Namespace(Coverage<()>, Change<NamespaceMeta>),
}

/// What the controller has the watches do.
#[derive(Clone, Debug)]
pub(crate) struct Steering {
    workloads_may_begin: watch::Sender<bool>,
    objects_may_begin: watch::Sender<bool>,
    relist: watch::Sender<u64>,
}

impl Steering {
    pub(crate) fn new() -> Self {
        let [workloads_may_begin, objects_may_begin] = [(); 2].map(|()| watch::channel(false).0);
        Self { workloads_may_begin, objects_may_begin, relist: watch::channel(0).0 }
    }

    /// It is known where workloads are wanted: they may be listed.
    pub(crate) fn begin(&self) {
        self.workloads_may_begin.send_replace(true);
    }

    /// Whether they may.
    pub(crate) fn has_begun(&self) -> bool {
        *self.workloads_may_begin.borrow()
    }

    /// All workloads are known: the config objects may be listed.
    pub(crate) fn begin_objects(&self) {
        self.objects_may_begin.send_replace(true);
    }

    /// Has all workloads listed again.
    pub(crate) fn relist(&self) {
        self.relist.send_modify(|times| *times += 1);
    }
}

/// The running watches. They end when this is dropped.
pub(crate) struct Watches {
    updates: mpsc::Receiver<Update>,
    streams: JoinSet<()>,
}

impl Watches {
    /// Watches all kinds of workload, as soon as that may begin and they are there (9.2), and, as metadata only, the kinds
    /// of config object that are followed (5.2) and the namespaces that are selected (1.6) or labelled (7.4), for ever
    /// (5.7). The config objects begin once
    /// [`Steering::begin_objects`] says so, after `objects_wait` at the latest; at once if that is `None`.
    pub(crate) fn start(
        client: &Client,
        reader: &Arc<ConfigReader>,
        scope: &Scope,
        health: &WatchHealth,
        steering: &Steering,
        objects_wait: Option<Duration>,
    ) -> (Self, Relister) {
        let (sender, updates) = mpsc::channel(CHANNEL_CAPACITY);
        let mut start = Start {
            client,
            scope,
            health,
            sender,
            turns: Arc::new(Semaphore::new(CONCURRENT_LISTS)),
            streams: JoinSet::new(),
        };
        start.watch_namespaces(reader);
        start.watch_labels(reader);
        let Steering { workloads_may_begin, objects_may_begin, relist } = steering.clone();
        let cue = Cue { may_begin: workloads_may_begin, patience: Duration::MAX, relist };
        for entry in scope.kinds.entries() {
            match entry.kind().filter(|kind| BUILT_IN.contains(kind)) {
                Some(kind) => {
                    let labels = &scope.object_selector;
                    start.watch::<WorkloadObject>(kind, kind.label(), labels, &cue, Update::Workload);
                }
                None => start.watch_while_there(entry, &cue),
            }
        }
        let mut cue = Cue::default();
        if let Some(patience) = objects_wait {
            cue = Cue { may_begin: objects_may_begin, patience, ..cue };
        }
        let everything = Selector::default();
        start.watch::<ConfigMeta>(ConfigKind::ConfigMap, "ConfigMap", &everything, &cue, Update::Object);
        if scope.secrets {
            start.watch::<ConfigMeta>(ConfigKind::Secret, "Secret", &everything, &cue, Update::Object);
        }
        let Start { sender, turns, streams, .. } = start;
        let relister = Relister {
            client: client.clone(),
            kinds: scope.kinds.clone(),
            labels: scope.object_selector.clone(),
            sender,
            turns,
        };
        (Self { updates, streams }, relister)
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

/// When streams begin, and begin anew.
#[derive(Debug)]
struct Cue {
    /// They begin once this says so, ...
    may_begin: watch::Sender<bool>,
    /// ... or after so long.
    patience: Duration,
    relist: watch::Sender<u64>,
}

impl Default for Cue {
    /// At once, and never anew.
    fn default() -> Self {
        Self { may_begin: watch::channel(true).0, patience: Duration::MAX, relist: watch::channel(0).0 }
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
        labels: &Selector,
        cue: &Cue,
        update: fn(Coverage<K::DynamicType>, Change<K>) -> Update,
    ) where
        K: Watched<DynamicType: Send + Sync> + Send + 'static,
    {
        for namespace in self.scope.coverages() {
            let requests = Requests::<K>::new(self.client.clone(), kind, namespace.clone(), labels);
            let out = Out {
                coverage: Coverage { kind, namespace: namespace.clone() },
                update,
                sender: self.sender.clone(),
            };
            let (health, turns) = (self.health.clone(), self.turns.clone());
            let &Cue { ref may_begin, patience, ref relist } = cue;
            let (mut may_begin, relist) = (may_begin.subscribe(), relist.subscribe());
            self.streams.spawn(async move {
                // Its controller is gone if the channel is closed, and so is this in a moment.
                let _ = timeout(patience, may_begin.wait_for(|may_begin| *may_begin)).await;
                // A stream that has not begun owes no sign of life.
                let sign = health.stream(name, namespace);
                stream::follow(requests, Presence::Expected, &out, sign, turns, relist).await;
            });
        }
    }

    /// Watches a kind of workload whenever the API server has it. While it does not, there are none of that kind, and
    /// nothing fails.
    fn watch_while_there(&mut self, entry: &Arc<Entry>, cue: &Cue) {
        let lookout = Arc::new(Lookout::of(self.client, entry));
        for namespace in self.scope.coverages() {
            let (client, labels) = (self.client.clone(), self.scope.object_selector.clone());
            let (health, turns, sender) = (self.health.clone(), self.turns.clone(), self.sender.clone());
            let (mut may_begin, relist) = (cue.may_begin.subscribe(), cue.relist.clone());
            let lookout = lookout.clone();
            self.streams.spawn(async move {
                // Its controller is gone if the channel is closed, and so is this in a moment.
                let _ = may_begin.wait_for(|may_begin| *may_begin).await;
                loop {
                    let kind = lookout.there().await;
                    let coverage = Coverage { kind, namespace: namespace.clone() };
                    let out = Out { coverage, update: Update::Workload, sender: sender.clone() };
                    let requests =
                        Requests::<WorkloadObject>::new(client.clone(), kind, namespace.clone(), &labels);
                    let sign = health.stream(kind.label(), namespace.clone());
                    let (turns, relist) = (turns.clone(), relist.subscribe());
                    stream::follow(requests, Presence::Optional, &out, sign, turns, relist).await;
                    lookout.is_gone();
                    out.send(Change::ListBegins).await;
                    out.send(Change::ListEnds).await;
                }
            });
        }
    }

    /// Watches the namespaces that are selected: where only Roles are given, by asking for each.
    fn watch_namespaces(&mut self, reader: &Arc<ConfigReader>) {
        const NAME: &str = "Namespace";
        let selector = &self.scope.namespace_selector;
        if selector.is_empty() {
            return;
        }
        if self.scope.namespaces.is_none() {
            self.watch::<NamespaceMeta>((), NAME, selector, &Cue::default(), Update::Namespace);
            return;
        }
        let selector = selector.clone();
        self.poll_namespaces(NAME, reader, (SELECTED_PERIOD, false), Update::Namespace, move |namespace| {
            selector.matches_json(namespace)
        });
    }

    /// Watches the namespaces whose label may have workloads follow something (7.4), likewise.
    fn watch_labels(&mut self, reader: &Arc<ConfigReader>) {
        const NAME: &str = "Namespace label";
        if !self.scope.namespace_labels {
            return;
        }
        if self.scope.namespaces.is_none() {
            let labelled = Selector::having(AUTO);
            self.watch::<NamespaceMeta>((), NAME, &labelled, &Cue::default(), Update::Label);
            return;
        }
        self.poll_namespaces(NAME, reader, (LABEL_PERIOD, true), Update::Label, |_| true);
    }

    fn poll_namespaces(
        &mut self,
        name: &'static str,
        reader: &Arc<ConfigReader>,
        period: (Duration, bool),
        update: fn(Coverage<()>, Change<NamespaceMeta>) -> Update,
        is_meant: impl Fn(&str) -> bool + Clone + Send + Sync + 'static,
    ) {
        for namespace in self.scope.coverages() {
            let sign = self.health.stream(name, namespace.clone());
            let coverage = Coverage { kind: (), namespace };
            let out = Out { coverage, update, sender: self.sender.clone() };
            self.streams.spawn(poll::poll(reader.clone(), is_meant.clone(), period, out, sign));
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
