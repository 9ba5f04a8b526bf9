//! 5.6, 5.8: one change that many workloads refer to, and what must not hold up the others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use pod_reloader_e2e::world::proxy::{Faults, behind_proxy};
use pod_reloader_e2e::{Operator, Registration, Space, TIMEOUT, User, eventually, objects};

/// Workloads that list `settings`, created through the webhook or past it.
async fn create_all(space: &Space, count: usize) -> anyhow::Result<()> {
    let create =
        |i| async move { space.create(&objects::listing(&format!("app-{i}"), "settings")).await.map(drop) };
    futures::stream::iter((0..count).map(create)).buffer_unordered(8).try_collect().await
}

async fn list<K>(space: &Space) -> anyhow::Result<Vec<K>>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
    K::DynamicType: Default,
{
    let api = Api::<K>::namespaced(space.client.clone(), &space.name);
    Ok(api.list(&ListParams::default()).await?.items)
}

async fn hashes(space: &Space) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let list = list::<Deployment>(space).await?;
    let hash = |deployment: &Deployment| {
        let template = &deployment.spec.as_ref()?.template;
        template.metadata.as_ref()?.annotations.as_ref()?.get(objects::CONFIG_HASH).cloned()
    };
    let of_apps = list.into_iter().filter(|deployment| deployment.name_any().starts_with("app-"));
    Ok(of_apps.map(|deployment| (deployment.name_any(), hash(&deployment))).collect())
}

/// Waits until no workload has the hash it had.
async fn all_differ(
    space: &Space,
    before: &BTreeMap<String, Option<String>>,
    patience: Duration,
) -> anyhow::Result<()> {
    eventually("all workloads to have another hash", patience, || async {
        let now = hashes(space).await?;
        let left = now.iter().filter(|(name, hash)| hash.is_none() || before.get(*name) == Some(*hash));
        let left = left.count();
        ensure!(left == 0, "{left} of {} are left", now.len());
        Ok(())
    })
    .await
}

/// Waits until the controllers have nothing more to write about the workloads: each such event asks for a fresh look.
async fn controllers_rest(space: &Space) -> anyhow::Result<()> {
    eventually("all workloads to be as their controllers leave them", TIMEOUT, || async {
        for deployment in list::<Deployment>(space).await? {
            let status = deployment.status.clone().unwrap_or_default();
            let seen = status.observed_generation == deployment.metadata.generation;
            // There is no node: pods stay pending.
            let rests = status.updated_replicas == Some(1) && status.unavailable_replicas == Some(1);
            let is_ours = deployment.name_any().starts_with("app-");
            ensure!(!is_ours || (seen && rests), "{}: {status:?}", deployment.name_any());
        }
        Ok(())
    })
    .await
}

/// How many reloads each workload was told of.
async fn events_each(space: &Space) -> anyhow::Result<BTreeMap<String, usize>> {
    let list = list::<Event>(space).await?;
    let mut counts = BTreeMap::new();
    for event in list {
        let name = event.involved_object.name.unwrap_or_default();
        if event.reason.as_deref() == Some("ConfigurationChanged") && name.starts_with("app-") {
            *counts.entry(name).or_default() += 1;
        }
    }
    Ok(counts)
}

async fn revisions_each(space: &Space) -> anyhow::Result<BTreeMap<String, usize>> {
    let list = list::<ReplicaSet>(space).await?;
    let mut counts = BTreeMap::new();
    for set in list {
        let owner = set.owner_references().first().map(|owner| owner.name.clone()).unwrap_or_default();
        if owner.starts_with("app-") {
            *counts.entry(owner).or_default() += 1;
        }
    }
    Ok(counts)
}

