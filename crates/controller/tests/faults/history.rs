//! One history: a fault, two changes, and what must hold.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use pod_reloader_controller::controller::{self, Settings};
use pod_reloader_controller::metrics::Metrics;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::connect::client_over;
use pod_reloader_k8s::key::KeyKeeper;
use pod_reloader_k8s::metrics::Metrics as ApiMetrics;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_k8s::reader::ConfigReader;
use pod_reloader_stub_api::{Fault, FaultRule, RequestKind, RuleId, StubApi, objects};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// A change is seen within that time, whatever hung (A 1), and then some backoff.
const BOUND: Duration = Duration::from_secs(60 + 30);
/// Somebody whom the fault does not concern is not delayed by more than that, the settle window included.
const BYSTANDERS_BOUND: Duration = Duration::from_secs(5);
/// Requests that the two changes and the fault may take, renewed watches included.
const MAX_REQUESTS: usize = 150;

/// A cell of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) kind: RequestKind,
    pub(crate) fault: Fault,
    /// How often it strikes.
    pub(crate) times: u64,
}

impl Cell {
    /// Runs the history; an error says which promise is broken.
    pub(crate) fn run(self, seed: u64) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let broken = runtime.unwrap().block_on(self.history(seed));
        if broken.is_empty() { Ok(()) } else { Err(format!("{self:?}: {}", broken.join("; "))) }
    }

    async fn history(self, seed: u64) -> Vec<String> {
        let stub = StubApi::new(seed);
        stub.set_latency(Duration::from_millis(1), Duration::from_millis(20));
        for namespace in ["shop", "other"] {
            stub.put(objects::config_map(namespace, "settings", &[("colour", "red")]));
            let web = objects::listing(namespace, "web", "settings", "");
            stub.put(objects::with_env_from(web, "ConfigMap", "settings", false));
        }
        // A server that streams lists is never asked for pages.
        stub.set_watch_list(self.kind != RequestKind::List);
        let stop = CancellationToken::new();
        let controller = tokio::spawn(controller::run(settings(&stub), stop.clone()));
        sleep(Duration::from_secs(30)).await;
        let before = ["shop", "other"].map(|namespace| revisions(&stub, namespace));

        let rule = self.strike(&stub);
        let requests = stub.log().len();
        let edited_at = stub.elapsed();
        for namespace in ["shop", "other"] {
            stub.edit("configmaps", namespace, "settings", |map| map["data"]["colour"] = json!("blue"));
        }
        sleep(BOUND).await;
        let mut broken = vec![];
        let after = ["shop", "other"].map(|namespace| revisions(&stub, namespace));
        if after[0] != before[0] + 1 {
            broken.push(format!("{} revisions of the one concerned", after[0] - before[0]));
        }
        if after[1] != before[1] + 1 {
            broken.push(format!("{} revisions of the bystander", after[1] - before[1]));
        } else if !self.concerns_all() {
            let at =
                stub.templates("deployments", "other", "web").last().map_or(Duration::ZERO, |last| last.at);
            if at.saturating_sub(edited_at) > BYSTANDERS_BOUND {
                broken.push(format!("the bystander waited {:?}", at.saturating_sub(edited_at)));
            }
        }
        let made = stub.log().len() - requests;
        if made > MAX_REQUESTS {
            broken.push(format!("{made} requests"));
        }
        if self.times > 0 && stub.hits(rule) == 0 {
            broken.push("the fault never struck: the history is no test".into());
        }
        // What comes late must not come twice.
        sleep(Duration::from_mins(10)).await;
        let later = ["shop", "other"].map(|namespace| revisions(&stub, namespace));
        if later != after {
            broken.push(format!("later {later:?} revisions instead of {after:?}"));
        }
        stop.cancel();
        if tokio::time::timeout(Duration::from_mins(2), controller).await.is_err() {
            broken.push("the controller does not stop".into());
        }
        broken
    }

    /// From now on the fault strikes, and what it strikes is asked for.
    fn strike(self, stub: &StubApi) -> RuleId {
        let rule = FaultRule::new(self.fault).kind(self.kind).client("controller").times(self.times);
        let rule = stub.fail(if self.concerns_all() { rule } else { rule.namespace("shop") });
        match self.kind {
            // A version that is forgotten needs a list.
            RequestKind::List => {
                stub.compact();
                stub.put(objects::config_map("third", "unused", &[]));
                stub.compact();
                stub.restart();
            }
            RequestKind::WatchStart => stub.restart(),
            // A conflict has the workload read.
            RequestKind::GetWorkload => {
                let conflicts = FaultRule::new(Fault::Status(409)).kind(RequestKind::Patch).namespace("shop");
                stub.fail(conflicts.times(3));
            }
            _ => {}
        }
        rule
    }

    fn concerns_all(self) -> bool {
        matches!(self.kind, RequestKind::List | RequestKind::WatchStart | RequestKind::WatchStream)
    }
}

fn revisions(stub: &StubApi, namespace: &str) -> usize {
    stub.revisions("deployments", namespace, "web")
}

/// A controller's settings whose requests, the digest key's apart, are known as those of `controller`.
fn settings(stub: &StubApi) -> Settings {
    let api_metrics = ApiMetrics::default();
    let (keeper, key) = KeyKeeper::new(stub.client_of("keeper"), "pod-reloader", api_metrics.clone());
    tokio::spawn(keeper.run());
    let connector = stub.connector_of("controller");
    let client = client_over(Arc::new(move || Ok(Client::new(connector(), "default"))), "default").unwrap();
    let budget = Budget::new(24 << 20);
    Settings {
        client: client.clone(),
        reader: Arc::new(ConfigReader::new(client, budget.clone(), api_metrics.clone())),
        budget,
        key,
        mode: HashMode::Content,
        scope: Scope::Cluster,
        settle_window: Duration::from_secs(2),
        max_concurrent_patches: 16,
        instance: "replica-1".into(),
        metrics: Metrics::register(&mut prometheus_client::registry::Registry::default()),
        api_metrics,
    }
}
