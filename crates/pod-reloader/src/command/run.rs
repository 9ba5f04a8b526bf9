//! The operator: connects, opens its ports, spawns what serves and what reconciles, waits, and shuts down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use kube::{Client, Config};
use pod_reloader_controller::controller::Settings;
use pod_reloader_controller::leader::{self, Election};
use pod_reloader_core::name::ConfigRef;
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::connect;
use pod_reloader_k8s::discovery;
use pod_reloader_k8s::key::{KeyKeeper, KeyReader};
use pod_reloader_k8s::reader::ConfigReader;
use pod_reloader_k8s::scope::Scope;
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
use crate::ports::{OpenPort, Ports};
use crate::readiness::{Readiness, WebhookNeeds};
use crate::serving;
use crate::signals::StopSignals;
use crate::tasks::Tasks;
use crate::terms::reconcile_while_leading;

/// How long requests, writes and the release of the Lease may take at the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);

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
    let api = ApiServer::connect(&args).await?;
    let metrics = Metrics::register(&args, &api.client, &line_limit)?;
    // Before any task starts: an address that is taken ends the process with an error that names it.
    let ports = Ports::open(&args).await?;
    let has_webhook = ports.webhook.is_some();
    // Only the API server goes on sending requests until it has noticed that this replica is not ready.
    let delay = if has_webhook { args.shutdown_delay } else { Duration::ZERO };

    let scope = args.scope(&api.namespace).map_err(anyhow::Error::msg)?;
    let mut operator = Operator {
        scope,
        certificates: Certificates::new(metrics.serving.clone()),
        has_webhook,
        args,
        api,
        metrics,
        stop: CancellationToken::new(),
        stop_serving: CancellationToken::new(),
        is_stopping: Arc::default(),
        tasks: Tasks::default(),
    };
    let known = operator.spawn_upkeep(line_limit);
    operator.spawn_admin(ports.health, ports.metrics, &known)?;
    let reader = operator.config_reader();
    if let Some(port) = ports.webhook {
        operator.spawn_webhook(port, reader.clone(), &known).await?;
    }
    operator.spawn_reconciler(reader, known.key)?;
    operator.wait_and_shut_down(&mut stop_signals, delay).await
}

/// The API server, and this replica's identity there.
struct ApiServer {
    config: Config,
    client: Client,
    /// The operator's own.
    namespace: String,
    instance: String,
}

impl ApiServer {
    /// Nothing is asked of it yet.
    async fn connect(args: &Args) -> anyhow::Result<Self> {
        let config = api_config(&args.connection).await?;
        let namespace =
            args.leader_election_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = client(config.clone())?;
        let instance = instance_name()?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace, instance, hash = ?args.hash, fips = IS_FIPS, "pod-reloader starts");
        Ok(Self { config, client, namespace, instance })
    }
}

/// What is measured, with the two that count by themselves: the memory budget, and the gate before `/metrics`.
struct Metrics {
    budget: Budget,
    api: pod_reloader_k8s::metrics::Metrics,
    controller: pod_reloader_controller::metrics::Metrics,
    webhook: pod_reloader_webhook::metrics::Metrics,
    serving: pod_reloader_serving::metrics::Metrics,
    gate: Option<Arc<Gate>>,
    registry: Arc<Registry>,
}

impl Metrics {
    fn register(args: &Args, client: &Client, line_limit: &LineLimit) -> anyhow::Result<Self> {
        let mut registry = Registry::with_prefix("pod_reloader");
        register_build(&mut registry);
        let budget = Budget::detect(args.memory_budget);
        budget.register(&mut registry);
        line_limit.register(&mut registry);
        let api = pod_reloader_k8s::metrics::Metrics::register(&mut registry);
        let controller = pod_reloader_controller::metrics::Metrics::register(&mut registry);
        let webhook = pod_reloader_webhook::metrics::Metrics::register(&mut registry);
        let serving = pod_reloader_serving::metrics::Metrics::register(&mut registry);
        let gate = args.tls.metrics_secure.then(|| Gate::new(client.clone(), &mut registry));
        let gate = gate.transpose().context("the system gave no random bytes")?;
        tracing::info!(bytes = budget.total(), "memory budget for what is in flight");
        Ok(Self { budget, api, controller, webhook, serving, gate, registry: Arc::new(registry) })
    }
}

