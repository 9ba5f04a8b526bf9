//! docs/examples/rollouts.md: how pods follow a reload, and the commands of `kubectl rollout`.

use std::cell::RefCell;

use anyhow::ensure;
use pod_reloader_e2e::{Scenario, SeenPod, Testbed, eventually, testbed::ROLLOUT_TIMEOUT};

const APP: &str = "deployment/app";
const REVISION: &str = r".metadata.annotations.deployment\.kubernetes\.io/revision";

#[tokio::test]
async fn a_reload_keeps_to_the_settings_of_the_rolling_update() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("settings").await? else { return Ok(()) };
    space.apply("rollouts/1-config.yaml").await?;
    space.apply("rollouts/2-rolling-update.yaml").await?;
    space.rolled_out(APP).await?;

    let (most, least_ready) = follow(&space, "green").await?;
    ensure!((most, least_ready) == (3, 2), "maxUnavailable 1, maxSurge 0: {most} pods, {least_ready} ready");

    let settings = r#"{"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}}}"#;
    space.kubectl(&["patch", APP, "--patch", settings]).await?;
    ensure!(space.revisions(APP).await? == 2, "the strategy is no part of the template");
    let (most, least_ready) = follow(&space, "blue").await?;
    ensure!((most, least_ready) == (4, 3), "maxUnavailable 0, maxSurge 1: {most} pods, {least_ready} ready");
    ensure!(space.revisions(APP).await? == 3);
    Ok(())
}

/// Changes the colour, and returns how many pods there were at most, and how many were ready at least, until all three
/// are new.
async fn follow(space: &Scenario, color: &str) -> anyhow::Result<(usize, usize)> {
    let before = space.pods("app").await?;
    let seen = RefCell::new((0, usize::MAX));
    space.set("configmap/settings", "COLOR", color).await?;
    eventually(format!("three new pods with {color}"), ROLLOUT_TIMEOUT, || async {
        let pods = space.pods("app").await?;
        let ready = pods.iter().filter(|pod| pod.ready).count();
        seen.replace_with(|(most, least)| (pods.len().max(*most), ready.min(*least)));
        ensure!(ready == 3 && !pods.iter().any(|pod| before.contains(pod)), "{pods:?}");
        Ok(())
    })
    .await?;
    space.rolled_out(APP).await?;
    shows(space, "1", color).await?;
    Ok(seen.into_inner())
}

#[tokio::test]
async fn undo_brings_back_the_template_but_not_the_configuration() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("undo").await? else { return Ok(()) };
    deploy(&space).await?;
    space.kubectl(&["annotate", APP, "kubernetes.io/change-cause=version 1"]).await?;
    reload(&space, "green").await?;
    space.kubectl(&["set", "env", APP, "VERSION=2"]).await?;
    space.rolled_out(APP).await?;
    space.kubectl(&["annotate", APP, "kubernetes.io/change-cause=version 2", "--overwrite"]).await?;
    shows(&space, "2", "green").await?;
    let history = space.kubectl(&["rollout", "history", APP]).await?;
    println!("{history}");
    // A reload keeps the cause that its owner has given.
    for line in ["1         version 1", "2         version 1", "3         version 2"] {
        ensure!(history.lines().any(|other| other == line), "{history}");
    }
    let template = space.kubectl(&["rollout", "history", APP, "--revision=2"]).await?;
    ensure!(template.contains("pod-reloader.cs.sap.com/config-hash"), "{template}");

    // Version 1 with today's colour has run before: Kubernetes takes that ReplicaSet.
    undo(&space, "2").await?;
    shows(&space, "1", "green").await?;
    ensure!(space.revisions(APP).await? == 3 && space.field(APP, REVISION).await? == "4");

    // Of revision 1 only the hash is different, and that stands for a colour that is no more.
    let (pods, hash) = (space.pods("app").await?, space.config_hash(APP).await?);
    undo(&space, "1").await?;
    space.settle().await?;
    ensure!(space.revisions(APP).await? == 3 && space.field(APP, REVISION).await? == "4");
    ensure!(space.pods("app").await? == pods && space.config_hash(APP).await? == hash);

    // Version 2 has never run with blue: undoing to it is one rollout, with the present colour.
    reload(&space, "blue").await?;
    let hash = space.config_hash(APP).await?;
    undo(&space, "3").await?;
    shows(&space, "2", "blue").await?;
    space.settle().await?;
    ensure!(space.revisions(APP).await? == 5 && space.field(APP, REVISION).await? == "6");
    ensure!(space.config_hash(APP).await? == hash);
    let events = space.reload_events(APP).await?;
    ensure!(events == ["Reload triggered: configmap/settings changed"; 2], "{events:?}");
    Ok(())
}

