//! Workloads that follow what their pod templates read: by a word of their own, and by the label of their namespace.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http::Method;
use pod_reloader_core::dialect::own::AUTO;
use pod_reloader_e2e::objects::{CONFIG_HASH, OBSERVED_CONFIG};
use pod_reloader_e2e::{Entry, Mark, eventually};
use serde_json::{Value, json};

use super::Bench;
use super::bare::{self, FanOut};
use super::expectation::Expectation;
use super::fan_out::AT_ONCE;
use super::figure::{Figure, Samples, Unit};
use super::memory::MOST_MIB;
use super::observer::Observer;
use super::raw::{JSON, MERGE_PATCH, Outgoing};
use super::resources::CpuSpan;
use super::stage::{
    Controllers, LONG, Stage, change_configmap, configmaps, create_configmap, create_named, deployment,
    deployments,
};
use super::subject::Running;

/// On the command line.
pub(super) const NAME: &str = "opting_in";
const NAMESPACE: &str = "auto";
/// The namespace of the Deployments that the bare client patches.
const BARE: &str = "bare";
/// Of all workloads; each has one of its own beside it.
const SHARED: &str = "settings";

/// Measures 10,000 workloads with `auto`, and a namespace of 5,000 that is labelled; a tenth of that in a quick run.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let (auto, labelled) = bench.choose((1_000, 500), (10_000, 5_000));
    by_word(bench, auto).await?;
    by_label(bench, labelled).await
}

