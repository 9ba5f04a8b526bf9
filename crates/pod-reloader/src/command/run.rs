//! Wires everything together: read it top to bottom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use pod_reloader_controller::controller::Settings;
use pod_reloader_controller::leader::{self, Election};
use pod_reloader_core::reference::{ConfigName, ConfigRef};
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::connect;
use pod_reloader_k8s::key::KeyKeeper;
use pod_reloader_k8s::reader::ConfigReader;
use pod_reloader_serving::certificate::Certificates;
use pod_reloader_serving::provider::IS_FIPS;
use pod_reloader_serving::server::{self, Stop, Transport};
use pod_reloader_webhook::admit::Admitter;
use pod_reloader_webhook::caller::Turns;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Command;
use super::self_test::SelfTest;
use crate::admin;
use crate::admin::auth::Gate;
use crate::args::{Args, LoggingArgs};
use crate::certificates::Keeping;
use crate::connection::api_config;
use crate::identity::{find_own_user, instance_name};
use crate::logging::LineLimit;
use crate::ports::Ports;
use crate::readiness::{Readiness, WebhookNeeds};
use crate::serving;
use crate::signals::StopSignals;
use crate::tasks::Tasks;
use crate::terms::reconcile_while_leading;

/// How long requests, writes and the Lease may take to come to their end.
const WIND_DOWN: Duration = Duration::from_secs(25);

impl Command for Args {
    fn validate(&self) -> Result<(), String> {
        Self::validate(self)
    }

    fn logging(&self) -> &LoggingArgs {
        &self.logging
    }

    async fn run(self, line_limit: LineLimit) -> anyhow::Result<()> {
        if self.self_test {
            return SelfTest { operator: self }.run(line_limit).await;
        }
        run(self, line_limit).await
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the API server's configuration or an address is unusable, or if a task ends that should not.
async fn run(args: Args, line_limit: LineLimit) -> anyhow::Result<()> {
    let mut stop_signals = StopSignals::install()?;
    let config = api_config(&args.connection).await?;
    let namespace =
        args.leader_election_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = connect::client(config.clone()).context("cannot use the API server's configuration")?;
    let instance = instance_name()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace, instance, hash = ?args.hash, fips = IS_FIPS, "pod-reloader starts");

    let mut registry = Registry::with_prefix("pod_reloader");
    register_build(&mut registry);
    let budget = Budget::detect(args.memory_budget);
    budget.register(&mut registry);
    line_limit.register(&mut registry);
    let api_metrics = pod_reloader_k8s::metrics::Metrics::register(&mut registry);
    let controller_metrics = pod_reloader_controller::metrics::Metrics::register(&mut registry);
    let webhook_metrics = pod_reloader_webhook::metrics::Metrics::register(&mut registry);
    let serving_metrics = pod_reloader_serving::metrics::Metrics::register(&mut registry);
    let certificates = Certificates::new(serving_metrics.clone());
    let gate = if args.tls.metrics_secure {
        Some(Gate::new(client.clone(), &mut registry).context("the system gave no random bytes")?)
    } else {
        None
    };
    let registry = Arc::new(registry);
    tracing::info!(bytes = budget.total(), "memory budget for what is in flight");

    let ports = Ports::open(&args).await?;
    let has_webhook = ports.webhook.is_some();
    if !has_webhook {
        tracing::info!("there is no webhook: hashes are set by the reconciler alone");
    }

    let stop = CancellationToken::new();
    // The webhook stops later than the rest: requests come until everybody has noticed that it is not ready.
    let stop_serving = CancellationToken::new();
    let is_stopping = Arc::new(AtomicBool::new(false));
    let mut tasks = Tasks::default();

    tasks.spawn("log report", stoppable(line_limit.report(), stop_serving.clone()));

    let (keeper, key) = KeyKeeper::new(client.clone(), &namespace, api_metrics.clone());
    tasks.spawn("digest key", stoppable(keeper.run(), stop_serving.clone()));

    let (own_user_sender, own_user) = watch::channel(None);
    if has_webhook {
        let find = find_own_user(client.clone(), own_user_sender);
        tasks.spawn("identity", stoppable(find, stop_serving.clone()));
    }

    if has_webhook {
        let keeping =
            Keeping { args: &args, client: &client, namespace: &namespace, certificates: &certificates };
        keeping.spawn(&mut tasks, &stop, &stop_serving);
    }

    let readiness = Readiness {
        webhook: has_webhook
            .then(|| WebhookNeeds { certificates: certificates.clone(), own_user: own_user.clone() }),
        key: key.clone(),
        watches: controller_metrics.watches.clone(),
        is_stopping: is_stopping.clone(),
    };
    let stop_admin = Stop { soon: stop_serving.clone(), now: stop_serving.clone() };
    let metrics_router = match gate {
        None => admin::metrics(registry),
        Some(gate) => admin::metrics_behind(gate, registry),
    };
    let admin = [
        ("health", ports.health, Transport::Plain, admin::health(readiness)),
        ("metrics", ports.metrics, serving::metrics_transport(&args.tls, &certificates)?, metrics_router),
    ];
    for (name, port, transport, router) in admin {
        if let Some(port) = port {
            let port = port.over(transport);
            tasks.spawn(name, server::serve(port, router, serving_metrics.clone(), stop_admin.clone()));
        }
    }

    let scope = args.scope();
    if !scope.secrets {
        tracing::info!("Secrets are not followed: the hash covers ConfigMaps alone");
    }
    let own = args.own_secrets().map(|name| ConfigRef::new(&namespace, ConfigName::secret(name)));
    let reader = ConfigReader::new(client.clone(), budget.clone(), api_metrics.clone()).keeping(own);
    let reader = Arc::new(if scope.secrets { reader } else { reader.without_secrets() });
    let admitter = Admitter {
        reader: reader.clone(),
        key: key.clone(),
        own_user,
        mode: args.hash.into(),
        scope: scope.clone(),
        budget: budget.clone(),
        turns: Turns::default(),
        metrics: webhook_metrics,
    };
    if let Some(port) = ports.webhook {
        let router = pod_reloader_webhook::http::router(Arc::new(admitter));
        let tls = serving::webhook_tls(&args.tls, &certificates, &serving_metrics, &mut tasks, &stop_serving)
            .await?;
        let stop_webhook = Stop { soon: stop.clone(), now: stop_serving.clone() };
        let port = port.over(Transport::Tls(tls));
        tasks.spawn("webhook", server::serve(port, router, serving_metrics, stop_webhook));
    }

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
    let delay = if has_webhook { args.shutdown_delay } else { Duration::ZERO };
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = stop_signals.received() => tracing::info!("told to stop twice: not waiting any longer"),
    }
    stop_serving.cancel();
    tasks.wind_down(WIND_DOWN).await;
    tracing::info!("goodbye");
    Ok(())
}

/// Says in the metrics which build runs.
fn register_build(registry: &mut Registry) {
    registry.register(
        "build",
        "The version that runs",
        Info::new(vec![
            ("version", env!("CARGO_PKG_VERSION")),
            ("rust_version", env!("CARGO_PKG_RUST_VERSION")),
            ("fips", if IS_FIPS { "true" } else { "false" }),
        ]),
    );
}

async fn stoppable(task: impl Future<Output = ()>, stop: CancellationToken) {
    tokio::select! {
        () = task => {}
        () = stop.cancelled() => {}
    }
}
