//! `lab bench`: what pod-reloader costs, measured on a control plane of its own. Times hold only side by side.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use pod_reloader_e2e::objects::{self, apps};
use pod_reloader_e2e::{Space, User, World, eventually};
use serde_json::json;
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_mins(10);
const CONCURRENCY: usize = 16;

/// Measures fan-out and memory on a control plane of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many Deployments follow one `ConfigMap`.
    #[arg(default_value_t = 1000)]
    deployments: usize,
    /// How many Secrets of 10 KB there are that nobody refers to.
    #[arg(default_value_t = 15_000)]
    secrets: usize,
}

pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let mut world = World::own(&["--settle-window=0"]).await?;
    println!("idle: {} KiB resident", resident_kib(&world)?);
    fan_out(&world, args.deployments).await?;
    println!("with {} workloads: {} KiB resident", args.deployments, resident_kib(&world)?);
    unrelated(&mut world, args.secrets).await
}

/// One `ConfigMap`, many Deployments: when is the last one updated, and what did it cost?
async fn fan_out(world: &World, count: usize) -> anyhow::Result<()> {
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    let began = Instant::now();
    create_all(&space, count).await?;
    println!("{count} Deployments created through the webhook in {:.1} s", began.elapsed().as_secs_f64());
    let before = space.hash(apps::DEPLOYMENT, "app-0").await?;

    let mark = world.audit().mark().await?;
    let began = Instant::now();
    space.configmap("settings", "two").await?;
    let api = Api::<Deployment>::namespaced(space.client.clone(), &space.name);
    eventually("all Deployments to be reloaded", LONG, || async {
        let list = api.list(&ListParams::default()).await?;
        let hash = |deployment: &Deployment| {
            let template = &deployment.spec.as_ref()?.template;
            template.metadata.as_ref()?.annotations.as_ref()?.get(objects::CONFIG_HASH).cloned()
        };
        let left = list.iter().filter(|deployment| hash(deployment).as_deref() == Some(&before)).count();
        ensure!(left == 0, "{left} are left");
        Ok(())
    })
    .await?;
    println!("last of {count} Deployments patched after {:.1} s", began.elapsed().as_secs_f64());
    eventually("all Events", LONG, || async {
        let writes = world.audit().writes_by(User::Operator, mark).await?;
        let events = writes.iter().filter(|write| write.is_about("events")).count();
        ensure!(events >= count, "{events} so far");
        Ok(())
    })
    .await?;
    let writes = world.audit().writes_by(User::Operator, mark).await?;
    let patches = writes.iter().filter(|write| write.is_about("deployments")).count();
    println!("for that: {patches} patches and {} Events", writes.len() - patches);
    Ok(())
}

async fn create_all(space: &Space, count: usize) -> anyhow::Result<()> {
    let api = space.workloads(apps::DEPLOYMENT);
    in_parallel(count, |i| {
        let api = api.clone();
        async move {
            let mut workload = objects::listing(&format!("app-{i}"), "settings");
            workload.data["spec"]["replicas"] = json!(0);
            api.create(&PostParams::default(), &workload).await?;
            Ok(())
        }
    })
    .await
}

/// Memory beside many Secrets of 10 KB that nobody refers to.
async fn unrelated(world: &mut World, count: usize) -> anyhow::Result<()> {
    let space = world.space().await?;
    let content = "x".repeat(10_000);
    let client: Client = world.admin().await?;
    let api = Api::<Secret>::namespaced(client, &space.name);
    in_parallel(count, |i| {
        let (api, content) = (api.clone(), content.clone());
        async move {
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("secret-{i}")},
                "stringData": {"key": content}
            });
            api.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
            Ok(())
        }
    })
    .await?;
    println!("with {count} more Secrets of 10 KB: {} KiB resident", resident_kib(world)?);
    world.replicas.clear();
    world.start_replica("restarted", &["--settle-window=0"]).await?;
    let began = Instant::now();
    eventually("the restarted operator to know its workloads", LONG, || async {
        let metrics = world.replicas[0].metrics().await?;
        let workloads = metrics.lines().find_map(|line| line.strip_prefix("pod_reloader_workloads "));
        ensure!(workloads.is_some_and(|n| n != "0"), "{workloads:?}");
        let queued = metrics.lines().find_map(|line| line.strip_prefix("pod_reloader_queue_length "));
        ensure!(queued == Some("0"), "{queued:?}");
        Ok(())
    })
    .await?;
    println!(
        "restarted beside them: settled after {:.1} s, {} KiB resident",
        began.elapsed().as_secs_f64(),
        resident_kib(world)?
    );
    Ok(())
}

async fn in_parallel<F>(count: usize, task: impl Fn(usize) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for i in 0..count {
        if running.len() >= CONCURRENCY {
            running.join_next().await.context("tasks are running")???;
        }
        running.spawn(task(i));
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

fn resident_kib(world: &World) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.replicas[0].id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS is a number")
}
