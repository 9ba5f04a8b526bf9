//! The stub, as tests hold it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};

use crate::connection::{Connection, Health};
use crate::fault::{FaultRule, RuleId};
use crate::log::LogEntry;
use crate::request::RequestKind;
use crate::resource::ResourceType;
use crate::service::StubService;
use crate::shared::Shared;
use crate::store::{Author, Key, Revision, Write};
use crate::write::{Admission, Hook, Refusal};
use crate::{TEST_USER, store};

/// An API server in the process. Clones are the same server.
#[derive(Clone)]
pub struct StubApi {
    shared: Arc<Shared>,
}

impl fmt::Debug for StubApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StubApi")
    }
}

impl StubApi {
    /// An empty server; the namespaces `default`, `kube-system` and `pod-reloader` are there. Its time begins now.
    pub fn new(seed: u64) -> Self {
        let stub = Self { shared: Arc::new(Shared::new(seed)) };
        for namespace in ["default", "kube-system", "pod-reloader"] {
            stub.ensure_namespace(namespace);
        }
        stub
    }

    // Clients.

    /// A client with connections of its own.
    pub fn client(&self) -> Client {
        self.client_of("operator")
    }

    /// The same under a name, by which rules and the log tell it from others. One that is named `user:<name>` writes
    /// as that user, any other as [`OPERATOR_USER`](crate::OPERATOR_USER).
    pub fn client_of(&self, client: &str) -> Client {
        Client::new(self.connector_of(client)(), "default")
    }

