//! One `ConfigMap` that many Deployments follow is changed: how long until the last one is patched?

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pod_reloader_e2e::objects::OBSERVED_CONFIG;
use pod_reloader_e2e::{Entry, eventually};
use serde_json::json;

use super::Bench;
use super::bare::{self, FanOut};
use super::expectation::Expectation;
use super::figure::{Figure, Samples, Target, Unit, count_as_f64};
use super::observer::Observer;
use super::raw::{JSON, Outgoing};
use super::resources::CpuSpan;
use super::stage::{
    Controllers, LONG, Stage, change_configmap, create_configmap, create_named, deployment, deployments,
};
use super::subject::Subject;

/// On the command line.
pub(super) const NAME: &str = "fan_out";
/// For ours: a change is answered at once, as the bare client does.
pub(super) const AT_ONCE: &[&str] = &["--settle-window=0"];
/// When memory that was needed for a while should have been given back.
pub(super) const GIVEN_BACK_AFTER: Duration = Duration::from_secs(10);
/// The namespace of the Deployments that nobody follows.
const BARE: &str = "bare";
const CONFIGMAP: &str = "settings";
/// Most that may be resident at 10,000 workloads and in any burst, in MiB.
pub(super) const MOST_MIB: f64 = 64.0;
/// How much of what a burst took may still be resident after it, in MiB.
pub(super) const KEPT_MIB: f64 = 4.0;

/// Measures it with 1,000 workloads and, in a full run, with 10,000.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    for count in bench.choose(vec![1000], vec![1000, 10_000]) {
        let rounds = measure(bench, count, bench.rounds, true).await?;
        report(bench, count, &rounds);
    }
    Ok(())
}

/// What one round of one program has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Seconds until half of the workloads were patched.
    pub(super) half: f64,
    /// Seconds until all were.
    pub(super) all: f64,
    /// CPU seconds from the change until the last Event.
    pub(super) cpu: f64,
    /// Resident before the change, in MiB.
    pub(super) before: f64,
    /// The most from then on, in MiB.
    pub(super) peak: f64,
    /// [`GIVEN_BACK_AFTER`] the last Event, in MiB.
    pub(super) after: f64,
    /// How often templates were changed.
    pub(super) changes: usize,
    /// Requests that patched workloads.
    pub(super) patches: usize,
    /// Kubernetes Events that were written.
    pub(super) events: usize,
}

/// All rounds.
pub(super) struct Rounds {
    /// Of the bare client.
    pub(super) bare: Vec<FanOut>,
    /// Of each program, ours first.
    pub(super) subjects: Vec<Vec<Round>>,
    /// Our own program before anything exists, in MiB.
    pub(super) empty: f64,
}

/// Sets up so many workloads for each program, and has rounds of all alternate; waits for what is resident afterwards
/// where that is wanted.
pub(super) async fn measure(
    bench: &Bench,
    count: usize,
    rounds: usize,
    awaits_memory: bool,
) -> anyhow::Result<Rounds> {
    let stage = Stage::new(Controllers::WithoutDeployments).await?;
    let empty = empty_mib(&stage, &bench.ours).await?;
    stage.namespace(BARE).await?;
    let model = deployment("model", json!({}))?;
    stage.create_all(count, move |i| create_named(BARE, &model, &format!("app-{i}"))).await?;
    for subject in bench.subjects() {
        set_up(&stage, subject, count).await.with_context(|| format!("with {}", subject.name()))?;
    }
    let observed_bytes = observed_bytes(&stage, &bench.ours.namespace()).await?;
    let known = bench.known_to_ours(count);
    let mut all = Rounds { bare: vec![], subjects: vec![vec![]; bench.subjects().count()], empty };
    for round in 1..=rounds {
        all.bare.push(bare::patch_all(&stage, BARE, round, observed_bytes).await.context("bare client")?);
        for (subject, done) in bench.subjects().zip(&mut all.subjects) {
            let is_last = awaits_memory && round == rounds;
            let one = perform(&stage, subject, count, known, round, is_last).await;
            done.push(one.with_context(|| format!("with {}", subject.name()))?);
        }
    }
    Ok(all)
}

/// What our own program takes when there is nothing to do, in MiB.
pub(super) async fn empty_mib(stage: &Stage, ours: &Subject) -> anyhow::Result<f64> {
    let mut running = ours.start(stage, AT_ONCE).await?;
    running.settled(0).await?;
    // The first lists and the key have just been read.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let resident = running.resources().resident_mib()?;
    ours.stop(stage, running).await?;
    Ok(resident)
}

/// The program's own namespace, with workloads that it has seen and is content with.
async fn set_up(stage: &Stage, subject: &Subject, count: usize) -> anyhow::Result<()> {
    let namespace = subject.namespace();
    stage.namespace(&namespace).await?;
    stage.admin.request(&create_configmap(&namespace, CONFIGMAP, "0")).await?;
    let mut running = subject.start(stage, subject.arguments(AT_ONCE)).await?;
    let model = deployment("model", subject.annotations(CONFIGMAP))?;
    let path = namespace.clone();
    stage.create_all(count, move |i| create_named(&path, &model, &format!("app-{i}"))).await?;
    running.settled(count).await?;
    let observer = Observer::start(&stage.admin, &namespace).await?;
    observer.quiet(Duration::from_secs(1), LONG).await?;
    subject.stop(stage, running).await
}

