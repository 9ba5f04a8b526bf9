//! What a tenant can write: long lists, large workloads, many of either.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::DynamicObject;
use kube::{Api, ResourceExt};
use pod_reloader_e2e::objects::{BUILT_IN, SECRETS, apps};
use pod_reloader_e2e::{Entry, Mark, Space, User, eventually};
use serde_json::{Value, json};

use super::objects::{config, config_with, create_all, filled, json_bytes, label_all, listing, names, plain};
use super::stage::{LONG, Outcome, Stage, metric, metric_sum};

/// Two Deployments with 240 KB of names each; five starts.
pub(super) async fn long_lists() -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    let workloads = ["a", "b"].map(|name| listing(name, &names(name, 34_000)));
    create_all(&space.workloads(apps::DEPLOYMENT), workloads).await?;
    for _ in 0..5 {
        stage.start().await?;
        stage.settled(1).await?;
    }
    let reload = stage.neighbour_reloads().await?;
    stage.finish("two Deployments with 240 KB of names each, five starts", after(reload)).await
}

/// One tenant's 60 Deployments with 1,000 names each.
pub(super) async fn many_lists() -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    let workloads = (0..60).map(|i| listing(&format!("app-{i}"), &names(&format!("c{i}-"), 1000)));
    create_all(&space.workloads(apps::DEPLOYMENT), workloads).await?;
    stage.start().await?;
    stage.settled(1).await?;
    let reload = stage.neighbour_reloads().await?;
    let known = metric(&stage.operator()?.metrics().await?, "pod_reloader_workloads").unwrap_or_default();
    let note = format!("{}; {known} workloads have room", after(reload));
    stage.finish("60 Deployments of one tenant with 1,000 names each", note).await
}

/// One template that takes its environment from 30,000 Secrets.
pub(super) async fn many_uses() -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    space.configmap("settings", "one").await?;
    let mut workload = listing("app", "settings");
    let sources: Vec<Value> =
        (0..30_000).map(|i| json!({"secretRef": {"name": format!("s{i:05}"), "optional": false}})).collect();
    workload.data["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!(sources);
    space.create(&workload).await?;
    stage.start_registered().await?;
    stage.settled(1).await?;
    space.configmap("settings", "two").await?;
    label_all(&space, &["app".into()], "1").await;
    let reload = stage.neighbour_reloads().await?;
    stage.settled(1).await?;
    stage.finish("a template that needs 30,000 Secrets", after(reload)).await
}

/// Small patches of large opted-in Deployments, ten in a row and 20 at once.
pub(super) async fn large_workloads(character: &str, bytes: usize, what: &str) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    space.configmap("settings", "one").await?;
    let all: Vec<String> = (0..20).map(|i| format!("app-{i}")).collect();
    let workloads = all.iter().map(|name| filled(listing(name, "settings"), character, bytes));
    create_all(&space.workloads(apps::DEPLOYMENT), workloads).await?;
    let size = json_bytes(&space, "app-0").await?;
    stage.start_registered().await?;
    stage.settled(20).await?;
    let mut failed = 0;
    let mut slowest = Duration::ZERO;
    for i in 0..10 {
        let begin = Instant::now();
        failed += label_all(&space, &all[..1], &i.to_string()).await;
        slowest = slowest.max(begin.elapsed());
    }
    // The API server sends all reviews over one connection.
    let (at_once, write) = tokio::join!(label_all(&space, &all, "at-once"), neighbour_writes(&stage));
    failed += at_once;
    let write = write?;
    // The reconciler's own patches get the whole workload for an answer.
    space.configmap("settings", "two").await?;
    let reload = stage.neighbour_reloads().await?;
    stage.settled(20).await?;
    let note = format!(
        "{:.1} MiB as JSON; {failed} of 30 writes failed, one alone takes up to {:.1} s, a neighbour's meanwhile {:.1} s; {}",
        mebibytes(size),
        slowest.as_secs_f64(),
        write.as_secs_f64(),
        after(reload)
    );
    stage.finish(what, note).await
}

