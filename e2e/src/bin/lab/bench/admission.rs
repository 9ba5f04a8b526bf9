//! Reviews straight to the webhook, over one HTTP/2 connection as the API server has it, beside a webhook that looks at
//! nothing and a read of a `ConfigMap`'s metadata.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use pod_reloader_e2e::world::webhook;
use pod_reloader_e2e::{Entry, User};
use serde_json::{Value, json};

use super::Bench;
use super::blind::Blind;
use super::delay::Delay;
use super::expectation::Expectation;
use super::fan_out::AT_ONCE;
use super::figure::{Figure, Samples, Target, Unit, count_as_f64};
use super::load::{ask_once, load};
use super::raw::{Clients, Endpoint, MERGE_PATCH, METADATA, Outgoing};
use super::reviews::{self, Kind, is_allowed};
use super::stage::{Controllers, Stage, configmaps, create_configmap, deployment, deployments};
use super::subject::{Running, Subject};

/// On the command line.
pub(super) const NAME: &str = "admission";
/// As many references as count.
const MOST_REFERENCES: usize = 1000;
/// How many reads of content the operator has under way for one review.
const READS_AT_ONCE: usize = 8;
/// How far away the slow API server is.
const FAR: Duration = Duration::from_millis(50);

/// One way to ask.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: Kind,
    references: usize,
    /// Whether the reviews are about workloads with references of their own.
    differ: bool,
    clients: usize,
}

impl Case {
    fn text(self) -> String {
        let Self { kind, references, differ, clients } = self;
        let whose = if differ { "different" } else { "the same" };
        format!("{}, {references} references ({whose}), {clients} clients", kind.text())
    }
}

fn cases(quick: bool) -> Vec<Case> {
    let case = |kind, references, differ, clients| Case { kind, references, differ, clients };
    if quick {
        return vec![
            case(Kind::Template, 1, false, 1),
            case(Kind::Template, 10, false, 1),
            case(Kind::Template, 10, false, 64),
            case(Kind::Template, 10, true, 64),
            case(Kind::Template, 1000, false, 1),
            case(Kind::Unchanged, 10, false, 64),
            case(Kind::Create, 10, false, 1),
            case(Kind::Create, 10, true, 64),
        ];
    }
    let mut all = vec![];
    for kind in [Kind::Template, Kind::Unchanged, Kind::Create] {
        for references in [1, 10, 100, MOST_REFERENCES] {
            for differ in [false, true] {
                all.extend([1, 8, 64].map(|clients| case(kind, references, differ, clients)));
            }
        }
    }
    all
}

/// What one round of a case has shown.
#[derive(Clone, Copy, Debug)]
struct CaseRound {
    p50: f64,
    p99: f64,
    per_second: f64,
    per_cpu_second: f64,
    reviews: usize,
    reads: usize,
    blind_p50: f64,
    blind_per_second: f64,
    blind_per_cpu_second: f64,
    /// The p50 of a metadata read in that round.
    read_p50: f64,
}

/// What one round has shown beside the cases.
#[derive(Clone, Copy, Debug)]
struct WholeRound {
    without: f64,
    through: f64,
    cold: f64,
    cold_bare: f64,
}

/// Measures all of it.
pub(super) async fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let stage = Stage::new(Controllers::WithoutDeployments).await?;
    let cases = cases(bench.quick);
    let scene = Scene::set_up(stage, bench, &cases).await?;
    let mut rounds = vec![];
    let mut of_cases = vec![vec![]; cases.len()];
    for round in 0..bench.rounds {
        rounds.push(scene.round(bench, round, &mut of_cases).await?);
    }
    for (case, rounds) in cases.iter().zip(&of_cases) {
        report_case(bench, *case, rounds);
    }
    report_whole(bench, &rounds);
    for references in [1, 10] {
        let figure = scene.far_away(bench, references).await?;
        bench.figures.push(figure);
    }
    Ok(())
}

