//! One scenario's control plane, with an operator under the limit and another tenant who is served meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use pod_reloader_e2e::world::webhook::{Webhook, request};
use pod_reloader_e2e::{Operator, Space, World, eventually, objects, operator_binary};
use serde_json::json;
use tokio::task::JoinHandle;

use super::cgroup::Cgroup;

pub(super) const LONG: Duration = Duration::from_mins(10);
/// The chart's limit.
pub(super) const LIMIT: u64 = 128 << 20;
/// When the memory of an operator that is idle again is looked at.
const IDLE_AFTER: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// What a scenario showed.
pub(super) struct Outcome {
    pub(super) what: String,
    /// The highest resident set of all operators that ran.
    pub(super) peak_kib: u64,
    pub(super) idle_kib: u64,
    pub(super) group_peak: Option<u64>,
    /// The slowest review of the other tenant.
    pub(super) slowest: Duration,
    /// The slowest plain read from the API server meanwhile, which such a review waits for.
    pub(super) slowest_read: Duration,
    pub(super) note: String,
}

/// See the module.
pub(super) struct Stage {
    pub(super) world: World,
    /// The tenant's namespace.
    pub(super) space: Space,
    /// The namespace of his neighbour, who has one workload.
    pub(super) neighbour: Space,
    args: Vec<String>,
    // After the world, whose processes run in it.
    group: Option<Cgroup>,
    probe: Option<JoinHandle<()>>,
    slowest: Arc<Slowest>,
    peak_kib: u64,
}

impl Stage {
    /// A control plane with a tenant's namespace and his neighbour's. No operator runs yet.
    pub(super) async fn new(args: &[&str]) -> anyhow::Result<Self> {
        let world = World::without_operator().await?;
        let space = world.space().await?;
        let neighbour = world.open_space("default").await?;
        neighbour.configmap("settings", "one").await?;
        neighbour.create(&objects::listing("neighbour", "settings")).await?;
        Ok(Self {
            world,
            space,
            neighbour,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            group: Cgroup::new(LIMIT),
            probe: None,
            slowest: Arc::default(),
            peak_kib: 0,
        })
    }

    /// For operators that are started from now on.
    pub(super) fn add_argument(&mut self, argument: String) {
        self.args.push(argument);
    }

