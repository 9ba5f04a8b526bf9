//! Reads config objects, as digests.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{GetParams, ListParams};
use kube::core::Request;
use kube::{Api, Client, Resource};
use lru::LruCache;
use pod_reloader_core::decide::{Live, Lookup, Lookups};
use pod_reloader_core::digest::{Digest, DigestKey};
use pod_reloader_core::reference::{ConfigName, ConfigRef};
use tokio::time::{Instant, timeout_at};

use crate::metrics::Metrics;
use crate::objects::{ConfigContent, ConfigMeta};

/// Reads of one workload's references that are under way at once. It keeps one long list from taking the API
/// server's attention from others (4.2).
const CONCURRENT_READS: usize = 8;

/// Digests remembered: some 200 bytes each. More than this and the least recently used are read again.
const REMEMBERED_DIGESTS: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// Reads config objects and remembers their digests, never their content.
pub struct ConfigReader {
    client: Client,
    remembered: Mutex<LruCache<ConfigRef, Remembered>>,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
struct Remembered {
    uid: String,
    resource_version: String,
    key_id: String,
    digest: Digest,
}

/// What is read of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Uid, resource version and the content's digest.
    Content,
    /// Uid and resource version only.
    Version,
}

impl ConfigReader {
    /// A reader with an empty memory.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, remembered: Mutex::new(LruCache::new(REMEMBERED_DIGESTS)), metrics }
    }

    /// Looks the objects up in the API server, several at once, until the deadline. What could not be asked for by
    /// then is [`Lookup::Unknown`]. Each answer reflects every write that was acknowledged before this call (4.3).
    pub async fn read_all(
        &self,
        key: &DigestKey,
        namespace: &str,
        names: Vec<ConfigName>,
        depth: Depth,
        deadline: Instant,
    ) -> Lookups {
        let reads = names.into_iter().map(|name| async move {
            let object = ConfigRef::new(namespace, name);
            let lookup = self.read(key, &object, depth, deadline).await;
            (object.object, lookup)
        });
        futures::stream::iter(reads).buffer_unordered(CONCURRENT_READS).collect().await
    }

    /// Looks one object up in the API server.
    pub async fn read(&self, key: &DigestKey, object: &ConfigRef, depth: Depth, deadline: Instant) -> Lookup {
        match timeout_at(deadline, self.read_live(key, object, depth)).await {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(error)) => {
                self.metrics.count_error("read_config", &error);
                tracing::warn!(%object, error = %error, "cannot read a config object");
                Lookup::Unknown
            }
            Err(_) => {
                self.metrics.count_timeout("read_config");
                tracing::warn!(%object, "cannot read a config object in time");
                Lookup::Unknown
            }
        }
    }

    async fn read_live(
        &self,
        key: &DigestKey,
        object: &ConfigRef,
        depth: Depth,
    ) -> Result<Lookup, kube::Error> {
        // Metadata first where a digest is remembered that it may prove right: then no content crosses the wire.
        if depth == Depth::Version || self.recall(key, object).is_some() {
            let kind = object.object.kind;
            let api = Api::<ConfigMeta>::namespaced_with(self.client.clone(), &object.namespace, &kind);
            let Some(meta) = api.get_opt(&object.object.name).await? else {
                return Ok(self.absent(object));
            };
            let uid = meta.meta().uid.clone().unwrap_or_default();
            let resource_version = meta.meta().resource_version.clone().unwrap_or_default();
            let digest = self.remembered_digest(key, object, &uid, &resource_version);
            if depth == Depth::Version || digest.is_some() {
                self.metrics.count_lookup("memory");
                return Ok(Lookup::Known(Live { uid, resource_version, digest, keys: None }));
            }
        }
        self.read_content(key, object).await
    }

    async fn read_content(&self, key: &DigestKey, object: &ConfigRef) -> Result<Lookup, kube::Error> {
        let path = ConfigMeta::url_path(&object.object.kind, Some(&object.namespace));
        let request = Request::new(path)
            .get(&object.object.name, &GetParams::default())
            .map_err(kube::Error::BuildRequest)?;
        // As text, since `Client::request` logs what it cannot decode, and this may be a Secret.
        let text = match self.client.request_text(request).await {
            Ok(text) => text,
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(self.absent(object)),
            Err(error) => return Err(error),
        };
        let Some(content) = ConfigContent::parse(&text) else {
            let error = std::io::Error::other("the API server sent something that is no config object");
            return Err(kube::Error::ReadEvents(error));
        };
        self.metrics.count_lookup("content");
        let digest = Digest::of(key, object, &content.sum);
        let ConfigContent { uid, resource_version, .. } = content;
        let remembered = Remembered {
            uid: uid.clone(),
            resource_version: resource_version.clone(),
            key_id: key.id().to_owned(),
            digest,
        };
        self.memory().put(object.clone(), remembered);
        Ok(Lookup::Known(Live { uid, resource_version, digest: Some(digest), keys: None }))
    }

    /// The digest of exactly that version of the object, if it is remembered. No request is made.
    pub fn remembered_digest(
        &self,
        key: &DigestKey,
        object: &ConfigRef,
        uid: &str,
        resource_version: &str,
    ) -> Option<Digest> {
        let remembered = self.recall(key, object)?;
        (remembered.uid == uid && remembered.resource_version == resource_version)
            .then_some(remembered.digest)
    }

    /// Whether an object exists that is not referred to, but that a pod template requires. Only metadata is asked
    /// for, by name; `None` if it could not be asked.
    pub async fn exists(&self, object: &ConfigRef, limit: Duration) -> Option<bool> {
        let kind = object.object.kind;
        let api = Api::<ConfigMeta>::namespaced_with(self.client.clone(), &object.namespace, &kind);
        let by_name = ListParams::default().fields(&format!("metadata.name={}", object.object.name));
        match tokio::time::timeout(limit, api.list(&by_name)).await {
            Ok(Ok(list)) => Some(!list.items.is_empty()),
            Ok(Err(error)) => {
                self.metrics.count_error("find_config", &error);
                None
            }
            Err(_) => {
                self.metrics.count_timeout("find_config");
                None
            }
        }
    }

    /// Forgets an object that nothing refers to any more.
    pub fn forget(&self, object: &ConfigRef) {
        self.memory().pop(object);
    }

    fn recall(&self, key: &DigestKey, object: &ConfigRef) -> Option<Remembered> {
        self.memory().get(object).filter(|remembered| remembered.key_id == key.id()).cloned()
    }

    fn absent(&self, object: &ConfigRef) -> Lookup {
        self.metrics.count_lookup("absent");
        self.forget(object);
        Lookup::Absent
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, LruCache<ConfigRef, Remembered>> {
        // The lock is held for single map operations, none of which panics.
        self.remembered.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
