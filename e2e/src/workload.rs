//! A workload as tests see it: its config hash, and the revisions that its controller makes of it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DynamicObject, ListParams, ObjectMeta},
};

use crate::{
    kinds::{self, Revision},
    objects::{self, KindRef},
    wait::eventually,
};

/// A workload that exists, or will.
#[derive(Clone)]
pub struct Workload {
    client: Client,
    namespace: String,
    kind: KindRef,
    name: String,
    timeout: Duration,
}

impl Workload {
    /// What is waited for has to happen within `timeout`.
    pub fn new(client: Client, namespace: &str, kind: KindRef, name: &str, timeout: Duration) -> Self {
        Self { client, namespace: namespace.to_owned(), kind, name: name.to_owned(), timeout }
    }

    /// It as it is.
    pub async fn get(&self) -> anyhow::Result<DynamicObject> {
        Ok(objects::api(self.client.clone(), self.kind, &self.namespace).get(&self.name).await?)
    }

    /// Its config hash; an error if it has none.
    pub async fn config_hash(&self) -> anyhow::Result<String> {
        let workload = self.get().await?;
        objects::config_hash(&workload).context("the workload has no config hash")
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

    /// How many revisions of its pod template its controller has made, once it has seen the last change.
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
            Ok(match kinds::revision(self.kind) {
                Revision::ReplicaSet => {
                    let sets = Api::<ReplicaSet>::namespaced(self.client.clone(), &self.namespace);
                    sets.list(&all).await?.iter().filter(|set| is_owned(&set.metadata)).count()
                }
                Revision::ControllerRevision => {
                    let revisions =
                        Api::<ControllerRevision>::namespaced(self.client.clone(), &self.namespace);
                    revisions.list(&all).await?.iter().filter(|revision| is_owned(&revision.metadata)).count()
                }
            })
        })
        .await
    }
}