/// What the steps have in common.
struct Operator {
    args: Args,
    scope: Scope,
    api: ApiServer,
    metrics: Metrics,
    certificates: Arc<Certificates>,
    has_webhook: bool,
    stop: CancellationToken,
    /// The webhook stops later than the rest: requests come until every node has noticed that it is not ready.
    stop_serving: CancellationToken,
    is_stopping: Arc<AtomicBool>,
    tasks: Tasks,
}

/// What the upkeep finds out.
struct Known {
    key: KeyReader,
    /// The user name that the operator's own requests are authenticated as; only with a webhook.
    own_user: watch::Receiver<Option<String>>,
}

impl Operator {
    /// Digest key, own user name and certificates, which everything else waits for or follows.
    fn spawn_upkeep(&mut self, line_limit: LineLimit) -> Known {
        let (client, namespace) = (&self.api.client, self.api.namespace.as_str());
        if !self.has_webhook {
            tracing::info!("there is no webhook: hashes are set by the reconciler alone");
        }
        self.tasks.spawn("log report", stoppable(line_limit.report(), self.stop_serving.clone()));

        // Upkeep stops as late as the webhook: requests that come until then need the key and the own user name.
        let (keeper, key) = KeyKeeper::new(client.clone(), namespace, self.metrics.api.clone());
        self.tasks.spawn("digest key", stoppable(keeper.run(), self.stop_serving.clone()));

        let (own_user_sender, own_user) = watch::channel(None);
        if self.has_webhook {
            let find = find_own_user(client.clone(), own_user_sender);
            self.tasks.spawn("identity", stoppable(find, self.stop_serving.clone()));

            // The webhook of a replica that does not lead has to know them, too.
            let name_kinds = discovery::name_kinds(client.clone(), self.scope.kinds.clone());
            self.tasks.spawn("names of kinds", stoppable(name_kinds, self.stop_serving.clone()));

            let certificates = &self.certificates;
            let keeping = Keeping { args: &self.args, client, namespace, certificates };
            keeping.spawn(&mut self.tasks, &self.stop, &self.stop_serving);
        }
        Known { key, own_user }
    }

    /// Health and metrics.
    fn spawn_admin(
        &mut self,
        health: Option<OpenPort>,
        metrics: Option<OpenPort>,
        known: &Known,
    ) -> anyhow::Result<()> {
        let readiness = Readiness {
            webhook: self.has_webhook.then(|| WebhookNeeds {
                certificates: self.certificates.clone(),
                own_user: known.own_user.clone(),
            }),
            key: known.key.clone(),
            watches: self.metrics.controller.watches.clone(),
            is_stopping: self.is_stopping.clone(),
        };
        let registry = self.metrics.registry.clone();
        let metrics_router = match &self.metrics.gate {
            None => admin::metrics(registry),
            Some(gate) => admin::metrics_behind(gate.clone(), registry),
        };
        let metrics_transport = serving::metrics_transport(&self.args.tls, &self.certificates)?;
        // Probes have to see that this replica is not ready any more, so these ports do not close before the webhook.
        let stop = Stop { soon: self.stop_serving.clone(), now: self.stop_serving.clone() };
        for (name, port, transport, router) in [
            ("health", health, Transport::Plain, admin::health(readiness)),
            ("metrics", metrics, metrics_transport, metrics_router),
        ] {
            if let Some(port) = port {
                let (port, metrics) = (port.over(transport), self.metrics.serving.clone());
                self.tasks.spawn(name, server::serve(port, router, metrics, stop.clone()));
            }
        }
        Ok(())
    }

