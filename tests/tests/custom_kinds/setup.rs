//! Custom resources, and the chart installed for them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use http::{Method, Request};
use kube::api::DynamicObject;
use pod_reloader_e2e::objects::{
    BUILT_IN, CONFIG_HASH, CONFIGMAPS, KindRef, Kinds, OBSERVED_CONFIG, PRESETS, Shape,
};
use pod_reloader_e2e::world::release;
use pod_reloader_e2e::{Mark, Operator, Release, Space, TIMEOUT, World, eventually};
use serde_json::{Value, json};

/// What the operator writes is in the audit log, the Events apart.
const EVENTS: &str = "events";

/// Every preset, and kinds of the user's own, as the operator is told of them.
pub fn wanted() -> Vec<&'static str> {
    PRESETS.iter().map(|preset| preset.name).chain([SERVERS, DATABASES]).collect()
}

/// One with a pod template further down.
const SERVERS: &str = "example.com/v1/servers:Server=spec.pods.template";
/// One with a map of annotations alone.
const DATABASES: &str = "example.com/v1/databases:Database=annotations:spec.podAnnotations";

/// All that are not built in.
pub fn custom() -> Vec<KindRef> {
    kinds().into_iter().filter(|kind| !BUILT_IN.contains(kind)).collect()
}

fn kinds() -> Vec<KindRef> {
    let wanted: Result<Vec<_>, _> = wanted().iter().map(|text| text.parse()).collect();
    let kinds = wanted.and_then(|wanted| Kinds::with(&wanted)).expect("kinds");
    kinds.iter().collect()
}

/// The kind with that plural name.
pub fn named(plural: &str) -> KindRef {
    custom().into_iter().find(|kind| kind.plural == plural).expect("a kind of that name")
}

/// The chart's values for them.
pub fn values() -> String {
    let own = |plural: &str, kind: &str, place: &str, path: &str| json!({"group": "example.com", "version": "v1", "resource": plural, "kind": kind, place: path});
    let presets = PRESETS.iter().map(|preset| json!(preset.name));
    let own = [
        own("servers", "Server", "template", "spec.pods.template"),
        own("databases", "Database", "annotations", "spec.podAnnotations"),
    ];
    format!("--set-json=workloads={}", presets.chain(own).collect::<Value>())
}

/// The definitions that are here of other projects.
pub fn definitions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/custom_kinds/crds")
}

fn file_of(kind: KindRef) -> PathBuf {
    definitions().join(format!("{}.yaml", definition_name(kind)))
}

/// Whether it is no project's kind.
pub fn has_smallest_definition(kind: KindRef) -> bool {
    !file_of(kind).exists()
}

/// That of the project whose kind it is, or the smallest.
fn definition(kind: KindRef) -> anyhow::Result<Value> {
    if has_smallest_definition(kind) {
        return Ok(smallest(kind));
    }
    let file = file_of(kind);
    let text = std::fs::read_to_string(&file)?;
    serde_saphyr::from_str(&text).with_context(|| file.display().to_string())
}

/// The smallest definition by which objects of that kind are taken as they are.
pub fn smallest(kind: KindRef) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": definition_name(kind)},
        "spec": {
            "group": kind.group, "scope": "Namespaced",
            "names": {"plural": kind.plural, "singular": kind.kind.to_lowercase(), "kind": kind.kind},
            "versions": [{
                "name": kind.version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
            }],
        },
    })
}

/// `PLURAL.GROUP`.
pub fn definition_name(kind: KindRef) -> String {
    format!("{}.{}", kind.plural, kind.group)
}

/// Has the API server serve these kinds, as their projects define them.
pub async fn define(world: &World, kinds: &[KindRef]) -> anyhow::Result<()> {
    define_as(world, kinds, definition).await
}

async fn define_as(
    world: &World,
    kinds: &[KindRef],
    definition: fn(KindRef) -> anyhow::Result<Value>,
) -> anyhow::Result<()> {
    if kinds.is_empty() {
        return Ok(());
    }
    let items = kinds.iter().map(|kind| definition(*kind)).collect::<anyhow::Result<Vec<_>>>()?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    world.kubectl().run_with_input(["apply", "--server-side", "-f", "-"], &list.to_string()).await?;
    for kind in kinds {
        is_served(world, &definition_name(*kind)).await?;
    }
    Ok(())
}

/// Waits until the API server serves what that definition describes.
pub async fn is_served(world: &World, definition: &str) -> anyhow::Result<()> {
    let name = format!("crd/{definition}");
    // One without any conditions yet is an error to kubectl.
    eventually(format!("{definition} to be served"), TIMEOUT, || async {
        world.kubectl().run(["wait", "--for=condition=Established", "--timeout=5s", &name]).await
    })
    .await?;
    Ok(())
}

/// The chart with all kinds, and a replica.
pub struct Installed {
    pub world: World,
    pub replica: Operator,
    pub release: Release,
}

impl Installed {
    /// `None` where this machine cannot have it.
    pub async fn with(defined: &[KindRef]) -> anyhow::Result<Option<Self>> {
        Self::with_as(defined, definition).await
    }

