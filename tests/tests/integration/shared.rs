//! What several of these modules do or ask.

use anyhow::Context;
use kube::api::{DynamicObject, Patch, PatchParams};
use pod_reloader_e2e::objects::{self, KindRef, apps};
use pod_reloader_e2e::{Mark, Space, User, World};
use serde_json::{Value, json};

pub const DEPLOYMENT: KindRef = apps::DEPLOYMENT;
pub const APP: &str = "app";

/// A name for a workload of that kind.
pub fn name_of(kind: KindRef) -> String {
    kind.kind.to_lowercase()
}

/// A workload of that kind that lists those `ConfigMaps`, called after its kind.
pub fn listing(kind: KindRef, configmaps: &str) -> DynamicObject {
    objects::workload(kind, &name_of(kind), json!({objects::CONFIGMAPS: configmaps}))
}

/// The merge patch that makes that the list of `ConfigMaps`.
pub fn list_patch(configmaps: Option<&str>) -> Value {
    json!({"metadata": {"annotations": {objects::CONFIGMAPS: configmaps}}})
}

/// The merge patch that sets an annotation of the workload itself, or removes it.
pub fn annotate(key: &str, value: Option<&str>) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

/// The strategic merge patch that gives the container another image.
pub fn image_patch(tag: &str) -> Patch<Value> {
    Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [
        {"name": "main", "image": format!("example.invalid/app:{tag}")}]}}}}))
}

/// Gives the container another image.
pub async fn set_image(space: &Space, kind: KindRef, name: &str, tag: &str) -> anyhow::Result<()> {
    space.workloads(kind).patch(name, &PatchParams::default(), &image_patch(tag)).await?;
    Ok(())
}

/// Our two annotations as they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub hash: Option<String>,
    pub observed: Option<String>,
}

impl Standing {
    pub fn of(workload: &DynamicObject) -> Self {
        Self {
            hash: objects::config_hash(workload),
            observed: objects::annotation(workload, objects::OBSERVED_CONFIG),
        }
    }
}

/// Our two annotations on a workload.
pub async fn standing(space: &Space, kind: KindRef, name: &str) -> anyhow::Result<Standing> {
    Ok(Standing::of(&space.get(kind, name).await?))
}

/// What the observed-config of the Deployment [`APP`] says of the `ConfigMap`.
pub async fn record(space: &Space, configmap: &str) -> anyhow::Result<Value> {
    let observed = objects::observed(&space.get(DEPLOYMENT, APP).await?).context("no observed-config")?;
    Ok(observed["configmaps"][configmap].clone())
}

/// What the operator wrote about objects of that name since then, its Events apart.
pub async fn operator_writes(space: &Space, mark: Mark, name: &str) -> anyhow::Result<Vec<String>> {
    let writes = World::shared().await?.audit().writes_by(User::Operator, mark).await?;
    let fitting = writes
        .into_iter()
        .filter(|write| write.namespace == space.name && write.name == name && !write.is_about("events"));
    Ok(fitting.map(|write| format!("{} {}", write.verb, write.uri)).collect())
}

/// The operator's requests about one config object since then: verbs and paths.
pub async fn operator_requests(space: &Space, mark: Mark, name: &str) -> anyhow::Result<Vec<String>> {
    let entries = World::shared().await?.audit().since(mark).await?;
    let fitting = entries.into_iter().filter(|entry| {
        entry.is_by(User::Operator)
            && entry.namespace == space.name
            && (entry.name == name || entry.uri.contains(&format!("metadata.name%3D{name}")))
    });
    Ok(fitting.map(|entry| format!("{} {}", entry.verb, entry.uri)).collect())
}
