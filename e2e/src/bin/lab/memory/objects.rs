//! Objects as large as a tenant can make them.

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use pod_reloader_e2e::Space;
use pod_reloader_e2e::objects::{self, apps};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const CONCURRENCY: usize = 8;

/// Creates many objects.
pub(super) async fn create_all<K>(api: &Api<K>, objects: impl IntoIterator<Item = K>) -> anyhow::Result<()>
where
    K: Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let create = |object: K| async move {
        let params = PostParams::default();
        api.create(&params, &object).await.context("cannot create an object").map(drop)
    };
    futures::stream::iter(objects).map(create).buffer_unordered(CONCURRENCY).try_collect().await
}

/// A `ConfigMap` or Secret with one key.
pub(super) fn config<K: DeserializeOwned>(name: &str, value: &str) -> anyhow::Result<K> {
    config_with(json!({"metadata": {"name": name}}), &json!({"key": value}))
}

/// The same with these keys; Secrets take them as `stringData`, and `ConfigMaps` as `data`.
pub(super) fn config_with<K: DeserializeOwned>(mut object: Value, data: &Value) -> anyhow::Result<K> {
    let is_secret = std::any::type_name::<K>().ends_with("Secret");
    object[if is_secret { "stringData" } else { "data" }] = data.clone();
    Ok(serde_json::from_value(object)?)
}

/// A Deployment without pods that lists those `ConfigMaps`.
pub(super) fn listing(name: &str, configmaps: &str) -> DynamicObject {
    let mut workload = objects::listing(name, configmaps);
    workload.data["spec"]["replicas"] = json!(0);
    workload
}

/// A Deployment without pods that never opted in.
pub(super) fn plain(name: &str) -> DynamicObject {
    let mut workload = objects::workload(apps::DEPLOYMENT, name, json!({}));
    workload.data["spec"]["replicas"] = json!(0);
    workload
}

/// Fills the template's environment with so many bytes, all of that character: as JSON, `"` takes two bytes and `<`
/// takes six.
pub(super) fn filled(mut workload: DynamicObject, character: &str, bytes: usize) -> DynamicObject {
    const VALUE: usize = 10_000;
    let variable = |i| json!({"name": format!("V{i}"), "value": character.repeat(VALUE)});
    let env: Vec<Value> = (0..bytes / VALUE).map(variable).collect();
    workload.data["spec"]["template"]["spec"]["containers"][0]["env"] = json!(env);
    workload
}

/// So many names, separated by commas.
pub(super) fn names(prefix: &str, count: usize) -> String {
    let names: Vec<String> = (0..count).map(|i| format!("{prefix}{i:05}")).collect();
    names.join(",")
}

/// How long the Deployment's JSON is as the API server writes it.
pub(super) async fn json_bytes(space: &Space, name: &str) -> anyhow::Result<usize> {
    let path = format!("/apis/apps/v1/namespaces/{}/deployments/{name}", space.name);
    Ok(space.client.request_text(http::Request::get(path).body(vec![])?).await?.len())
}

/// Labels all of the workloads at the same time; returns how many of the writes failed.
pub(super) async fn label_all(space: &Space, names: &[String], value: &str) -> usize {
    let patch = |name: String| async move {
        let patched = space.patch(apps::DEPLOYMENT, &name, Space::label("touched", Some(value))).await;
        patched.inspect_err(|error| eprintln!("a patch of {name} failed: {error}")).is_err()
    };
    let failed = futures::future::join_all(names.iter().cloned().map(patch)).await;
    failed.into_iter().filter(|failed| *failed).count()
}
