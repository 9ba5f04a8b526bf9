//! Workloads and objects come and go: what is remembered of those that are gone?

use std::time::{Duration, Instant};

use super::Bench;
use super::expectation::Expectation;
use super::fan_out::AT_ONCE;
use super::figure::{Figure, Samples, Unit, count_as_f64};
use super::memory::{KEPT_MIB, MOST_MIB};
use super::stage::{
    Controllers, Stage, configmaps, create_configmap, create_named, delete, deployment, deployments,
};
use super::subject::Running;

/// On the command line.
pub(super) const NAME: &str = "churn";
/// Objects and workloads that exist at the same time.
const BATCH: usize = 100;

/// Creates and deletes for two minutes, in a quick run for 6 s.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let span = bench.choose(Duration::from_secs(6), Duration::from_mins(2));
    let stage = Stage::new(Controllers::WithoutDeployments).await?;
    let empty = bench.empty_mib(&stage).await?;
    stage.namespace(&bench.ours.namespace()).await?;
    let mut running = bench.ours.start(&stage, AT_ONCE).await?;
    // The first batch needs buffers and connections that stay; the others should take no more.
    batch(&stage, bench, &mut running, 0).await?;
    tokio::time::sleep(bench.given_back_after()).await;
    let resources = running.resources();
    let before = resources.resident_mib()?;
    resources.reset_peak()?;
    let begin = Instant::now();
    let mut batches = 0;
    while begin.elapsed() < span {
        batches += 1;
        batch(&stage, bench, &mut running, batches).await?;
    }
    let peak = resources.peak_mib()?;
    tokio::time::sleep(bench.given_back_after()).await;
    let after = resources.resident_mib()?;
    bench.ours.stop(&stage, running).await?;

    let case = format!("{BATCH} workloads and objects at a time");
    let one = |value: f64| Samples::new(vec![value]);
    let new = |what: &str, unit, value| Figure::new(NAME, &case, what, unit, one(value));
    bench.figures.extend([
        new("workloads that came and went", Unit::Count, count_as_f64(batches * BATCH)),
        new("resident before", Unit::Mebibytes, before).limit("idle, nothing exists", one(empty)),
        new("resident at most", Unit::Mebibytes, peak).limit("idle, nothing exists", one(empty)),
        new("resident afterwards", Unit::Mebibytes, after).limit("before", one(before)),
    ]);
    bench.expectations.extend([
        Expectation::below_mib(format!("{NAME}: resident at most"), peak, MOST_MIB),
        Expectation::back_to_mib(format!("{NAME}: resident afterwards"), after, before, KEPT_MIB),
    ]);
    Ok(())
}

/// Names of their own, so that nothing of the former batch can be used again.
async fn batch(stage: &Stage, bench: &Bench, running: &mut Running, number: usize) -> anyhow::Result<()> {
    let namespace = bench.ours.namespace();
    let model = deployment("model", serde_json::json!({}))?;
    let annotations: Vec<_> = (0..BATCH).map(|i| bench.ours.annotations(&format!("c{number}-{i}"))).collect();
    let own = namespace.clone();
    stage.create_all(BATCH, move |i| create_configmap(&own, &format!("c{number}-{i}"), "value")).await?;
    let own = namespace.clone();
    let create = move |i: usize| {
        let mut model = model.clone();
        model["metadata"]["annotations"] = annotations[i].clone();
        create_named(&own, &model, &format!("app-{number}-{i}"))
    };
    stage.create_all(BATCH, create).await?;
    running.settled(BATCH).await?;
    let path = deployments(&namespace);
    stage.create_all(BATCH, move |i| delete(format!("{path}/app-{number}-{i}"))).await?;
    let path = configmaps(&namespace);
    stage.create_all(BATCH, move |i| delete(format!("{path}/c{number}-{i}"))).await?;
    running.settled(0).await
}
