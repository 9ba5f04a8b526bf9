//! Sends requests all the time and counts those that fail: what the users of an application see of a rollout.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::get};
use hyper::Method;
use serde_json::{Value, json};

use crate::http::{Asker, Instance, Listen, answer, serve};

/// Whom to ask, and how often.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    listen: Listen,
    /// What to ask for.
    #[arg(long)]
    url: String,
    /// How many ask at once.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// How long each rests between two requests.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10)]
    pause: u64,
}

#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    failed: u64,
    /// The first failures.
    failures: Vec<String>,
    /// How often each process answered, by its pod and start.
    instances: BTreeMap<String, u64>,
}

/// How long to wait for the first answer before trying again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Starts to send requests, and to count, after the first answer; serves the counts at `/`.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let instance = Instance::new();
    let counts = Arc::new(Mutex::new(Counts::default()));
    let asker = Asker::new();
    tokio::spawn(start(args.clone(), asker, counts.clone()));
    let show = async move || {
        let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut body = instance.to_json();
        body["requests"] = json!(counts.requests);
        body["failed"] = json!(counts.failed);
        body["failures"] = json!(counts.failures);
        body["instances"] = json!(counts.instances);
        answer(StatusCode::OK, &body)
    };
    let router = Router::new().route("/", get(show)).route("/ready", get(async || "ready\n"));
    serve(&args.listen, router).await
}

/// Whom we ask may start after us: that is no failure of theirs.
async fn start(args: Args, asker: Asker, counts: Arc<Mutex<Counts>>) {
    while asker.ask(Method::GET, &args.url).await.is_err() {
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    for _ in 0..args.workers {
        tokio::spawn(ask(args.clone(), asker.clone(), counts.clone()));
    }
}

async fn ask(args: Args, asker: Asker, counts: Arc<Mutex<Counts>>) {
    loop {
        let outcome = asker.ask(Method::GET, &args.url).await;
        counts.lock().unwrap_or_else(PoisonError::into_inner).add(outcome);
        tokio::time::sleep(Duration::from_millis(args.pause)).await;
    }
}

impl Counts {
    fn add(&mut self, outcome: anyhow::Result<String>) {
        self.requests += 1;
        match outcome {
            Ok(body) => {
                let body: Value = serde_json::from_str(&body).unwrap_or_default();
                let text = |name: &str| body[name].as_str().unwrap_or("?").to_owned();
                *self.instances.entry(format!("{} {}", text("pod"), text("started"))).or_default() += 1;
            }
            Err(error) => {
                self.failed += 1;
                if self.failures.len() < 20 {
                    self.failures.push(format!("request {}: {error:#}", self.requests));
                }
            }
        }
    }
}
