//! 5.5, 5.7, 5.8: answers of the API server that are bad, lost or cut off.

use anyhow::ensure;
use base64::Engine;
use kube::api::DeleteParams;
use pod_reloader_e2e::objects::{self, KindRef, apps};
use pod_reloader_e2e::world::proxy::{Faults, Proxy, behind_proxy};
use pod_reloader_e2e::{Space, TIMEOUT, User, World, eventually};
use serde_json::json;

const APP: &str = "app";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;
const WINDOW: &str = "--settle-window=500ms";

#[tokio::test]
async fn c5_7_expired_watches_lose_no_change() -> anyhow::Result<()> {
    let (world, proxy) = behind_proxy(&[WINDOW]).await?;
    let space = world.space().await?;
    for name in ["settings", "optional", "late"] {
        space.configmap(name, "one").await?;
    }
    let optional = objects::env_from(objects::listing("optional", "optional"), "optional", true);
    for workload in [objects::listing(APP, "settings"), optional, objects::listing("late", "late")] {
        space.create(&workload).await?;
    }
    space.settle().await?;
    let before = space.hash(DEPLOYMENT, "late").await?;

    // All watches end, and none can begin: whatever is seen from here on is seen by listing.
    let failed = proxy.failed_watches();
    proxy.set(Faults { expire_watches: true, ..Faults::default() });
    space.configmap("settings", "two").await?;
    space.delete_configmap("optional").await?;
    space.workloads(DEPLOYMENT).delete("late", &DeleteParams::default()).await?;
    eventually("all five watches to have been refused", TIMEOUT, || async {
        ensure!(proxy.failed_watches() >= failed + 5, "{}", proxy.failed_watches());
        Ok(())
    })
    .await?;
    proxy.set(Faults::default());
    space.settle().await?;
    space.expect_revisions(DEPLOYMENT, APP, 2).await?;
    space.expect_revisions(DEPLOYMENT, "optional", 2).await?;

    // Nothing is left of what went meanwhile: another one of that name starts from nothing.
    space.configmap("late", "two").await?;
    space.create(&objects::listing("late", "late")).await?;
    space.settle().await?;
    space.expect_revisions(DEPLOYMENT, "late", 1).await?;
    assert_ne!(space.hash(DEPLOYMENT, "late").await?, before);
    for (name, reloads) in [(APP, 1), ("optional", 1), ("late", 0)] {
        assert_eq!(space.events(name, "ConfigurationChanged").await?.len(), reloads, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn c5_5_a_patch_whose_answer_is_lost_is_made_once_and_told_of() -> anyhow::Result<()> {
    let (world, proxy) = behind_proxy(&[WINDOW]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.settle().await?;
    let mark = world.audit().mark().await?;
    let before = space.hash(DEPLOYMENT, APP).await?;
    proxy.set(Faults { lose_patch_answers: true, ..Faults::default() });
    space.configmap("settings", "two").await?;
    space.hash_changes(DEPLOYMENT, APP, &before).await?;
    proxy.set(Faults::default());
    space.settle().await?;
    space.expect_revisions(DEPLOYMENT, APP, 2).await?;
    let writes = world.audit().writes_by(User::Operator, mark).await?;
    let patches = writes.iter().filter(|write| write.is_about("deployments") && write.name == APP);
    assert_eq!(patches.filter(|write| write.succeeded()).count(), 1);
    let notes = space.event_comes(APP, "ConfigurationChanged").await?;
    assert_eq!(notes.len(), 1, "{notes:?}");
    Ok(())
}

#[tokio::test]
async fn c5_8_secret_content_never_appears_in_what_is_said_of_broken_answers() -> anyhow::Result<()> {
    let (world, proxy) = behind_proxy(&[WINDOW, "--zap-log-level=5"]).await?;
    let space = world.space().await?;
    // Long, so that wherever an answer is cut off there is some of it on both sides.
    let value = |word: &str| word.repeat(100);
    apply(&world, &space, &value("hunter2-one")).await?;
    let lists = json!({objects::SECRETS: "database"});
    space.create(&objects::workload(DEPLOYMENT, APP, lists.clone())).await?;
    space.settle().await?;

    cut_reads(&world, &proxy, async || {
        apply(&world, &space, &value("hunter2-two")).await?;
        // The webhook reads too: metadata, with the whole Secret in an annotation, and content.
        let image =
            objects::image(objects::workload(DEPLOYMENT, APP, lists.clone()), "example.invalid/app:2");
        space.replace(&image).await?;
        space.create(&objects::workload(DEPLOYMENT, "new", lists.clone())).await?;
        Ok(())
    })
    .await?;
    proxy.set(Faults::default());
    eventually("the new one to have a hash", TIMEOUT, || space.hash(DEPLOYMENT, "new")).await?;

    let log = world.replicas[0].log_text()?;
    assert!(log.contains("cannot read a config object"), "{log}");
    let metrics = world.replicas[0].metrics().await?;
    let events = world.kubectl().run(["get", "events", "-A", "-o", "json"]).await?;
    let encoded = base64::engine::general_purpose::STANDARD.encode("hunter2-");
    for (what, text) in [("log", &log), ("metrics", &metrics), ("Events", &events)] {
        let found = ["hunter2", &encoded[..8]].into_iter().find(|secret| text.contains(secret));
        assert_eq!(found, None, "in the {what}: {text}");
    }
    Ok(())
}

/// With kubectl apply, so that the content stands in an annotation too.
async fn apply(world: &World, space: &Space, password: &str) -> anyhow::Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database", "namespace": space.name},
        "stringData": {"password": password}
    });
    world.kubectl().run_with_input(["apply", "-f", "-"], &secret.to_string()).await.map(drop)
}

/// Does that while reads are cut off, and returns when the reconciler has come across it too.
async fn cut_reads(
    world: &World,
    proxy: &Proxy,
    act: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    proxy.set(Faults { cut_reads: true, ..Faults::default() });
    act().await?;
    let errors = async || {
        let metrics = world.replicas[0].metrics().await?;
        let lines = metrics.lines().filter(|line| {
            line.starts_with("pod_reloader_api_errors_total{") && line.contains("\"read_config\"")
        });
        anyhow::Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).sum::<usize>())
    };
    let before = errors().await?;
    eventually("more reads to fail", TIMEOUT, || async {
        let errors = errors().await?;
        ensure!(errors > before + 1, "{errors}");
        Ok(())
    })
    .await
}
