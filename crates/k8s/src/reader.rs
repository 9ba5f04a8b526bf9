//! Reads config objects, as digests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use kube::Client;
use parking_lot::{Mutex, MutexGuard};
use pod_reloader_core::content::KeyNames;
use pod_reloader_core::decide::{Live, Lookup, Lookups};
use pod_reloader_core::digest::{Digest, DigestKey};
use pod_reloader_core::reference::{ConfigKind, ConfigName, ConfigRef};
use tokio::time::Instant;

use crate::budget::Budget;
use crate::fetch::{Fetch, Version};
use crate::memory::{Memory, Remembered};
use crate::metrics::Metrics;
use crate::objects::ConfigContent;
pub use crate::reads::Reads;
use crate::selected::Selected;
pub use crate::unreadable::Unreadable;

/// Reads of one workload's references that are under way at once. It keeps one long list from taking the API
/// server's attention from others (4.2).
pub const CONCURRENT_READS: usize = 8;

/// The names of an object's keys are kept up to so much (1,024 keys): a thousand references of one workload, each with
/// very many keys, must not take more than all else. Of an object with more it is not known whether it lacks one.
const MAX_KEY_BYTES: usize = 8 * 1024;

/// More objects of one kind than this are looked up by listing the namespace's metadata.
const HANDFUL: usize = 8;

/// Reads config objects and remembers their digests, never their content. What is in flight is bounded by the
/// budget, and what is remembered by a third of it.
#[derive(Clone)]
pub struct ConfigReader {
    pub(crate) fetch: Fetch,
    remembered: Arc<Mutex<Memory>>,
    pub(crate) selected: Arc<Selected>,
    /// Whether Secrets are read at all (5.9).
    follows_secrets: bool,
    /// The operator's own Secrets.
    own: Arc<BTreeSet<ConfigRef>>,
    pub(crate) metrics: Metrics,
}

/// What is read of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Uid, resource version and the content's digest.
    Content,
    /// Uid and resource version only.
    Version,
}

/// What lists said.
type Listed = BTreeMap<ConfigName, Found>;

/// The version of one object, or that it is not there.
struct Found(Option<Version>);

