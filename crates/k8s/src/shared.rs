//! Reads that all share who ask for the same at the same time ([`crate::flights`]).
//!
//! They are shared among the reads of one caller, since callers take turns at the budget: whose turn is far off must not
//! hold up others. That is no loss, for the API server is one caller.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pod_reloader_core::lookup::ConfigVersion;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::Keys;
use tokio::time::{Instant, timeout_at};

use crate::fetch::Fetch;
use crate::flights::Flights;
use crate::objects::ConfigContent;
use crate::unreadable::Unreadable;

/// At its deadline a read says why it failed: this is for hearing it.
const GRACE: Duration = Duration::from_millis(5);

type Caller = Arc<str>;
type Answer<T> = Result<Option<T>, Unreadable>;
/// The objects that were found, by their names.
pub(crate) type Versions = Arc<BTreeMap<String, ConfigVersion>>;
/// What was read of an object, and the length of its JSON.
pub(crate) type Content = Arc<(ConfigContent, usize)>;

/// What is on its way.
#[derive(Default)]
pub(crate) struct SharedReads {
    versions: Flights<(Caller, ConfigRef), Instant, Answer<ConfigVersion>>,
    found: Flights<(Caller, ConfigRef), Instant, Answer<Versions>>,
    lists: Flights<(Caller, Arc<str>, ConfigKind), Wanted, Answer<Versions>>,
    contents: Flights<(Caller, ConfigRef, Keys), Instant, Answer<Content>>,
    /// How many reads took the answer of another's.
    saved: AtomicU64,
}

/// What a list is to find. It goes on until the last of those who wait for it gives up.
struct Wanted {
    names: BTreeSet<Box<str>>,
    deadline: Instant,
}

impl Wanted {
    fn merge(&mut self, other: Self) {
        self.names.extend(other.names);
        self.deadline = self.deadline.max(other.deadline);
    }
}

impl SharedReads {
    /// How many reads took the answer of another's.
    #[cfg(test)]
    pub(crate) fn saved(&self) -> u64 {
        self.saved.load(Ordering::Relaxed)
    }

    /// Waits for the answer of a read that may be another's, and was given this deadline or a later one.
    async fn wait<T>(
        &self,
        flight: (impl Future<Output = Option<Answer<T>>>, bool),
        deadline: Instant,
    ) -> Answer<T> {
        self.wait_until(flight, deadline + GRACE).await
    }

    async fn wait_until<T>(
        &self,
        (answer, is_shared): (impl Future<Output = Option<Answer<T>>>, bool),
        until: Instant,
    ) -> Answer<T> {
        self.saved.fetch_add(u64::from(is_shared), Ordering::Relaxed);
        match timeout_at(until, answer).await {
            Ok(answer) => answer.unwrap_or(Err(Unreadable::Unanswered)),
            Err(_) => Err(Unreadable::TimedOut),
        }
    }
}

impl Fetch {
    /// The object's version; `None` if it does not exist.
    pub(crate) async fn version(&self, object: &ConfigRef, deadline: Instant) -> Answer<ConfigVersion> {
        let (fetch, asked) = (self.clone(), object.clone());
        let ask = move |deadline| async move { fetch.version_alone(&asked, deadline).await };
        let key = (self.caller.clone(), object.clone());
        self.shared.wait(self.shared.versions.join(key, deadline, later, ask), deadline).await
    }

    /// The version of an object that is asked for by a list with its name; `None` if it does not exist.
    pub(crate) async fn find(&self, object: &ConfigRef, deadline: Instant) -> Answer<ConfigVersion> {
        let (fetch, asked) = (self.clone(), object.clone());
        let ask = move |deadline| async move {
            let names = BTreeSet::from([asked.name.clone()]);
            let found = fetch.versions_alone(&asked.namespace, asked.kind, &names, deadline).await;
            found.map(|found| found.map(Arc::new))
        };
        let key = (self.caller.clone(), object.clone());
        let found = self.shared.wait(self.shared.found.join(key, deadline, later, ask), deadline).await?;
        // A list that was not gone through to its end does not prove that something is absent.
        let found = found.ok_or(Unreadable::TooLarge)?;
        Ok(found.get(&*object.name).cloned())
    }

