//! Reads config objects, as digests.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use kube::Client;
use parking_lot::{Mutex, MutexGuard};
use pod_reloader_core::content::ContentSum;
use pod_reloader_core::digest::{Digest, DigestKey};
use pod_reloader_core::lookup::{ConfigVersion, Depth, Found, KnownDigest, Lookup, Query};
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::Keys;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::costs::Costs;
use crate::fetch::Fetch;
use crate::listing::ListEntry;
use crate::memory::{Memory, Remembered, Selection};
use crate::metrics::Metrics;
use crate::objects::ConfigContent;
pub use crate::reads::Reads;
use crate::selected::Selected;
pub use crate::unreadable::Unreadable;

/// Reads of one workload's references that are under way at once. It keeps one long list from delaying other requests
/// at the API server (4.2).
pub const CONCURRENT_READS: usize = 8;

/// The names of an object's keys are kept up to so much (1,024 keys): a thousand references of one workload, each with
/// very many keys, must not take more than all else. Of an object with more it is not known whether it lacks one.
const MAX_KEY_BYTES: usize = 8 * 1024;

/// Reads config objects and remembers their digests, never their content. What is in flight is bounded by the
/// budget, and what is remembered by a third of it.
#[derive(Clone)]
pub struct ConfigReader {
    pub(crate) fetch: Fetch,
    remembered: Arc<Mutex<Memory>>,
    pub(crate) costs: Arc<Costs>,
    pub(crate) selected: Arc<Selected>,
    /// Whether Secrets are read at all (5.9).
    follows_secrets: bool,
    /// The operator's own Secrets.
    own: Arc<BTreeSet<ConfigRef>>,
    pub(crate) metrics: Metrics,
}

impl ConfigReader {
    /// A reader with an empty memory.
    pub fn new(client: Client, budget: Budget, metrics: Metrics) -> Self {
        let remembered = Arc::new(Mutex::new(Memory::new(budget.total() / 3)));
        Self {
            fetch: Fetch { client, budget, caller: "".into(), shared: Arc::default() },
            remembered,
            costs: Arc::default(),
            selected: Arc::default(),
            follows_secrets: true,
            own: Arc::default(),
            metrics,
        }
    }

