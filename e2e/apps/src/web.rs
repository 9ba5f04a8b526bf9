//! Shows the configuration that it saw at its start, and what it would see now.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{RawQuery, State},
    http::StatusCode,
    response::IntoResponse,
    routing::get,
};
use serde_json::{Value, json};

use crate::http::{Instance, Listen, answer, parameter, serve};

/// What it reads.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    listen: Listen,
    /// A variable to show; may be given several times.
    #[arg(long, value_name = "NAME")]
    env: Vec<String>,
    /// A file to show; may be given several times.
    #[arg(long, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// How long it takes to become ready.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    warm_up: u64,
    /// Write what it saw to this file and end, as an init container does, instead of serving.
    #[arg(long, value_name = "PATH")]
    write_to: Option<PathBuf>,
}

#[derive(Debug)]
struct Web {
    instance: Instance,
    args: Args,
    at_start: Value,
}

impl Args {
    /// Variables and files; what is not there is null.
    fn read(&self) -> Value {
        let env: BTreeMap<_, _> = self.env.iter().map(|name| (name, std::env::var(name).ok())).collect();
        let files: BTreeMap<_, _> = self
            .file
            .iter()
            .map(|path| (path.display().to_string(), std::fs::read_to_string(path).ok()))
            .collect();
        json!({"env": env, "files": files})
    }
}

/// Serves `/`, `/slow?ms=` and, for the probe, `/ready`.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let web = Web { instance: Instance::new(), at_start: args.read(), args };
    let listen = web.args.listen.clone();
    tokio::time::sleep(Duration::from_millis(web.args.warm_up)).await;
    if let Some(path) = &web.args.write_to {
        let seen = format!("{}\n", web.at_start);
        return std::fs::write(path, seen).with_context(|| format!("cannot write {}", path.display()));
    }
    let router = Router::new()
        .route("/", get(show))
        .route("/slow", get(slow))
        .route("/ready", get(async || "ready\n"))
        .with_state(Arc::new(web));
    serve(&listen, router).await
}

async fn show(State(web): State<Arc<Web>>) -> impl IntoResponse {
    let mut body = web.instance.to_json();
    body["at_start"] = web.at_start.clone();
    body["now"] = web.args.read();
    answer(StatusCode::OK, &body)
}

/// Answers after a while, like a request that takes long.
async fn slow(State(web): State<Arc<Web>>, RawQuery(query): RawQuery) -> impl IntoResponse {
    tokio::time::sleep(Duration::from_millis(parameter(query.as_deref(), "ms").unwrap_or(1000))).await;
    answer(StatusCode::OK, &web.instance.to_json())
}