/// The control plane with all objects and both webhooks' clients.
struct Scene {
    stage: Stage,
    /// Where the objects are of which nothing is known.
    namespace: String,
    /// Where the workload is that is written through the API server.
    written: String,
    blind: Blind,
    /// What is sent in each case.
    requests: Vec<(Case, Arc<Vec<Outgoing>>)>,
    /// How many workloads there are.
    workloads: usize,
    span: Duration,
}

impl Scene {
    async fn set_up(stage: Stage, bench: &Bench, cases: &[Case]) -> anyhow::Result<Self> {
        let namespace = bench.ours.namespace();
        stage.namespace(&namespace).await?;
        let (cold, rounds) = (namespace.clone(), bench.rounds);
        let create = move |i: usize| create_configmap(&cold, &format!("cold-{i}"), "value");
        stage.create_all(rounds * MOST_REFERENCES, create).await?;
        let blind = Blind::start(&stage).await?;
        let running = bench.ours.start(&stage, AT_ONCE).await?;
        let mut made: Vec<((usize, bool), Vec<Value>)> = vec![];
        let mut requests = vec![];
        for case in cases {
            let key = (case.references, case.differ);
            if !made.iter().any(|(known, _)| *known == key) {
                made.push((key, reviews::workloads(&stage, &bench.ours, key.0, key.1).await?));
            }
            let workloads = made.iter().find(|(known, _)| *known == key).map(|(_, workloads)| workloads);
            requests.push((*case, reviews::reviews(case.kind, workloads.map_or(&[], Vec::as_slice))));
        }
        bench.ours.stop(&stage, running).await?;
        let workloads = made.iter().map(|(_, workloads)| workloads.len()).sum();
        let span = bench.choose(Duration::from_millis(200), Duration::from_millis(1500));
        let written = reviews::namespace(&bench.ours, 1, false);
        Ok(Self { stage, namespace, written, blind, requests, workloads, span })
    }

    async fn round(
        &self,
        bench: &Bench,
        round: usize,
        of_cases: &mut [Vec<CaseRound>],
    ) -> anyhow::Result<WholeRound> {
        let writes = bench.choose(50, 200);
        let without = self.writes(writes).await?;
        let mut running = bench.ours.start(&self.stage, AT_ONCE).await?;
        running.settled(self.workloads).await?;
        let through = self.writes(writes).await?;
        for ((case, requests), done) in self.requests.iter().zip(of_cases) {
            done.push(self.case(&running, *case, requests).await?);
        }
        let cold_bare = self.cold_bare(round).await?;
        let cold = self.cold(bench, &running, round).await?;
        bench.ours.stop(&self.stage, running).await?;
        Ok(WholeRound { without, through, cold, cold_bare })
    }