    /// Makes services, each with connections of its own.
    pub fn connector(&self) -> impl Fn() -> StubService + Clone + Send + Sync + 'static + use<> {
        self.connector_of("operator")
    }

    /// The same under a name: see [`Self::client_of`].
    pub fn connector_of(
        &self,
        client: &str,
    ) -> impl Fn() -> StubService + Clone + Send + Sync + 'static + use<> {
        let (shared, client): (_, Arc<str>) = (self.shared.clone(), client.into());
        move || {
            let connection = Arc::new(Connection::new());
            shared.lock().connections.push(connection.clone());
            StubService { shared: shared.clone(), connection, client: client.clone() }
        }
    }

    /// All connections that there are answer nothing any more, for ever; later ones work.
    pub fn hang_open_connections(&self) {
        self.set_open_connections(Health::Hangs);
    }

    /// All connections that there are break, with whatever is under way on them; later ones work.
    pub fn break_open_connections(&self) {
        self.set_open_connections(Health::Broken);
    }

    /// All open watches and requests break, but the same clients can connect anew: a restart of the server.
    pub fn restart(&self) {
        let connections = self.shared.lock().connections.clone();
        for connection in connections {
            if connection.health() == Health::Works {
                connection.interrupt();
            }
        }
    }

    fn set_open_connections(&self, health: Health) {
        let connections = std::mem::take(&mut self.shared.lock().connections);
        for connection in connections {
            connection.set(health);
        }
    }

    // Objects. What the test writes this way passes the admission hook by.

    /// Creates the object, or replaces it whatever its version. Its namespace is made if need be.
    pub fn put(&self, object: Value) -> Arc<Value> {
        let (api_version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
        let resource = ResourceType::by_kind(api_version.unwrap_or_default(), kind.unwrap_or_default());
        let resource = resource.unwrap_or_else(|| unknown(&object.to_string()));
        let key = Key::of(resource, &object);
        if resource.is_namespaced {
            self.ensure_namespace(&key.namespace);
        }
        self.store(&key, object)
    }

    /// Deletes the object; if it has finalizers, it is marked as being deleted. Whether it was there.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let key = key(resource, namespace, name);
        self.shared.change(|store| store.delete(&key, &test_author())).is_some()
    }

    /// The object. `resource` is a plural or a kind.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.shared.lock().store.get(&key(resource, namespace, name)).cloned()
    }

    /// Changes the object, which must be there.
    pub fn edit(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        edit: impl FnOnce(&mut Value),
    ) -> Arc<Value> {
        let key = key(resource, namespace, name);
        let object = self.get(resource, namespace, name).unwrap_or_else(|| unknown(name));
        let mut object = (*object).clone();
        edit(&mut object);
        self.store(&key, object)
    }

    /// All objects of that type, by namespace and name.
    pub fn list(&self, resource: &str) -> Vec<Arc<Value>> {
        let resource = ResourceType::named(resource).unwrap_or_else(|| unknown(resource));
        let state = self.shared.lock();
        state.store.snapshot(resource, state.store.version).into_values().collect()
    }

    fn store(&self, key: &Key, object: Value) -> Arc<Value> {
        self.shared.change(|store| {
            let object = store.prepare(key, object);
            store.commit(key, object, &test_author())
        })
    }

    fn ensure_namespace(&self, name: &str) {
        if self.get("namespaces", "", name).is_none() {
            let labels = json!({"kubernetes.io/metadata.name": name});
            self.put(json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
                "status": {"phase": "Active"},
            }));
        }
    }

    /// The versions that the workload's pod template had since the workload was created, the first included.
    pub fn templates(&self, resource: &str, namespace: &str, name: &str) -> Vec<Revision> {
        self.shared.lock().store.revisions(&key(resource, namespace, name)).to_vec()
    }

    /// How often the workload's pod template changed since the workload was created.
    pub fn revisions(&self, resource: &str, namespace: &str, name: &str) -> usize {
        self.shared.lock().store.revisions(&key(resource, namespace, name)).len().saturating_sub(1)
    }

    /// The version of the last write.
    pub fn resource_version(&self) -> u64 {
        self.shared.lock().store.version
    }

    /// Forgets all versions before the present one: lists and watches that begin there get a 410. Open watches lose
    /// nothing.
    pub fn compact(&self) {
        let store: &mut store::Store = &mut self.shared.lock().store;
        store.compacted = store.version;
    }

    // Behaviour.

    /// Sends writes of workloads that come by requests through that hook, as through an admission webhook. It gets the
    /// object as it would be stored, and gives back what shall be stored.
    pub fn on_write<F, R>(&self, hook: F)
    where
        F: Fn(Admission) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, Refusal>> + Send + 'static,
    {
        self.shared.lock().hook = Some(Hook::new(hook));
    }

    /// Takes the hook away.
    pub fn without_hook(&self) {
        self.shared.lock().hook = None;
    }

    /// Whether the server knows streaming lists. By default it does; without, it answers 422.
    pub fn set_watch_list(&self, is_known: bool) {
        self.shared.lock().settings.has_watch_list = is_known;
    }

    /// Whether the server has that type of object; by default it has all. If it has not, its objects are deleted, as
    /// those of a `CustomResourceDefinition` are, and watches of it end.
    pub fn set_served(&self, resource: &str, is_served: bool) {
        let resource = ResourceType::named(resource).unwrap_or_else(|| unknown(resource));
        if is_served {
            self.shared.lock().settings.absent.remove(resource);
            return;
        }
        let objects = {
            let mut state = self.shared.lock();
            state.settings.absent.insert(resource);
            state.store.snapshot(resource, state.store.version)
        };
        self.shared.change(|store| {
            for key in objects.keys() {
                store.delete(key, &test_author());
            }
            // Watches wake up for a version.
            store.version += 1;
        });
    }

    /// Whether a watch from a version that is forgotten is refused with a 410; by default it gets an ERROR event.
    pub fn set_expired_by_code(&self, is_by_code: bool) {
        self.shared.lock().settings.expires_by_code = is_by_code;
    }

    /// Events reach the watches that much later than the write; by default at once.
    pub fn set_watch_lag(&self, lag: Duration) {
        self.shared.lock().settings.watch_lag = lag;
    }

    /// Each request takes a time between these two, half of it before it is carried out.
    pub fn set_latency(&self, least: Duration, most: Duration) {
        self.shared.lock().settings.latency = (least, most);
    }

    /// How often bookmarks come; by default every minute, and two seconds before a watch's end.
    pub fn set_bookmark_period(&self, period: Duration) {
        self.shared.lock().settings.bookmark_period = period;
    }

    /// Adds a rule. The first that applies to a request counts.
    pub fn fail(&self, rule: FaultRule) -> RuleId {
        self.shared.lock().plan.add(rule)
    }

    /// Takes a rule away.
    pub fn heal(&self, rule: RuleId) {
        self.shared.lock().plan.remove(rule);
    }

    /// Takes all rules away.
    pub fn heal_all(&self) {
        self.shared.lock().plan.clear();
    }

    /// How often a rule was applied.
    pub fn hits(&self, rule: RuleId) -> u64 {
        self.shared.lock().plan.hits(rule)
    }

    // What happened.

    /// The time since the start of the stub.
    pub fn elapsed(&self) -> Duration {
        self.shared.lock().store.elapsed()
    }

    /// All writes of objects so far that changed something, oldest first.
    pub fn writes(&self) -> Vec<Write> {
        self.shared.lock().store.writes()
    }

    /// All requests so far.
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.lock().log.clone()
    }

    /// How many requests so far fit.
    pub fn count(&self, fits: impl Fn(&LogEntry) -> bool) -> usize {
        self.shared.lock().log.iter().filter(|entry| fits(entry)).count()
    }

    /// How many requests of that kind there were so far.
    pub fn count_kind(&self, kind: RequestKind) -> usize {
        self.count(|entry| entry.kind() == kind)
    }

    /// The log for people, a line each.
    pub fn transcript(&self) -> String {
        let lines: Vec<_> = self.shared.lock().log.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }
}

fn test_author() -> Author {
    Author { user: TEST_USER.to_owned(), manager: "test".to_owned() }
}

fn key(resource: &str, namespace: &str, name: &str) -> Key {
    let resource = ResourceType::named(resource).unwrap_or_else(|| unknown(resource));
    let namespace = if resource.is_namespaced { namespace.to_owned() } else { String::new() };
    Key { resource, namespace, name: name.to_owned() }
}

#[expect(clippy::panic, reason = "the test is wrong")]
fn unknown(what: &str) -> ! {
    panic!("the stub knows no such thing: {what}")
}