    /// The versions of those of the wanted objects that exist, perhaps with some more, by lists of metadata. `None` if that
    /// would take more than asking for each of them. This waits for `patience` at most, others may wait longer.
    pub(crate) async fn versions(
        &self,
        namespace: &Arc<str>,
        kind: ConfigKind,
        names: BTreeSet<Box<str>>,
        deadline: Instant,
        patience: Duration,
    ) -> Answer<Versions> {
        let (fetch, asked) = (self.clone(), namespace.clone());
        let ask = move |Wanted { names, deadline }| async move {
            let found = fetch.versions_alone(&asked, kind, &names, deadline).await;
            found.map(|found| found.map(Arc::new))
        };
        let key = (self.caller.clone(), namespace.clone(), kind);
        let flight = self.shared.lists.join(key, Wanted { names, deadline }, Wanted::merge, ask);
        let until = (deadline + GRACE).min(Instant::now() + patience);
        self.shared.wait_until(flight, until).await
    }

    /// The object with what these keys hold summed, and the length of its JSON; `None` if it does not exist. `expected` is
    /// that length when the object was read last.
    pub(crate) async fn content(
        &self,
        object: &ConfigRef,
        keys: &Keys,
        expected: Option<usize>,
        deadline: Instant,
    ) -> Answer<Content> {
        let (fetch, asked, of) = (self.clone(), object.clone(), keys.clone());
        let ask = move |deadline| async move {
            let content = fetch.content_alone(&asked, &of, expected, deadline).await;
            content.map(|content| content.map(Arc::new))
        };
        let key = (self.caller.clone(), object.clone(), keys.clone());
        self.shared.wait(self.shared.contents.join(key, deadline, later, ask), deadline).await
    }
}

/// A read goes on until the last of those who wait for it gives up.
fn later(deadline: &mut Instant, other: Instant) {
    *deadline = (*deadline).max(other);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::future::join_all;
    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use tokio::time::sleep;

    use super::*;
    use crate::budget::Budget;

    const LATENCY: Duration = Duration::from_millis(20);

    /// An API server that answers every request with that after a while.
    fn fetch(answer: &'static str) -> (Fetch, Arc<AtomicUsize>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                sleep(LATENCY).await;
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(answer.as_bytes().to_vec())))
            }
        });
        let client = Client::new(service, "shop");
        let budget = Budget::new(24 << 20);
        (Fetch { client, budget, caller: "".into(), shared: Arc::default() }, requests)
    }

    #[tokio::test(start_paused = true)]
    async fn c4_3_who_reads_the_same_at_the_same_time_shares_reads_and_other_callers_do_not_wait() {
        let (fetch, requests) = fetch(r#"{"metadata":{"uid":"u","resourceVersion":"7"},"data":{"key":"1"}}"#);
        let other = Fetch { caller: "10.0.0.9".into(), ..fetch.clone() };
        let object = ConfigRef::configmap("shop", "a");
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(5);
        let versions = join_all((0..64).map(|_| fetch.version(&object, deadline)));
        let contents = join_all((0..64).map(|_| fetch.content(&object, &Keys::All, None, deadline)));
        let found = join_all((0..64).map(|_| fetch.find(&object, deadline)));
        let (versions, contents, _, another) =
            tokio::join!(versions, contents, found, other.version(&object, deadline));
        assert!(versions.iter().all(|version| version.as_ref().unwrap().is_some()));
        assert!(contents.iter().all(|content| content.as_ref().unwrap().is_some()));
        assert!(another.unwrap().is_some());
        assert_eq!(begin.elapsed(), LATENCY);
        assert_eq!(requests.load(Ordering::SeqCst), 4, "all asked before the requests began");
        assert_eq!(fetch.shared.saved(), 3 * 63);
        fetch.version(&object, deadline).await.unwrap();
        assert_eq!(requests.load(Ordering::SeqCst), 5, "an answer is for those who asked before");
    }

    #[tokio::test(start_paused = true)]
    async fn c4_3_one_list_finds_what_all_who_wait_for_it_want() {
        let (fetch, requests) = fetch(
            r#"{"metadata":{},"items":[{"metadata":{"name":"a","uid":"u","resourceVersion":"7"}},
               {"metadata":{"name":"b","uid":"v","resourceVersion":"8"}}]}"#,
        );
        let deadline = Instant::now() + Duration::from_secs(5);
        let namespace: Arc<str> = "shop".into();
        let ask = async |names: [&str; 2]| {
            let names = names.into_iter().map(Box::from).collect();
            let patience = Duration::from_secs(1);
            let list = fetch.versions(&namespace, ConfigKind::ConfigMap, names, deadline, patience);
            list.await.unwrap().unwrap()
        };
        let (one, two) = tokio::join!(ask(["a", "c"]), ask(["b", "d"]));
        assert_eq!(requests.load(Ordering::SeqCst), 1);
        assert_eq!((one["a"].uid.as_str(), one.get("c")), ("u", None));
        assert_eq!((two["b"].uid.as_str(), two.get("d")), ("v", None));
    }
}
