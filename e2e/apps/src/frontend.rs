//! Shows what the API answers.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use hyper::Method;
use serde_json::{Value, json};

use crate::http::{Asker, Instance, Listen, answer, serve};

/// Where the API is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    listen: Listen,
    /// The API.
    #[arg(long, env = "API_URL")]
    api: String,
    /// The heading.
    #[arg(long, env = "TITLE", default_value = "Items")]
    title: String,
}

#[derive(Debug)]
struct Frontend {
    instance: Instance,
    asker: Asker,
    args: Args,
}

/// Serves `/`, and 502 if the API does not answer.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let listen = args.listen.clone();
    let frontend = Frontend { instance: Instance::new(), asker: Asker::new(), args };
    let router = Router::new()
        .route("/", get(show))
        .route("/ready", get(async || "ready\n"))
        .with_state(Arc::new(frontend));
    serve(&listen, router).await
}

async fn show(State(frontend): State<Arc<Frontend>>) -> impl IntoResponse {
    let mut body = frontend.instance.to_json();
    body["title"] = json!(frontend.args.title);
    let url = format!("{}/items", frontend.args.api.trim_end_matches('/'));
    match frontend.asker.ask(Method::GET, &url).await {
        Ok(text) => {
            body["api"] = serde_json::from_str(&text).unwrap_or(Value::String(text));
            answer(StatusCode::OK, &body)
        }
        Err(error) => {
            body["error"] = json!(format!("{error:#}"));
            answer(StatusCode::BAD_GATEWAY, &body)
        }
    }
}
