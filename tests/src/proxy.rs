//! A proxy between the operator and the API server that can be told to misbehave.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http_body_util::BodyExt;
use kube::{Client, Config};
use pod_reloader_e2e::User;
use serde_json::json;
use tokio::sync::watch;

use crate::World;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nothing that watches say comes through; it is kept and comes later.
    pub hold_watches: bool,
    /// Reads of single `ConfigMaps` and Secrets outside the operator's namespace are not answered until later.
    pub hang_reads: bool,
    /// Patches of workloads are answered with this status.
    pub fail_patches: Option<u16>,
}

/// A running proxy. It ends with the runtime that started it.
pub struct Proxy {
    faults: watch::Sender<Faults>,
    address: SocketAddr,
}

struct Upstream {
    client: Client,
    faults: watch::Receiver<Faults>,
}

impl Proxy {
    /// A proxy in front of that world's API server.
    pub async fn start(world: &World) -> anyhow::Result<Self> {
        let mut config: Config = world.plane.config(User::Operator).await?;
        // Requests bring their own credentials along.
        config.auth_info = kube::config::AuthInfo::default();
        config.default_retry = false;
        let (faults, receiver) = watch::channel(Faults::default());
        let upstream = Arc::new(Upstream { client: Client::try_from(config)?, faults: receiver });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(forward).with_state(upstream);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { faults, address })
    }

    /// From now on these go wrong.
    pub fn set(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// The operator's kubeconfig, with this proxy for a server.
    pub fn kubeconfig(&self, world: &World, directory: &Path) -> anyhow::Result<PathBuf> {
        let original = std::fs::read_to_string(world.plane.kubeconfig(User::Operator))?;
        let token = original
            .lines()
            .find_map(|line| {
                line.trim().strip_prefix("token:").or_else(|| line.trim().strip_prefix("\"token\":"))
            })
            .map(|token| token.trim().trim_matches([',', '"']).to_owned())
            .context("the operator's kubeconfig has no token")?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "operator", "user": {"token": token}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}]
        });
        let path = directory.join("proxy.kubeconfig");
        std::fs::write(&path, kubeconfig.to_string())?;
        Ok(path)
    }
}

async fn forward(State(upstream): State<Arc<Upstream>>, request: Request) -> Response {
    let mut faults = upstream.faults.clone();
    let query = request.uri().query().unwrap_or_default();
    let is_watch = query.contains("watch=true") || query.contains("watch=1");
    let path = request.uri().path().to_owned();
    let is_config_read = request.method() == "GET"
        && !is_watch
        && !path.contains("/namespaces/pod-reloader/")
        && (path.contains("/configmaps/") || path.contains("/secrets/"));
    if is_config_read {
        let _ = faults.wait_for(|faults| !faults.hang_reads).await;
    }
    if request.method() == "PATCH"
        && path.contains("/apis/apps/")
        && let Some(status) = faults.borrow().fail_patches
    {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return (status, "told to fail").into_response();
    }
    match send(&upstream.client, request).await {
        Ok(response) if is_watch => {
            let (head, body) = response.into_parts();
            let delayed = body.into_data_stream().then(move |part| {
                let mut faults = faults.clone();
                async move {
                    let _ = faults.wait_for(|faults| !faults.hold_watches).await;
                    part
                }
            });
            Response::from_parts(head, Body::from_stream(delayed))
        }
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn send(client: &Client, request: Request) -> anyhow::Result<Response> {
    let (mut head, body) = request.into_parts();
    head.headers.remove(header::HOST);
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    head.uri = target.parse()?;
    let body = body.collect().await?.to_bytes().to_vec();
    let response = client.send(http::Request::from_parts(head, kube::client::Body::from(body))).await?;
    Ok(response.map(Body::new))
}
