//! Wires everything together: read it top to bottom.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use pod_reloader_controller::controller::Settings;
use pod_reloader_controller::leader::{self, Election};
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::connect;
use pod_reloader_k8s::identity::own_user_name;
use pod_reloader_k8s::key::KeyKeeper;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_k8s::reader::ConfigReader;
use pod_reloader_serving::certificate::Certificates;
use pod_reloader_serving::directory;
use pod_reloader_serving::self_made::{Lifetimes, SelfMade};
use pod_reloader_serving::server::{self, Limits, Stop};
use pod_reloader_webhook::admit::Admitter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::args::{Args, BindAddress};
use crate::connection::api_config;
use crate::readiness::Readiness;
use crate::self_test;
use crate::tasks::Tasks;
use crate::terms::reconcile_while_leading;

/// How long requests, writes and the Lease may take to come to their end.
const WIND_DOWN: Duration = Duration::from_secs(25);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the API server's configuration or an address is unusable, or if a task ends that should not.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut stop_signals = StopSignals::install()?;
    let config = api_config(&args).await?;
    let namespace =
        args.leader_election_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    if args.self_test {
        let namespace = args.namespaces.first().unwrap_or(&namespace);
        return self_test::run(config, namespace, args.settle_window, stop_signals.received()).await;
    }
    let client = connect::client(config.clone()).context("cannot use the API server's configuration")?;
    let instance = instance_name()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace, instance, hash = ?args.hash, "pod-reloader starts");

    let mut registry = Registry::with_prefix("pod_reloader");
    registry.register(
        "build",
        "The version that runs",
        Info::new(vec![
            ("version", env!("CARGO_PKG_VERSION")),
            ("rust_version", env!("CARGO_PKG_RUST_VERSION")),
        ]),
    );
    let budget = Budget::detect(args.memory_budget);
    budget.register(&mut registry);
    let api_metrics = pod_reloader_k8s::metrics::Metrics::register(&mut registry);
    let controller_metrics = pod_reloader_controller::metrics::Metrics::register(&mut registry);
    let webhook_metrics = pod_reloader_webhook::metrics::Metrics::register(&mut registry);
    let serving_metrics = pod_reloader_serving::metrics::Metrics::register(&mut registry);
    let certificates = Certificates::new(serving_metrics.clone());
    let registry = Arc::new(registry);
    tracing::info!(bytes = budget.total(), "memory budget for what is in flight");

    let metrics_listener = bind("metrics", &args.metrics_bind_address).await?;
    let health_listener = bind("health probe", &args.health_probe_bind_address).await?;
    let webhook_listener =
        bind("webhook", &args.webhook_bind_address).await?.context("the webhook needs an address")?;

    let stop = CancellationToken::new();
    // The webhook stops later than the rest: requests come until everybody has noticed that it is not ready.
    let stop_serving = CancellationToken::new();
    let is_stopping = Arc::new(AtomicBool::new(false));
    let mut tasks = Tasks::default();

    let (keeper, key) = KeyKeeper::new(client.clone(), &namespace, api_metrics.clone());
    tasks.spawn("digest key", stoppable(keeper.run(), stop_serving.clone()));

    let (own_user_sender, own_user) = watch::channel(None);
    tasks.spawn("identity", stoppable(find_own_user(client.clone(), own_user_sender), stop_serving.clone()));

    if let Some(directory) = args.webhook_tls_directory.clone() {
        let follow = directory::follow(directory, certificates.clone(), stop_serving.clone());
        tasks.spawn("certificate directory", follow);
    } else {
        let self_made = SelfMade {
            client: client.clone(),
            namespace: namespace.clone(),
            secret_name: args.certificates_secret(),
            ca_secret_name: args.ca_secret(),
            webhook_configuration: args.webhook_configuration_name.clone(),
            default_hosts: vec![
                format!("pod-reloader.{namespace}.svc"),
                "localhost".into(),
                "127.0.0.1".into(),
                "::1".into(),
            ],
            lifetimes: Lifetimes::default(),
        };
        // Not while it winds down: whatever comes after it, another way to the certificates or another release, may have
        // the configuration trust another CA.
        tasks.spawn("self-made certificates", self_made.run(certificates.clone(), stop.clone()));
    }

    let readiness = Readiness {
        certificates: certificates.clone(),
        key: key.clone(),
        own_user: own_user.clone(),
        watches: controller_metrics.watches.clone(),
        is_stopping: is_stopping.clone(),
    };
    if let Some(listener) = health_listener {
        tasks.spawn("health", serve_plainly(listener, admin::health(readiness), stop_serving.clone()));
    }
    if let Some(listener) = metrics_listener {
        tasks.spawn("metrics", serve_plainly(listener, admin::metrics(registry), stop_serving.clone()));
    }

    let reader = Arc::new(ConfigReader::new(client.clone(), budget.clone(), api_metrics.clone()));
    let scope = match args.namespaces() {
        namespaces if namespaces.is_empty() => Scope::Cluster,
        namespaces => Scope::Namespaces(namespaces),
    };
    let admitter = Admitter {
        reader: reader.clone(),
        key: key.clone(),
        own_user,
        mode: args.hash.into(),
        scope: scope.clone(),
        budget: budget.clone(),
        metrics: webhook_metrics,
    };
    let router = pod_reloader_webhook::http::router(Arc::new(admitter));
    let tls = certificates.server_config().context("cannot set up TLS")?;
    let limits = Limits::default();
    let stop_server = Stop { soon: stop.clone(), now: stop_serving.clone() };
    let serve = server::serve(webhook_listener, tls, router, limits, serving_metrics, stop_server);
    tasks.spawn("webhook", serve);

    let (leads_sender, leads) = watch::channel(!args.leader_elect);
    if args.leader_elect {
        // A client of its own: no renewal waits behind other requests, or meets their dead connections.
        let client = connect::client(config).context("cannot use the API server's configuration")?;
        let election =
            Election { client, namespace, name: args.leader_election_id.clone(), identity: instance.clone() };
        tasks.spawn("leader election", leader::run(election, leads_sender, stop.clone()));
    }
    let settings = Settings {
        client,
        reader,
        budget,
        key,
        mode: args.hash.into(),
        scope,
        settle_window: args.settle_window,
        max_concurrent_patches: args.max_concurrent_patches,
        instance,
        metrics: controller_metrics,
        api_metrics,
    };
    tasks.spawn("reconciler", reconcile_while_leading(settings, leads, stop.clone()));

    tokio::select! {
        () = stop_signals.received() => {}
        error = tasks.ended() => return Err(error),
    }
    tracing::info!("shutting down");
    is_stopping.store(true, Ordering::Relaxed);
    // At once, so that a successor takes over while this one still answers.
    stop.cancel();
    tokio::select! {
        () = tokio::time::sleep(args.shutdown_delay) => {}
        () = stop_signals.received() => tracing::info!("told to stop twice: not waiting any longer"),
    }
    stop_serving.cancel();
    tasks.wind_down(WIND_DOWN).await;
    tracing::info!("goodbye");
    Ok(())
}

