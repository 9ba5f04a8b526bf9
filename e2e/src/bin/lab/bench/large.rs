//! Objects of 1 MiB, the most that the API server takes.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::Bench;
use super::expectation::Expectation;
use super::fan_out::AT_ONCE;
use super::figure::{Figure, Samples, Unit, count_as_f64};
use super::memory::{KEPT_MIB, MOST_MIB};
use super::observer::Observer;
use super::raw::{JSON, Outgoing};
use super::stage::{
    Controllers, LONG, Stage, change_configmap, configmaps, create_configmap, create_named, deployment,
};

/// On the command line.
pub(super) const NAME: &str = "large";
/// Objects, each with a workload of its own.
const COUNT: usize = 8;
/// Of a value: with its key it is as long as an object's data may be.
const BYTES: usize = (1 << 20) - 64;

/// Changes all of them one after the other, in each round.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let stage = Stage::new(Controllers::WithoutDeployments).await?;
    let empty = bench.empty_mib(&stage).await?;
    let namespace = bench.ours.namespace();
    stage.namespace(&namespace).await?;
    let own = namespace.clone();
    stage.create_all(COUNT, move |i| create_configmap(&own, &format!("c{i}"), &value('a', 0))).await?;
    let mut running = bench.ours.start(&stage, AT_ONCE).await?;
    let models = (0..COUNT).map(|i| deployment("model", bench.ours.annotations(&format!("c{i}"))));
    let models = models.collect::<anyhow::Result<Vec<_>>>()?;
    let own = namespace.clone();
    stage.create_all(COUNT, move |i| create_named(&own, &models[i], &format!("app-{i}"))).await?;
    running.settled(COUNT).await?;
    let resources = running.resources();
    let before = resources.resident_mib()?;
    resources.reset_peak()?;
    let (mut patched, mut limit) = (Samples::default(), Samples::default());
    let mut changes = 0;
    for round in 1..=bench.rounds {
        limit.push(read_all(&stage, &namespace).await?);
        let observer = Observer::start(&stage.admin, &namespace).await?;
        let mut connection = stage.admin.connect().await?;
        let mut begin = Instant::now();
        for i in 0..COUNT {
            connection.send(&change_configmap(&namespace, &format!("c{i}"), &value('b', round))).await?;
            if i == 0 {
                begin = Instant::now();
            }
        }
        let times = observer.changed(COUNT, LONG).await?;
        let last = times.last().map_or(Duration::ZERO, |last| last.saturating_duration_since(begin));
        patched.push(last.as_secs_f64());
        observer.quiet(Duration::from_millis(300), LONG).await?;
        changes += usize::try_from(observer.changes())?;
    }
    let peak = resources.peak_mib()?;
    tokio::time::sleep(bench.given_back_after()).await;
    let after = resources.resident_mib()?;
    bench.ours.stop(&stage, running).await?;

    let case = format!("{COUNT} ConfigMaps of 1 MiB");
    let one = |value: f64| Samples::new(vec![value]);
    let new = |what: &str, unit, samples| Figure::new(NAME, &case, what, unit, samples);
    bench.figures.extend([
        new("last workload patched", Unit::Seconds, patched).limit("bare reads of all of them", limit),
        new("resident at most", Unit::Mebibytes, one(peak)).limit("idle, nothing exists", one(empty)),
        new("resident afterwards", Unit::Mebibytes, one(after)).limit("before", one(before)),
        new("changes of templates", Unit::Count, one(count_as_f64(changes))),
    ]);
    let rounds = bench.rounds;
    bench.expectations.extend([
        Expectation::exactly(format!("{NAME}: changes of templates"), changes, COUNT * rounds),
        Expectation::below_mib(format!("{NAME}: resident at most"), peak, MOST_MIB),
        Expectation::back_to_mib(format!("{NAME}: resident afterwards"), after, before, KEPT_MIB),
    ]);
    Ok(())
}

/// A value of 1 MiB that begins with a number.
fn value(filling: char, number: usize) -> String {
    format!("{number:08}{}", filling.to_string().repeat(BYTES - 8))
}

/// Seconds for a client that only reads them.
async fn read_all(stage: &Stage, namespace: &str) -> anyhow::Result<f64> {
    let mut connection = stage.admin.connect().await?;
    let begin = Instant::now();
    for i in 0..COUNT {
        let read = Outgoing::get(format!("{}/c{i}", configmaps(namespace)), JSON);
        let body = connection.send(&read).await?;
        ensure!(body.len() > BYTES, "an object of {} bytes", body.len());
    }
    Ok(begin.elapsed().as_secs_f64())
}
