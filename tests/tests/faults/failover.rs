//! 5.1: one leads, another takes over.

use std::time::{Duration, Instant};

use anyhow::ensure;
use pod_reloader_e2e::objects::{self, KindRef, apps};
use pod_reloader_e2e::{TIMEOUT, World, eventually};

const APP: &str = "app";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;
const ARGS: &[&str] = &["--leader-elect", "--settle-window=500ms"];

/// Which replica leads.
pub(crate) async fn leader(world: &World) -> anyhow::Result<usize> {
    eventually("a leader", TIMEOUT, || async {
        for (i, replica) in world.replicas.iter().enumerate() {
            // A replica that does not answer does not count.
            if replica
                .metrics()
                .await
                .is_ok_and(|metrics| metrics.lines().any(|line| line == "pod_reloader_leader 1"))
            {
                return Ok(i);
            }
        }
        anyhow::bail!("none")
    })
    .await
}

pub(crate) async fn two_replicas() -> anyhow::Result<World> {
    let mut world = World::without_operator().await?;
    world.start_replica("replica-1", ARGS).await?;
    world.start_replica("replica-2", ARGS).await?;
    world.register().await?;
    Ok(world)
}

#[tokio::test]
async fn c5_1_a_successor_takes_over_and_no_change_is_lost_or_doubled() -> anyhow::Result<()> {
    let mut world = two_replicas().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.settle().await?;
    // Asked to go: at once, far sooner than the Lease would run out.
    let first = leader(&world).await?;
    let began = Instant::now();
    let mut gone = world.replicas.remove(first);
    gone.terminate(TIMEOUT).await?;
    leader(&world).await?;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    world.register().await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            space.configmap("settings", "two").await.map(drop)
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn c5_1_a_leader_that_was_paused_overwrites_nothing() -> anyhow::Result<()> {
    let mut world = two_replicas().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.settle().await?;
    let paused = leader(&world).await?;
    world.replicas[paused].pause()?;
    let other = 1 - paused;
    // Its webhook would be waited for; only the other is asked meanwhile.
    let registration = pod_reloader_e2e::Registration::new([world.replicas[other].webhook_url()]);
    world.apply(&registration.ca_bundle(world.authority.pem())).await?;
    let before = space.hash(DEPLOYMENT, APP).await?;
    space.configmap("settings", "two").await?;
    let changed = space.hash_changes(DEPLOYMENT, APP, &before).await?;
    world.replicas[paused].resume()?;
    world.register().await?;
    eventually("the one that was paused to step back", TIMEOUT, || async {
        let metrics = world.replicas[paused].metrics().await?;
        ensure!(metrics.lines().any(|line| line == "pod_reloader_leader 0"), "it leads still");
        Ok(())
    })
    .await?;
    space.settle().await?;
    assert_eq!(space.hash(DEPLOYMENT, APP).await?, changed);
    space.expect_revisions(DEPLOYMENT, APP, 2).await
}
