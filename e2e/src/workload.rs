//! A workload as tests see it: its config hash, and the revisions that its controller makes of it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams, ObjectMeta},
};

use crate::wait::eventually;

/// The annotation of a pod template that holds its config hash.
pub const CONFIG_HASH: &str = "pod-reloader.cs.sap.com/config-hash";

/// A Deployment, a `StatefulSet` or a `DaemonSet` that exists, or will.
#[derive(Clone)]
pub struct Workload {
    client: Client,
    namespace: String,
    /// In small letters, as `kubectl` takes it.
    kind: String,
    name: String,
    timeout: Duration,
}

impl Workload {
    /// `kind` as in manifests or as `kubectl` takes it. What is waited for has to happen within `timeout`.
    pub fn new(client: Client, namespace: &str, kind: &str, name: &str, timeout: Duration) -> Self {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { client, namespace, kind: kind.to_lowercase(), name, timeout }
    }

    /// It as it is.
    pub async fn get(&self) -> anyhow::Result<DynamicObject> {
        let resource = ApiResource {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            api_version: "apps/v1".to_owned(),
            kind: self.kind.clone(),
            plural: format!("{}s", self.kind),
        };
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.namespace, &resource);
        Ok(api.get(&self.name).await?)
    }

    /// Its config hash; an error if it has none.
    pub async fn config_hash(&self) -> anyhow::Result<String> {
        let workload = self.get().await?;
        config_hash(&workload).context("the workload has no config hash")
    }

    /// Waits until it has another config hash than `before`, and gives the new one.
    pub async fn hash_changes(&self, before: &str) -> anyhow::Result<String> {
        eventually(format!("another config hash on {}", self.name), self.timeout, || async {
            let hash = self.config_hash().await?;
            ensure!(hash != before, "still {before}");
            Ok(hash)
        })
        .await
    }

    /// How many revisions of its pod template its controller has made, once it has seen the last change: `ReplicaSets` of
    /// a Deployment, `ControllerRevisions` of the others.
    pub async fn revisions(&self) -> anyhow::Result<usize> {
        eventually(format!("the controller to have seen {}", self.name), self.timeout, || async {
            let workload = self.get().await?;
            let observed = workload.data["status"]["observedGeneration"].as_i64();
            let generation = workload.metadata.generation;
            ensure!(observed.is_some() && observed == generation, "observed {observed:?} of {generation:?}");
            let uid = workload.uid().unwrap_or_default();
            let is_owned =
                |meta: &ObjectMeta| meta.owner_references.iter().flatten().any(|owner| owner.uid == uid);
            let all = ListParams::default();
            Ok(if self.kind == "deployment" {
                let sets = Api::<ReplicaSet>::namespaced(self.client.clone(), &self.namespace);
                sets.list(&all).await?.iter().filter(|set| is_owned(&set.metadata)).count()
            } else {
                let revisions = Api::<ControllerRevision>::namespaced(self.client.clone(), &self.namespace);
                revisions.list(&all).await?.iter().filter(|revision| is_owned(&revision.metadata)).count()
            })
        })
        .await
    }
}

/// The config hash on a workload's pod template.
pub fn config_hash(workload: &DynamicObject) -> Option<String> {
    workload.data["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH].as_str().map(str::to_owned)
}
