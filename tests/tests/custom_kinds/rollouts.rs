//! A Rollout whose pod template is in a Deployment.

use anyhow::{Context, ensure};
use pod_reloader_e2e::objects::{CONFIG_HASH, apps, listing as deployment};
use serde_json::json;

use crate::setup::{Installed, custom, define, listing, named, observed};

#[tokio::test]
async fn c9_1_a_rollout_with_a_workload_ref_is_left_alone_with_a_hint_and_its_deployment_followed()
-> anyhow::Result<()> {
    let kind = named("rollouts");
    let Some(installed) = Installed::with(&custom()).await? else { return Ok(()) };
    define(&installed.world, &[kind]).await?;
    let space = installed.world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&deployment("app", "settings")).await?;
    let mut rollout = listing(kind, "app", "settings");
    rollout["spec"] = json!({"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"}});
    let mut auto = rollout.clone();
    auto["metadata"] = json!({"name": "auto", "annotations": {"pod-reloader.cs.sap.com/auto": "true"}});
    for rollout in [rollout, auto] {
        // kubectl shows warnings beside its output.
        let manifest = installed.world.directory().join("rollout.json");
        std::fs::write(&manifest, rollout.to_string())?;
        let manifest = manifest.to_str().context("a path")?;
        let strict = space.kubectl(&["create", "-f", manifest, "--warnings-as-errors"]).await;
        let said = format!("{:#}", strict.err().with_context(|| format!("no warning of {rollout}"))?);
        ensure!(said.contains("annotate the workload that spec.workloadRef names"), "{said}");
    }

    let before = space.hash(apps::DEPLOYMENT, "app").await?;
    space.configmap("settings", "two").await?;
    space.hash_changes(apps::DEPLOYMENT, "app", &before).await?;
    space.settle().await?;
    let rollout = serde_json::to_value(space.get(kind, "app").await?)?;
    ensure!(!rollout.to_string().contains(CONFIG_HASH) && observed(&rollout).is_none(), "{rollout}");
    Ok(())
}
