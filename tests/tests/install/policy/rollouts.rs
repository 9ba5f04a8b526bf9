//! Argo's Rollouts: their `spec.restartAt` is the operator's where they ask for it (9.5), and nowhere else.

use std::path::Path;

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use pod_reloader_core::annotation::ON_CHANGE;
use pod_reloader_core::kind::argo::ROLLOUT;
use pod_reloader_e2e::objects::{CONFIGMAPS, IGNORED, OBSERVED_CONFIG};
use pod_reloader_e2e::{TIMEOUT, eventually, policy};
use serde_json::{Value, json};

use super::attempts::{Attempt, MERGE, OTHER_HASH, path, workload};
use super::world;

const AT: &str = "2026-11-27T20:00:01Z";

fn rollout(name: &str, namespace: &str, on_change: &str) -> Value {
    let mut rollout = workload(ROLLOUT, name, &json!({CONFIGMAPS: "settings", ON_CHANGE: on_change}));
    rollout["metadata"]["namespace"] = json!(namespace);
    rollout["spec"]["restartAt"] = json!("2020-01-01T00:00:00Z");
    rollout
}

#[tokio::test]
async fn c5_5_c9_5_rollouts_that_ask_for_it_can_be_restarted_and_no_others() -> anyhow::Result<()> {
    let (world, operator) = world().await?;
    let space = world.space().await?;
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/custom_kinds/crds");
    let crd = crds.join("rollouts.argoproj.io.yaml").display().to_string();
    world.kubectl().run(["apply", "--server-side", "-f", &crd]).await?;
    let policies = policy::render(&["--set=workloads={argo-rollouts}"]).await?;
    world.kubectl().run_with_input(["apply", "--validate=strict", "-f", "-"], &policies).await?;

    let mut ignored = rollout("ignored", &space.name, "restart-at");
    ignored["metadata"]["labels"][IGNORED] = json!("true");
    let items =
        [rollout("asks", &space.name, "restart-at"), rollout("rolls-out", &space.name, "rollout"), ignored];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    // As GitOps tools do: restartAt is somebody's whom the operator takes it from.
    eventually("the Rollouts to be taken", TIMEOUT, || async {
        world.kubectl().run_with_input(["apply", "--server-side", "-f", "-"], &list).await.context("not yet")
    })
    .await?;

    let patch = |what: &str, name: &str, body: Value| {
        Attempt::new(what, Method::PATCH, path(ROLLOUT, &space.name, &format!("/{name}")), MERGE, body)
    };
    let recorded = json!({"annotations": {OBSERVED_CONFIG: "{\"v\":1}"}});
    let restart = json!({"metadata": recorded, "spec": {"restartAt": AT}});
    let with_hash = json!({"metadata": recorded, "spec": {"template": {"metadata": {"annotations": {
        "pod-reloader.cs.sap.com/config-hash": OTHER_HASH}}}}});
    let refused = [
        patch("one that rolls out", "rolls-out", restart.clone()),
        patch("one that is ignored", "ignored", json!({"spec": {"restartAt": AT}})),
        patch("no restart", "asks", json!({"spec": {"restartAt": null}})),
        patch("more than a restart", "asks", json!({"spec": {"restartAt": AT, "paused": true}})),
        patch("paused", "asks", json!({"spec": {"paused": true}})),
        patch("on-change", "rolls-out", json!({"metadata": {"annotations": {ON_CHANGE: "restart-at"}}})),
    ];
    for attempt in refused {
        // The policies are taken up one by one.
        eventually(format!("{} to be refused", attempt.what), TIMEOUT, || async {
            let (status, said) = attempt.send(&operator).await?;
            ensure!(
                status == StatusCode::FORBIDDEN && said.contains(policy::SENTENCE),
                "{status}: {said:.500}"
            );
            Ok(())
        })
        .await?;
    }
    let allowed = [
        patch("a restart", "asks", restart),
        patch("a rollout all the same", "asks", with_hash.clone()),
        patch("a rollout", "rolls-out", with_hash),
    ];
    for attempt in allowed {
        let (status, said) = attempt.send(&operator).await?;
        ensure!(status.is_success(), "{} should be allowed: {status}: {said:.500}", attempt.what);
    }
    Ok(())
}
