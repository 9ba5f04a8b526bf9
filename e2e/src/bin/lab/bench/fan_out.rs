//! One `ConfigMap` that many Deployments follow is changed: how long until the last one is patched?

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pod_reloader_e2e::objects::{IGNORED, OBSERVED_CONFIG};
use pod_reloader_e2e::{Entry, eventually};
use serde_json::json;

use super::Bench;
use super::bare::{self, FanOut};
use super::expectation::Expectation;
use super::figure::{Figure, Samples, Target, Unit, count_as_f64};
use super::memory::{KEPT_MIB, MOST_MIB};
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
/// The namespace of the Deployments that nobody follows.
const BARE: &str = "bare";
/// Of those for which the API server has to look at our registration, and that we watch and ignore.
const LEFT_ALONE: &str = "left-alone";
const CONFIGMAP: &str = "settings";

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
    /// CPU seconds of the API server until then.
    pub(super) api_server: f64,
    /// CPU seconds from the change until the last Event.
    pub(super) cpu: f64,
    /// Resident before the change, in MiB.
    pub(super) before: f64,
    /// The most from then on, in MiB.
    pub(super) peak: f64,
    /// [`Bench::given_back_after`] the last Event, in MiB.
    pub(super) after: f64,
    /// How often templates were changed.
    pub(super) changes: usize,
    /// Requests that patched workloads.
    pub(super) patches: usize,
    /// Kubernetes Events that were written.
    pub(super) events: usize,
    /// What the bare client took while this program's registration and watches were there; of ours alone.
    pub(super) beside: Option<FanOut>,
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
    let empty = bench.empty_mib(&stage).await?;
    stage.namespace(BARE).await?;
    let model = deployment("model", json!({}))?;
    stage.create_all(count, move |i| create_named(BARE, &model, &format!("app-{i}"))).await?;
    stage.namespace(LEFT_ALONE).await?;
    let mut model = deployment("model", bench.ours.annotations(CONFIGMAP))?;
    model["metadata"]["labels"] = json!({IGNORED: "true"});
    stage.create_all(count, move |i| create_named(LEFT_ALONE, &model, &format!("app-{i}"))).await?;
    for subject in bench.subjects() {
        set_up(&stage, subject, count).await.with_context(|| format!("with {}", subject.name()))?;
    }
    let observed_bytes = observed_bytes(&stage, &bench.ours.namespace()).await?;
    let known = bench.known_to_ours(count);
    let mut all = Rounds { bare: vec![], subjects: vec![vec![]; bench.subjects().count()], empty };
    for round in 1..=rounds {
        all.bare.push(bare::patch_all(&stage, BARE, round, observed_bytes).await.context("bare client")?);
        for (subject, done) in bench.subjects().zip(&mut all.subjects) {
            // Once is enough, and what is still to come is only waited for here.
            let pause = (awaits_memory && round == rounds).then(|| bench.given_back_after());
            let numbers = Numbers { count, known, round, observed_bytes };
            let one = perform(&stage, subject, numbers, pause).await;
            done.push(one.with_context(|| format!("with {}", subject.name()))?);
        }
    }
    Ok(all)
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

/// What a round is about.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    /// Workloads of each program.
    count: usize,
    /// Workloads that ours knows.
    known: usize,
    round: usize,
    /// How long observed-config is.
    observed_bytes: usize,
}

