//! Nothing happens.

use std::time::Duration;

use anyhow::Context;
use pod_reloader_e2e::Entry;

use super::Bench;
use super::expectation::Expectation;
use super::fan_out::AT_ONCE;
use super::figure::{Figure, Samples, Target, Unit, count_as_f64};
use super::resources::CpuSpan;
use super::stage::{Controllers, Stage};
use super::subject::Subject;

/// On the command line.
pub(super) const NAME: &str = "idle";
/// What a start leaves to do is over then.
const AFTER_START: Duration = Duration::from_secs(2);

/// What one program has shown.
struct Idle {
    cpu_percent: f64,
    requests: usize,
    resident: f64,
}

/// Measures it for five minutes, in a quick run for 15 s.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let span = bench.choose(Duration::from_secs(15), Duration::from_mins(5));
    let stage = Stage::new(Controllers::WithoutDeployments).await?;
    let empty = bench.empty_mib(&stage).await?;
    let mut all = vec![];
    for subject in bench.subjects() {
        let idle = measure(&stage, subject, span).await;
        all.push(idle.with_context(|| format!("with {}", subject.name()))?);
    }
    let case = format!("{} s", span.as_secs());
    let of = |pick: fn(&Idle) -> f64| -> Vec<Samples> {
        all.iter().map(|idle| Samples::new(vec![pick(idle)])).collect()
    };
    let new = |what: &str, unit: Unit, samples: &[Samples]| {
        let ours = samples.first().cloned().unwrap_or_default();
        Figure::new(NAME, &case, what, unit, ours).peers(bench.of_peers(samples))
    };
    let figures = [
        new("CPU", Unit::Percent, &of(|idle| idle.cpu_percent)).target(Target::Below(0.05)),
        new("requests", Unit::Count, &of(|idle| count_as_f64(idle.requests))),
        new("resident", Unit::Mebibytes, &of(|idle| idle.resident))
            .limit("just started", Samples::new(vec![empty])),
    ];
    bench.figures.extend(figures);
    if let Some(ours) = all.first() {
        bench.expectations.push(Expectation::below_mib(format!("{NAME}: resident"), ours.resident, 16.0));
    }
    Ok(())
}

async fn measure(stage: &Stage, subject: &Subject, span: Duration) -> anyhow::Result<Idle> {
    let mut running = subject.start(stage, subject.arguments(AT_ONCE)).await?;
    running.settled(0).await?;
    tokio::time::sleep(AFTER_START).await;
    let mark = stage.world.audit().mark().await?;
    let cpu = CpuSpan::begin(running.resources())?;
    tokio::time::sleep(span).await;
    let (cpu_seconds, elapsed) = cpu.end()?;
    // A watch has two entries: as it begins and as it ends.
    let is_complete = |entry: &Entry| entry.stage == "ResponseComplete";
    let requests = stage.requests(mark, subject.user, is_complete).await?;
    let resident = running.resources().resident_mib()?;
    subject.stop(stage, running).await?;
    Ok(Idle { cpu_percent: cpu_seconds / elapsed.as_secs_f64() * 100.0, requests, resident })
}
