//! `lab bench`: what pod-reloader costs beside what the same machine can do at best, measured in the same run.
//!
//! Each scenario has a control plane of its own. Rounds of the limit and of what is under test alternate, so that a
//! machine that becomes slower meanwhile slows both. Counts and bytes are checked; times are only shown.

mod admission;
mod bare;
mod blind;
mod burst;
mod churn;
mod delay;
mod expectation;
mod fan_out;
mod figure;
mod growth;
mod idle;
mod large;
mod load;
mod memory;
mod observer;
mod opting_in;
mod peer;
mod raw;
mod report;
mod resources;
mod reviews;
mod stage;
mod start;
mod subject;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::ensure;
use futures::FutureExt;
use futures::future::BoxFuture;
use pod_reloader_e2e::operator_binary;
use tokio::sync::OnceCell;

pub(crate) use self::blind::{Args as BlindWebhook, serve as serve_blind_webhook};
use self::expectation::Expectation;
use self::figure::{Figure, Samples};
use self::peer::Description;
use self::report::{Machine, Report};
use self::subject::Subject;

type Run = for<'a> fn(&'a mut Bench) -> BoxFuture<'a, anyhow::Result<()>>;

/// All scenarios, in the order in which they run.
const SCENARIOS: &[(&str, Run)] = &[
    (fan_out::NAME, |bench| fan_out::run(bench).boxed()),
    (admission::NAME, |bench| admission::run(bench).boxed()),
    (start::NAME, |bench| start::run(bench).boxed()),
    (idle::NAME, |bench| idle::run(bench).boxed()),
    (burst::NAME, |bench| burst::run(bench).boxed()),
    (large::NAME, |bench| large::run(bench).boxed()),
    (churn::NAME, |bench| churn::run(bench).boxed()),
    (opting_in::NAME, |bench| opting_in::run(bench).boxed()),
    (growth::NAME, |bench| growth::run(bench).boxed()),
];

/// Not part of a quick run, unless they are asked for: each size has a control plane of its own.
const ONLY_FULL: &[&str] = &[growth::NAME];

/// Measures what pod-reloader costs, beside what the same machine can do at best.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fewer cases and shorter spans: under three minutes on two idle cores.
    #[arg(long)]
    quick: bool,
    /// How often limits and figures alternate; by default 5, and 3 with `--quick`.
    #[arg(long)]
    rounds: Option<usize>,
    /// Where the result goes as JSON.
    #[arg(long, default_value = "target/bench/result.json")]
    json: PathBuf,
    /// The description of another program to put beside ours; may be given several times.
    #[arg(long = "peer", value_name = "FILE")]
    peers: Vec<PathBuf>,
    /// Only these; without any, all of them, with `--quick` but `growth`.
    scenarios: Vec<String>,
}

impl Args {
    fn includes(&self, scenario: &str) -> bool {
        if self.scenarios.is_empty() {
            return !(self.quick && ONLY_FULL.contains(&scenario));
        }
        self.scenarios.iter().any(|wanted| wanted == scenario)
    }
}

/// What scenarios are told, and what they find.
struct Bench {
    quick: bool,
    rounds: usize,
    ours: Subject,
    peers: Vec<Subject>,
    figures: Vec<Figure>,
    expectations: Vec<Expectation>,
    /// See `memory`.
    empty_mib: OnceCell<f64>,
}

impl Bench {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 5 });
        ensure!(rounds > 0, "there has to be at least one round (--rounds, ROUNDS=1)");
        let peers = args.peers.iter().map(|file| Ok(Subject::peer(Description::read(file)?)));
        let peers = peers.collect::<anyhow::Result<Vec<_>>>()?;
        let names: std::collections::BTreeSet<_> = peers.iter().map(Subject::name).collect();
        ensure!(
            names.len() == peers.len() && !names.contains("pod-reloader"),
            "peers need names of their own"
        );
        let ours = Subject::ours()?;
        Ok(Self {
            quick: args.quick,
            rounds,
            ours,
            peers,
            figures: vec![],
            expectations: vec![],
            empty_mib: OnceCell::new(),
        })
    }

    /// Ours first, then the peers.
    fn subjects(&self) -> impl Iterator<Item = &Subject> {
        std::iter::once(&self.ours).chain(&self.peers)
    }

    /// How many workloads ours knows where each program has so many: those of peers with the same annotations, too.
    fn known_to_ours(&self, each: usize) -> usize {
        each * self.subjects().filter(|subject| subject.annotations("") == self.ours.annotations("")).count()
    }

    /// In a full run `full`, else `quick`.
    fn choose<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The samples of the peers with their names, for a figure; `all` has ours first.
    fn of_peers(&self, all: &[Samples]) -> Vec<(String, Samples)> {
        self.peers.iter().map(|peer| peer.name().to_owned()).zip(all.iter().skip(1).cloned()).collect()
    }
}

pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    for name in &args.scenarios {
        let known: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        ensure!(known.contains(&name.as_str()), "no scenario {name}; there are {}", known.join(", "));
    }
    let mut bench = Bench::new(args)?;
    let machine = Machine::now();
    let mut failures = vec![];
    for (name, perform) in SCENARIOS {
        if !args.includes(name) {
            continue;
        }
        let begin = Instant::now();
        eprintln!("{name} ...");
        // Others can still be measured.
        if let Err(error) = perform(&mut bench).await {
            eprintln!("{name} failed: {error:#}");
            failures.push(((*name).to_owned(), format!("{error:#}")));
        }
        eprintln!("{name} took {:.0} s", begin.elapsed().as_secs_f64());
    }
    let report = Report {
        machine,
        quick: args.quick,
        binary: operator_binary()?.display().to_string(),
        figures: bench.figures,
        expectations: bench.expectations,
        failures,
    };
    println!("{}", report.markdown());
    report.write(&args.json)?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
