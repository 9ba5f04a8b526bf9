//! Latencies of a server under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::figure::count_as_f64;
use super::raw::{Connection, Endpoint, Outgoing};
use super::resources::{CpuSpan, Resources};

/// What a server did over a span.
pub(super) struct Load {
    /// Sorted.
    latencies: Vec<Duration>,
    elapsed: Duration,
    cpu_seconds: f64,
}

impl Load {
    /// How many requests were answered.
    pub(super) fn count(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that this share of requests stayed within, in ms.
    pub(super) fn percentile_ms(&self, percent: usize) -> f64 {
        let index = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }

    /// Answers per second.
    pub(super) fn per_second(&self) -> f64 {
        count_as_f64(self.count()) / self.elapsed.as_secs_f64()
    }

    /// Answers per second of the server's CPU time.
    pub(super) fn per_cpu_second(&self) -> f64 {
        count_as_f64(self.count()) / self.cpu_seconds.max(f64::MIN_POSITIVE)
    }
}

/// Asks each of these once, one after the other.
pub(super) async fn ask_once(endpoint: &Endpoint, requests: &[Outgoing]) -> anyhow::Result<()> {
    let mut connection = endpoint.connect().await?;
    for request in requests {
        connection.send(request).await?;
    }
    Ok(())
}

/// Has so many clients ask in turns for that long. Over HTTP/2 they share a connection, as all reviews of an API server
/// do. `server` is the process whose CPU time counts.
pub(super) async fn load(
    endpoint: &Endpoint,
    server: Resources,
    clients: usize,
    requests: &Arc<Vec<Outgoing>>,
    span: Duration,
    is_right: fn(&Bytes) -> bool,
) -> anyhow::Result<Load> {
    let mut first = endpoint.connect().await?;
    // The connection's own cost is not a request's.
    let warm = requests.first().context("there is nothing to ask")?;
    first.send(warm).await?;
    let mut connections = vec![first];
    while connections.len() < clients {
        let shared = connections.first().and_then(Connection::share);
        connections.push(match shared {
            Some(shared) => shared,
            None => endpoint.connect().await?,
        });
    }
    let cpu = CpuSpan::begin(server)?;
    let end = Instant::now() + span;
    let mut running = JoinSet::new();
    for (index, mut connection) in connections.into_iter().enumerate() {
        let requests = requests.clone();
        running.spawn(async move {
            let mut latencies = vec![];
            for request in requests.iter().cycle().skip(index % requests.len()) {
                let begin = Instant::now();
                if begin >= end {
                    break;
                }
                let answer = connection.send(request).await?;
                latencies.push(begin.elapsed());
                ensure!(is_right(&answer), "a wrong answer: {}", String::from_utf8_lossy(&answer));
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = vec![];
    while let Some(done) = running.join_next().await {
        latencies.extend(done.context("a client panicked")??);
    }
    let (cpu_seconds, elapsed) = cpu.end()?;
    ensure!(!latencies.is_empty(), "nothing was answered");
    latencies.sort();
    Ok(Load { latencies, elapsed, cpu_seconds })
}
