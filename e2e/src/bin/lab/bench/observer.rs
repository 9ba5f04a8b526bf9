//! One watch of the Deployments of a namespace, as metadata: when each was given another pod template.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::raw::{Endpoint, METADATA, METADATA_LIST, Outgoing};

/// A watch ends by itself after so many seconds; no round takes as long.
const WATCH_SECONDS: u32 = 3600;

#[derive(Deserialize)]
struct List {
    metadata: ListMetadata,
    items: Vec<Object>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    generation: u64,
}

/// What is known of an object.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Its version.
    pub(super) resource_version: String,
    /// Grows with each change of the spec or, for Deployments, of the annotations.
    pub(super) generation: u64,
}

#[derive(Default)]
struct State {
    seen: HashMap<String, Seen>,
    /// When each changed first.
    first: HashMap<String, Instant>,
    /// How far the generations of all have moved.
    changes: u64,
    failure: Option<String>,
}

/// A running watch. It ends when dropped.
pub(super) struct Observer {
    state: Arc<Mutex<State>>,
    progress: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Observer {
    /// Lists the namespace's Deployments, and watches from there.
    pub(super) async fn start(endpoint: &Endpoint, namespace: &str) -> anyhow::Result<Self> {
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
        let mut connection = endpoint.connect().await?;
        let mut seen = HashMap::new();
        let mut next = String::new();
        let version = loop {
            let page = Outgoing::get(format!("{path}?limit=1000&continue={next}"), METADATA_LIST);
            let list: List = serde_json::from_slice(&connection.send(&page).await?).context("not a list")?;
            seen.extend(list.items.into_iter().map(|item| {
                let Metadata { name, resource_version, generation } = item.metadata;
                (name, Seen { resource_version, generation })
            }));
            if list.metadata.next.is_empty() {
                break list.metadata.resource_version;
            }
            next = list.metadata.next;
        };
        let query = format!("watch=true&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}");
        let response = connection.open(&Outgoing::get(format!("{path}?{query}"), METADATA)).await?;
        ensure!(response.status().is_success(), "the watch was answered {}", response.status());
        let state = Arc::new(Mutex::new(State { seen, ..State::default() }));
        let (sender, progress) = watch::channel(0);
        let shared = state.clone();
        let task = tokio::spawn(async move {
            // The connection's sender: without it the connection would end.
            let _connection = connection;
            let failure = match follow(response.into_body(), &shared, &sender).await {
                Ok(()) => "the watch has ended".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            shared.lock().unwrap_or_else(PoisonError::into_inner).failure = Some(failure);
        });
        Ok(Self { state, progress, task })
    }

    /// All objects as they are now, by name.
    pub(super) fn objects(&self) -> HashMap<String, Seen> {
        self.lock().seen.clone()
    }

    /// How often templates or annotations have changed, all objects together.
    pub(super) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Waits until so many objects have changed, and gives the times of each one's first change, in order.
    pub(super) async fn changed(&self, count: usize, deadline: Duration) -> anyhow::Result<Vec<Instant>> {
        let mut progress = self.progress.clone();
        let wait = progress.wait_for(|changed| *changed >= count);
        let waited = tokio::time::timeout(deadline, wait).await.map(|result| result.is_ok());
        let state = self.lock();
        if !matches!(waited, Ok(true)) {
            let reason =
                state.failure.clone().unwrap_or_else(|| format!("nothing more came in {deadline:?}"));
            bail!("{} of {count} Deployments have changed: {reason}", state.first.len());
        }
        let mut times: Vec<Instant> = state.first.values().copied().collect();
        times.sort();
        Ok(times)
    }

    /// Waits until nothing has changed for that long.
    pub(super) async fn quiet(&self, span: Duration, deadline: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + deadline;
        let mut before = self.changes();
        loop {
            tokio::time::sleep(span).await;
            let now = self.changes();
            if now == before {
                return Ok(());
            }
            ensure!(Instant::now() < end, "Deployments still change after {deadline:?}");
            before = now;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    mut body: Incoming,
    state: &Mutex<State>,
    progress: &watch::Sender<usize>,
) -> anyhow::Result<()> {
    let mut rest: Vec<u8> = vec![];
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("the watch broke off")?.into_data() else { continue };
        let arrival = Instant::now();
        rest.extend_from_slice(&data);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        for line in rest[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            take(&mut state, line, arrival)?;
        }
        let changed = state.first.len();
        drop(state);
        rest.drain(..=end);
        progress.send_if_modified(|before| std::mem::replace(before, changed) != changed);
    }
    Ok(())
}

fn take(state: &mut State, line: &[u8], arrival: Instant) -> anyhow::Result<()> {
    let event: Event = serde_json::from_slice(line).context("the watch sent no event")?;
    ensure!(event.kind != "ERROR", "the watch failed: {}", String::from_utf8_lossy(line));
    let Metadata { name, resource_version, generation } = event.object.metadata;
    if event.kind == "DELETED" {
        state.seen.remove(&name);
        return Ok(());
    }
    let before = state.seen.insert(name.clone(), Seen { resource_version, generation });
    let moved = before.map_or(0, |before| generation.saturating_sub(before.generation));
    if moved > 0 {
        state.changes += moved;
        state.first.entry(name).or_insert(arrival);
    }
    Ok(())
}