impl ConfigReader {
    /// A reader with an empty memory.
    pub fn new(client: Client, budget: Budget, metrics: Metrics) -> Self {
        let remembered = Arc::new(Mutex::new(Memory::new(budget.total() / 3)));
        Self {
            fetch: Fetch { client, budget, caller: "".into() },
            remembered,
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

    /// What is said of an object without asking the API server: that it is not followed, or may not be read.
    pub fn withheld(&self, object: &ConfigRef) -> Option<Result<Lookup, Unreadable>> {
        if !self.follows_secrets && object.object.kind == ConfigKind::Secret {
            Some(Ok(Lookup::Unfollowed))
        } else if self.own.contains(object) {
            Some(Err(Unreadable::OperatorsOwn))
        } else {
            None
        }
    }

    /// The same reader for reads on behalf of that caller, which take turns at the budget with those of others.
    #[must_use]
    pub fn on_behalf_of(&self, caller: &str) -> Self {
        Self { fetch: Fetch { caller: caller.into(), ..self.fetch.clone() }, ..self.clone() }
    }

    /// Looks the objects up in the API server, several at once, until the deadline. Each answer reflects every write
    /// that was acknowledged before this call (4.3).
    pub async fn read_all(
        &self,
        key: &DigestKey,
        namespace: &str,
        names: Vec<ConfigName>,
        depth: Depth,
        deadline: Instant,
    ) -> Reads {
        let names: BTreeSet<ConfigName> = names.into_iter().collect();
        // Also those of which nothing is remembered: whoever lists hundreds of which none exists causes one request.
        let mut listed = self.list(namespace, names.iter(), deadline).await;
        let reads = names.into_iter().map(|name| {
            let listed = listed.remove(&name);
            async move {
                let object = ConfigRef::new(namespace, name);
                let answer = self.look_up(key, &object, depth, listed, deadline).await;
                (object.object, answer)
            }
        });
        let mut reads = futures::stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        let mut found = Reads::default();
        while let Some((name, answer)) = reads.next().await {
            if let Err(error) = answer {
                self.metrics.count_unreadable("read_config", error);
            }
            found.add(name, answer);
        }
        if let Some((name, why)) = found.unreadable.first() {
            let count = found.unreadable.len();
            tracing::warn!(namespace, object = %name, why, count, "cannot read config objects");
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
        object: &ConfigRef,
        depth: Depth,
        deadline: Instant,
    ) -> Result<Lookup, Unreadable> {
        let answer = self.look_up(key, object, depth, None, deadline).await;
        if let Err(error) = answer {
            self.metrics.count_unreadable("read_config", error);
            tracing::warn!(%object, why = %error, "cannot read a config object");
        }
        answer
    }

    async fn look_up(
        &self,
        key: &DigestKey,
        object: &ConfigRef,
        depth: Depth,
        listed: Option<Found>,
        deadline: Instant,
    ) -> Result<Lookup, Unreadable> {
        if let Some(answer) = self.withheld(object) {
            return answer;
        }
        // Metadata first where a digest is remembered that it may prove right: then no content crosses the wire.
        if listed.is_some() || depth == Depth::Version || self.recall(key, object).is_some() {
            let version = match listed {
                Some(Found(version)) => version,
                None => self.fetch.version(object, deadline).await?,
            };
            let Some(Version { uid, resource_version }) = version else {
                return Ok(self.absent(object));
            };
            let content = self.remembered_content(key, object, &uid, &resource_version);
            if depth == Depth::Version || content.is_some() {
                self.metrics.count_lookup("memory");
                let (digest, keys) = content.unzip();
                let keys = keys.flatten();
                return Ok(Lookup::Known(Live { uid, resource_version, digest, keys }));
            }
        }
        self.read_content(key, object, deadline).await
    }

    async fn read_content(
        &self,
        key: &DigestKey,
        object: &ConfigRef,
        deadline: Instant,
    ) -> Result<Lookup, Unreadable> {
        let expected = self.recall(key, object).map(|remembered| remembered.json_bytes);
        let Some((content, json_bytes)) = self.fetch.content(object, expected, deadline).await? else {
            return Ok(self.absent(object));
        };
        self.metrics.count_lookup("content");
        let ConfigContent { uid, resource_version, summary } = content;
        let digest = Digest::of(key, object, &summary.sum);
        let of_former =
            |former: &DigestKey| (former.id().to_owned(), Digest::of(former, object, &summary.sum));
        let former = key.former().iter().map(of_former).collect();
        let keys = Some(summary.keys).filter(|keys| keys.bytes() <= MAX_KEY_BYTES);
        let remembered = Remembered {
            uid: uid.clone(),
            resource_version: resource_version.clone(),
            digest,
            former,
            keys: keys.clone(),
            json_bytes,
        };
        let mut memory = self.memory();
        memory.put(key.id(), object, remembered);
        self.metrics.set_digest_bytes(memory.bytes());
        drop(memory);
        Ok(Lookup::Known(Live { uid, resource_version, digest: Some(digest), keys }))
    }

    /// The digest and the keys of exactly that version of the object, if it is remembered (the keys only where they are
    /// not too many). No request is made.
    pub fn remembered_content(
        &self,
        key: &DigestKey,
        object: &ConfigRef,
        uid: &str,
        resource_version: &str,
    ) -> Option<(Digest, Option<KeyNames>)> {
        let remembered = self.recall(key, object)?;
        (remembered.uid == uid && remembered.resource_version == resource_version)
            .then_some((remembered.digest, remembered.keys))
    }

    /// Which of several objects exist that are not referred to, but that a pod template requires. Only metadata is
    /// asked for, by lists; what could not be asked is [`Lookup::Unknown`].
    pub async fn exist_all(&self, namespace: &str, names: Vec<ConfigName>, deadline: Instant) -> Reads {
        let mut found = Reads::default();
        let mut names: BTreeSet<ConfigName> = names.into_iter().collect();
        names.retain(|name| match self.withheld(&ConfigRef::new(namespace, name.clone())) {
            Some(answer) => {
                found.add(name.clone(), answer);
                false
            }
            None => true,
        });
        let mut listed = self.list(namespace, names.iter(), deadline).await;
        let questions = names.into_iter().map(|name| {
            let listed = listed.remove(&name);
            async move {
                let answer = match listed {
                    Some(Found(version)) => Ok(version),
                    None => self.find(namespace, &name, deadline).await,
                };
                (name, answer)
            }
        });
        let mut questions = futures::stream::iter(questions).buffer_unordered(CONCURRENT_READS);
        while let Some((name, answer)) = questions.next().await {
            if let Err(error) = answer {
                self.metrics.count_unreadable("find_config", error);
            }
            let lookup = answer.map(|version| match version {
                Some(Version { uid, resource_version }) => {
                    Lookup::Known(Live { uid, resource_version, digest: None, keys: None })
                }
                None => Lookup::Absent,
            });
            found.add(name, lookup);
        }
        found
    }

    /// One object by a list with its name: it is none of ours, so it is not read by itself.
    async fn find(
        &self,
        namespace: &str,
        name: &ConfigName,
        deadline: Instant,
    ) -> Result<Option<Version>, Unreadable> {
        let wanted = BTreeSet::from([name.name.as_str()]);
        // A list that was not gone through to its end does not say that something is not there.
        let found = self.fetch.versions(namespace, name.kind, &wanted, deadline).await?;
        let mut found = found.ok_or(Unreadable::TooLarge)?;
        Ok(found.remove(&name.name))
    }

    /// Looks up by lists of metadata what is more than a handful of one kind. What they do not tell is left out.
    async fn list<'a>(
        &self,
        namespace: &str,
        names: impl Iterator<Item = &'a ConfigName>,
        deadline: Instant,
    ) -> Listed {
        let mut wanted = BTreeMap::<ConfigKind, BTreeSet<&str>>::new();
        let is_open =
            |name: &&ConfigName| self.withheld(&ConfigRef::new(namespace, ConfigName::clone(name))).is_none();
        for name in names.filter(is_open) {
            wanted.entry(name.kind).or_default().insert(&name.name);
        }
        wanted.retain(|_, names| names.len() > HANDFUL);
        // If a list cannot be had in good time, single reads are what is left.
        let now = Instant::now();
        let deadline = now + deadline.saturating_duration_since(now) / 2;
        let lists = wanted.iter().map(async |(kind, names)| {
            let versions = self.fetch.versions(namespace, *kind, names, deadline).await;
            if let Err(error) = versions {
                self.metrics.count_unreadable("list_config", error);
            }
            (*kind, names, versions)
        });
        let mut listed = Listed::new();
        for (kind, names, versions) in futures::future::join_all(lists).await {
            let Ok(Some(mut versions)) = versions else { continue };
            for name in names {
                let found = Found(versions.remove(*name));
                listed.insert(ConfigName { kind, name: (*name).to_owned() }, found);
            }
        }
        listed
    }

    /// Forgets an object that nothing refers to any more.
    pub fn forget(&self, object: &ConfigRef) {
        self.memory().forget(object);
    }

    /// The same lookups with the digests of a key that `key` replaced a short while ago. A digest that is not remembered
    /// any more is left out; the next read of the object brings it.
    pub fn under(&self, key: &DigestKey, former: &DigestKey, namespace: &str, lookups: &Lookups) -> Lookups {
        let translated = |name: &ConfigName, live: &Live| {
            live.digest?;
            let remembered = self.recall(key, &ConfigRef::new(namespace, name.clone()))?;
            let is_same = remembered.uid == live.uid && remembered.resource_version == live.resource_version;
            let mut digests = remembered.former.into_iter().filter(|(id, _)| is_same && id == former.id());
            digests.next().map(|(_, digest)| digest)
        };
        let lookups = lookups.iter().map(|(name, lookup)| {
            let lookup = match lookup {
                Lookup::Known(live) => Lookup::Known(Live { digest: translated(name, live), ..live.clone() }),
                other => other.clone(),
            };
            (name.clone(), lookup)
        });
        lookups.collect()
    }

    fn recall(&self, key: &DigestKey, object: &ConfigRef) -> Option<Remembered> {
        let memory = self.memory();
        let remembered = memory.get(key.id(), object)?;
        let knows = |former: &DigestKey| remembered.former.iter().any(|(id, _)| id == former.id());
        key.former().iter().all(knows).then(|| remembered.clone())
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