    /// The p50 of the same write through the API server, in ms.
    async fn writes(&self, count: usize) -> anyhow::Result<f64> {
        let mut connection = self.stage.admin.connect().await?;
        let mut latencies = vec![];
        for index in 0..count {
            let image = format!("example.invalid/app:{}", index % 2);
            let containers = json!([{"name": "main", "image": image}]);
            let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}}).to_string();
            let workload = format!("{}/app-0", deployments(&self.written));
            let outgoing = Outgoing::new(Method::PATCH, workload, MERGE_PATCH, patch);
            let begin = Instant::now();
            connection.send(&outgoing).await?;
            latencies.push(begin.elapsed());
        }
        Ok(median_ms(latencies))
    }

    async fn case(
        &self,
        running: &Running,
        case: Case,
        requests: &Arc<Vec<Outgoing>>,
    ) -> anyhow::Result<CaseRound> {
        let read_p50 =
            read_p50(&Endpoint::api_server(self.stage.plane(), User::Operator)?, &self.namespace).await?;
        let endpoint = self.blind.endpoint(&self.stage)?;
        let blind =
            load(&endpoint, self.blind.resources(), case.clients, requests, self.span, is_allowed).await?;
        let endpoint = running.webhook(&self.stage)?;
        // What a digest is made of has to be read once, which `cold` measures.
        ask_once(&endpoint, requests).await?;
        let mark = self.stage.world.audit().mark().await?;
        let ours =
            load(&endpoint, running.resources(), case.clients, requests, self.span, is_allowed).await?;
        let reads = self.stage.requests(mark, User::Operator, is_read).await?;
        Ok(CaseRound {
            p50: ours.percentile_ms(50),
            p99: ours.percentile_ms(99),
            per_second: ours.per_second(),
            per_cpu_second: ours.per_cpu_second(),
            // The first review of a connection is not among those that are timed.
            reviews: ours.count() + 1,
            reads,
            blind_p50: blind.percentile_ms(50),
            blind_per_second: blind.per_second(),
            blind_per_cpu_second: blind.per_cpu_second(),
            read_p50,
        })
    }

    /// Seconds for a CREATE with as many references as count, of which nothing is known.
    async fn cold(&self, bench: &Bench, running: &Running, round: usize) -> anyhow::Result<f64> {
        let names: Vec<String> = cold_names(round).collect();
        let workload = deployment("cold", bench.ours.annotations(&names.join(",")))?;
        let request = reviews::of_request(&webhook::request("CREATE", &self.namespace, &workload, None));
        let mut connection = running.webhook(&self.stage)?.connect().await?;
        let begin = Instant::now();
        let answer = connection.send(&request).await?;
        let took = begin.elapsed();
        anyhow::ensure!(is_allowed(&answer) && has_patch(&answer), "the cold review set no hash");
        Ok(took.as_secs_f64())
    }

    /// Seconds for the reads that such a review takes.
    async fn cold_bare(&self, round: usize) -> anyhow::Result<f64> {
        let operator = Endpoint::api_server(self.stage.plane(), User::Operator)?;
        let clients = Clients::open(&operator, READS_AT_ONCE).await?;
        let (path, names) = (configmaps(&self.namespace), cold_names(round).collect::<Vec<_>>());
        let begin = Instant::now();
        let read = move |i: usize| Outgoing::get(format!("{path}/{}", names[i]), super::raw::JSON);
        clients.send_all(MOST_REFERENCES, read).await?;
        Ok(begin.elapsed().as_secs_f64())
    }

    /// The same with an API server that is far away.
    async fn far_away(&self, bench: &Bench, references: usize) -> anyhow::Result<Figure> {
        let delay = Delay::start(&self.stage, FAR).await?;
        let kubeconfig = delay.kubeconfig(&self.stage, bench.ours.user)?;
        let ours: &Subject = &bench.ours;
        let mut running = ours.spawn_with(&self.stage, AT_ONCE, &kubeconfig)?;
        running.ready().await?;
        running.settled(self.workloads).await?;
        let found = self
            .requests
            .iter()
            .find(|(case, _)| case.kind == Kind::Template && case.references == references && !case.differ);
        let (_, requests) =
            found.ok_or_else(|| anyhow::anyhow!("no reviews with {references} references"))?;
        let (mut samples, mut limit) = (Samples::default(), Samples::default());
        let far = Endpoint::api_server_at(&kubeconfig)?;
        let endpoint = running.webhook(&self.stage)?;
        // Long enough for some dozen reviews.
        let span = self.span * 4;
        for _ in 0..bench.rounds {
            limit.push(read_p50(&far, &self.namespace).await?);
            let load = load(&endpoint, running.resources(), 1, requests, span, is_allowed).await?;
            samples.push(load.percentile_ms(50));
        }
        running.end().await?;
        let case = format!("template changed, {references} references, API server 50 ms away");
        Ok(Figure::new(NAME, case, "p50", Unit::Milliseconds, samples).limit("one metadata read", limit))
    }
}

fn cold_names(round: usize) -> impl Iterator<Item = String> {
    (0..MOST_REFERENCES).map(move |i| format!("cold-{}", round * MOST_REFERENCES + i))
}

fn has_patch(answer: &[u8]) -> bool {
    answer.windows(7).any(|window| window == b"\"patch\"")
}

fn is_read(entry: &Entry) -> bool {
    matches!(entry.verb.as_str(), "get" | "list") && entry.is_about("configmaps")
}