    /// Reads no Secret (5.9): each is [`Lookup::Unfollowed`].
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        self.follows_secrets = false;
        self
    }

    /// Whether Secrets are read at all.
    pub fn follows_secrets(&self) -> bool {
        self.follows_secrets
    }

    /// Reads none of these on behalf of a workload: they are the operator's own.
    #[must_use]
    pub fn keeping(mut self, own: impl IntoIterator<Item = ConfigRef>) -> Self {
        self.own = Arc::new(own.into_iter().collect());
        self
    }

    /// The answer for an object that takes no request: that it is not followed, or may not be read.
    pub fn withheld(&self, object: &ConfigRef) -> Option<Result<Lookup, Unreadable>> {
        if !self.follows_secrets && object.kind == ConfigKind::Secret {
            Some(Ok(Lookup::Unfollowed))
        } else if self.own.contains(object) {
            Some(Err(Unreadable::OperatorsOwn))
        } else {
            None
        }
    }

    /// The same reader for reads on behalf of that caller, which take turns at the budget with those of other callers.
    #[must_use]
    pub fn on_behalf_of(&self, caller: &str) -> Self {
        Self { fetch: Fetch { caller: caller.into(), ..self.fetch.clone() }, ..self.clone() }
    }

    /// Looks objects up in the API server, several at once, until the deadline. Each answer reflects every write that was
    /// acknowledged before this call (4.3).
    pub async fn look_up_all(&self, key: &DigestKey, queries: Vec<Query>, deadline: Instant) -> Reads {
        let listed = self.list(key, &queries, deadline).await;
        let begin = Instant::now();
        let namespace = queries.first().map(|query| query.object.namespace.clone());
        let mut found = Reads::default();
        let mut unanswered = vec![];
        for query in queries {
            let entry = listed.get(&query.object);
            let is_listed = entry.is_some();
            match entry.and_then(|ListEntry(version)| self.answer_of(key, &query, version)) {
                Some(answer) => found.add(query.object, Ok(answer)),
                None => unanswered.push((query, is_listed)),
            }
        }
        let reads = unanswered.into_iter().map(async |(query, is_listed)| {
            let answer = self.look_up(key, &query, is_listed, deadline).await;
            (query, answer)
        });
        let mut reads = futures::stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        while let Some((Query { object, depth }, answer)) = reads.next().await {
            if let Err(error) = answer {
                let operation = if depth == Depth::Exists { "find_config" } else { "read_config" };
                self.metrics.count_unreadable(operation, error);
            }
            found.add(object, answer);
        }
        if let Some(count) = listed.singles.filter(|_| found.unreadable().len() == 0) {
            self.costs.singles_took(count, begin.elapsed(), Instant::now());
        }
        if let Some((object, why)) = found.unreadable().next() {
            let count = found.unreadable().len();
            let namespace = namespace.as_deref().unwrap_or_default();
            tracing::warn!(namespace, %object, %why, count, "cannot read config objects");
        }
        found
    }

    /// Looks one object up in the API server, or says why that cannot be done. Never [`Lookup::Unknown`].
    ///
    /// # Errors
    /// If the object could not be read before the deadline.
    pub async fn try_read(
        &self,
        key: &DigestKey,
        query: &Query,
        deadline: Instant,
    ) -> Result<Lookup, Unreadable> {
        let answer = self.look_up(key, query, false, deadline).await;
        if let Err(error) = answer {
            self.metrics.count_unreadable("read_config", error);
            tracing::warn!(object = format!("{:#}", query.object), why = %error, "cannot read a config object");
        }
        answer
    }

    /// `is_listed` if a list said that the object is there, in a version whose content is not remembered.
    async fn look_up(
        &self,
        key: &DigestKey,
        query: &Query,
        is_listed: bool,
        deadline: Instant,
    ) -> Result<Lookup, Unreadable> {
        let Query { object, depth } = query;
        if let Some(answer) = self.withheld(object) {
            return answer;
        }
        let version = match depth {
            Depth::Exists => self.fetch.find(object, deadline).await?,
            Depth::Version => self.fetch.version(object, deadline).await?,
            // Metadata first where a digest is remembered that it may prove right: then no content crosses the wire.
            Depth::Content(keys) if !is_listed && self.recalls(key, object, keys) => {
                self.fetch.version(object, deadline).await?
            }
            Depth::Content(keys) => return self.read_content(key, object, keys, deadline).await,
        };
        match (self.answer_of(key, query, version), depth) {
            (None, Depth::Content(keys)) => self.read_content(key, object, keys, deadline).await,
            (answer, _) => Ok(answer.unwrap_or(Lookup::Unknown)),
        }
    }

    /// What follows from the present version of an object, or from its absence; `None` if its content has to be read.
    fn answer_of(
        &self,
        key: &DigestKey,
        Query { object, depth }: &Query,
        version: Option<ConfigVersion>,
    ) -> Option<Lookup> {
        let remembered = match (depth, &version) {
            (Depth::Exists, None) => return Some(Lookup::Absent),
            (_, None) => return Some(self.absent(object)),
            (Depth::Exists, Some(_)) => None,
            (Depth::Version, Some(version)) => {
                let remembered = self.remembered(key, object, &Keys::All, version);
                if remembered.is_none() {
                    let selection = Selection { object: object.clone(), keys: Keys::All };
                    self.memory().outdate(&selection, version);
                }
                remembered
            }
            (Depth::Content(keys), Some(version)) => Some(self.remembered(key, object, keys, version)?),
        };
        if *depth != Depth::Exists {
            self.metrics.count_lookup("memory");
        }
        remembered.or_else(|| version.map(Found::version)).map(Lookup::Found)
    }

    async fn read_content(
        &self,
        key: &DigestKey,
        object: &ConfigRef,
        keys: &Keys,
        deadline: Instant,
    ) -> Result<Lookup, Unreadable> {
        let selection = Selection { object: object.clone(), keys: keys.clone() };
        let expected = self.recall(key, &selection).map(|remembered| remembered.json_bytes);
        let Some(content) = self.fetch.content(object, keys, expected, deadline).await? else {
            return Ok(self.absent(object));
        };
        self.metrics.count_lookup("content");
        let (ConfigContent { version, summary }, json_bytes) = &*content;
        let names = Some(&summary.keys).filter(|keys| keys.bytes() <= MAX_KEY_BYTES);
        let remembered = |sum: &ContentSum| {
            let of_former = |former: &DigestKey| (former.shared_id(), Digest::of(former, object, sum));
            Remembered {
                digest: Digest::of(key, object, sum),
                former: key.former().iter().map(of_former).collect(),
                keys: names.cloned(),
                version: version.clone(),
                json_bytes: *json_bytes,
                is_outdated: false,
            }
        };
        let selected = remembered(&summary.sum);
        let mut found = found(key, keys, &selected);
        // Whether an object changed is compared over all of it, whoever follows which keys.
        let whole = (*keys != Keys::All).then(|| remembered(&summary.whole));
        if let Some(whole) = &whole {
            found.digests.extend(self::found(key, &Keys::All, whole).digests);
        }
        let mut memory = self.memory();
        memory.put(key.id(), &selection, selected);
        if let Some(whole) = whole {
            memory.put(key.id(), &Selection { object: object.clone(), keys: Keys::All }, whole);
        }
        self.metrics.set_digest_bytes(memory.bytes());
        Ok(Lookup::Found(found))
    }

    /// Exactly that version of the object, if a digest over these keys of it is remembered (its keys only where they are
    /// not too many). No request is made.
    pub fn remembered(
        &self,
        key: &DigestKey,
        object: &ConfigRef,
        keys: &Keys,
        version: &ConfigVersion,
    ) -> Option<Found> {
        let recall = |keys: &Keys| {
            let selection = Selection { object: object.clone(), keys: keys.clone() };
            let remembered = self.recall(key, &selection).filter(|it| it.version == *version)?;
            Some(found(key, keys, &remembered))
        };
        let mut found = recall(keys)?;
        if *keys != Keys::All {
            found.digests.extend(recall(&Keys::All).into_iter().flat_map(|whole| whole.digests));
        }
        Some(found)
    }

    /// Forgets an object that no workload refers to any more.
    pub fn forget(&self, object: &ConfigRef) {
        self.memory().forget(&Selection { object: object.clone(), keys: Keys::All });
    }

    /// Whether a digest over these keys is remembered that the object's version may prove right.
    pub(crate) fn recalls(&self, key: &DigestKey, object: &ConfigRef, keys: &Keys) -> bool {
        let selection = Selection { object: object.clone(), keys: keys.clone() };
        let memory = self.memory();
        let remembered = memory.get(key.id(), &selection);
        remembered.is_some_and(|it| !it.is_outdated && knows_all(it, key))
    }

    fn recall(&self, key: &DigestKey, selection: &Selection) -> Option<Remembered> {
        let memory = self.memory();
        memory.get(key.id(), selection).filter(|remembered| knows_all(remembered, key)).cloned()
    }

    fn absent(&self, object: &ConfigRef) -> Lookup {
        self.metrics.count_lookup("absent");
        self.forget(object);
        Lookup::Absent
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.remembered.lock()
    }
}

