//! docs/examples/rollouts.md: workloads whose pods do not follow one by one.

use std::cell::Cell;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use pod_reloader_e2e::{Scenario, Testbed, eventually, testbed::ROLLOUT_TIMEOUT};

#[tokio::test]
async fn recreate_ends_all_old_pods_before_it_starts_new_ones() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("recreate").await? else { return Ok(()) };
    space.apply("rollouts/1-config.yaml").await?;
    space.apply("rollouts/3-recreate.yaml").await?;
    space.rolled_out("deployment/app-recreate").await?;
    let first = space.pods("app-recreate").await?;

    space.set("configmap/settings", "COLOR", "green").await?;
    let together = Cell::new(0);
    let gone = Cell::new(false);
    let pods = Api::<Pod>::namespaced(space.client.clone(), &space.name);
    eventually("new pods only", ROLLOUT_TIMEOUT, || async {
        // Those that are going still run, until all their containers have ended.
        let mut pods = pods.list(&ListParams::default().labels("app=app-recreate")).await?.items;
        pods.retain(|pod| !has_ended(pod));
        let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
        let old = names.iter().filter(|name| first.iter().any(|pod| pod.name == **name)).count();
        let new = names.len() - old;
        together.set(together.get().max(old.min(new)));
        let ready = space.pods("app-recreate").await?.iter().filter(|pod| pod.ready).count();
        gone.set(gone.get() || ready == 0);
        ensure!((old, new, ready) == (0, 2, 2), "{old} old pods, {new} new ones, {ready} are ready");
        Ok(())
    })
    .await?;
    ensure!(together.get() == 0, "old and new pods ran together");
    ensure!(gone.get(), "a reload by Recreate is an interruption, which has not been seen");
    let answer = space.get_from_service("app-recreate", "/").await?;
    ensure!(answer["at_start"]["env"]["COLOR"] == "green", "{answer}");
    ensure!(space.revisions("deployment/app-recreate").await? == 2);
    Ok(())
}

#[tokio::test]
async fn on_delete_waits_until_somebody_deletes_a_pod() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("ondelete").await? else { return Ok(()) };
    space.apply("rollouts/1-config.yaml").await?;
    space.apply("rollouts/4-on-delete.yaml").await?;
    let workloads = [("statefulset/app-stateful", "app-stateful"), ("daemonset/app-daemon", "app-daemon")];
    let mut first = Vec::new();
    for (workload, app) in workloads {
        all_ready(&space, app).await?;
        first.push((space.config_hash(workload).await?, space.pods(app).await?));
    }

    space.set("configmap/settings", "COLOR", "green").await?;
    for ((workload, _), (hash, _)) in workloads.iter().zip(&first) {
        space.hash_changes(workload, hash).await?;
    }
    space.settle().await?;
    for ((workload, app), (_, pods)) in workloads.iter().zip(&first) {
        ensure!(space.revisions(workload).await? == 2);
        let events = space.reload_events(workload).await?;
        ensure!(events == ["Reload triggered: configmap/settings changed"], "{workload}: {events:?}");
        ensure!(space.pods(app).await? == *pods, "pods of {workload} followed by themselves");
        ensure!(color(&space, &pods[0].name).await? == "red");
    }

    space.kubectl(&["delete", "pod", "app-stateful-1"]).await?;
    space.kubectl(&["delete", "pods", "--selector=app=app-daemon"]).await?;
    all_ready(&space, "app-stateful").await?;
    all_ready(&space, "app-daemon").await?;
    let (stateful, daemon) = (space.pods("app-stateful").await?, space.pods("app-daemon").await?);
    ensure!(color(&space, "app-stateful-1").await? == "green");
    ensure!(color(&space, &daemon[0].name).await? == "green");
    ensure!(stateful[0] == first[0].1[0], "the pod that was not deleted is another");
    ensure!(color(&space, "app-stateful-0").await? == "red");

    // The revision before is different in its hash only, which stands for a colour that is no more.
    for (workload, _) in workloads {
        let hash = space.config_hash(workload).await?;
        let said = space.kubectl(&["rollout", "undo", workload]).await?;
        println!("{workload}: {said}");
        space.settle().await?;
        ensure!(space.revisions(workload).await? == 2 && space.config_hash(workload).await? == hash);
    }
    Ok(())
}

#[tokio::test]
async fn a_partition_holds_back_the_pods_below_it() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("partition").await? else { return Ok(()) };
    let stateful = "statefulset/app-stateful";
    space.apply("rollouts/1-config.yaml").await?;
    space.apply("rollouts/4-on-delete.yaml").await?;
    all_ready(&space, "app-stateful").await?;
    let first = space.pods("app-stateful").await?;
    partition(&space, 1).await?;

    space.set("configmap/settings", "COLOR", "green").await?;
    eventually("the second pod in green", ROLLOUT_TIMEOUT, || async {
        ensure!(color(&space, "app-stateful-1").await? == "green");
        Ok(())
    })
    .await?;
    space.settle().await?;
    ensure!(space.pods("app-stateful").await?[0] == first[0], "the first pod is another");
    ensure!(color(&space, "app-stateful-0").await? == "red");

    partition(&space, 0).await?;
    space.rolled_out(stateful).await?;
    ensure!(color(&space, "app-stateful-0").await? == "green");
    ensure!(space.revisions(stateful).await? == 2, "the partition is no part of the template");
    Ok(())
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

async fn partition(space: &Scenario, below: usize) -> anyhow::Result<()> {
    let strategy = serde_json::json!({"type": "RollingUpdate", "rollingUpdate": {"partition": below}});
    let patch = serde_json::json!({"spec": {"updateStrategy": strategy}}).to_string();
    space.kubectl(&["patch", "statefulset/app-stateful", "--patch", &patch]).await?;
    Ok(())
}

/// `kubectl rollout status` says nothing of workloads whose pods are not updated by themselves.
async fn all_ready(space: &Scenario, app: &str) -> anyhow::Result<()> {
    let wanted = if app == "app-stateful" { 2 } else { 1 };
    eventually(format!("the pods of {app} to be ready"), ROLLOUT_TIMEOUT, || async {
        let pods = space.pods(app).await?;
        ensure!(pods.len() == wanted && pods.iter().all(|pod| pod.ready), "{pods:?}");
        Ok(())
    })
    .await
}

/// The colour that a pod saw at its start.
async fn color(space: &Scenario, pod: &str) -> anyhow::Result<String> {
    let answer = space.get_from_pod(&format!("{pod}:8080"), "/").await?;
    Ok(answer["at_start"]["env"]["COLOR"].as_str().unwrap_or_default().to_owned())
}
