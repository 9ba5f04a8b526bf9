//! A scenario's control plane, and the objects on it.

use std::time::Duration;

use anyhow::Context;
use http::Method;
use pod_reloader_e2e::objects::{self, apps};
use pod_reloader_e2e::{Component, ControlPlane, Entry, Mark, Options, User, World};
use serde_json::{Value, json};

use super::raw::{self, Endpoint, JSON, MERGE_PATCH, Outgoing};
use super::resources::Resources;

/// How long anything may take that a scenario waits for.
pub(super) const LONG: Duration = Duration::from_mins(10);
/// Connections that create objects.
const CREATORS: usize = 32;

/// Whether the controllers of Deployments run. Their work after each patch takes the same cores from ours and from the
/// limit, so they run only where revisions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controllers {
    /// All controllers run.
    All,
    /// No controller makes anything of a Deployment.
    WithoutDeployments,
}

/// See the module.
pub(super) struct Stage {
    /// The control plane with its certificates and its scratch directory.
    pub(super) world: World,
    /// The API server, for a user who may do everything.
    pub(super) admin: Endpoint,
}

impl Stage {
    /// Boots a control plane. No program under test runs yet.
    pub(super) async fn new(controllers: Controllers) -> anyhow::Result<Self> {
        let mut options = Options::default();
        if controllers == Controllers::WithoutDeployments {
            let chosen = "--controllers=*,-deployment-controller,-replicaset-controller";
            options.controller_manager_args.push(chosen.to_owned());
        }
        let world = World::without_operator_on(options).await?;
        let admin = Endpoint::api_server(&world.plane, User::Admin)?;
        Ok(Self { world, admin })
    }

    /// The control plane.
    pub(super) fn plane(&self) -> &ControlPlane {
        &self.world.plane
    }

    /// What the API server takes.
    pub(super) fn api_server(&self) -> Resources {
        Resources::of(self.plane().process_id(Component::ApiServer))
    }

    /// Makes a namespace.
    pub(super) async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.admin.request(&Outgoing::post("/api/v1/namespaces", &object)).await?;
        Ok(())
    }

    /// Creates as many objects.
    pub(super) async fn create_all(
        &self,
        count: usize,
        create: impl Fn(usize) -> Outgoing + Send + Sync + 'static,
    ) -> anyhow::Result<()> {
        raw::Clients::open(&self.admin, CREATORS.min(count)).await?.send_all(count, create).await?;
        Ok(())
    }

    /// What was asked for since that position in the audit log, and is about such objects of one namespace.
    pub(super) async fn requests(
        &self,
        mark: Mark,
        user: User,
        is_meant: impl Fn(&Entry) -> bool,
    ) -> anyhow::Result<usize> {
        let entries = self.world.audit().since(mark).await?;
        Ok(entries.iter().filter(|entry| entry.is_by(user) && is_meant(entry)).count())
    }
}

/// The path of the namespace's Deployments.
pub(super) fn deployments(namespace: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/deployments")
}

/// The path of the namespace's `ConfigMaps`.
pub(super) fn configmaps(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

/// The path of the namespace's Secrets.
pub(super) fn secrets(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

/// A Deployment without pods.
pub(super) fn deployment(name: &str, annotations: Value) -> anyhow::Result<Value> {
    let mut workload = objects::workload(apps::DEPLOYMENT, name, annotations);
    workload.data["spec"]["replicas"] = json!(0);
    serde_json::to_value(workload).context("a workload is JSON")
}

/// Creates a copy of that Deployment under another name.
pub(super) fn create_named(namespace: &str, model: &Value, name: &str) -> Outgoing {
    let mut object = model.clone();
    object["metadata"]["name"] = json!(name);
    object["spec"]["selector"]["matchLabels"]["app"] = json!(name);
    object["spec"]["template"]["metadata"]["labels"]["app"] = json!(name);
    Outgoing::post(deployments(namespace), &object)
}

/// Creates a `ConfigMap` with one key.
pub(super) fn create_configmap(namespace: &str, name: &str, value: &str) -> Outgoing {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}
    });
    Outgoing::post(configmaps(namespace), &object)
}

/// Creates a Secret with one key.
pub(super) fn create_secret(namespace: &str, name: &str, value: &str) -> Outgoing {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"key": value}
    });
    Outgoing::post(secrets(namespace), &object)
}

/// Gives a `ConfigMap` another value under its key.
pub(super) fn change_configmap(namespace: &str, name: &str, value: &str) -> Outgoing {
    let patch = json!({"data": {"key": value}}).to_string();
    Outgoing::new(Method::PATCH, format!("{}/{name}", configmaps(namespace)), MERGE_PATCH, patch)
}

/// Deletes an object.
pub(super) fn delete(path: String) -> Outgoing {
    Outgoing::new(Method::DELETE, path, JSON, "")
}
