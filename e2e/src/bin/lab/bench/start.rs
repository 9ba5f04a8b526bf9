//! A start beside many objects that nobody refers to, and workloads that are as they should be.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::Bench;
use super::bare;
use super::expectation::Expectation;
use super::fan_out::AT_ONCE;
use super::figure::{Figure, Samples, Target, Unit, count_as_f64};
use super::memory::MOST_MIB;
use super::raw::Outgoing;
use super::stage::{Controllers, Stage, create_configmap, create_named, create_secret, deployment};
use super::subject::{Subject, metric_where};

/// On the command line.
pub(super) const NAME: &str = "start";
/// Where the objects are that nobody refers to.
const CROWD: &str = "crowd";
/// References of each workload.
const REFERENCES: usize = 3;
/// Workloads of a namespace: none may take more than a third of the room that there is for references (5.2).
const OF_NAMESPACE: usize = 1000;
/// When an operator that has started is idle.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// Objects that nobody refers to, workloads, and the most that may be resident, in MiB.
type Size = (usize, usize, f64);

/// What one start has shown.
#[derive(Clone, Copy, Debug)]
struct Round {
    ready: f64,
    settled: f64,
    idle: f64,
    peak: f64,
    cpu: f64,
    content_reads: usize,
}

/// Measures it beside 15,000 objects and, in a full run, beside 100,000.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let small: Size = (15_000, 100, 24.0);
    let sizes = bench.choose(vec![small], vec![small, (100_000, 100, 24.0), (100_000, 10_000, MOST_MIB)]);
    for size in sizes {
        measure(bench, size).await?;
    }
    Ok(())
}

async fn measure(bench: &mut Bench, (objects, workloads, most_mib): Size) -> anyhow::Result<()> {
    let stage = Stage::new(Controllers::WithoutDeployments).await?;
    let empty = bench.empty_mib(&stage).await?;
    for subject in bench.subjects() {
        set_up(&stage, subject, workloads).await.with_context(|| format!("with {}", subject.name()))?;
    }
    stage.namespace(CROWD).await?;
    stage.create_all(objects, of_crowd).await?;
    let mut limit = Samples::default();
    let mut all: Vec<Vec<Round>> = vec![vec![]; bench.subjects().count()];
    for _ in 0..bench.rounds {
        limit.push(bare::list_all(&stage).await?.as_secs_f64());
        for (subject, done) in bench.subjects().zip(&mut all) {
            let round = start(&stage, subject, bench.known_to_ours(workloads)).await;
            done.push(round.with_context(|| format!("with {}", subject.name()))?);
        }
    }
    report(bench, &format!("{objects} objects, {workloads} workloads"), empty, &limit, &all, most_mib);
    Ok(())
}

/// Objects of 10 KB, half of them Secrets.
fn of_crowd(index: usize) -> Outgoing {
    let value = "x".repeat(10_000);
    if index.is_multiple_of(2) {
        create_configmap(CROWD, &format!("c{index}"), &value)
    } else {
        create_secret(CROWD, &format!("s{index}"), &value)
    }
}

/// Workloads with references of their own, with which the program is content.
async fn set_up(stage: &Stage, subject: &Subject, workloads: usize) -> anyhow::Result<()> {
    let own = subject.namespace();
    let namespace = move |workload: usize| format!("{own}-{}", workload / OF_NAMESPACE);
    for first in (0..workloads).step_by(OF_NAMESPACE) {
        stage.namespace(&namespace(first)).await?;
    }
    let of_object = namespace.clone();
    let create = move |i: usize| create_configmap(&of_object(i / REFERENCES), &format!("c{i}"), "value");
    stage.create_all(workloads * REFERENCES, create).await?;
    let mut running = subject.start(stage, subject.arguments(AT_ONCE)).await?;
    let model = deployment("model", serde_json::json!({}))?;
    let annotations: Vec<_> = (0..workloads)
        .map(|i| {
            let names: Vec<_> = (0..REFERENCES).map(|k| format!("c{}", i * REFERENCES + k)).collect();
            subject.annotations(&names.join(","))
        })
        .collect();
    let create = move |i: usize| {
        let mut model = model.clone();
        model["metadata"]["annotations"] = annotations[i].clone();
        create_named(&namespace(i), &model, &format!("app-{i}"))
    };
    stage.create_all(workloads, create).await?;
    running.settled(workloads).await?;
    subject.stop(stage, running).await
}

async fn start(stage: &Stage, subject: &Subject, workloads: usize) -> anyhow::Result<Round> {
    let begin = Instant::now();
    let mut running = subject.spawn(stage, subject.arguments(AT_ONCE))?;
    running.ready().await?;
    let ready = begin.elapsed().as_secs_f64();
    running.settled(workloads).await?;
    let settled = begin.elapsed().as_secs_f64();
    let resources = running.resources();
    tokio::time::sleep(IDLE_AFTER).await;
    // Lists go on after the last workload is known to be right.
    let cpu = resources.cpu_time()?.as_secs_f64();
    // Read once the operator is idle: late reads count, too.
    let content_reads = if subject.is_ours {
        metric_where(&running.metrics().await?, "pod_reloader_config_lookups_total", "\"content\"")
    } else {
        0
    };
    let (idle, peak) = (resources.resident_mib()?, resources.peak_mib()?);
    running.end().await?;
    Ok(Round { ready, settled, idle, peak, cpu, content_reads })
}

fn report(bench: &mut Bench, case: &str, empty: f64, limit: &Samples, all: &[Vec<Round>], most_mib: f64) {
    let of = |pick: fn(&Round) -> f64| -> Vec<Samples> {
        all.iter().map(|rounds| Samples::new(rounds.iter().map(pick).collect())).collect()
    };
    let new = |what: &str, unit: Unit, samples: &[Samples]| {
        let ours = samples.first().cloned().unwrap_or_default();
        Figure::new(NAME, case, what, unit, ours).peers(bench.of_peers(samples))
    };
    let empty = Samples::new(vec![empty; limit.len()]);
    let figures = [
        new("ready", Unit::Seconds, &of(|round| round.ready)).limit("bare metadata lists", limit.clone()),
        new("settled", Unit::Seconds, &of(|round| round.settled))
            .limit("bare metadata lists", limit.clone())
            .target(Target::Ratio(2.0)),
        new("CPU time of the start", Unit::Seconds, &of(|round| round.cpu)),
        new("resident when idle", Unit::Mebibytes, &of(|round| round.idle))
            .limit("idle, nothing exists", empty.clone()),
        new("resident at most", Unit::Mebibytes, &of(|round| round.peak))
            .limit("idle, nothing exists", empty),
        new("reads of content", Unit::Count, &of(|round| count_as_f64(round.content_reads))),
    ];
    bench.figures.extend(figures);
    let ours = all.first().map(Vec::as_slice).unwrap_or_default();
    for (index, round) in ours.iter().enumerate() {
        let what = |what: &str| format!("{NAME}, {case}, round {}: {what}", index + 1);
        bench.expectations.push(Expectation::exactly(what("reads of content"), round.content_reads, 0));
        bench.expectations.push(Expectation::below_mib(what("resident at most"), round.peak, most_mib));
    }
}
