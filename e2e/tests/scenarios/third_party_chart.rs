//! docs/examples/third-party-chart.md: a Secret opts in the release of a chart that knows nothing of pod-reloader.

use anyhow::{Context as _, ensure};
use pod_reloader_e2e::{
    Helm, Scenario, Testbed, eventually,
    objects::{self, apps},
    paths,
    testbed::ROLLOUT_TIMEOUT,
};
use serde_json::{Value, json};

const RELEASE: &str = "board";
const BOARD: &str = "deployment/board";
const SECRET: &str = "secret/board-admin";
const MARK: &str = "pod-reloader.cs.sap.com/auto";

#[tokio::test]
async fn c7_4_a_mark_on_its_secret_reloads_a_release_through_upgrades_until_it_is_removed()
-> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("chart").await? else { return Ok(()) };
    let home = tempfile::tempdir().context("cannot make a temporary folder")?;
    let helm = Helm::new("helm", space.bed.kubeconfig(), home.path())?;
    let first = "--from-literal=password=first";
    space.kubectl(&["create", "secret", "generic", "board-admin", first]).await?;
    upgrade(&helm, &space, &[]).await?;
    space.rolled_out(BOARD).await?;
    let pods = space.pods(RELEASE).await?;

    space.kubectl(&["annotate", SECRET, &format!("{MARK}=true")]).await?;
    is_followed(&space, true).await?;
    space.settle().await?;
    ensure!(space.config_hash(BOARD).await?.is_empty(), "the mark has changed the pod template");
    ensure!(space.revisions(BOARD).await? == 1);
    ensure!(space.pods(RELEASE).await? == pods, "the mark has restarted a pod");

    space.set(SECRET, "password", "second").await?;
    let seen = |answer: &Value| answer["at_start"]["env"]["ADMIN_PASSWORD"] == "second";
    space.get_until(RELEASE, "/", "a pod with the second password", seen).await?;
    space.rolled_out(BOARD).await?;
    space.settle().await?;
    ensure!(space.revisions(BOARD).await? == 2);
    let events = space.reload_events(BOARD).await?;
    ensure!(events == ["Reload triggered: secret/board-admin changed"], "{events:?}");
    let pods = space.pods(RELEASE).await?;
    let hash = space.config_hash(BOARD).await?;

    let stays = async |after: &str| {
        space.settle().await?;
        ensure!(space.config_hash(BOARD).await? == hash, "{after}: another hash");
        ensure!(space.revisions(BOARD).await? == 2, "{after}: another revision");
        ensure!(space.pods(RELEASE).await? == pods, "{after}: a pod was restarted");
        anyhow::Ok(())
    };
    upgrade(&helm, &space, &[]).await?;
    stays("an upgrade").await?;
    upgrade(&helm, &space, &["--set=title=Second title"]).await?;
    stays("a ConfigMap without the mark").await?;
    let manifests = helm.run(["get", "manifest", RELEASE, "--namespace", &space.name]).await?;
    space.with_input(&["replace", "-f", "-"], &manifests).await?;
    stays("a replace").await?;

    space.kubectl(&["annotate", SECRET, &format!("{MARK}-")]).await?;
    is_followed(&space, false).await?;
    space.set(SECRET, "password", "third").await?;
    stays("a change without the mark").await?;
    space.with_input(&["replace", "-f", "-"], &manifests).await?;
    ensure!(space.config_hash(BOARD).await?.is_empty(), "the hash is protected without the mark");
    Ok(())
}

/// Installs or upgrades the chart, with the image under the name that it has here.
async fn upgrade(helm: &Helm, space: &Scenario, args: &[&str]) -> anyhow::Result<()> {
    let image = format!("--set=image={}", space.bed.image("apps:1"));
    let args: Vec<_> = [image.as_str()].into_iter().chain(args.iter().copied()).collect();
    let chart = paths::root().join("docs/examples/third-party-chart");
    helm.upgrade(RELEASE, chart, &space.name, &args).await?;
    Ok(())
}

/// Waits until observed-config has the key of the Secret, or has it no more.
async fn is_followed(space: &Scenario, expected: bool) -> anyhow::Result<()> {
    eventually("the mark to be heard of", ROLLOUT_TIMEOUT, || async {
        let board = space.get(apps::DEPLOYMENT, RELEASE).await?;
        let observed = objects::observed(&board).unwrap_or_default();
        let keys = &observed["followed"]["secrets"]["board-admin"]["keys"];
        ensure!((*keys == json!(["password"])) == expected, "{observed}");
        Ok(())
    })
    .await
}