#[tokio::test]
async fn c5_6_a_change_makes_one_revision_and_one_event_of_each_of_many() -> anyhow::Result<()> {
    const COUNT: usize = 100;
    let (world, proxy) = behind_proxy(&["--settle-window=500ms", "--max-concurrent-patches=4"]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    create_all(&space, COUNT).await?;
    let before = hashes(&space).await?;
    assert_eq!(before.len(), COUNT);
    controllers_rest(&space).await?;
    space.settle().await?;

    let mark = world.audit().mark().await?;
    proxy.most_patches_at_once();
    proxy.set(Faults { slow_patches: Some(Duration::from_millis(50)), ..Faults::default() });
    space.configmap("settings", "two").await?;
    all_differ(&space, &before, TIMEOUT).await?;
    let each =
        |expected: usize| before.keys().map(|name| (name.clone(), expected)).collect::<BTreeMap<_, _>>();
    eventually("one Event each", TIMEOUT, || async {
        ensure!(events_each(&space).await? == each(1), "not yet");
        Ok(())
    })
    .await?;
    // Side by side, but not more than allowed.
    let most = proxy.most_patches_at_once();
    assert!((2..=4).contains(&most), "{most}");
    proxy.set(Faults::default());
    space.settle().await?;
    eventually("two revisions each", TIMEOUT, || async {
        let revisions = revisions_each(&space).await?;
        ensure!(revisions == each(2), "{revisions:?}");
        Ok(())
    })
    .await?;
    assert_eq!(events_each(&space).await?, each(1));

    let entries = world.audit().since(mark).await?;
    let mine =
        |entry: &&pod_reloader_e2e::Entry| entry.is_by(User::Operator) && entry.namespace == space.name;
    let patches = entries.iter().filter(mine).filter(|entry| entry.verb == "patch");
    // Some may meet the controller's last words on the status, and are done again.
    let of_apps = patches.filter(|entry| entry.name.starts_with("app-") && entry.succeeded()).count();
    assert_eq!(of_apps, COUNT, "one patch each");
    let reads = entries.iter().filter(mine).filter(|entry| entry.verb == "get" && entry.name == "settings");
    let reads = reads.count();
    assert!(reads < COUNT / 4, "{reads} reads of the one object");
    Ok(())
}

#[tokio::test]
async fn c5_6_the_limit_of_patches_holds_when_they_fail_too() -> anyhow::Result<()> {
    for limit in [1, 3] {
        let limit_flag = format!("--max-concurrent-patches={limit}");
        let (world, proxy) = behind_proxy(&["--settle-window=0", &limit_flag]).await?;
        let space = world.space().await?;
        // Past the webhook: patches are all that gives them hashes.
        Registration::new(world.replicas.iter().map(Operator::webhook_url)).delete(&world.kubectl()).await?;
        proxy.most_patches_at_once();
        proxy.set(Faults {
            fail_patches: Some(500),
            slow_patches: Some(Duration::from_millis(100)),
            ..Faults::default()
        });
        create_all(&space, 12).await?;
        // Long enough for first attempts and second ones to meet.
        eventually("some failures", TIMEOUT, || async {
            let metrics = world.replicas[0].metrics().await?;
            let failed: usize = metrics
                .lines()
                .filter(|line| line.starts_with("pod_reloader_reloads_total{") && line.contains("\"error\""))
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok())
                .sum();
            ensure!(failed >= 24, "{failed}");
            Ok(())
        })
        .await?;
        proxy.set(Faults { slow_patches: Some(Duration::from_millis(20)), ..Faults::default() });
        eventually("all to have a hash", TIMEOUT, || async {
            let left = hashes(&space).await?.values().filter(|hash| hash.is_none()).count();
            ensure!(left == 0, "{left} are left");
            Ok(())
        })
        .await?;
        let most = proxy.most_patches_at_once();
        assert_eq!(most, limit, "patches at once");
    }
    Ok(())
}

#[tokio::test]
async fn c5_8_events_that_hang_hold_up_no_reload() -> anyhow::Result<()> {
    const COUNT: usize = 40;
    let (world, proxy) = behind_proxy(&["--settle-window=500ms"]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    create_all(&space, COUNT).await?;
    space.settle().await?;
    proxy.set(Faults { hang_events: true, ..Faults::default() });
    let began = Instant::now();
    for round in ["two", "three"] {
        let before = hashes(&space).await?;
        space.configmap("settings", round).await?;
        all_differ(&space, &before, Duration::from_secs(20)).await.with_context(|| {
            format!("in the round {round}, {:.1} s after Events began to hang", began.elapsed().as_secs_f64())
        })?;
    }
    Ok(())
}
