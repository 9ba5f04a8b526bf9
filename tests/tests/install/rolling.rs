//! An upgrade of the operator itself, under a constant stream of writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::ensure;
use kube::api::{Patch, PatchParams};
use pod_reloader_e2e::objects::{self, KindRef, apps};
use pod_reloader_e2e::world::release;
use pod_reloader_e2e::{Release, TIMEOUT, User, eventually, let_pass};
use serde_json::json;

const NAMESPACE: &str = "operators";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;
const WRITERS: usize = 4;

/// How long a node may take to notice that a pod is going.
const NODES_NOTICE: std::time::Duration = std::time::Duration::from_secs(2);

#[tokio::test]
async fn a_rolling_upgrade_under_writes_loses_no_admission_request() -> anyhow::Result<()> {
    let Some(world) = release::world().await? else { return Ok(()) };
    let space = world.space().await?;
    let mut release = Release::install(&world, NAMESPACE, &["--set=settleWindow=300ms"]).await?;
    let mut replicas =
        vec![release.start_replica(&world, "old-1").await?, release.start_replica(&world, "old-2").await?];
    // The worst case: all connections are with the one that goes next.
    release.route_to(&world, &[&replicas[0]]).await?;
    space.configmap("settings", "one").await?;

    let done = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let name = format!("app-{writer}");
        space.create(&objects::listing(&name, "settings")).await?;
        // Without retries: a write that is refused shows.
        let api =
            objects::api(world.plane.client_without_retries(User::Editor).await?, DEPLOYMENT, &space.name);
        let (done, written) = (done.clone(), written.clone());
        writers.spawn(async move {
            for turn in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                // Both kinds of request: those that are answered from what is there, and those that read.
                let patch = if turn % 2 == 0 {
                    json!({"metadata": {"labels": {"turn": turn.to_string()}}})
                } else {
                    json!({"spec": {"template": {"metadata": {"labels": {"turn": turn.to_string()}}}}})
                };
                let written_object = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
                ensure!(objects::config_hash(&written_object).is_some(), "{name} lost its hash");
                written.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    let goes_on = || async {
        let before = written.load(Ordering::Relaxed);
        eventually("more writes", TIMEOUT, || async {
            ensure!(written.load(Ordering::Relaxed) > before + 50, "they stand still");
            Ok(())
        })
        .await
    };

    // As the Deployment has it: a new one is ready before an old one is told to go.
    for turn in 1..=2 {
        goes_on().await?;
        replicas.push(release.start_replica(&world, &format!("new-{turn}")).await?);
        let mut old = replicas.remove(0);
        let end = old.terminate(TIMEOUT);
        // Until the nodes have noticed, new connections still go to the one that is going.
        let notice = async {
            let_pass(NODES_NOTICE).await;
            release.route_to(&world, &[&replicas[0]]).await
        };
        let (status, routed) = tokio::join!(end, notice);
        routed?;
        ensure!(status?.success(), "it did not end in good order");
    }
    goes_on().await?;
    done.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    assert!(written.load(Ordering::Relaxed) > 200);

    // Nobody missed a change meanwhile, either.
    let before = space.hash(DEPLOYMENT, "app-0").await?;
    space.configmap("settings", "two").await?;
    space.hash_changes(DEPLOYMENT, "app-0", &before).await?;
    Ok(())
}
