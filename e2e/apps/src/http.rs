//! What the applications have in common: serving until SIGTERM, asking others, and who they are.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Method, Request};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// Where an application listens.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Listen {
    /// Address to serve on.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

/// One process: another pod, or the same one restarted, is another instance.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pod: String,
    started: Timestamp,
}

impl Instance {
    /// To be called at the start.
    pub(crate) fn new() -> Self {
        let pod = std::env::var("HOSTNAME").unwrap_or_default();
        let started = Timestamp::now();
        println!("started at {started}");
        Self { pod, started }
    }

    /// Who answers.
    pub(crate) fn to_json(&self) -> Value {
        json!({"pod": self.pod, "started": self.started.to_string()})
    }
}

/// Serves until SIGTERM, then answers the requests that are under way.
///
/// # Errors
/// If the address is taken.
pub(crate) async fn serve(listen: &Listen, router: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen.listen)
        .await
        .with_context(|| format!("cannot listen on {}", listen.listen))?;
    println!("listening on {}", listen.listen);
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
            println!("asked to end: answering what is under way");
        })
        .await
        .context("the server failed")?;
    println!("ended");
    Ok(())
}

/// Ends on SIGTERM, for applications that do not serve yet.
pub(crate) async fn terminated() -> anyhow::Result<()> {
    signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?.recv().await;
    Ok(())
}

/// An answer in JSON.
pub(crate) fn answer(status: StatusCode, body: &Value) -> impl IntoResponse + use<> {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n"))
}

/// The value of a parameter of a query.
pub(crate) fn parameter(query: Option<&str>, name: &str) -> Option<u64> {
    query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?.parse().ok()
}

/// Asks other applications, with a connection for each request: that is what a Service balances.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Asker {
    pub(crate) fn new() -> Self {
        Self { client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http() }
    }

    /// The body of the answer.
    ///
    /// # Errors
    /// If there is none in five seconds, or if it is not a success.
    pub(crate) async fn ask(&self, method: Method, url: &str) -> anyhow::Result<String> {
        let request = Request::builder().method(method).uri(url).body(Empty::new()).context("a bad URL")?;
        let exchange = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            ensure!(status.is_success(), "{status}: {body}");
            Ok(body)
        };
        tokio::time::timeout(Duration::from_secs(5), exchange).await.context("no answer in five seconds")?
    }
}