    /// The same with definitions of one's choice.
    pub async fn with_as(
        defined: &[KindRef],
        definition: fn(KindRef) -> anyhow::Result<Value>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(world) = release::world().await? else { return Ok(None) };
        define_as(&world, defined, definition).await?;
        let values = values();
        let mut release =
            Release::install(&world, "operators", &["--set=settleWindow=300ms", &values]).await?;
        let replica = release.start_replica(&world, "replica").await?;
        release.route_to(&world, &[&replica]).await?;
        Ok(Some(Self { world, replica, release }))
    }

    /// What the operator wrote since then about objects of that name in that namespace.
    pub async fn writes(
        &self,
        since: Mark,
        space: &Space,
        kind: KindRef,
        name: &str,
    ) -> anyhow::Result<Vec<String>> {
        let user = self.release.user();
        let entries = self.world.audit().since(since).await?;
        let fitting = entries.into_iter().filter(|entry| {
            entry.user == user
                && entry.is_write()
                && !entry.is_about(EVENTS)
                && entry.succeeded()
                && (&entry.namespace, entry.group.as_str(), entry.resource.as_str(), entry.name.as_str())
                    == (&space.name, kind.group, kind.plural, name)
        });
        Ok(fitting.map(|entry| format!("{} {}", entry.verb, entry.uri)).collect())
    }

    /// What the operator was not allowed since then.
    pub async fn forbidden(&self, since: Mark) -> anyhow::Result<Vec<String>> {
        let user = self.release.user();
        let entries = self.world.audit().since(since).await?;
        let refused =
            entries.into_iter().filter(|entry| entry.user == user && matches!(entry.code, 401 | 403));
        Ok(refused.map(|entry| format!("{} {} {}", entry.code, entry.verb, entry.uri)).collect())
    }
}

/// An object of that kind that lists those `ConfigMaps`.
pub fn listing(kind: KindRef, name: &str, configmaps: &str) -> Value {
    let mut object = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": name, "annotations": {CONFIGMAPS: configmaps}},
        "spec": beside_template(kind, name),
    });
    if kind.shape == Shape::PodTemplate {
        let template = kind.template.iter().fold(&mut object, |parent, member| &mut parent[*member]);
        *template = json!({
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "main", "image": "example.invalid/app:1",
                "envFrom": [{"configMapRef": {"name": configmaps}}]}]},
        });
    }
    object
}

/// What the definition of the kind has beside the pod template, with what it requires.
fn beside_template(kind: KindRef, name: &str) -> Value {
    let labels = json!({"app": name});
    match (kind.group, kind.plural) {
        ("apps.openshift.io", _) => json!({"replicas": 1, "selector": labels}),
        ("apps.kruise.io", "daemonsets") => {
            json!({"minReadySeconds": 1, "selector": {"matchLabels": labels}})
        }
        ("serving.knative.dev", _) => json!({"traffic": [{"latestRevision": true, "percent": 100}]}),
        _ => json!({"replicas": 1, "selector": {"matchLabels": labels}}),
    }
}

/// A change of what [`listing`] has beside the pod template, for a merge patch.
pub fn change_beside_template(kind: KindRef) -> Value {
    match (kind.group, kind.plural) {
        ("apps.kruise.io", "daemonsets") => json!({"minReadySeconds": 9}),
        ("serving.knative.dev", _) => {
            json!({"traffic": [{"latestRevision": false, "revisionName": "other"}]})
        }
        _ => json!({"replicas": 9}),
    }
}

/// The path of the object.
pub fn path(space: &Space, kind: KindRef, name: &str) -> String {
    format!("/apis/{}/namespaces/{}/{}{}", kind.api_version(), space.name, kind.plural, name)
}

/// Creates it as the administrator. Warnings are not shown.
pub async fn create(space: &Space, kind: KindRef, object: &Value) -> anyhow::Result<Value> {
    let request = Request::builder().method(Method::POST).uri(path(space, kind, ""));
    let request = request.header("content-type", "application/json").body(object.to_string().into_bytes())?;
    Ok(space.client.request(request).await?)
}

/// Replaces it as the owner does who knows nothing of our annotations; `None` on a conflict.
pub async fn put_bare(space: &Space, kind: KindRef, object: &Value) -> anyhow::Result<Option<Value>> {
    let name = object["metadata"]["name"].as_str().context("a name")?;
    let stored = space.get(kind, name).await?;
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!(stored.metadata.resource_version);
    let request = Request::builder().method(Method::PUT).uri(path(space, kind, &format!("/{name}")));
    let request = request.header("content-type", "application/json").body(object.to_string().into_bytes())?;
    match space.client.request(request).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => bail!(error),
    }
}

/// The hash that it has.
pub fn hash_of(kind: KindRef, object: &Value) -> Option<String> {
    let annotations = object.pointer(kind.annotations_pointer().as_str())?;
    annotations[CONFIG_HASH].as_str().map(str::to_owned)
}

/// The same of what is stored; an error if it has none.
pub async fn hash(space: &Space, kind: KindRef, name: &str) -> anyhow::Result<String> {
    let object: DynamicObject = space.get(kind, name).await?;
    let object = serde_json::to_value(object)?;
    hash_of(kind, &object).with_context(|| format!("no hash: {object}"))
}

/// Its observed-config.
pub fn observed(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][OBSERVED_CONFIG].as_str()
}
