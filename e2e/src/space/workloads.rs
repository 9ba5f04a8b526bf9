//! The objects of a namespace, written and read as a client of the API server does it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::Space;
use crate::{
    objects::{self, BUILT_IN, KindRef},
    wait::{eventually, give_up},
};

/// How long revisions are waited for that should be there by all accounts: a patch may be on its way yet.
const MISSING_TIMEOUT: Duration = Duration::from_secs(10);

impl Space {
    /// The API of a kind of workload here.
    pub fn workloads(&self, kind: KindRef) -> Api<DynamicObject> {
        objects::api(self.client.clone(), kind, &self.name)
    }

    /// The API of `ConfigMaps` here.
    pub fn configmaps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// The API of Secrets here.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates a `ConfigMap` or gives it that content: `value` under the key `key`.
    pub async fn configmap(&self, name: &str, value: &str) -> anyhow::Result<ConfigMap> {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}
        });
        let params = PatchParams::apply("test").force();
        Ok(self.configmaps().patch(name, &params, &Patch::Apply(object)).await?)
    }

    /// The same for a Secret.
    pub async fn secret(&self, name: &str, value: &str) -> anyhow::Result<Secret> {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"key": value}
        });
        let params = PatchParams::apply("test").force();
        Ok(self.secrets().patch(name, &params, &Patch::Apply(object)).await?)
    }

    /// Deletes a `ConfigMap`.
    pub async fn delete_configmap(&self, name: &str) -> anyhow::Result<()> {
        self.configmaps().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Creates a workload.
    pub async fn create(&self, workload: &DynamicObject) -> anyhow::Result<DynamicObject> {
        Ok(self.workloads(kind_of(workload)?).create(&PostParams::default(), workload).await?)
    }

    /// Replaces a workload as `kubectl replace` does: whatever is there.
    pub async fn replace(&self, workload: &DynamicObject) -> anyhow::Result<DynamicObject> {
        let api = self.workloads(kind_of(workload)?);
        Ok(api.replace(&workload.name_any(), &PostParams::default(), workload).await?)
    }

    /// Merge-patches a workload.
    pub async fn patch(&self, kind: KindRef, name: &str, patch: Value) -> anyhow::Result<DynamicObject> {
        Ok(self.workloads(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?)
    }

    /// A workload as it is.
    pub async fn get(&self, kind: KindRef, name: &str) -> anyhow::Result<DynamicObject> {
        Ok(self.workloads(kind).get(name).await?)
    }

    /// The config hash of a workload; an error if it has none.
    pub async fn hash(&self, kind: KindRef, name: &str) -> anyhow::Result<String> {
        self.workload(kind, name).config_hash().await
    }

    /// Waits until a workload's config hash is another than `before`, and returns the new one.
    pub async fn hash_changes(&self, kind: KindRef, name: &str, before: &str) -> anyhow::Result<String> {
        self.workload(kind, name).hash_changes(before).await
    }

    /// The pod-template revisions that the controller-manager made of a workload, once it has seen the last change.
    pub async fn revisions(&self, kind: KindRef, name: &str) -> anyhow::Result<usize> {
        self.workload(kind, name).revisions().await
    }

    /// Asserts the number of revisions, with all that helps on failure. Those that are still to come are waited for;
    /// one too many fails at once.
    pub async fn expect_revisions(&self, kind: KindRef, name: &str, expected: usize) -> anyhow::Result<()> {
        // The controller-manager has its own patience: after an outage of the API server it may take half a minute
        // before it watches again.
        self.revisions(kind, name).await?;
        let what = format!("{expected} revisions of {} {name}", kind.kind);
        eventually(what, MISSING_TIMEOUT, || async {
            let revisions = self.revisions(kind, name).await?;
            if revisions != expected {
                let workload = self.get(kind, name).await?;
                let seen = format!("{revisions} revisions: {}", json!(workload));
                if revisions > expected {
                    return Err(give_up(seen));
                }
                bail!("{seen}");
            }
            Ok(())
        })
        .await
    }

    /// Does something to a workload and asserts that it makes that many new revisions, no more, and whether the
    /// config hash changes along.
    pub async fn expect_new_revisions<Fut: Future<Output = anyhow::Result<()>>>(
        &self,
        kind: KindRef,
        name: &str,
        expected: usize,
        act: impl FnOnce() -> Fut,
    ) -> anyhow::Result<()> {
        let before = self.revisions(kind, name).await?;
        act().await?;
        self.settle().await?;
        self.expect_revisions(kind, name, before + expected).await
    }

    /// The labels that make a patch of the workload's own metadata.
    pub fn label(key: &str, value: Option<&str>) -> Value {
        json!({"metadata": {"labels": BTreeMap::from([(key, value)])}})
    }
}

/// The kind of a workload that was built.
fn kind_of(workload: &DynamicObject) -> anyhow::Result<KindRef> {
    let name = workload.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
    BUILT_IN.into_iter().find(|kind| kind.kind == name).with_context(|| format!("no workload: {name}"))
}