/// A Deployment whose container reads one key of the shared `ConfigMap`, and all of one of its own.
fn reading(annotations: Value, index: usize) -> anyhow::Result<Value> {
    let mut model = deployment("model", annotations)?;
    let container = &mut model["spec"]["template"]["spec"]["containers"][0];
    container["env"] = json!([
        {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": SHARED, "key": "key"}}}]);
    container["envFrom"] = json!([{"configMapRef": {"name": format!("c{index}"), "optional": true}}]);
    Ok(model)
}

async fn set_up(stage: &Stage, count: usize, annotations: &Value) -> anyhow::Result<()> {
    for namespace in [NAMESPACE, BARE] {
        stage.namespace(namespace).await?;
    }
    stage.admin.request(&create_configmap(NAMESPACE, SHARED, "0")).await?;
    stage.create_all(count, |i| create_configmap(NAMESPACE, &format!("c{i}"), "value")).await?;
    let models = (0..count).map(|i| reading(annotations.clone(), i)).collect::<anyhow::Result<Vec<_>>>()?;
    stage.create_all(count, move |i| create_named(NAMESPACE, &models[i], &format!("app-{i}"))).await?;
    let model = deployment("model", json!({}))?;
    stage.create_all(count, move |i| create_named(BARE, &model, &format!("app-{i}"))).await
}

/// Starts with as many workloads as annotated, then changes of a key that none of them reads, and of one that all read.
async fn by_word(bench: &mut Bench, count: usize) -> anyhow::Result<()> {
    let case = format!("{count} workloads with auto");
    let stage = Stage::new(Controllers::WithoutDeployments).await?;
    let empty = bench.empty_mib(&stage).await?;
    let running = bench.ours.start(&stage, AT_ONCE).await?;
    set_up(&stage, count, &json!({AUTO: "true"})).await?;
    bench.ours.stop(&stage, settled(running, count).await?).await?;
    let (mut list, mut start, mut cpu) = (Samples::default(), Samples::default(), Samples::default());
    let (mut fan_out, mut bare, mut idle, mut peak) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    for round in 1..=bench.rounds {
        list.push(bare::list_all(&stage).await?.as_secs_f64());
        let begin = Instant::now();
        let running = settled(bench.ours.start(&stage, AT_ONCE).await?, count).await?;
        start.push(begin.elapsed().as_secs_f64());
        let resources = running.resources();
        let observer = Observer::start(&stage.admin, NAMESPACE).await?;
        observer.quiet(Duration::from_secs(1), LONG).await?;
        idle.push(resources.resident_mib()?);
        let (mark, span) = (stage.world.audit().mark().await?, CpuSpan::begin(resources)?);
        change_another_key(bench, &stage, round, mark).await?;
        let running = settled(running, count).await?;
        cpu.push(span.end()?.0);
        let what = |what: &str| format!("{NAME}, {case}, round {round}: {what}");
        let patches = stage.requests(mark, bench.ours.user, is_patch).await?;
        bench.expectations.push(Expectation::exactly(what("patches for a key that none reads"), patches, 0));

        let bytes = observed_bytes(&stage).await?;
        bare.push(bare::patch_all(&stage, BARE, round, bytes).await?.all.as_secs_f64());
        fan_out.push(change_key(bench, &stage, &observer, count, round).await?.all.as_secs_f64());
        let running = settled(running, count).await?;
        peak.push(resources.peak_mib()?);
        bench.expectations.push(Expectation::below_mib(
            what("resident at most"),
            resources.peak_mib()?,
            MOST_MIB,
        ));
        bench.ours.stop(&stage, running).await?;
    }
    let empty = Samples::new(vec![empty; bench.rounds]);
    let new = |what: &str, unit, samples| Figure::new(NAME, &case, what, unit, samples);
    let figures = [
        new("start, settled", Unit::Seconds, start).limit("bare metadata lists", list),
        new("CPU time for a key that none reads", Unit::Seconds, cpu),
        new("last workload patched", Unit::Seconds, fan_out).limit("bare client", bare),
        new("resident when settled", Unit::Mebibytes, idle).limit("idle, nothing exists", empty.clone()),
        new("resident at most", Unit::Mebibytes, peak).limit("idle, nothing exists", empty),
    ];
    bench.figures.extend(figures);
    Ok(())
}

/// A namespace whose workloads say nothing is labelled: nothing restarts, and the next change is a fan-out.
async fn by_label(bench: &mut Bench, count: usize) -> anyhow::Result<()> {
    let case = format!("a labelled namespace with {count} workloads");
    let stage = Stage::new(Controllers::WithoutDeployments).await?;
    let empty = bench.empty_mib(&stage).await?;
    set_up(&stage, count, &json!({})).await?;
    let running = settled(bench.ours.start(&stage, AT_ONCE).await?, 0).await?;
    let observer = Observer::start(&stage.admin, NAMESPACE).await?;
    let before = running.resources().resident_mib()?;
    let mark = stage.world.audit().mark().await?;
    let begin = Instant::now();
    label(&stage).await?;
    let adopted = FanOut::since(begin, &observer.changed(count, LONG).await?, 0.0)?.all.as_secs_f64();
    let running = settled(running, count).await?;
    let idle = running.resources().resident_mib()?;
    let patches = stage.requests(mark, bench.ours.user, is_patch).await?;
    let hashes = hashes(&stage).await?;
    let bytes = observed_bytes(&stage).await?;
    let bare = bare::patch_all(&stage, BARE, 1, bytes).await?.all.as_secs_f64();
    let observer = Observer::start(&stage.admin, NAMESPACE).await?;
    let fan_out = change_key(bench, &stage, &observer, count, 1).await?.all.as_secs_f64();
    let peak = running.resources().peak_mib()?;
    bench.ours.stop(&stage, running).await?;
    let what = |what: &str| format!("{NAME}, {case}: {what}");
    bench.expectations.extend([
        Expectation::within(what("patches that adopt"), patches, count, count + count / 50 + 1),
        Expectation::exactly(what("templates that were touched"), hashes, 0),
        Expectation::below_mib(what("resident at most"), peak, MOST_MIB),
    ]);
    let one = |value| Samples::new(vec![value]);
    let new = |what: &str, unit, value, limit: &str, least| {
        Figure::new(NAME, &case, what, unit, one(value)).limit(limit, one(least))
    };
    let nothing = "idle, nothing exists";
    let figures = [
        new("last workload adopted", Unit::Seconds, adopted, "bare client", bare),
        new("last workload patched", Unit::Seconds, fan_out, "bare client", bare),
        new("resident before", Unit::Mebibytes, before, nothing, empty),
        new("resident when settled", Unit::Mebibytes, idle, nothing, empty),
        new("resident at most", Unit::Mebibytes, peak, nothing, empty),
    ];
    bench.figures.extend(figures);
    Ok(())
}

async fn settled(mut running: Running, workloads: usize) -> anyhow::Result<Running> {
    running.settled(workloads).await?;
    Ok(running)
}

/// Changes a key of the shared `ConfigMap` that no workload reads, and waits until the operator has looked at it.
async fn change_another_key(bench: &Bench, stage: &Stage, round: usize, mark: Mark) -> anyhow::Result<()> {
    let change = json!({"data": {"other": round.to_string()}}).to_string();
    let path = format!("{}/{SHARED}", configmaps(NAMESPACE));
    stage.admin.request(&Outgoing::new(Method::PATCH, path, MERGE_PATCH, change)).await?;
    eventually("the other key to be looked at", LONG, || async {
        let is_read = |entry: &Entry| entry.verb == "get" && entry.is_about("configmaps");
        ensure!(stage.requests(mark, bench.ours.user, is_read).await? > 0, "not yet");
        Ok(())
    })
    .await
}

async fn change_key(
    bench: &mut Bench,
    stage: &Stage,
    observer: &Observer,
    count: usize,
    round: usize,
) -> anyhow::Result<FanOut> {
    let mark = stage.world.audit().mark().await?;
    let before = observer.changes();
    let begin = Instant::now();
    stage.admin.request(&change_configmap(NAMESPACE, SHARED, &format!("round {round}"))).await?;
    let times = FanOut::since(begin, &observer.changed(count, LONG).await?, 0.0)?;
    observer.quiet(Duration::from_secs(1), LONG).await?;
    let changes = usize::try_from(observer.changes() - before)?;
    let patches = stage.requests(mark, bench.ours.user, is_patch).await?;
    let what = |what: &str| format!("{NAME}, {count} workloads, round {round}: {what}");
    bench.expectations.extend([
        Expectation::exactly(what("changes of templates"), changes, count),
        Expectation::within(what("patches"), patches, count, count + count / 50 + 1),
    ]);
    Ok(times)
}

async fn label(stage: &Stage) -> anyhow::Result<()> {
    let labels = json!({"metadata": {"labels": {AUTO: "true"}}}).to_string();
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    stage.admin.request(&Outgoing::new(Method::PATCH, path, MERGE_PATCH, labels)).await?;
    Ok(())
}

/// How many pod templates have a hash.
async fn hashes(stage: &Stage) -> anyhow::Result<usize> {
    let list = stage.admin.request(&Outgoing::get(deployments(NAMESPACE), JSON)).await?;
    let items = list["items"].as_array().context("no list")?.iter();
    let has_hash =
        |item: &&Value| item["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH].is_string();
    Ok(items.filter(has_hash).count())
}

/// How long observed-config of a workload is, so that the bare client writes as much.
async fn observed_bytes(stage: &Stage) -> anyhow::Result<usize> {
    let path = format!("{}/app-0", deployments(NAMESPACE));
    let workload = stage.admin.request(&Outgoing::get(path, JSON)).await?;
    let observed = workload["metadata"]["annotations"][OBSERVED_CONFIG].as_str();
    Ok(observed.context("a workload has no observed-config")?.len())
}

fn is_patch(entry: &Entry) -> bool {
    entry.verb == "patch" && entry.is_about("deployments")
}
