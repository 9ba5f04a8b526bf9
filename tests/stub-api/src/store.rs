//! The objects, their history and their revisions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::resource::ResourceType;

/// Virtual time begins at 2026-01-01T00:00:00Z.
const EPOCH_SECONDS: i64 = 1_767_225_600;

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) resource: &'static ResourceType,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn of(resource: &'static ResourceType, object: &Value) -> Self {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let namespace = if resource.is_namespaced { text("namespace") } else { String::new() };
        Self { resource, namespace, name: text("name") }
    }
}

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The authenticated user.
    pub user: String,
    /// The field manager.
    pub manager: String,
}

/// One change of the pod template of a workload.
#[derive(Clone, Debug)]
pub struct Revision {
    /// When, from the start of the stub.
    pub at: Duration,
    /// The resource version of that write.
    pub resource_version: u64,
    /// Who wrote it.
    pub author: Author,
    /// The template as of then.
    pub template: Value,
}

/// One write, as the watches see it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) at: Instant,
    pub(crate) old: Option<Arc<Value>>,
    /// The object as it is now; of a deletion, as it was, with the deletion's version.
    pub(crate) object: Arc<Value>,
    pub(crate) is_deletion: bool,
    pub(crate) author: Author,
}

/// One write that changed something, for those who look back.
#[derive(Clone, Debug)]
pub struct Write {
    /// The resource version that it made.
    pub version: u64,
    /// When, from the start of the stub.
    pub at: Duration,
    /// The resource's plural.
    pub resource: &'static str,
    /// The object as it was from then on; of a deletion, as it was before.
    pub object: Arc<Value>,
    /// Whether it was deleted.
    pub is_deletion: bool,
    /// Who wrote it.
    pub author: Author,
}

/// What a list sees: by namespace and name.
pub(crate) type Snapshot = BTreeMap<Key, Arc<Value>>;

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) started: Instant,
    seed: u64,
    pub(crate) version: u64,
    pub(crate) compacted: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: BTreeMap<&'static ResourceType, Vec<Change>>,
    revisions: BTreeMap<Key, Vec<Revision>>,
    made: u64,
}

