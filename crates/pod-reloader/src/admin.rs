//! What health and metrics answer.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use self::auth::Gate;
use crate::readiness::Readiness;

pub(crate) mod auth;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `/healthz` says that the process runs: every task that ends takes it along. `/readyz` says what is missing.
pub(crate) fn health(readiness: Readiness) -> Router {
    Router::new().route("/healthz", get(|| async { "ok\n" })).route(
        "/readyz",
        get(move || async move {
            let missing = readiness.missing();
            if missing.is_empty() {
                (StatusCode::OK, "ok\n".to_owned())
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; ")))
            }
        }),
    )
}

/// `/metrics` in `OpenMetrics` text format 1.0.
pub fn metrics(registry: Arc<Registry>) -> Router {
    Router::new().route("/metrics", get(move || async move { render(&registry) }))
}

/// The same for callers that the gate lets in.
pub(crate) fn metrics_behind(gate: Arc<Gate>, registry: Arc<Registry>) -> Router {
    // A layer and no route's layer: strangers do not even learn which paths there are.
    metrics(registry).layer(from_fn_with_state(gate, auth::require))
}

fn render(registry: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot encode metrics: {error}\n")).into_response()
        }
    }
}
