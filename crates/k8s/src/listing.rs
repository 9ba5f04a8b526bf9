//! Looks up several objects of a namespace by lists of metadata, where that is better than asking for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::lookup::{ConfigVersion, Depth, Query};
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::costs::{HANDFUL, Way};
use crate::reader::ConfigReader;
use crate::shared::Versions;

/// How long a list goes on of which nothing is wanted but what it takes.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(2);

/// What lists returned.
#[derive(Default)]
pub(crate) struct Listed {
    answers: Vec<Answered>,
    /// So many are read one by one, and how long that takes is to be measured.
    pub(crate) singles: Option<usize>,
}

impl Listed {
    /// What a list said of the object; `None` if none did.
    pub(crate) fn get(&self, object: &ConfigRef) -> Option<ListEntry> {
        let is_of = |answer: &&Answered| {
            let (namespace, kind) = &answer.group;
            *namespace == object.namespace && *kind == object.kind && answer.names.contains(&object.name)
        };
        let answer = self.answers.iter().find(is_of)?;
        Some(ListEntry(answer.versions.get(&*object.name).cloned()))
    }
}

/// The version of one object, or that it is not there.
pub(crate) struct ListEntry(pub(crate) Option<ConfigVersion>);

/// The answer of one list, which others may share.
struct Answered {
    group: Group,
    /// What it was asked for: of other names it says nothing.
    names: BTreeSet<Box<str>>,
    versions: Versions,
}

/// Namespace and kind.
type Group = (Arc<str>, ConfigKind);

/// The names that are wanted of one kind in one namespace.
type Wanted = BTreeMap<Group, BTreeSet<Box<str>>>;

impl ConfigReader {
    /// Looks up by lists what is more than a handful of one kind in one namespace, and less where that answers sooner.
    /// What they do not answer is left out.
    pub(crate) async fn list(&self, key: &DigestKey, queries: &[Query], deadline: Instant) -> Listed {
        let mut wanted = Wanted::new();
        // Also those of which nothing is remembered: a workload that lists hundreds of which none exists causes one
        // request.
        for Query { object, .. } in queries.iter().filter(|query| self.withheld(&query.object).is_none()) {
            let group = (object.namespace.clone(), object.kind);
            wanted.entry(group).or_default().insert(object.name.clone());
        }
        let (many, few) = wanted.into_iter().partition(|(_, names): &(_, BTreeSet<_>)| names.len() > HANDFUL);
        // If a list does not arrive in time, single reads are what is left.
        let now = Instant::now();
        let half = deadline.saturating_duration_since(now) / 2;
        let mut listed = Listed::default();
        self.list_all(many, now + half, half, &mut listed).await;
        self.list_few(few, self.expects_versions(key, queries), deadline, &mut listed).await;
        listed
    }

    /// Whether the versions of all of them are likely to be all that is asked for.
    fn expects_versions(&self, key: &DigestKey, queries: &[Query]) -> bool {
        queries.iter().all(|Query { object, depth }| match depth {
            Depth::Exists | Depth::Version => true,
            Depth::Content(keys) => self.recalls(key, object, keys),
        })
    }

    async fn list_few(&self, few: Wanted, expects_versions: bool, deadline: Instant, listed: &mut Listed) {
        let count = few.values().map(BTreeSet::len).sum();
        let mut namespaces: Vec<_> = few.keys().map(|(namespace, _)| namespace.clone()).collect();
        namespaces.dedup();
        // Content is not in a list.
        let ([namespace], true, 2..=HANDFUL) = (namespaces.as_slice(), expects_versions, count) else {
            return;
        };
        let begin = Instant::now();
        match self.costs.choose(namespace, count, begin) {
            Way::Singly => listed.singles = Some(count),
            Way::SinglyAndMeasure(permit) => {
                listed.singles = Some(count);
                self.measure_list(namespace.clone(), few, permit);
            }
            Way::List(patience) => {
                let is_complete = self.list_all(few, deadline, patience, listed).await;
                let time = is_complete.then(|| begin.elapsed());
                self.costs.list_took(namespace, time, Instant::now());
            }
        }
    }

    fn measure_list(&self, namespace: Arc<str>, wanted: Wanted, permit: OwnedSemaphorePermit) {
        let reader = self.clone();
        tokio::spawn(async move {
            let begin = Instant::now();
            let (deadline, mut listed) = (begin + MEASURE_TIMEOUT, Listed::default());
            let is_complete = reader.list_all(wanted, deadline, MEASURE_TIMEOUT, &mut listed).await;
            reader.costs.list_took(&namespace, is_complete.then(|| begin.elapsed()), Instant::now());
            drop(permit);
        });
    }

