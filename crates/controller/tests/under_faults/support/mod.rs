//! What the suite's histories are made of.

pub(crate) mod replica;
pub(crate) mod webhook;

use std::time::Duration;

use pod_reloader_stub_api::{StubApi, objects};
use serde_json::json;

/// The default settle window (3.1).
pub(crate) const SETTLE_WINDOW: Duration = Duration::from_secs(2);

/// Runs a history in paused time.
pub(crate) fn in_paused_time<T>(history: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(history)
}

/// Whether to play all histories, as `make test` does.
pub(crate) fn plays_all() -> bool {
    std::env::var_os("ALL_HISTORIES").is_some()
}

/// Every fifth of these cases, so that a run takes seconds; all of them with `ALL_HISTORIES`.
pub(crate) fn thinned<T>(cases: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
    cases.into_iter().step_by(if plays_all() { 1 } else { 5 })
}

/// A server that takes a while for each request.
pub(crate) fn server(seed: u64) -> StubApi {
    let stub = StubApi::new(seed);
    stub.set_latency(Duration::from_millis(1), Duration::from_millis(20));
    stub
}

/// A `ConfigMap` and so many Deployments that list and require it.
pub(crate) fn shop(stub: &StubApi, namespace: &str, workloads: usize) {
    stub.put(objects::config_map(namespace, "settings", &[("colour", "red")]));
    for i in 0..workloads {
        let web = objects::listing(namespace, &web(i), "settings", "");
        stub.put(objects::with_env_from(web, "ConfigMap", "settings", false));
    }
}

/// The name of the Deployment of that number.
pub(crate) fn web(i: usize) -> String {
    if i == 0 { "web".to_owned() } else { format!("web-{i}") }
}

/// Changes the namespace's `ConfigMap`.
pub(crate) fn paint(stub: &StubApi, namespace: &str, colour: &str) {
    stub.edit("configmaps", namespace, "settings", |map| map["data"]["colour"] = json!(colour));
}

/// Revisions of the namespace's first Deployment.
pub(crate) fn revisions(stub: &StubApi, namespace: &str) -> usize {
    stub.revisions("deployments", namespace, "web")
}

/// When the Deployment got its last revision.
pub(crate) fn last_revision(stub: &StubApi, namespace: &str, name: &str) -> Duration {
    stub.templates("deployments", namespace, name).last().map_or(Duration::ZERO, |last| last.at)
}