#[tokio::test]
async fn undo_brings_back_the_lists_of_a_deployment() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("lists").await? else { return Ok(()) };
    deploy(&space).await?;
    let (hash, list) =
        (space.config_hash(APP).await?, r".metadata.annotations.pod-reloader\.cs\.sap\.com/secrets");
    space.kubectl(&["create", "secret", "generic", "other", "--from-literal=key=value"]).await?;
    space.kubectl(&["annotate", APP, "pod-reloader.cs.sap.com/secrets=other"]).await?;
    space.hash_changes(APP, &hash).await?;
    space.rolled_out(APP).await?;
    ensure!(space.field(APP, list).await? == "other" && space.revisions(APP).await? == 2);

    // Kubernetes keeps a Deployment's annotations with each revision, and the lists are some.
    undo(&space, "1").await?;
    space.settle().await?;
    ensure!(space.field(APP, list).await?.is_empty(), "the list is still there");
    ensure!(space.config_hash(APP).await? == hash);
    ensure!(space.revisions(APP).await? == 2 && space.field(APP, REVISION).await? == "3");
    let pods = space.pods("app").await?;
    space.set("secret/other", "key", "another value").await?;
    space.settle().await?;
    ensure!(space.pods("app").await? == pods, "reloaded for what is on no list");
    Ok(())
}

#[tokio::test]
async fn reloads_of_a_paused_deployment_wait_until_it_is_resumed() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("pause").await? else { return Ok(()) };
    deploy(&space).await?;
    let first = space.pods("app").await?;
    let red = space.config_hash(APP).await?;
    space.kubectl(&["rollout", "pause", APP]).await?;
    space.set("configmap/settings", "COLOR", "green").await?;
    let green = space.hash_changes(APP, &red).await?;
    space.set("configmap/settings", "COLOR", "blue").await?;
    space.hash_changes(APP, &green).await?;
    space.kubectl(&["set", "env", APP, "VERSION=2"]).await?;
    space.settle().await?;
    ensure!(space.revisions(APP).await? == 1, "a paused Deployment has a new revision");
    ensure!(space.pods("app").await? == first, "a paused Deployment has new pods");

    // Two reloads and a change of its own, in one rollout.
    space.kubectl(&["rollout", "resume", APP]).await?;
    shows(&space, "2", "blue").await?;
    space.rolled_out(APP).await?;
    ensure!(space.revisions(APP).await? == 2);
    let second = space.pods("app").await?;
    ensure!(none_stayed(&first, &second), "{second:?}");

    // What is taken back before the end of the pause has never been.
    let blue = space.config_hash(APP).await?;
    space.kubectl(&["rollout", "pause", APP]).await?;
    space.set("configmap/settings", "COLOR", "red").await?;
    space.hash_changes(APP, &blue).await?;
    let refusal = space.kubectl(&["rollout", "undo", APP]).await;
    let refusal = refusal.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refusal.contains("cannot rollback a paused deployment"), "{refusal}");
    space.set("configmap/settings", "COLOR", "blue").await?;
    eventually("the hash to return", ROLLOUT_TIMEOUT, || async {
        ensure!(space.config_hash(APP).await? == blue);
        Ok(())
    })
    .await?;
    space.kubectl(&["rollout", "resume", APP]).await?;
    space.settle().await?;
    ensure!(space.revisions(APP).await? == 2 && space.pods("app").await? == second);

    // `restart` is a rollout of its owner's: the hash stays.
    space.kubectl(&["rollout", "restart", APP]).await?;
    space.rolled_out(APP).await?;
    ensure!(space.revisions(APP).await? == 3 && space.config_hash(APP).await? == blue);
    ensure!(none_stayed(&second, &space.pods("app").await?));
    Ok(())
}

/// The first revision, with two pods.
async fn deploy(space: &Scenario) -> anyhow::Result<()> {
    space.apply("rollouts/1-config.yaml").await?;
    space.apply("rollouts/2-rolling-update.yaml").await?;
    space.kubectl(&["scale", APP, "--replicas=2"]).await?;
    space.rolled_out(APP).await?;
    shows(space, "1", "red").await
}

/// Changes the colour, and waits for the rollout.
async fn reload(space: &Scenario, color: &str) -> anyhow::Result<()> {
    let before = space.config_hash(APP).await?;
    space.set("configmap/settings", "COLOR", color).await?;
    space.hash_changes(APP, &before).await?;
    space.rolled_out(APP).await
}

async fn undo(space: &Scenario, revision: &str) -> anyhow::Result<()> {
    let said = space.kubectl(&["rollout", "undo", APP, &format!("--to-revision={revision}")]).await?;
    println!("undo to revision {revision}: {said}");
    space.rolled_out(APP).await
}

async fn shows(space: &Scenario, version: &str, color: &str) -> anyhow::Result<()> {
    let what = format!("version {version} in {color}");
    space
        .get_until("app", "/", &what, |answer| {
            let env = &answer["at_start"]["env"];
            env["VERSION"] == version && env["COLOR"] == color
        })
        .await?;
    Ok(())
}

fn none_stayed(before: &[SeenPod], after: &[SeenPod]) -> bool {
    !after.iter().any(|pod| before.contains(pod))
}