/// Whether the digests of all former keys are remembered, too.
fn knows_all(remembered: &Remembered, key: &DigestKey) -> bool {
    let knows = |former: &DigestKey| remembered.former.iter().any(|(id, _)| **id == *former.id());
    key.former().iter().all(knows)
}

/// What is remembered, as a lookup gives it: with the digests of the key in force and of those that it replaced.
fn found(key: &DigestKey, keys: &Keys, remembered: &Remembered) -> Found {
    let of = |key_id: &Arc<str>, digest| KnownDigest { key_id: key_id.clone(), keys: keys.clone(), digest };
    let former = remembered.former.iter().map(|(id, digest)| of(id, *digest));
    Found {
        version: remembered.version.clone(),
        digests: std::iter::once(of(&key.shared_id(), remembered.digest)).chain(former).collect(),
        keys: remembered.keys.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn c3_1_a_read_of_chosen_keys_also_says_what_the_whole_object_holds() {
        const OBJECT: &str =
            r#"{"metadata":{"uid":"u","resourceVersion":"7"},"data":{"key":"1","other":"2"}}"#;
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, Infallible>(http::Response::new(http_body_util::Full::from(OBJECT)))
        });
        let client = Client::new(service, "default");
        let reader = ConfigReader::new(client, Budget::new(24 << 20), Metrics::default());
        let key = DigestKey::new("k1", &[7; DigestKey::LEN]).unwrap();
        let object = ConfigRef::configmap("shop", "a");
        let deadline = Instant::now() + Duration::from_secs(5);
        let chosen = Keys::only(["key"]);
        let query = |keys: &Keys| Query { object: object.clone(), depth: Depth::Content(keys.clone()) };

        let Lookup::Found(found) = reader.try_read(&key, &query(&chosen), deadline).await.unwrap() else {
            panic!("it is there")
        };
        let (part, whole) = (found.digest(&key, &chosen), found.digest(&key, &Keys::All));
        assert!(part.is_some() && whole.is_some() && part != whole);
        let remembered = reader.remembered(&key, &object, &chosen, &found.version).unwrap();
        assert_eq!(remembered.digest(&key, &Keys::All), whole, "without a request, too");
        let Lookup::Found(all) = reader.try_read(&key, &query(&Keys::All), deadline).await.unwrap() else {
            panic!("it is there")
        };
        assert_eq!(all.digest(&key, &Keys::All), whole);
    }
}