/// The slowest of some small writes of the neighbour through the API server.
async fn neighbour_writes(stage: &Stage) -> anyhow::Result<Duration> {
    let space = &stage.neighbour;
    let mut slowest = Duration::ZERO;
    for i in 0..10 {
        let begin = Instant::now();
        let label = Space::label("touched", Some(&i.to_string()));
        space.patch(apps::DEPLOYMENT, "neighbour", label).await?;
        slowest = slowest.max(begin.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(slowest)
}

/// A start beside `ConfigMaps` that nobody refers to, with all they hold in last-applied.
pub(super) async fn last_applied() -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": "x".repeat(250_000)});
    let objects = (0..250).map(|i| {
        let object = json!({"metadata": {"name": format!("c{i}"), "annotations": annotations}});
        config_with::<ConfigMap>(object, &json!({"key": "value"}))
    });
    create_all(&space.configmaps(), objects.collect::<Result<Vec<_>, _>>()?).await?;
    start_and_finish(&mut stage).await?;
    stage.finish("start beside 250 ConfigMaps with 250 kB of last-applied", "").await
}

/// A start beside large Deployments that never opted in.
pub(super) async fn large_strangers(character: &str, bytes: usize, what: &str) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    let workloads = (0..40).map(|i| filled(plain(&format!("app-{i}")), character, bytes));
    create_all(&space.workloads(apps::DEPLOYMENT), workloads).await?;
    let size = json_bytes(&space, "app-0").await?;
    let all: Vec<String> = (0..40).map(|i| format!("app-{i}")).collect();
    start_and_finish(&mut stage).await?;
    // The watch tells of all of them again.
    label_all(&space, &all, "1").await;
    let reload = stage.neighbour_reloads().await?;
    stage.finish(what, format!("{:.1} MiB as JSON; {}", mebibytes(size), after(reload))).await
}

/// A start beside many small objects.
pub(super) async fn small_objects(count: usize) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    let configmaps = (0..count / 2).map(|i| config::<ConfigMap>(&format!("c{i}"), "value"));
    create_all(&space.configmaps(), configmaps.collect::<Result<Vec<_>, _>>()?).await?;
    let secrets = (0..count / 2).map(|i| config::<Secret>(&format!("s{i}"), "value"));
    create_all(&space.secrets(), secrets.collect::<Result<Vec<_>, _>>()?).await?;
    start_and_finish(&mut stage).await?;
    stage.finish(&format!("start beside {count} small objects"), "").await
}

/// Many workloads that share one `ConfigMap`, which changes.
pub(super) async fn fan_out(count: usize) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    space.configmap("settings", "one").await?;
    let workloads = (0..count).map(|i| listing(&format!("app-{i}"), "settings"));
    create_all(&space.workloads(apps::DEPLOYMENT), workloads).await?;
    stage.start().await?;
    stage.settled(count as u64).await?;
    space.configmap("settings", "two").await?;
    let reload = stage.neighbour_reloads().await?;
    all_reloaded(&mut stage, count as u64).await?;
    let what = format!("{count} workloads follow one ConfigMap");
    stage.finish(&what, after(reload)).await
}

/// Many workloads with three references each, one of them shared. They are recorded, the operator starts beside them, and
/// what they share changes.
pub(super) async fn three_references(count: usize) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    space.configmap("settings", "one").await?;
    let settings = (0..count).map(|i| config::<ConfigMap>(&format!("app-{i}-settings"), "value"));
    create_all(&space.configmaps(), settings.collect::<Result<Vec<_>, _>>()?).await?;
    let logins = (0..count).map(|i| config::<Secret>(&format!("app-{i}-login"), "value"));
    create_all(&space.secrets(), logins.collect::<Result<Vec<_>, _>>()?).await?;
    let workloads = (0..count).map(|i| using_three(&format!("app-{i}")));
    create_all(&space.workloads(apps::DEPLOYMENT), workloads).await?;
    stage.start().await?;
    stage.settled(count as u64).await?;
    let recorded = stage.idle_kib().await?;
    stage.start().await?;
    stage.settled(count as u64).await?;
    let started = stage.idle_kib().await?;
    space.configmap("settings", "two").await?;
    let reload = stage.neighbour_reloads().await?;
    all_reloaded(&mut stage, count as u64).await?;
    let note = format!(
        "{}; {recorded} KiB when all were recorded, {started} KiB after a start beside them, {} KiB when all were reloaded",
        after(reload),
        stage.resident_kib()?
    );
    stage.finish(&format!("{count} workloads with three references each, one of them shared"), note).await
}

/// A Deployment that lists and uses what all share, and a `ConfigMap` and a Secret of its own.
fn using_three(name: &str) -> DynamicObject {
    let (settings, login) = (format!("{name}-settings"), format!("{name}-login"));
    let mut workload = listing(name, &format!("settings,{settings}"));
    workload.annotations_mut().insert(SECRETS.to_owned(), login.clone());
    workload.data["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([
        {"configMapRef": {"name": "settings"}}, {"configMapRef": {"name": settings}}, {"secretRef": {"name": login}}
    ]);
    workload
}

