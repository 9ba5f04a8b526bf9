//! The namespace of one scenario of `docs/examples`.

use std::{ops::Deref, process::Stdio};

use anyhow::{Context as _, ensure};
use tokio::sync::RwLockReadGuard;

use super::{ROLLOUT_TIMEOUT, Testbed, example};
use crate::{
    objects::{self, BUILT_IN, KindRef},
    paths,
    space::Space,
};

/// A namespace with a random name. Dropping it deletes it.
pub struct Scenario {
    /// Where it lies.
    pub bed: &'static Testbed,
    space: Space,
    _guard: Option<RwLockReadGuard<'static, ()>>,
}

impl Deref for Scenario {
    type Target = Space;

    fn deref(&self) -> &Space {
        &self.space
    }
}

impl Scenario {
    pub(super) async fn make(
        bed: &'static Testbed,
        name: &str,
        guard: Option<RwLockReadGuard<'static, ()>>,
    ) -> anyhow::Result<Self> {
        let (client, prefix) = (bed.client().await?, format!("e2e-{name}"));
        let space = Space::new(client, bed.kubectl.clone(), &prefix, ROLLOUT_TIMEOUT).await?;
        Ok(Self { bed, space, _guard: guard })
    }

    /// Applies the manifests of an example: a file or a folder in `docs/examples`.
    pub async fn apply(&self, path: &str) -> anyhow::Result<()> {
        self.apply_text(&example(path)?).await
    }

    /// Applies manifests, with the images of the examples under the names that they have here.
    pub async fn apply_text(&self, manifests: &str) -> anyhow::Result<()> {
        self.with_input(&["apply", "-f", "-"], manifests).await
    }

    /// Runs `kubectl` here on manifests (`-f -`), with the images under the names that they have here.
    pub async fn with_input(&self, args: &[&str], manifests: &str) -> anyhow::Result<()> {
        self.space.with_input(args, &self.bed.localized(manifests)).await
    }

    /// The config hash on the pod template of a workload (`deployment/NAME`); empty if there is none.
    pub async fn config_hash(&self, workload: &str) -> anyhow::Result<String> {
        let (kind, name) = split(workload)?;
        let workload = self.workload(kind, name).get().await?;
        Ok(objects::config_hash(&workload).unwrap_or_default())
    }

    /// Waits until a workload has another config hash than `before`, and gives the new one.
    pub async fn hash_changes(&self, workload: &str, before: &str) -> anyhow::Result<String> {
        let (kind, name) = split(workload)?;
        self.workload(kind, name).hash_changes(before).await
    }

    /// How many revisions of a workload's pod template its controller has made, once it has seen the last change.
    pub async fn revisions(&self, workload: &str) -> anyhow::Result<usize> {
        let (kind, name) = split(workload)?;
        self.workload(kind, name).revisions().await
    }

    /// The texts of the Events on a workload that say that it was reloaded, oldest first.
    pub async fn reload_events(&self, workload: &str) -> anyhow::Result<Vec<String>> {
        self.events(split(workload)?.1, "ConfigurationChanged").await
    }

    /// Waits until all that was done before this call has had its consequences, new revisions among them.
    pub async fn settle(&self) -> anyhow::Result<()> {
        self.settle_with_controllers().await
    }

    /// What the client under load (`docs/examples/load.yaml`) has counted: an error if a request has failed.
    pub async fn nothing_failed(&self) -> anyhow::Result<u64> {
        let counts = self.get_from_service("load", "/").await?;
        ensure!(counts["failed"] == 0, "requests failed: {counts}");
        counts["requests"].as_u64().with_context(|| format!("no count in {counts}"))
    }
}

/// Kind and name of `deployment/NAME`.
fn split(workload: &str) -> anyhow::Result<(KindRef, &str)> {
    let (kind, name) = workload.split_once('/').context("KIND/NAME")?;
    let known = BUILT_IN.into_iter().find(|known| known.kind.eq_ignore_ascii_case(kind));
    Ok((known.with_context(|| format!("no kind of workload: {kind}"))?, name))
}

impl Drop for Scenario {
    fn drop(&mut self) {
        // Also if the test has failed. It is not waited for: the pods of the next one may start meanwhile.
        let outcome = std::process::Command::new(paths::binaries().join("kubectl"))
            .args(["delete", "namespace", &self.space.name, "--wait=false"])
            .env("KUBECONFIG", &self.bed.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !outcome.is_ok_and(|status| status.success()) {
            eprintln!("the namespace {} could not be deleted", self.space.name);
        }
    }
}