    /// Starts an operator, in place of the one that ran.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let mut options = self.world.replica_options("operator", &args)?;
        if let Some(group) = &self.group {
            let script = self.world.directory().join("operator.sh");
            group.wrap(&operator_binary()?.canonicalize()?, &script)?;
            options.binary = script;
        } else {
            options = options.args(["--memory-budget=24Mi"]);
        }
        self.world.replicas.push(Operator::spawn(&options).await?);
        let probe = probe(self.webhook()?, self.neighbour.configmaps(), self.slowest.clone());
        self.probe = Some(tokio::spawn(probe));
        Ok(())
    }

    /// The same, and the API server calls its webhook.
    pub(super) async fn start_registered(&mut self) -> anyhow::Result<()> {
        self.start().await?;
        self.world.register().await
    }

    /// Ends the operator; an error if it ended by itself.
    fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(task) = self.probe.take() {
            task.abort();
        }
        let Some(mut operator) = self.world.replicas.pop() else { return Ok(()) };
        operator.ensure_running()?;
        self.peak_kib = self.peak_kib.max(status_kib(&operator, "VmHWM:")?);
        operator.kill()?;
        Ok(())
    }

    pub(super) fn operator(&mut self) -> anyhow::Result<&mut Operator> {
        self.world.replicas.last_mut().context("no operator runs")
    }

    /// What the operator has resident now.
    pub(super) fn resident_kib(&mut self) -> anyhow::Result<u64> {
        status_kib(self.operator()?, "VmRSS:")
    }

    /// The same after a while in which it had nothing to do.
    pub(super) async fn idle_kib(&mut self) -> anyhow::Result<u64> {
        tokio::time::sleep(IDLE_AFTER).await;
        self.resident_kib()
    }

    pub(super) fn webhook(&self) -> anyhow::Result<Webhook> {
        Webhook::of(&self.world, self.world.replicas.last().context("no operator runs")?)
    }

    /// Waits until the operator knows that many workloads and has nothing to do.
    pub(super) async fn settled(&mut self, workloads: u64) -> anyhow::Result<()> {
        let operator = self.operator()?;
        let mut quiet = 0;
        let end = Instant::now() + LONG;
        while quiet < 3 {
            operator.ensure_running()?;
            ensure!(Instant::now() < end, "the operator did not settle: {}", operator.metrics().await?);
            let Ok(metrics) = operator.metrics().await else { continue };
            let value = |name: &str| metric(&metrics, name).unwrap_or_default();
            let is_quiet = value("pod_reloader_workloads") >= workloads
                && value("pod_reloader_queue_length") == 0
                && value("pod_reloader_memory_budget_reserved_bytes") == 0;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(())
    }

    /// Waits until the neighbour's workload has followed a change.
    pub(super) async fn neighbour_reloads(&self) -> anyhow::Result<Duration> {
        let hash = || self.neighbour.hash(objects::apps::DEPLOYMENT, "neighbour");
        let before = eventually("the neighbour's hash", LONG, hash).await?;
        let begin = Instant::now();
        self.neighbour.configmap("settings", &before).await?;
        eventually("the neighbour's reload", LONG, || async {
            ensure!(hash().await? != before);
            Ok(())
        })
        .await?;
        Ok(begin.elapsed())
    }

    /// What it showed, once the operator has been idle for a while.
    pub(super) async fn finish(mut self, what: &str, note: impl Into<String>) -> anyhow::Result<Outcome> {
        let idle_kib = self.idle_kib().await?;
        self.stop()?;
        let group_peak = self.group.as_ref().and_then(Cgroup::peak);
        let kills = self.group.as_ref().and_then(Cgroup::kills).unwrap_or_default();
        ensure!(kills == 0, "killed for want of memory");
        if let Some(group) = &self.group {
            group.remove().await?;
        }
        let milliseconds = |value: &AtomicU64| Duration::from_millis(value.load(Ordering::Relaxed));
        Ok(Outcome {
            what: what.to_owned(),
            peak_kib: self.peak_kib,
            idle_kib,
            group_peak,
            slowest: milliseconds(&self.slowest.review),
            slowest_read: milliseconds(&self.slowest.read),
            note: note.into(),
        })
    }
}

/// In milliseconds.
#[derive(Default)]
struct Slowest {
    review: AtomicU64,
    read: AtomicU64,
}

/// Another tenant's small reviews, which need a look at a `ConfigMap`, and that look alone.
async fn probe(webhook: Webhook, neighbour: Api<ConfigMap>, slowest: Arc<Slowest>) {
    let milliseconds = |begin: Instant| begin.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    let review = async {
        let request = request("CREATE", "default", &json!(objects::listing("probe", "settings")), None);
        loop {
            let begin = Instant::now();
            if let Err(error) = webhook.review(&request).await {
                eprintln!("another tenant's review failed: {error:#}");
            }
            slowest.review.fetch_max(milliseconds(begin), Ordering::Relaxed);
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    };
    let read = async {
        loop {
            let begin = Instant::now();
            // What the API server cannot answer either counts by its time.
            let _ = neighbour.get_metadata("settings").await;
            slowest.read.fetch_max(milliseconds(begin), Ordering::Relaxed);
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    };
    tokio::join!(review, read);
}

/// A metric without labels.
pub(super) fn metric(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The sum of a metric over its labels.
pub(super) fn metric_sum(metrics: &str, name: &str) -> u64 {
    let values =
        metrics.lines().filter_map(|line| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<u64>().ok());
    values.sum()
}

fn status_kib(operator: &Operator, field: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such line in status")?;
    line.trim().trim_end_matches(" kB").parse().context("a number of kB")
}