/// `ConfigMaps` with many keys, and ten workloads that follow them.
pub(super) async fn many_keys(
    objects: usize,
    keys: usize,
    value_bytes: usize,
    what: &str,
) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let space = stage.space.clone();
    let data = |value: &str| -> Value {
        let value = value.repeat(value_bytes);
        (0..keys).map(|i| (format!("{i:x}"), json!(value))).collect()
    };
    let object = |i: usize, value: &str| {
        // Without managed fields, which would name each key again.
        let meta = json!({"name": format!("c{i:05}"), "managedFields": [{}]});
        config_with::<ConfigMap>(json!({"metadata": meta}), &data(value))
    };
    let configmaps = (0..objects).map(|i| object(i, "a")).collect::<anyhow::Result<Vec<_>>>()?;
    create_all(&space.configmaps(), configmaps).await?;
    let workloads = (0..10).map(|i| listing(&format!("app-{i}"), &names("c", objects)));
    create_all(&space.workloads(apps::DEPLOYMENT), workloads).await?;
    stage.start().await?;
    stage.settled(10).await?;
    let api: Api<ConfigMap> = space.configmaps();
    for i in 0..objects {
        let params = kube::api::PostParams::default();
        api.replace(&format!("c{i:05}"), &params, &object(i, "b")?).await?;
    }
    all_reloaded(&mut stage, 10).await?;
    stage.finish(what, "").await
}

/// Many namespaces by `--namespaces`.
pub(super) async fn many_namespaces(count: usize) -> anyhow::Result<Outcome> {
    let mut stage = Stage::new(&[]).await?;
    let mut namespaces = vec!["default".to_owned(), stage.space.name.clone()];
    while namespaces.len() < count {
        namespaces.push(stage.world.space().await?.name);
    }
    stage.add_argument(format!("--namespaces={}", namespaces.join(",")));
    let space = stage.space.clone();
    space.configmap("settings", "one").await?;
    space.create(&listing("app", "settings")).await?;
    stage.start().await?;
    stage.settled(2).await?;
    let reload = stage.neighbour_reloads().await?;
    all_watched(&stage, &namespaces).await?;
    let files = std::fs::read_dir(format!("/proc/{}/fd", stage.operator()?.id()))?.count();
    let what = format!("{count} namespaces by --namespaces");
    stage.finish(&what, format!("{files} open files; {}", after(reload))).await
}

async fn start_and_finish(stage: &mut Stage) -> anyhow::Result<()> {
    stage.start().await?;
    // The neighbour's workload.
    stage.settled(1).await?;
    // Its reload says that the lists of ConfigMaps and Secrets were read, too.
    stage.neighbour_reloads().await?;
    Ok(())
}

/// Waits until the API server has taken all watches of the operator in these namespaces: each is a connection.
async fn all_watched(stage: &Stage, namespaces: &[String]) -> anyhow::Result<()> {
    let resources: Vec<_> =
        BUILT_IN.into_iter().map(|kind| kind.plural).chain(["configmaps", "secrets"]).collect();
    let is_watch = |entry: &Entry| {
        entry.is_by(User::Operator)
            && entry.verb == "watch"
            && entry.succeeded()
            && resources.contains(&entry.resource.as_str())
            && namespaces.contains(&entry.namespace)
    };
    eventually("all watches", LONG, || async {
        let entries = stage.world.audit().since(Mark::default()).await?;
        let watches: BTreeSet<_> = entries
            .iter()
            .filter(|entry| is_watch(entry))
            .map(|entry| (&entry.namespace, &entry.resource))
            .collect();
        anyhow::ensure!(watches.len() == resources.len() * namespaces.len(), "{} so far", watches.len());
        Ok(())
    })
    .await
}

/// Waits until so many reloads were made beside the neighbour's.
async fn all_reloaded(stage: &mut Stage, count: u64) -> anyhow::Result<()> {
    let operator = stage.operator()?;
    eventually("all reloads", LONG, || async {
        let metrics = operator.metrics().await?;
        let reloads = metric_sum(&metrics, "pod_reloader_reloads_total");
        anyhow::ensure!(reloads >= count, "{reloads}");
        Ok(())
    })
    .await
}

fn after(reload: Duration) -> String {
    format!("the neighbour's reload takes {:.1} s", reload.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(super) fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