impl Store {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            started: Instant::now(),
            seed,
            version: 100,
            compacted: 0,
            objects: BTreeMap::new(),
            history: BTreeMap::new(),
            revisions: BTreeMap::new(),
            made: 0,
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    pub(crate) fn revisions(&self, key: &Key) -> &[Revision] {
        self.revisions.get(key).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn timestamp(&self) -> String {
        let seconds = EPOCH_SECONDS.saturating_add_unsigned(self.elapsed().as_secs());
        Timestamp::from_second(seconds).unwrap_or_default().to_string()
    }

    /// A number that no other call of this stub gets, for generated names.
    pub(crate) fn unique(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// The changes of that type after that version, oldest first.
    pub(crate) fn changes_after(&self, resource: &'static ResourceType, version: u64) -> &[Change] {
        let changes = self.history.get(&resource).map_or(&[][..], Vec::as_slice);
        &changes[changes.partition_point(|change| change.version <= version)..]
    }

    /// All writes, oldest first.
    pub(crate) fn writes(&self) -> Vec<Write> {
        let all = self.history.iter().flat_map(|(resource, changes)| {
            changes.iter().map(|change| Write {
                version: change.version,
                at: change.at.duration_since(self.started),
                resource: resource.plural,
                object: change.object.clone(),
                is_deletion: change.is_deletion,
                author: change.author.clone(),
            })
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|write| write.version);
        all
    }

    /// The objects of that type as of that version.
    pub(crate) fn snapshot(&self, resource: &'static ResourceType, version: u64) -> Snapshot {
        let from = Key { resource, namespace: String::new(), name: String::new() };
        let mut objects: Snapshot = self
            .objects
            .range(from..)
            .take_while(|(key, _)| key.resource == resource)
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        for change in self.changes_after(resource, version).iter().rev() {
            let key = Key::of(resource, &change.object);
            match &change.old {
                Some(old) => objects.insert(key, old.clone()),
                None => objects.remove(&key),
            };
        }
        objects
    }

    /// Brings the object into the form in which the server would store it, without storing it.
    pub(crate) fn prepare(&self, key: &Key, mut object: Value) -> Value {
        let old = self.objects.get(key);
        normalize(key.resource, &mut object);
        let metadata = &mut object["metadata"];
        if let Some(old) = old {
            for field in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
                metadata[field] = old["metadata"][field].clone();
            }
        } else {
            let made = self.made + 1;
            metadata["uid"] = json!(format!("{:08x}-0000-4000-8000-{made:012x}", self.seed & 0xffff_ffff));
            metadata["creationTimestamp"] = json!(self.timestamp());
            metadata["generation"] = json!(1);
            metadata["resourceVersion"] = Value::Null;
        }
        if let Some(old) = old
            && is_other_generation(key.resource, old, &object)
        {
            let generation = old["metadata"]["generation"].as_u64().unwrap_or_default() + 1;
            object["metadata"]["generation"] = json!(generation);
        }
        if !(key.resource.is_workload() || key.resource.group == "apps")
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("generation");
        }
        drop_nulls(&mut object["metadata"]);
        object
    }

    /// Stores what [`Self::prepare`] made. A write that changes nothing moves no version.
    pub(crate) fn commit(&mut self, key: &Key, mut object: Value, author: &Author) -> Arc<Value> {
        let old = self.objects.get(key).cloned();
        if let Some(old) = &old {
            if **old == object {
                return old.clone();
            }
        } else {
            self.made += 1;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        if key.resource.is_workload() {
            let template = key.resource.template(&object);
            let revisions = self.revisions.entry(key.clone()).or_default();
            if old.is_none() {
                revisions.clear();
            }
            if revisions.last().is_none_or(|last| last.template != *template) {
                let revision = Revision {
                    at: self.started.elapsed(),
                    resource_version: self.version,
                    author: author.clone(),
                    template: template.clone(),
                };
                revisions.push(revision);
            }
        }
        self.objects.insert(key.clone(), object.clone());
        self.record(key, old, object.clone(), false, author);
        object
    }

    /// Deletes the object; if it has finalizers, it is only marked.
    pub(crate) fn delete(&mut self, key: &Key, author: &Author) -> Option<Arc<Value>> {
        let old = self.objects.get(key)?.clone();
        let has_finalizers = old["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
        if has_finalizers {
            if old["metadata"]["deletionTimestamp"].is_string() {
                return Some(old);
            }
            let mut object = (*old).clone();
            object["metadata"]["deletionTimestamp"] = json!(self.timestamp());
            object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            return Some(self.commit(key, object, author));
        }
        self.objects.remove(key);
        self.version += 1;
        let mut object = (*old).clone();
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        self.record(key, Some(old), object.clone(), true, author);
        Some(object)
    }

    fn record(
        &mut self,
        key: &Key,
        old: Option<Arc<Value>>,
        object: Arc<Value>,
        is_deletion: bool,
        author: &Author,
    ) {
        let (version, at, author) = (self.version, Instant::now(), author.clone());
        let change = Change { version, at, old, object, is_deletion, author };
        self.history.entry(key.resource).or_default().push(change);
    }
}

/// What an object looks like after its way through the server's types: empty maps are left out, a pod template has
/// metadata.
fn normalize(resource: &ResourceType, object: &mut Value) {
    object["apiVersion"] = json!(resource.api_version());
    object["kind"] = json!(resource.kind);
    normalize_metadata(&mut object["metadata"]);
    if let Some(template) = resource.template_mut(object) {
        if !template["metadata"].is_object() {
            template["metadata"] = json!({});
        }
        normalize_metadata(&mut template["metadata"]);
    } else if resource.is_config()
        && let Some(object) = object.as_object_mut()
    {
        object.retain(|name, value| !matches!(name.as_str(), "data" | "binaryData") || !is_empty(value));
    }
}

fn normalize_metadata(metadata: &mut Value) {
    drop_nulls(metadata);
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|_, value| !is_empty(value));
    }
}

fn drop_nulls(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null()
        || value.as_object().is_some_and(Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty)
}

fn is_other_generation(resource: &ResourceType, old: &Value, new: &Value) -> bool {
    let of_annotations =
        resource.plural == "deployments" && old["metadata"]["annotations"] != new["metadata"]["annotations"];
    of_annotations || old["spec"] != new["spec"]
}