/// The p50 of a read of one object's metadata over HTTP/1.1, as the operator reads it, in ms.
async fn read_p50(server: &Endpoint, namespace: &str) -> anyhow::Result<f64> {
    const READS: usize = 30;
    let mut connection = server.connect().await?;
    let read = Outgoing::get(format!("{}/cold-0", configmaps(namespace)), METADATA);
    let mut latencies = vec![];
    for _ in 0..READS {
        let begin = Instant::now();
        connection.send(&read).await?;
        latencies.push(begin.elapsed());
    }
    Ok(median_ms(latencies))
}

fn median_ms(latencies: Vec<Duration>) -> f64 {
    let milliseconds = latencies.into_iter().map(|latency| latency.as_secs_f64() * 1000.0).collect();
    Samples::new(milliseconds).median().unwrap_or_default()
}

fn report_case(bench: &mut Bench, case: Case, rounds: &[CaseRound]) {
    let of = |pick: fn(&CaseRound) -> f64| Samples::new(rounds.iter().map(pick).collect());
    let new = |what: &str, unit, samples| Figure::new(NAME, case.text(), what, unit, samples);
    let p50 = new("p50", Unit::Milliseconds, of(|round| round.p50));
    bench.figures.push(if case.kind == Kind::Unchanged {
        p50.limit("blind webhook", of(|round| round.blind_p50))
    } else {
        let p50 =
            p50.limit("blind + 1.2 x metadata read", of(|round| round.blind_p50 + 1.2 * round.read_p50));
        if case.references <= 10 && case.clients == 1 { p50.target(Target::Ratio(1.0)) } else { p50 }
    });
    bench.figures.push(new("p99", Unit::Milliseconds, of(|round| round.p99)));
    let blind = of(|round| round.blind_per_second);
    let per_second = new("reviews", Unit::PerSecond, of(|round| round.per_second));
    bench.figures.push(per_second.limit("blind webhook", blind));
    let per_cpu_second = new("reviews of a CPU second", Unit::PerSecond, of(|round| round.per_cpu_second));
    let per_cpu_second = per_cpu_second.limit("blind webhook", of(|round| round.blind_per_cpu_second));
    let is_promised = case.clients == 64 && !case.differ && case.references <= 10;
    bench.figures.push(if is_promised {
        per_cpu_second.target(Target::AtLeast(5000.0))
    } else {
        per_cpu_second
    });
    let per_review = of(|round| count_as_f64(round.reads) / count_as_f64(round.reviews));
    bench.figures.push(new("reads of a review", Unit::Count, per_review));
    for (index, round) in rounds.iter().enumerate() {
        // Who asks for the same at the same time shares reads, and an unchanged template takes none. Without sharing
        // there is a read, or a list, for each review; with it, one for as many as ask at once. With a thousand references
        // hardly two do: the operator takes longer for a review than the API server for the list.
        let most = match case {
            Case { kind: Kind::Unchanged, .. } => 0,
            Case { clients: 64, differ: false, references: ..=100, .. } => round.reviews / 4,
            _ => continue,
        };
        let what = format!("{NAME}, {}, round {}: reads", case.text(), index + 1);
        bench.expectations.push(Expectation::within(what, round.reads, 0, most));
    }
}

fn report_whole(bench: &mut Bench, rounds: &[WholeRound]) {
    let of = |pick: fn(&WholeRound) -> f64| Samples::new(rounds.iter().map(pick).collect());
    let through = Figure::new(
        NAME,
        "a Deployment's image is changed through the API server",
        "p50",
        Unit::Milliseconds,
        of(|round| round.through),
    );
    bench.figures.push(through.limit("without the webhook", of(|round| round.without)));
    let cold = Figure::new(
        NAME,
        "CREATE, 1000 references never seen",
        "one review",
        Unit::Seconds,
        of(|round| round.cold),
    );
    let limit = format!("{MOST_REFERENCES} bare reads, {READS_AT_ONCE} at once");
    bench.figures.push(cold.limit(limit, of(|round| round.cold_bare)).target(Target::Below(1.0)));
}
