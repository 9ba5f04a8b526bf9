//! A proxy between the operator and the API server that can be told to misbehave.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::watch;

use super::World;
use crate::{Operator, User};

/// What goes wrong.
#[expect(clippy::struct_excessive_bools, reason = "each fault stands for itself")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nothing that watches say comes through; it is kept and comes later.
    pub hold_watches: bool,
    /// Reads of single `ConfigMaps` and Secrets outside the operator's namespace are not answered until later.
    pub hang_reads: bool,
    /// Patches of workloads are answered with this status.
    pub fail_patches: Option<u16>,
    /// Patches of workloads are held up for this long before they are carried out.
    pub slow_patches: Option<Duration>,
    /// Patches of workloads are carried out, and answered as if they had failed.
    pub lose_patch_answers: bool,
    /// Watches end, and cannot begin, because what they ask for has expired.
    pub expire_watches: bool,
    /// Events are not taken until later.
    pub hang_events: bool,
    /// Of the content of `ConfigMaps` and Secrets only the first half comes through.
    pub cut_reads: bool,
}

/// A running proxy. It ends with the runtime that started it.
pub struct Proxy {
    faults: watch::Sender<Faults>,
    address: SocketAddr,
    upstream: Arc<Upstream>,
}

struct Upstream {
    client: Client,
    faults: watch::Receiver<Faults>,
    patches: AtomicUsize,
    most_patches: AtomicUsize,
    failed_watches: AtomicUsize,
}

/// What a watch is told whose resource version the API server no longer has.
const EXPIRED: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}"#;

/// A world whose only replica reaches the API server through a proxy.
pub async fn behind_proxy(args: &[&str]) -> anyhow::Result<(World, Proxy)> {
    let mut world = World::without_operator().await?;
    let proxy = Proxy::start(&world).await?;
    let mut options = world.replica_options("replica", args)?;
    options.kubeconfig = proxy.kubeconfig(&world, world.directory())?;
    world.replicas.push(Operator::spawn(&options).await?);
    world.register().await?;
    Ok((world, proxy))
}

impl Proxy {
    /// A proxy in front of that world's API server.
    pub async fn start(world: &World) -> anyhow::Result<Self> {
        let mut config: Config = world.plane.config(User::Operator).await?;
        // Requests bring their own credentials along.
        config.auth_info = kube::config::AuthInfo::default();
        config.default_retry = false;
        let (faults, receiver) = watch::channel(Faults::default());
        let upstream = Arc::new(Upstream {
            client: Client::try_from(config)?,
            faults: receiver,
            patches: AtomicUsize::new(0),
            most_patches: AtomicUsize::new(0),
            failed_watches: AtomicUsize::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(forward).with_state(upstream.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { faults, address, upstream })
    }

    /// From now on these go wrong.
    pub fn set(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// The most patches of workloads that were under way at once since this was asked last.
    pub fn most_patches_at_once(&self) -> usize {
        self.upstream.most_patches.swap(0, Ordering::SeqCst)
    }

    /// How many watches could not begin because what they asked for had expired.
    pub fn failed_watches(&self) -> usize {
        self.upstream.failed_watches.load(Ordering::SeqCst)
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
    let is_event = request.method() == "POST" && path.contains("/events");
    if is_event {
        let _ = faults.wait_for(|faults| !faults.hang_events).await;
    }
    if request.method() == "PATCH" && path.contains("/apis/apps/") {
        return patch(&upstream, request).await;
    }
    if is_watch && faults.borrow().expire_watches {
        upstream.failed_watches.fetch_add(1, Ordering::SeqCst);
        return (StatusCode::GONE, [(header::CONTENT_TYPE, "application/json")], EXPIRED).into_response();
    }
    match send(&upstream.client, request).await {
        Ok(response) if is_watch => {
            let (head, body) = response.into_parts();
            let (mut expired, after) = (faults.clone(), faults.clone());
            let expired = async move { drop(expired.wait_for(|faults| faults.expire_watches).await) };
            let delayed = body.into_data_stream().then(move |part| {
                let mut faults = faults.clone();
                async move {
                    let _ = faults.wait_for(|faults| !faults.hold_watches).await;
                    part
                }
            });
            let last = stream::once(async move {
                let is_expired = after.borrow().expire_watches;
                Ok(if is_expired {
                    format!("{{\"type\":\"ERROR\",\"object\":{EXPIRED}}}\n")
                } else {
                    String::new()
                }
                .into())
            });
            Response::from_parts(head, Body::from_stream(delayed.take_until(Box::pin(expired)).chain(last)))
        }
        Ok(response) if is_config_read && faults.borrow().cut_reads => cut(response).await,
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn patch(upstream: &Upstream, request: Request) -> Response {
    let under_way = upstream.patches.fetch_add(1, Ordering::SeqCst) + 1;
    upstream.most_patches.fetch_max(under_way, Ordering::SeqCst);
    let faults = *upstream.faults.borrow();
    if let Some(pause) = faults.slow_patches {
        tokio::time::sleep(pause).await;
    }
    let response = match faults.fail_patches.map(StatusCode::from_u16) {
        Some(status) => (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "told to fail").into_response(),
        None => match send(&upstream.client, request).await {
            Ok(response) if faults.lose_patch_answers => {
                let _ = response.into_body().collect().await;
                (StatusCode::GATEWAY_TIMEOUT, "the answer is lost").into_response()
            }
            Ok(response) => response,
            Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
        },
    };
    upstream.patches.fetch_sub(1, Ordering::SeqCst);
    response
}

/// An answer that breaks off in the middle, in good order as far as HTTP goes.
async fn cut(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    let text = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Response::from_parts(head, Body::from(text.slice(..text.len() / 2)))
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
