//! 5.7: connections that never answer, seen through a real API server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use pod_reloader_e2e::objects::{self, KindRef, apps};
use pod_reloader_e2e::world::wire::behind_wire;
use pod_reloader_e2e::{Space, TIMEOUT, eventually};
use tokio::time::Instant;

const APP: &str = "app";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;
/// Within a minute a change is seen, whatever hung; the settle window and the patch come on top.
const BOUND: Duration = Duration::from_secs(65);

#[tokio::test]
async fn c5_7_a_change_is_seen_within_a_minute_though_all_open_connections_hang() -> anyhow::Result<()> {
    let (world, wire) = behind_wire(&["--settle-window=500ms"]).await?;
    let space = world.space().await?;
    space.configmap("settings", "zero").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.settle().await?;
    // A burst of writes fills the pool with connections that are idle afterwards.
    let burst = (0..20).map(|i| {
        let space = &space;
        async move {
            let name = format!("burst-{i}");
            space.create(&objects::listing(&name, &format!("settings,{name}"))).await
        }
    });
    futures::future::try_join_all(burst).await?;
    space.settle().await?;
    for round in 0..2 {
        let before = space.hash(DEPLOYMENT, APP).await?;
        wire.hang_open_connections();
        let began = Instant::now();
        space.configmap("settings", &format!("round {round}")).await?;
        eventually("the change to be seen", BOUND, || async {
            ensure!(space.hash(DEPLOYMENT, APP).await? != before, "the hash is what it was");
            Ok(())
        })
        .await?;
        ensure!(began.elapsed() <= BOUND, "{:?}", began.elapsed());
    }
    space.settle().await?;
    space.expect_revisions(DEPLOYMENT, APP, 3).await?;
    let metrics = world.replicas[0].metrics().await?;
    let ages = metrics.lines().filter(|line| line.starts_with("pod_reloader_watch_age_seconds{"));
    // Five kinds of workload, two of config objects, and the labels of namespaces.
    ensure!(ages.count() == 8, "{metrics}");
    Ok(())
}

#[tokio::test]
async fn c4_2_a_create_after_all_connections_hang_gets_its_hash_after_some_seconds() -> anyhow::Result<()> {
    let (world, wire) = behind_wire(&["--settle-window=500ms"]).await?;
    let space = world.space().await?;
    for i in 0..8 {
        space.configmap(&format!("settings-{i}"), "one").await?;
    }
    let workload = |i: usize| {
        let names: Vec<_> = (0..3).map(|j| format!("settings-{}", (i + j) % 8)).collect();
        objects::listing(&format!("app-{i}"), &names.join(","))
    };
    // The pool has connections.
    futures::future::try_join_all((0..8).map(|i| {
        let (space, workload) = (&space, workload(i));
        async move { space.create(&workload).await }
    }))
    .await?;
    space.settle().await?;
    wire.hang_open_connections();
    for i in 8..16 {
        let began = Instant::now();
        let created = space.create(&workload(i)).await?;
        objects::config_hash(&created).with_context(|| format!("CREATE {i} got no hash"))?;
        ensure!(began.elapsed() < Duration::from_secs(6), "CREATE {i} took {:?}", began.elapsed());
    }
    Ok(())
}

#[tokio::test]
async fn c5_5_a_workload_that_others_write_all_the_time_is_reloaded_within_seconds_over_the_api()
-> anyhow::Result<()> {
    let (world, _wire) = behind_wire(&["--settle-window=500ms"]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.settle().await?;
    let before = space.hash(DEPLOYMENT, APP).await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let written = AtomicUsize::new(0);
    let loops = (0..3).map(|i| {
        let (space, stopped, written) = (&space, stopped.clone(), &written);
        async move {
            while !*stopped.borrow() {
                let count = written.fetch_add(1, Ordering::SeqCst).to_string();
                space.patch(DEPLOYMENT, APP, Space::label(&format!("loop-{i}"), Some(&count))).await?;
            }
            anyhow::Ok(())
        }
    });
    let change = async {
        eventually("the loops to write", TIMEOUT, || async {
            ensure!(written.load(Ordering::SeqCst) > 30, "they do not yet");
            Ok(())
        })
        .await?;
        space.configmap("settings", "two").await?;
        let began = Instant::now();
        let seen = eventually("the reload", TIMEOUT, || async {
            ensure!(space.hash(DEPLOYMENT, APP).await? != before, "the hash is what it was");
            Ok(())
        })
        .await;
        stop.send_replace(true);
        seen?;
        ensure!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        anyhow::Ok(())
    };
    let (changed, loops) = tokio::join!(change, futures::future::try_join_all(loops));
    changed?;
    loops?;
    space.settle().await?;
    space.expect_revisions(DEPLOYMENT, APP, 2).await
}