    /// Returns whether all lists gave an answer.
    async fn list_all(
        &self,
        wanted: Wanted,
        deadline: Instant,
        patience: Duration,
        listed: &mut Listed,
    ) -> bool {
        let lists = wanted.into_iter().map(async |(group, names)| {
            let (namespace, kind) = &group;
            let versions = self.fetch.versions(namespace, *kind, names.clone(), deadline, patience).await;
            if let Err(error) = versions {
                self.metrics.count_unreadable("list_config", error);
            }
            Some(Answered { versions: versions.ok().flatten()?, group, names })
        });
        let answers = futures::future::join_all(lists).await;
        let is_complete = answers.iter().all(Option::is_some);
        listed.answers.extend(answers.into_iter().flatten());
        is_complete
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use pod_reloader_core::lookup::Lookup;
    use tokio::time::sleep;

    use super::*;
    use crate::budget::Budget;
    use crate::metrics::Metrics;

    /// Requests for lists, and for single objects.
    type Requests = Arc<[AtomicUsize; 2]>;

    /// A reader over an API server that takes so long for a list, and for what is no list. It has everything but `none`.
    fn reader(list_takes: Duration, get_takes: Duration) -> (ConfigReader, Requests) {
        let requests = Requests::default();
        let counts = requests.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path().to_owned();
            let name = path.strip_prefix("/api/v1/namespaces/shop/configmaps/").map(str::to_owned);
            counts[usize::from(name.is_some())].fetch_add(1, Ordering::SeqCst);
            async move {
                sleep(if name.is_some() { get_takes } else { list_takes }).await;
                let (status, json) = match name.as_deref() {
                    Some("none") => (404, String::new()),
                    Some(name) => (200, object(name)),
                    None => {
                        let items = ["a", "b", "c", "other"].map(object).join(",");
                        (200, format!(r#"{{"metadata":{{}},"items":[{items}]}}"#))
                    }
                };
                let response = Response::builder().status(status).body(Body::from(json.into_bytes()));
                Ok::<_, std::convert::Infallible>(response.unwrap())
            }
        });
        let client = Client::new(service, "shop");
        (ConfigReader::new(client, Budget::new(24 << 20), Metrics::default()), requests)
    }

    fn object(name: &str) -> String {
        format!(r#"{{"metadata":{{"name":"{name}","uid":"uid-{name}","resourceVersion":"7"}}}}"#)
    }

    async fn look_up(reader: &ConfigReader) -> Duration {
        let begin = Instant::now();
        let queries = ["a", "b", "c", "none"]
            .map(|name| Query { object: ConfigRef::configmap("shop", name), depth: Depth::Version });
        let key = DigestKey::new("key", &[7; 32]).unwrap();
        let reads = reader.look_up_all(&key, queries.to_vec(), begin + Duration::from_secs(9)).await;
        assert_eq!(reads.unreadable().len(), 0);
        let found: Vec<_> = reads.lookups.values().map(|lookup| matches!(lookup, Lookup::Found(_))).collect();
        assert_eq!(found, [true, true, true, false]);
        begin.elapsed()
    }

    fn counted(requests: &Requests) -> [usize; 2] {
        [0, 1].map(|i| requests[i].swap(0, Ordering::SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn c4_3_a_handful_is_listed_where_that_answers_sooner_and_read_singly_where_it_does_not() {
        let [quick, slow] = [1, 100].map(Duration::from_millis);
        for (list_takes, get_takes, expected) in [(quick, 2 * quick, [10, 0]), (slow, 2 * quick, [0, 40])] {
            let (reader, requests) = reader(list_takes, get_takes);
            look_up(&reader).await;
            assert_eq!(counted(&requests), [0, 4]);
            // Beside these a list is measured.
            assert_eq!(look_up(&reader).await, get_takes);
            sleep(slow).await;
            assert_eq!(counted(&requests), [1, 4]);
            for _ in 0..10 {
                assert_eq!(look_up(&reader).await, list_takes.min(get_takes));
            }
            assert_eq!(counted(&requests), expected, "{list_takes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c4_3_a_list_that_exceeds_its_patience_is_followed_by_single_reads() {
        let milli = Duration::from_millis(1);
        let (reader, requests) = reader(400 * milli, 2 * milli);
        let (shop, now) = (Arc::from("shop"), Instant::now());
        reader.costs.singles_took(4, 2 * milli, now);
        assert!(matches!(reader.costs.choose(&shop, 4, now), Way::SinglyAndMeasure(_)));
        reader.costs.list_took(&shop, Some(milli), now);
        assert_eq!(look_up(&reader).await, 8 * milli + 2 * milli);
        assert_eq!(counted(&requests), [1, 4]);
        assert_eq!(look_up(&reader).await, 2 * milli, "it is not tried again soon");
        assert_eq!(counted(&requests), [0, 4]);
    }
}