/// How long observed-config of a workload is, so that the bare client writes as much.
async fn observed_bytes(stage: &Stage, namespace: &str) -> anyhow::Result<usize> {
    let path = format!("{}/app-0", deployments(namespace));
    let workload = stage.admin.request(&Outgoing::get(path, JSON)).await?;
    let observed = workload["metadata"]["annotations"][OBSERVED_CONFIG].as_str();
    Ok(observed.context("a workload has no observed-config")?.len())
}

async fn perform(
    stage: &Stage,
    subject: &Subject,
    count: usize,
    known: usize,
    round: usize,
    is_last: bool,
) -> anyhow::Result<Round> {
    let namespace = &subject.namespace();
    let mut running = subject.start(stage, subject.arguments(AT_ONCE)).await?;
    running.settled(known).await?;
    let observer = Observer::start(&stage.admin, namespace).await?;
    observer.quiet(Duration::from_millis(500), LONG).await?;
    let mark = stage.world.audit().mark().await?;
    let mut connection = stage.admin.connect().await?;
    let resources = running.resources();
    let before = resources.resident_mib()?;
    resources.reset_peak()?;
    let cpu = CpuSpan::begin(resources)?;
    connection.send(&change_configmap(namespace, CONFIGMAP, &round.to_string())).await?;
    let begin = Instant::now();
    let times = FanOut::since(begin, &observer.changed(count, LONG).await?)?;
    if subject.is_ours {
        eventually("all Events", LONG, || async {
            let events = stage.requests(mark, subject.user, is_event).await?;
            ensure!(events >= count, "{events} of {count}");
            Ok(())
        })
        .await?;
    }
    let (cpu, _) = cpu.end()?;
    let peak = resources.peak_mib()?;
    // Once is enough, and what is still to come is only waited for here.
    if is_last {
        tokio::time::sleep(GIVEN_BACK_AFTER).await;
    }
    let after = resources.resident_mib()?;
    let round = Round {
        half: times.half.as_secs_f64(),
        all: times.all.as_secs_f64(),
        cpu,
        before,
        peak,
        after,
        changes: usize::try_from(observer.changes())?,
        patches: stage.requests(mark, subject.user, is_patch).await?,
        events: stage.requests(mark, subject.user, is_event).await?,
    };
    subject.stop(stage, running).await?;
    Ok(round)
}

fn is_patch(entry: &Entry) -> bool {
    entry.verb == "patch" && entry.is_about("deployments")
}

fn is_event(entry: &Entry) -> bool {
    entry.verb == "create" && entry.is_about("events")
}

fn report(bench: &mut Bench, count: usize, rounds: &Rounds) {
    let case = format!("{count} workloads");
    let of = |pick: fn(&Round) -> f64| -> Vec<Samples> {
        let samples = rounds.subjects.iter().map(|one| Samples::new(one.iter().map(pick).collect()));
        samples.collect()
    };
    let bare = Samples::new(rounds.bare.iter().map(|one| one.all.as_secs_f64()).collect());
    let bare_half = Samples::new(rounds.bare.iter().map(|one| one.half.as_secs_f64()).collect());
    let empty = Samples::new(vec![rounds.empty; bench.rounds]);
    let mut add = |what: &str, unit: Unit, all: &[Samples], adapt: &dyn Fn(Figure) -> Figure| {
        let ours = all.first().cloned().unwrap_or_default();
        let figure = Figure::new(NAME, &case, what, unit, ours).peers(bench.of_peers(all));
        bench.figures.push(adapt(figure));
    };
    let (last, half) = (of(|round| round.all), of(|round| round.half));
    add("last workload patched", Unit::Seconds, &last, &|figure| {
        figure.limit("bare client", bare.clone()).target(Target::Ratio(1.15))
    });
    // Half of the workloads should be done in half of the time that all may take.
    add("half of the workloads patched", Unit::Seconds, &half, &|figure| {
        figure.limit("bare client, all", bare.clone()).target(Target::Ratio(1.15 / 2.0))
    });
    add("half of them, beside half of the bare client's", Unit::Seconds, &half, &|figure| {
        figure.limit("bare client, half", bare_half.clone())
    });
    add("CPU time of the program", Unit::Seconds, &of(|round| round.cpu), &|figure| figure);
    let memory = [
        ("resident before", of(|round| round.before)),
        ("resident at most", of(|round| round.peak)),
        ("resident afterwards", of(|round| round.after)),
    ];
    for (what, samples) in &memory {
        add(what, Unit::Mebibytes, samples, &|figure| figure.limit("idle, nothing exists", empty.clone()));
    }
    let per_workload = |round: &Round| count_as_f64(round.changes);
    add("changes of templates", Unit::Count, &of(per_workload), &|figure| figure);
    let ours = rounds.subjects.first().map(Vec::as_slice).unwrap_or_default();
    // A request that is given up on a starved machine is made once more.
    let most = count + count / 50 + 1;
    for (index, round) in ours.iter().enumerate() {
        let what = |what: &str| format!("{NAME}, {case}, round {}: {what}", index + 1);
        bench.expectations.extend([
            Expectation::within(what("patches"), round.patches, count, most),
            Expectation::exactly(what("changes of templates"), round.changes, count),
            Expectation::within(what("Events"), round.events, count, most),
            Expectation::below_mib(what("resident at most"), round.peak, MOST_MIB),
        ]);
    }
    if let Some(last) = ours.last() {
        let what = format!("{NAME}, {case}: resident 10 s afterwards");
        bench.expectations.push(Expectation::back_to_mib(what, last.after, last.before, KEPT_MIB));
    }
}