/// Names this replica: the pod's name in a cluster, and something random for replicas that share a host name.
fn instance_name() -> anyhow::Result<String> {
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "pod-reloader".to_owned());
    let random = getrandom::u32().context("the system gave no random bytes")?;
    Ok(format!("{host}-{random:08x}"))
}

async fn bind(what: &str, address: &BindAddress) -> anyhow::Result<Option<TcpListener>> {
    let BindAddress::At { host, port } = address else { return Ok(None) };
    let bound = match host {
        Some(host) => TcpListener::bind((host.as_str(), *port)).await,
        // All addresses of both families, as in Go; IPv4 alone where there is no IPv6.
        None => match TcpListener::bind(SocketAddr::from(([0; 16], *port))).await {
            Ok(listener) => Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
            Err(_) => TcpListener::bind(SocketAddr::from(([0; 4], *port))).await,
        },
    };
    let shown = format!("{}:{port}", host.as_deref().unwrap_or_default());
    let listener = bound.with_context(|| format!("cannot listen on the {what} address {shown}"))?;
    tracing::info!(what, address = %listener.local_addr()?, "listening");
    Ok(Some(listener))
}

async fn serve_plainly(listener: TcpListener, router: axum::Router, stop: CancellationToken) {
    // Not gracefully: probes that keep their connection open would hold up the end.
    tokio::select! {
        served = axum::serve(listener, router).into_future() => {
            if let Err(error) = served {
                tracing::error!(%error, "cannot serve health or metrics");
            }
        }
        () = stop.cancelled() => {}
    }
}

async fn stoppable(task: impl Future<Output = ()>, stop: CancellationToken) {
    tokio::select! {
        () = task => {}
        () = stop.cancelled() => {}
    }
}

/// Asks the API server until it says who we are, and then keeps that.
async fn find_own_user(client: Client, own_user: watch::Sender<Option<String>>) {
    loop {
        match own_user_name(&client).await {
            Ok(Some(name)) => {
                tracing::info!(user = name, "known to the API server");
                own_user.send_replace(Some(name));
                return std::future::pending().await;
            }
            Ok(None) => {
                tracing::error!("the API server names no user for our requests: are they authenticated?");
            }
            Err(error) => {
                tracing::warn!(error = format!("{:#}", anyhow::Error::new(error)), "cannot ask who we are");
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