async fn perform(
    stage: &Stage,
    subject: &Subject,
    Numbers { count, known, round, observed_bytes }: Numbers,
    pause: Option<Duration>,
) -> anyhow::Result<Round> {
    let namespace = &subject.namespace();
    let mut running = subject.start(stage, subject.arguments(AT_ONCE)).await?;
    running.settled(known).await?;
    let resources = running.resources();
    let before = resources.resident_mib()?;
    let mut beside = None;
    if subject.is_ours {
        let patched = bare::patch_all(stage, LEFT_ALONE, round, observed_bytes).await;
        beside = Some(patched.context("bare client beside ours")?);
    }
    let observer = Observer::start(&stage.admin, namespace).await?;
    observer.quiet(Duration::from_millis(500), LONG).await?;
    let mark = stage.world.audit().mark().await?;
    let mut connection = stage.admin.connect().await?;
    resources.reset_peak()?;
    let (cpu, api_server) = (CpuSpan::begin(resources)?, CpuSpan::begin(stage.api_server())?);
    connection.send(&change_configmap(namespace, CONFIGMAP, &round.to_string())).await?;
    let begin = Instant::now();
    let times = observer.changed(count, LONG).await?;
    let times = FanOut::since(begin, &times, api_server.end()?.0)?;
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
    if let Some(pause) = pause {
        tokio::time::sleep(pause).await;
    }
    let after = resources.resident_mib()?;
    let round = Round {
        half: times.half.as_secs_f64(),
        all: times.all.as_secs_f64(),
        api_server: times.api_server,
        cpu,
        before,
        peak,
        after,
        changes: usize::try_from(observer.changes())?,
        patches: stage.requests(mark, subject.user, is_patch).await?,
        events: stage.requests(mark, subject.user, is_event).await?,
        beside,
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
    let bare = |pick: fn(FanOut) -> f64| Samples::new(rounds.bare.iter().copied().map(pick).collect());
    // What is left of the gap without the API server's part in it, which no operator with a webhook can do without.
    let beside = |pick: fn(FanOut) -> f64| {
        let ours = rounds.subjects.first().into_iter().flatten();
        Samples::new(ours.filter_map(|round| round.beside.map(pick)).collect())
    };
    let [all, half, api_server]: [fn(FanOut) -> f64; 3] =
        [|one| one.all.as_secs_f64(), |one| one.half.as_secs_f64(), |one| one.api_server];
    let [of_all, of_half, of_api_server]: [fn(&Round) -> f64; 3] =
        [|round| round.all, |round| round.half, |round| round.api_server];
    let [last, first_half] = ["last workload patched", "half of the workloads patched"];
    // Half of the workloads should be done in half of the time that all may take.
    let targets = [Some(Target::Ratio(1.15)), Some(Target::Ratio(1.15 / 2.0))];
    let [bare_name, beside_name] = ["bare client", "bare client, registered and watched"];
    let empty = Samples::new(vec![rounds.empty; bench.rounds]);
    let empty = Some(("idle, nothing exists".to_owned(), empty));
    let seconds = |what, pick, limit: String, samples, target| {
        (what, Unit::Seconds, of(pick), Some((limit, samples)), target)
    };
    let memory = |what, pick| (what, Unit::Mebibytes, of(pick), empty.clone(), None);
    let rows = [
        seconds(last, of_all, bare_name.to_owned(), bare(all), targets[0]),
        seconds(last, of_all, beside_name.to_owned(), beside(all), None),
        seconds(first_half, of_half, format!("{bare_name}, all"), bare(all), targets[1]),
        seconds(first_half, of_half, format!("{bare_name}, half"), bare(half), None),
        seconds(first_half, of_half, format!("{beside_name}, half"), beside(half), None),
        seconds("CPU time of the API server", of_api_server, bare_name.to_owned(), bare(api_server), None),
        seconds(
            "CPU time of the API server",
            of_api_server,
            beside_name.to_owned(),
            beside(api_server),
            None,
        ),
        ("CPU time of the program", Unit::Seconds, of(|round| round.cpu), None, None),
        memory("resident before", |round| round.before),
        memory("resident at most", |round| round.peak),
        memory("resident afterwards", |round| round.after),
        ("changes of templates", Unit::Count, of(|round| count_as_f64(round.changes)), None, None),
    ];
    for (what, unit, samples, limit, target) in rows {
        let ours = samples.first().cloned().unwrap_or_default();
        let mut figure = Figure::new(NAME, &case, what, unit, ours).peers(bench.of_peers(&samples));
        if let Some((what, samples)) = limit {
            figure = figure.limit(what, samples);
        }
        if let Some(target) = target {
            figure = figure.target(target);
        }
        bench.figures.push(figure);
    }
    let ours = rounds.subjects.first().map(Vec::as_slice).unwrap_or_default();
    bench.expectations.extend(expectations(&case, count, ours));
}

/// What has to be as it is in any run, of our own rounds.
fn expectations(case: &str, count: usize, rounds: &[Round]) -> Vec<Expectation> {
    // A request that is given up on a starved machine is made once more.
    let most = count + count / 50 + 1;
    let mut expectations = vec![];
    for (index, round) in rounds.iter().enumerate() {
        let what = |what: &str| format!("{NAME}, {case}, round {}: {what}", index + 1);
        expectations.extend([
            Expectation::within(what("patches"), round.patches, count, most),
            Expectation::exactly(what("changes of templates"), round.changes, count),
            Expectation::within(what("Events"), round.events, count, most),
            Expectation::below_mib(what("resident at most"), round.peak, MOST_MIB),
        ]);
    }
    if let Some(last) = rounds.last() {
        let what = format!("{NAME}, {case}: resident afterwards");
        expectations.push(Expectation::back_to_mib(what, last.after, last.before, KEPT_MIB));
    }
    expectations
}
