//! 5.1: leaders that vanish, Leases that are meddled with, and several reconcilers at once.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pod_reloader_e2e::objects::{self, KindRef, apps};
use pod_reloader_e2e::{Operator, Registration, TIMEOUT, World, eventually};
use serde_json::json;

use crate::failover::{leader, two_replicas};

const APP: &str = "app";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;
const LEASE: &str = "pod-reloader.cs.sap.com";

#[tokio::test]
async fn c5_1_a_killed_leader_is_followed_when_its_lease_runs_out() -> anyhow::Result<()> {
    let mut world = two_replicas().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.create(&objects::listing("other", "settings")).await?;
    space.settle().await?;
    let first = leader(&world).await?;
    let mut gone = world.replicas.remove(first);
    // It dies in the middle of things: inside the settle window of a change.
    space.configmap("settings", "two").await?;
    gone.kill()?;
    let killed = Instant::now();
    world.register().await?;
    // Meanwhile the survivor's webhook answers, and carries the change along with a rollout.
    let image = objects::image(objects::listing("other", "settings"), "example.invalid/app:2");
    space.replace(&image).await?;

    leader(&world).await?;
    assert!(killed.elapsed() < Duration::from_secs(30), "{:?}", killed.elapsed());
    space.settle().await?;
    for workload in [APP, "other"] {
        space.expect_revisions(DEPLOYMENT, workload, 2).await?;
    }
    assert_eq!(space.event_comes(APP, "ConfigurationChanged").await?.len(), 1);
    assert_eq!(space.events("other", "ConfigurationChanged").await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn c5_1_one_leads_again_after_somebody_meddled_with_the_lease() -> anyhow::Result<()> {
    let world = two_replicas().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.settle().await?;
    let leases = Api::<Lease>::namespaced(world.admin().await?, "pod-reloader");
    let lead = async || {
        let mut leaders = 0;
        for replica in &world.replicas {
            leaders +=
                usize::from(replica.metrics().await?.lines().any(|line| line == "pod_reloader_leader 1"));
        }
        anyhow::Ok(leaders)
    };
    let stolen = json!({"spec": {"holderIdentity": "somebody-else"}});
    for round in ["deleted", "stolen"] {
        let before = space.hash(DEPLOYMENT, APP).await?;
        let revisions = space.revisions(DEPLOYMENT, APP).await?;
        if round == "deleted" {
            leases.delete(LEASE, &DeleteParams::default()).await?;
        } else {
            leases.patch(LEASE, &PatchParams::default(), &Patch::Merge(&stolen)).await?;
            eventually("whoever led to step back", TIMEOUT, || async {
                ensure!(lead().await? == 0, "somebody leads still");
                Ok(())
            })
            .await?;
        }
        space.configmap("settings", round).await?;
        space.hash_changes(DEPLOYMENT, APP, &before).await?;
        eventually("one leader", TIMEOUT, || async {
            let leaders = lead().await?;
            let holder = leases.get(LEASE).await?.spec.and_then(|spec| spec.holder_identity);
            let holder = holder.context("nobody holds it")?;
            ensure!(leaders == 1 && holder != "somebody-else", "{leaders} lead, {holder} holds the Lease");
            Ok(())
        })
        .await?;
        space.settle().await?;
        space.expect_revisions(DEPLOYMENT, APP, revisions + 1).await?;
    }
    assert_eq!(space.events(APP, "ConfigurationChanged").await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn c5_5_two_reconcilers_at_once_neither_double_nor_undo() -> anyhow::Result<()> {
    const COUNT: usize = 15;
    let mut world = World::without_operator().await?;
    // Started together and without an election, which is a mistake to make with two replicas.
    let first = world.replica_options("replica-1", &["--settle-window=500ms"])?;
    let second = world.replica_options("replica-2", &["--settle-window=500ms"])?;
    let (first, second) = tokio::try_join!(Operator::spawn(&first), Operator::spawn(&second))?;
    world.replicas = vec![first, second];
    let logs = [world.replicas[0].log_text()?, world.replicas[1].log_text()?].concat();
    assert_eq!(logs.matches("made a new digest key").count(), 1, "2.2: {logs}");
    world.register().await?;

    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    for i in 0..COUNT {
        space.create(&objects::listing(&format!("app-{i}"), "settings")).await?;
    }
    space.settle().await?;
    for value in ["two", "three"] {
        let before = space.hash(DEPLOYMENT, "app-0").await?;
        space.configmap("settings", value).await?;
        for i in 0..COUNT {
            space.hash_changes(DEPLOYMENT, &format!("app-{i}"), &before).await?;
        }
        space.settle().await?;
    }
    for i in 0..COUNT {
        let name = format!("app-{i}");
        space.expect_revisions(DEPLOYMENT, &name, 3).await?;
        assert_eq!(space.events(&name, "ConfigurationChanged").await?.len(), 2, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn c4_8_a_replica_that_starts_before_the_api_server_gets_ready_in_time() -> anyhow::Result<()> {
    let mut world = World::without_operator().await?;
    let name = {
        let space = world.space().await?;
        space.configmap("settings", "one").await?;
        space.create(&objects::listing(APP, "settings")).await?;
        space.name
    };
    world.plane.stop_api_server().await?;
    let replica = Operator::spawn_unready(&world.replica_options("replica", &["--leader-elect"])?).await?;
    let (status, body) = replica.readiness().await?;
    ensure!(status == 503 && body.contains("digest key"), "{status} {body}");
    world.replicas.push(replica);
    world.plane.start_api_server().await?;
    world.replicas[0].wait_ready(TIMEOUT).await?;
    let space = world.open_space(&name).await?;
    eventually("the workload to be taken over", TIMEOUT, || space.hash(DEPLOYMENT, APP)).await?;
    let registration = Registration::new([world.replicas[0].webhook_url()]);
    world.apply(&registration.ca_bundle(world.authority.pem())).await?;
    world.webhook_answers().await
}
