//! Terms over an API server in the process.
#![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

use std::sync::Arc;

use kube::Client;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::digest::DigestKey;
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::connect::client_over;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::metrics::Metrics as ApiMetrics;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_k8s::reader::ConfigReader;
use pod_reloader_stub_api::{Fault, FaultRule, RequestKind, StubApi, objects};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::time::sleep;

use super::*;

pub(crate) fn settings(stub: &StubApi) -> Settings {
    let connector = stub.connector();
    let client = client_over(Arc::new(move || Ok(Client::new(connector(), "default"))), "default").unwrap();
    let (budget, api_metrics) = (Budget::new(24 << 20), ApiMetrics::default());
    Settings {
        client: client.clone(),
        reader: Arc::new(ConfigReader::new(client, budget.clone(), api_metrics.clone())),
        budget,
        key: KeyReader::fixed(DigestKey::new("test", &[7; DigestKey::LEN]).unwrap()),
        mode: HashMode::Content,
        scope: Scope::default(),
        settle_window: Duration::from_secs(2),
        max_concurrent_patches: 16,
        instance: "replica".into(),
        metrics: pod_reloader_controller::metrics::Metrics::register(&mut Registry::default()),
        api_metrics,
    }
}

fn paint(stub: &StubApi, colour: &str) {
    stub.edit("configmaps", "shop", "settings", |map| map["data"]["colour"] = json!(colour));
}

#[tokio::test(start_paused = true)]
async fn c5_1_a_term_that_is_regained_does_not_wait_for_what_hangs_in_the_last_one() {
    for kind in
        [RequestKind::GetContent, RequestKind::Patch, RequestKind::CreateEvent, RequestKind::WatchStream]
    {
        let stub = StubApi::new(1);
        stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
        let web = objects::listing("shop", "web", "settings", "");
        stub.put(objects::with_env_from(web, "ConfigMap", "settings", false));
        let (sender, leads) = watch::channel(true);
        let stop = CancellationToken::new();
        let terms = tokio::spawn(reconcile_while_leading(settings(&stub), leads, stop.clone()));
        sleep(Duration::from_secs(10)).await;
        let revisions = || stub.revisions("deployments", "shop", "web");
        assert_eq!(revisions(), 1, "{kind:?}");

        let hangs = stub.fail(FaultRule::new(Fault::HangBeforeHeaders).kind(kind));
        paint(&stub, "blue");
        sleep(Duration::from_secs(3)).await;
        stub.heal(hangs);
        sender.send_replace(false);
        // Another leads, for longer than anything of the old term may go on, and not as long as a request may hang.
        sleep(Duration::from_millis(1_200)).await;
        paint(&stub, "green");
        // A reload that was made is still reported.
        let requests = || stub.count(|entry| entry.kind() != RequestKind::CreateEvent);
        let before = (revisions(), requests());
        sleep(Duration::from_secs(1)).await;
        assert_eq!((revisions(), requests()), before, "{kind:?}: a term that is over goes on");

        sender.send_replace(true);
        sleep(Duration::from_secs(4)).await;
        assert_eq!(revisions(), before.0 + 1, "{kind:?}");
        stop.cancel();
        terms.await.unwrap();
    }
}
