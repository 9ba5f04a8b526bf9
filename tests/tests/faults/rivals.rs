//! 2.5: two installations that overlap.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use pod_reloader_e2e::objects::{self, KindRef, apps};
use pod_reloader_e2e::{Mark, Operator, TIMEOUT, User, World, eventually};

const DEPLOYMENT: KindRef = apps::DEPLOYMENT;
const WORKLOADS: usize = 5;

/// Patches of the workloads in that namespace; the test itself makes none.
async fn patches(world: &World, since: Mark, namespace: &str) -> anyhow::Result<usize> {
    let entries = world.audit().since(since).await?;
    let patches = entries.iter().filter(|entry| {
        entry.verb == "patch"
            && entry.is_about("deployments")
            && entry.namespace == namespace
            && entry.name.starts_with("app-")
    });
    Ok(patches.count())
}

#[tokio::test]
async fn c2_5_of_two_installations_over_the_same_workloads_the_later_one_stands_down() -> anyhow::Result<()> {
    let mut world = World::own(&["--settle-window=500ms"]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    for i in 0..WORKLOADS {
        space.create(&objects::listing(&format!("app-{i}"), "settings")).await?;
    }
    space.settle().await?;
    let mark = world.audit().mark().await?;
    let metadata = ObjectMeta { name: Some("second".into()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::all(world.admin().await?).create(&PostParams::default(), &namespace).await?;
    let mut options = world.replica_options("second", &["--settle-window=500ms"])?;
    options = options.args(["--leader-election-namespace=second"]);
    options.kubeconfig = world.plane.kubeconfig(User::Admin);
    world.replicas.push(Operator::spawn(&options).await?);

    let second = &world.replicas[1];
    eventually("the second installation to stand down", TIMEOUT, || async {
        let metrics = second.metrics().await?;
        ensure!(metrics.lines().any(|line| line == "pod_reloader_standing_down 1"), "not yet");
        Ok(())
    })
    .await?;
    let (status, text) = second.readiness().await?;
    ensure!(status == 200, "it answers, that it has nothing to say: {status} {text}");
    let metrics = world.replicas[0].metrics().await?;
    ensure!(metrics.lines().any(|line| line == "pod_reloader_standing_down 0"), "the first one goes on");

    space.settle().await?;
    let before = patches(&world, mark, &space.name).await?;
    ensure!(before <= 8 * WORKLOADS, "{before} patches");
    let mark = world.audit().mark().await?;
    space.configmap("settings", "two").await?;
    space.settle().await?;
    for i in 0..WORKLOADS {
        space.expect_revisions(DEPLOYMENT, &format!("app-{i}"), 2).await?;
    }
    let after = patches(&world, mark, &space.name).await?;
    ensure!(after == WORKLOADS, "{after} patches for one change: they go on writing");
    Ok(())
}
