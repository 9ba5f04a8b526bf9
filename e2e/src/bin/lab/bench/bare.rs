//! What a client can do at best that does nothing else: it sends the patches, or reads the lists.

use std::time::{Duration, Instant};

use anyhow::Context;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::observer::Observer;
use super::raw::{Clients, METADATA_LIST, Outgoing};
use super::resources::CpuSpan;
use super::stage::{LONG, Stage, deployments};

/// As many as the operator has patches under way by default.
const CONNECTIONS: usize = 16;
const PAGE: usize = 500;

/// When the first half and all of the Deployments were patched.
#[derive(Clone, Copy, Debug)]
pub(super) struct FanOut {
    /// Until half of them were.
    pub(super) half: Duration,
    /// Until all of them were.
    pub(super) all: Duration,
    /// CPU seconds of the API server until then.
    pub(super) api_server: f64,
}

impl FanOut {
    /// From the times of each, and what the API server took.
    pub(super) fn since(begin: Instant, times: &[Instant], api_server: f64) -> anyhow::Result<Self> {
        let at = |index: usize| times.get(index).map(|time| time.saturating_duration_since(begin));
        let last = times.len().checked_sub(1).context("nothing was patched")?;
        Ok(Self { half: at(last / 2).context("a half")?, all: at(last).context("all")?, api_server })
    }
}

/// Patches all Deployments of a namespace as the operator would: an annotation as long as observed-config, another on
/// the template, guarded by the version.
pub(super) async fn patch_all(
    stage: &Stage,
    namespace: &str,
    round: usize,
    observed_bytes: usize,
) -> anyhow::Result<FanOut> {
    let watch = Observer::start(&stage.admin, namespace).await?;
    let objects: Vec<(String, String)> =
        watch.objects().into_iter().map(|(name, seen)| (name, seen.resource_version)).collect();
    let count = objects.len();
    let clients = Clients::open(&stage.admin, CONNECTIONS).await?;
    let all = deployments(namespace);
    let observed = format!("{round:0>observed_bytes$}");
    let hash = format!("{round:0>64}");
    let request = move |index: usize| {
        let (name, version) = &objects[index];
        let patch = json!({
            "metadata": {"resourceVersion": version, "annotations": {"bench.example/observed-config": observed}},
            "spec": {"template": {"metadata": {"annotations": {"bench.example/config-hash": hash}}}}
        });
        let workload = format!("{all}/{name}?fieldManager=bench");
        Outgoing::new(Method::PATCH, workload, super::raw::MERGE_PATCH, patch.to_string())
    };
    let api_server = CpuSpan::begin(stage.api_server())?;
    let begin = Instant::now();
    clients.send_all(count, request).await?;
    let times = watch.changed(count, LONG).await?;
    FanOut::since(begin, &times, api_server.end()?.0)
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

/// Lists the metadata of all `ConfigMaps`, Secrets and Deployments one after the other, in pages, over one connection.
pub(super) async fn list_all(stage: &Stage) -> anyhow::Result<Duration> {
    let mut connection = stage.admin.connect().await?;
    let begin = Instant::now();
    for path in ["/api/v1/configmaps", "/api/v1/secrets", "/apis/apps/v1/deployments"] {
        let mut next = String::new();
        loop {
            let page = Outgoing::get(format!("{path}?limit={PAGE}&continue={next}"), METADATA_LIST);
            let page: Page =
                serde_json::from_slice(&connection.send(&page).await?).context("the answer is no list")?;
            next = page.metadata.next;
            if next.is_empty() {
                break;
            }
        }
    }
    Ok(begin.elapsed())
}