    /// Reads config objects for webhook and reconciler alike.
    fn config_reader(&self) -> Arc<ConfigReader> {
        let namespace = &self.api.namespace;
        let own = self.args.own_secrets().map(|name| ConfigRef::secret(namespace.as_str(), name));
        let Metrics { budget, api, .. } = &self.metrics;
        let reader = ConfigReader::new(self.api.client.clone(), budget.clone(), api.clone()).keeping(own);
        if self.args.scope.secrets {
            return Arc::new(reader);
        }
        tracing::info!("Secrets are not followed: the hash covers ConfigMaps alone");
        Arc::new(reader.without_secrets())
    }

    async fn spawn_webhook(
        &mut self,
        port: OpenPort,
        reader: Arc<ConfigReader>,
        known: &Known,
    ) -> anyhow::Result<()> {
        let admitter = Admitter {
            reader,
            key: known.key.clone(),
            own_user: known.own_user.clone(),
            mode: self.args.hash.into(),
            scope: self.scope.clone(),
            budget: self.metrics.budget.clone(),
            turns: Turns::default(),
            metrics: self.metrics.webhook.clone(),
        };
        let router = pod_reloader_webhook::http::router(Arc::new(admitter));
        let metrics = self.metrics.serving.clone();
        let tls = serving::webhook_tls(
            &self.args.tls,
            &self.certificates,
            &metrics,
            &mut self.tasks,
            &self.stop_serving,
        );
        let port = port.over(Transport::Tls(tls.await?));
        // From the signal on answers ask clients to close, so that they connect to another replica within the delay.
        let stop = Stop { soon: self.stop.clone(), now: self.stop_serving.clone() };
        self.tasks.spawn("webhook", server::serve(port, router, metrics, stop));
        Ok(())
    }

    /// The reconciler, and the election that says when it runs.
    fn spawn_reconciler(&mut self, reader: Arc<ConfigReader>, key: KeyReader) -> anyhow::Result<()> {
        let (leads_sender, leads) = watch::channel(!self.args.leader_elect);
        if self.args.leader_elect {
            let election = Election {
                // A client of its own: no renewal waits behind other requests, or meets their dead connections.
                client: client(self.api.config.clone())?,
                namespace: self.api.namespace.clone(),
                name: self.args.leader_election_id.clone(),
                identity: self.api.instance.clone(),
            };
            self.tasks.spawn("leader election", leader::run(election, leads_sender, self.stop.clone()));
        }
        let settings = Settings {
            client: self.api.client.clone(),
            reader,
            budget: self.metrics.budget.clone(),
            key,
            mode: self.args.hash.into(),
            scope: self.scope.clone(),
            settle_window: self.args.settle_window,
            max_concurrent_patches: self.args.max_concurrent_patches,
            instance: self.api.instance.clone(),
            metrics: self.metrics.controller.clone(),
            api_metrics: self.metrics.api.clone(),
        };
        self.tasks.spawn("reconciler", reconcile_while_leading(settings, leads, self.stop.clone()));
        Ok(())
    }

    /// Waits for a signal, then lets the webhook serve for `delay` more.
    async fn wait_and_shut_down(mut self, signals: &mut StopSignals, delay: Duration) -> anyhow::Result<()> {
        tokio::select! {
            () = signals.received() => {}
            error = self.tasks.ended() => return Err(error),
        }
        tracing::info!("shutting down");
        // Readiness goes down first, so that new connections are routed to other replicas.
        self.is_stopping.store(true, Ordering::Relaxed);
        // At once, so that a successor takes over while this one still answers.
        self.stop.cancel();
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = signals.received() => tracing::info!("second signal: skipping the shutdown delay"),
        }
        self.stop_serving.cancel();
        self.tasks.shut_down(SHUTDOWN_TIMEOUT).await;
        tracing::info!("shutdown complete");
        Ok(())
    }
}

fn client(config: Config) -> anyhow::Result<Client> {
    connect::client(config).context("cannot use the API server's configuration")
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
