//! 4.2, 4.3, 5.3: when what the operator sees of the API server lags or fails.

use std::time::{Duration, Instant};

use anyhow::ensure;
use kube::api::{Patch, PatchParams};
use pod_reloader_e2e::objects::{self, KindRef, apps};
use pod_reloader_e2e::world::proxy::{Faults, Proxy};
use pod_reloader_e2e::{Operator, TIMEOUT, World, eventually, let_pass};
use serde_json::json;

use pod_reloader_e2e::world::webhook::{Webhook, request};

const APP: &str = "app";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;

/// A world whose only replica reaches the API server through the proxy.
async fn behind_proxy() -> anyhow::Result<(World, Proxy)> {
    let mut world = World::without_operator().await?;
    let proxy = Proxy::start(&world).await?;
    let mut options = world.replica_options("replica", &["--settle-window=500ms"])?;
    options.kubeconfig = proxy.kubeconfig(&world, world.directory())?;
    world.replicas.push(Operator::spawn(&options).await?);
    world.register().await?;
    Ok((world, proxy))
}

fn image(tag: &str) -> Patch<serde_json::Value> {
    let containers = json!([{"name": "main", "image": format!("example.invalid/app:{tag}")}]);
    Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}))
}

#[tokio::test]
async fn c4_3_a_replica_whose_watches_lag_reads_its_writes() -> anyhow::Result<()> {
    let (world, proxy) = behind_proxy().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.settle().await?;
    for round in ["two", "three", "four"] {
        let before = space.revisions(DEPLOYMENT, APP).await?;
        proxy.set(Faults { hold_watches: true, ..Faults::default() });
        space.configmap("settings", round).await?;
        let patched = space.workloads(DEPLOYMENT).patch(APP, &PatchParams::default(), &image(round)).await?;
        space.expect_revisions(DEPLOYMENT, APP, before + 1).await?;
        // Much longer than the window; then all that was held comes at once.
        let_pass(Duration::from_secs(2)).await;
        proxy.set(Faults::default());
        space.settle().await?;
        space.expect_revisions(DEPLOYMENT, APP, before + 1).await?;
        assert_eq!(space.hash(DEPLOYMENT, APP).await.ok(), objects::config_hash(&patched));
    }
    Ok(())
}

#[tokio::test]
async fn c4_2_when_reads_hang_an_update_keeps_its_hash_and_a_create_goes_through_without()
-> anyhow::Result<()> {
    let (world, proxy) = behind_proxy().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    let hash = space.hash(DEPLOYMENT, APP).await?;
    space.settle().await?;

    proxy.set(Faults { hang_reads: true, ..Faults::default() });
    space.configmap("settings", "two").await?;
    let began = Instant::now();
    let patched = space.workloads(DEPLOYMENT).patch(APP, &PatchParams::default(), &image("2")).await?;
    assert_eq!(objects::config_hash(&patched), Some(hash.clone()));
    let kubectl = world.kubectl();
    let manifest = json!(objects::listing("new", "settings")).to_string();
    let output = kubectl.run_with_input(["apply", "-n", &space.name, "-f", "-"], &manifest).await?;
    ensure!(output.contains("created"), "{output}");
    // Two requests of at most ten seconds each.
    assert!(began.elapsed() < Duration::from_secs(21));
    assert!(space.hash(DEPLOYMENT, "new").await.is_err(), "no hash yet");

    proxy.set(Faults::default());
    let reloaded = space.hash_changes(DEPLOYMENT, APP, &hash).await?;
    eventually("the reconciler to set the other hash", TIMEOUT, || async {
        ensure!(space.hash(DEPLOYMENT, "new").await?.len() == 64 && reloaded.len() == 64);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn c5_5_failing_patches_are_retried_until_they_succeed() -> anyhow::Result<()> {
    let (world, proxy) = behind_proxy().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    let hash = space.hash(DEPLOYMENT, APP).await?;
    space.settle().await?;
    for status in [500, 429, 503] {
        let before = space.hash(DEPLOYMENT, APP).await?;
        proxy.set(Faults { fail_patches: Some(status), ..Faults::default() });
        space.configmap("settings", &format!("after {status}")).await?;
        eventually("a failed patch", TIMEOUT, || async {
            let metrics = world.replicas[0].metrics().await?;
            let failed = metrics
                .lines()
                .any(|line| line.starts_with("pod_reloader_reloads_total{") && line.contains("error"));
            ensure!(failed, "none yet");
            Ok(())
        })
        .await?;
        proxy.set(Faults::default());
        space.hash_changes(DEPLOYMENT, APP, &before).await?;
    }
    assert_ne!(space.hash(DEPLOYMENT, APP).await?, hash);
    space.expect_revisions(DEPLOYMENT, APP, 4).await
}

#[tokio::test]
async fn c5_3_a_config_write_between_the_webhooks_read_and_the_commit_is_seen() -> anyhow::Result<()> {
    // Not registered: the test carries the webhook's answer to the API server itself, and takes its time.
    let mut world = World::without_operator().await?;
    world.start_replica("leader", &["--leader-elect", "--settle-window=500ms"]).await?;
    world.start_replica("follower", &["--leader-elect", "--settle-window=500ms"]).await?;
    let space = world.space().await?;
    for (i, replica) in world.replicas.iter().enumerate() {
        let (name, settings) = (format!("app-{i}"), format!("settings-{i}"));
        let webhook = Webhook::of(&world, replica)?;
        space.configmap(&settings, "one").await?;
        let object = json!(objects::listing(&name, &settings));
        let (decided, _) = webhook.mutate(&request("CREATE", &space.name, &object, None)).await?;
        // Nobody refers to it yet, so the watch has no reason to remember this change.
        space.configmap(&settings, "two").await?;
        let decided = serde_json::from_value(decided)?;
        let before = objects::config_hash(&decided).unwrap_or_default();
        space.create(&decided).await?;
        space.hash_changes(DEPLOYMENT, &name, &before).await?;

        // The same with a workload that is known already: the decision is older than the change, the commit newer.
        let old = json!(space.get(DEPLOYMENT, &name).await?);
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example.invalid/app:2");
        let (decided, _) = webhook.mutate(&request("UPDATE", &space.name, &new, Some(&old))).await?;
        space.configmap(&settings, "three").await?;
        let annotations = json!({"metadata": {"annotations": decided["metadata"]["annotations"]},
            "spec": {"template": {"metadata": {"annotations": decided["spec"]["template"]["metadata"]["annotations"]}}}});
        space.patch(DEPLOYMENT, &name, annotations).await?;
        let outdated = objects::config_hash(&serde_json::from_value(decided)?).unwrap_or_default();
        space.hash_changes(DEPLOYMENT, &name, &outdated).await?;
    }
    Ok(())
}
