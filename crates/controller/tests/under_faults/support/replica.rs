//! A replica: reconciler, key keeper and, if need be, election, each with connections of its own.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use pod_reloader_controller::controller::{self, Settings};
use pod_reloader_controller::leader::{self, Election};
use pod_reloader_controller::metrics::Metrics;
use pod_reloader_controller::watch::health::WatchHealth;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_k8s::budget::Budget;
use pod_reloader_k8s::connect::client_over;
use pod_reloader_k8s::key::{KeyKeeper, KeyReader};
use pod_reloader_k8s::metrics::Metrics as ApiMetrics;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_k8s::reader::ConfigReader;
use pod_reloader_stub_api::StubApi;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::SETTLE_WINDOW;

/// How long a reconciler may take to end when another replica leads; as the operator does it.
const ABANDON: Duration = Duration::from_secs(1);
/// How long a replica may take to stop.
const STOP: Duration = Duration::from_mins(1);

/// What to start.
#[derive(Clone)]
pub(crate) struct Options {
    /// Its clients are called `<name>`, `<name>/key` and `<name>/lease`.
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
    pub(crate) settle_window: Duration,
    /// Where its key is; installations of their own have one each.
    pub(crate) key_namespace: &'static str,
    pub(crate) takes_part_in_election: bool,
    /// Instead of one that is kept in a Secret.
    pub(crate) fixed_key: Option<KeyReader>,
}

impl Options {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            scope: Scope::default(),
            settle_window: SETTLE_WINDOW,
            key_namespace: "pod-reloader",
            takes_part_in_election: false,
            fixed_key: None,
        }
    }

    pub(crate) fn electing(name: &'static str) -> Self {
        Self { takes_part_in_election: true, ..Self::new(name) }
    }
}

/// A replica that runs. Dropped, it is gone as a process that is killed.
pub(crate) struct Replica {
    pub(crate) budget: Budget,
    pub(crate) health: WatchHealth,
    pub(crate) key: KeyReader,
    pub(crate) reader: Arc<ConfigReader>,
    registry: Registry,
    leads: watch::Receiver<bool>,
    stop: CancellationToken,
    tasks: Vec<AbortOnDropHandle<()>>,
    _keepers: Vec<AbortOnDropHandle<()>>,
}

impl Replica {
    pub(crate) fn start(stub: &StubApi, options: Options) -> Self {
        let Options { name, scope, settle_window, key_namespace, takes_part_in_election, fixed_key } =
            options;
        let mut registry = Registry::default();
        let api_metrics = ApiMetrics::register(&mut registry);
        let metrics = Metrics::register(&mut registry);
        let mut keepers = vec![];
        let key = fixed_key.unwrap_or_else(|| {
            let client = client(stub, &format!("{name}/key"));
            let (keeper, key) = KeyKeeper::new(client, key_namespace, api_metrics.clone());
            keepers.push(spawn(keeper.run()));
            key
        });
        let budget = Budget::new(24 << 20);
        let health = metrics.watches.clone();
        let client = client(stub, name);
        let reader = ConfigReader::new(client.clone(), budget.clone(), api_metrics.clone());
        let reader = if scope.secrets { reader } else { reader.without_secrets() };
        let own = ["pod-reloader-key"].map(|name| ConfigRef::secret(key_namespace, name));
        let reader = Arc::new(reader.keeping(own));
        let settings = Settings {
            client,
            reader: reader.clone(),
            budget: budget.clone(),
            key: key.clone(),
            mode: HashMode::Content,
            scope,
            settle_window,
            max_concurrent_patches: 16,
            instance: name.into(),
            metrics,
            api_metrics,
        };
        let stop = CancellationToken::new();
        let (sender, leads) = watch::channel(!takes_part_in_election);
        let mut tasks = vec![];
        if takes_part_in_election {
            let election = Election {
                client: self::client(stub, &format!("{name}/lease")),
                namespace: "pod-reloader".into(),
                name: leader::LEASE_NAME.into(),
                identity: name.into(),
            };
            tasks.push(spawn(leader::run(election, sender, stop.clone())));
        }
        tasks.push(spawn(reconcile_while_leading(settings, leads.clone(), stop.clone())));
        Self { budget, health, key, reader, registry, leads, stop, tasks, _keepers: keepers }
    }

    pub(crate) fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// All its metrics, as Prometheus gets them.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    /// Ends it as SIGTERM does. Whether it ended in time.
    pub(crate) async fn stop(self) -> bool {
        self.stop.cancel();
        let ends = self.tasks.into_iter().map(|task| timeout(STOP, task));
        futures::future::join_all(ends).await.into_iter().all(|end| matches!(end, Ok(Ok(()))))
    }
}

/// As the operator does it; its own loop is tested in its crate.
async fn reconcile_while_leading(
    settings: Settings,
    mut leads: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            is_leading = leads.wait_for(|leads| *leads) => if is_leading.is_err() { return },
        }
        let term = CancellationToken::new();
        let mut reconciler = spawn(controller::run(settings.clone(), term.clone()));
        let end_of_term = async {
            if leads.wait_for(|leads| !*leads).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = end_of_term => {}
        }
        term.cancel();
        let limit = if stop.is_cancelled() { STOP } else { ABANDON };
        // Dropped, it is aborted.
        let _ = timeout(limit, &mut reconciler).await;
    }
}

/// A client as the operator makes it.
pub(crate) fn client(stub: &StubApi, name: &str) -> Client {
    let connector = stub.connector_of(name);
    client_over(Arc::new(move || Ok(Client::new(connector(), "default"))), "default").unwrap()
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}
