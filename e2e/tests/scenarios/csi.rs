//! docs/examples/csi.md: a Secret that a controller makes, owns and rotates, as the Secrets Store CSI driver does.

use anyhow::ensure;
use pod_reloader_e2e::{Scenario, Testbed, eventually, testbed::ROLLOUT_TIMEOUT};
use serde_json::{Value, json};

const APP: &str = "deployment/app";

#[tokio::test]
async fn a_synced_secret_reloads_when_it_is_rotated_and_only_then() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("csi").await? else { return Ok(()) };
    space.apply("csi/1-app.yaml").await?;
    eventually("the pod to wait for the Secret", ROLLOUT_TIMEOUT, || async {
        let path = ".items[*].status.containerStatuses[*].state.waiting.reason";
        let output = format!("jsonpath={{{path}}}");
        let reason = space.kubectl(&["get", "pods", "--selector=app=app", "--output", &output]).await?;
        ensure!(reason == "CreateContainerConfigError", "{reason}");
        Ok(())
    })
    .await?;
    let waiting = space.pods("app").await?;

    // No pod can have started without it, so it is no change when it comes.
    let args = ["apply", "--server-side", "--field-manager=secrets-store-csi-driver", "-f", "-"];
    space.with_input(&args, include_str!("../../../docs/examples/csi/2-synced.yaml")).await?;
    shows(&space, "first").await?;
    space.settle().await?;
    let first = space.pods("app").await?;
    ensure!(first.len() == 1 && first[0].name == waiting[0].name, "{first:?} instead of {waiting:?}");

    // The driver makes the ReplicaSets of its pods owners, and it writes what is there already.
    let mut owners = owner_references(&space).await?;
    ensure!(owners.len() == 1, "{owners:?}");
    rewrite(&space, &json!({"metadata": {"ownerReferences": owners}})).await?;
    rewrite(&space, &json!({"metadata": {"labels": {"rotation": "1"}}, "data": {"password": "Zmlyc3Q="}}))
        .await?;
    space.settle().await?;
    ensure!(space.revisions(APP).await? == 1, "the content was the same");
    ensure!(space.pods("app").await? == first, "a pod was restarted");

    // Rotated.
    let hash = space.config_hash(APP).await?;
    rewrite(&space, &json!({"metadata": {"labels": {"rotation": "2"}}, "data": {"password": "c2Vjb25k"}}))
        .await?;
    space.hash_changes(APP, &hash).await?;
    space.rolled_out(APP).await?;
    shows(&space, "second").await?;
    let second = space.pods("app").await?;
    ensure!(second.len() == 1 && second[0].name != first[0].name, "{second:?}");

    // The rollout has the driver write once more: the new ReplicaSet is an owner too. That must not go round.
    owners = owner_references(&space).await?;
    ensure!(owners.len() == 2, "{owners:?}");
    rewrite(&space, &json!({"metadata": {"ownerReferences": owners}})).await?;
    space.settle().await?;
    ensure!(space.revisions(APP).await? == 2 && space.pods("app").await? == second);
    let events = space.reload_events(APP).await?;
    ensure!(events == ["Reload triggered: secret/database changed"], "{events:?}");
    Ok(())
}

/// Writes the Secret as its driver. It is an error if that is no write.
async fn rewrite(space: &Scenario, change: &Value) -> anyhow::Result<()> {
    let version = ".metadata.resourceVersion";
    let before = space.field("secret/database", version).await?;
    let manager = "--field-manager=secrets-store-csi-driver";
    let change = change.to_string();
    space.kubectl(&["patch", "secret/database", manager, "--type=merge", "--patch", &change]).await?;
    ensure!(space.field("secret/database", version).await? != before, "nothing was written: {change}");
    Ok(())
}

/// What makes the `ReplicaSets` owners of the Secret.
async fn owner_references(space: &Scenario) -> anyhow::Result<Vec<Value>> {
    let sets = space.kubectl(&["get", "replicasets", "--selector=app=app", "--output=json"]).await?;
    let sets: Value = serde_json::from_str(&sets)?;
    let reference = |set: &Value| {
        let meta = &set["metadata"];
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": meta["name"], "uid": meta["uid"]})
    };
    Ok(sets["items"].as_array().into_iter().flatten().map(reference).collect())
}

async fn shows(space: &Scenario, password: &str) -> anyhow::Result<()> {
    let seen = |answer: &Value| answer["at_start"]["env"]["PASSWORD"] == password;
    space.get_until("app", "/", &format!("the {password} password"), seen).await?;
    Ok(())
}
