//! A control plane with the operator's replicas and their registration, which all tests of a binary share or which one
//! test has for itself. Each test takes a [`Space`] there, so that all run in parallel.

pub mod proxy;
pub mod release;
pub mod webhook;
pub mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::objects::{self, apps};
use crate::{
    Audit, Authority, ControlPlane, Kubectl, Operator, OperatorOptions, Options, Registration, Space,
    TIMEOUT, User, eventually, policy,
};

/// The settle window that the shared operator runs with: shorter than the default, for the tests' sake.
pub const SETTLE_WINDOW: Duration = Duration::from_secs(1);

static SHARED: OnceCell<World> = OnceCell::const_new();

/// A control plane, the operator's replicas, and their registration.
pub struct World {
    /// The control plane.
    pub plane: ControlPlane,
    /// The running replicas.
    pub replicas: Vec<Operator>,
    /// Signs the replicas' serving certificates.
    pub authority: Authority,
    directory: tempfile::TempDir,
}

impl World {
    /// The world that all tests of this binary share: two replicas with leader election and a certificate directory, and
    /// the chart's policies on what their account may write.
    pub async fn shared() -> anyhow::Result<&'static Self> {
        SHARED
            .get_or_try_init(|| async {
                let mut world = Self::without_operator().await?;
                // All that users see is seen under the chart's policies.
                policy::apply(&world.kubectl(), &world.plane.client(User::Operator).await?).await?;
                let window = format!("--settle-window={}s", SETTLE_WINDOW.as_secs());
                world.start_replica("replica-1", &["--leader-elect", &window]).await?;
                world.start_replica("replica-2", &["--leader-elect", &window]).await?;
                world.register().await?;
                anyhow::Ok(world)
            })
            .await
    }

    /// A control plane of one's own, for tests that break things. Nothing runs on it yet.
    pub async fn without_operator() -> anyhow::Result<Self> {
        Self::without_operator_on(Options::default()).await
    }

    /// The same with a control plane as chosen.
    pub async fn without_operator_on(options: Options) -> anyhow::Result<Self> {
        Ok(Self {
            plane: ControlPlane::start(options).await?,
            replicas: vec![],
            authority: Authority::new("pod-reloader tests")?,
            directory: tempfile::tempdir()?,
        })
    }

    /// A control plane of one's own with one replica, registered.
    pub async fn own(args: &[&str]) -> anyhow::Result<Self> {
        let mut world = Self::without_operator().await?;
        world.start_replica("replica-1", args).await?;
        world.register().await?;
        Ok(world)
    }

    /// A namespace of its own for a test.
    pub async fn space(&self) -> anyhow::Result<Space> {
        Space::new(self.admin().await?, self.kubectl(), "test", TIMEOUT).await
    }

    /// A namespace that is there, with a client of its own: connections of an earlier one may be broken.
    pub async fn open_space(&self, name: &str) -> anyhow::Result<Space> {
        Ok(Space::open(self.admin().await?, self.kubectl(), name, TIMEOUT))
    }

    /// A scratch directory that goes with the world.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// How a replica of that name is started: as the operator's user, with a certificate directory of its own.
    pub fn replica_options(&self, name: &str, args: &[&str]) -> anyhow::Result<OperatorOptions> {
        let tls = self.directory().join(name);
        self.authority.issue(&["localhost", "127.0.0.1"])?.write(&tls)?;
        let kubeconfig = self.plane.kubeconfig(User::Operator);
        let options = OperatorOptions::new(&operator_binary()?, &kubeconfig, self.plane.directory());
        Ok(options
            .name(name)
            .args(["--log-format=text", "--shutdown-delay=0", "--leader-election-namespace=pod-reloader"])
            .args([format!("--webhook-tls-directory={}", tls.display())])
            .args(args.iter().copied()))
    }

    /// Starts a replica and waits until it is ready.
    pub async fn start_replica(&mut self, name: &str, args: &[&str]) -> anyhow::Result<&mut Operator> {
        let replica = Operator::spawn(&self.replica_options(name, args)?).await?;
        self.replicas.push(replica);
        self.replicas.last_mut().context("just started")
    }

    /// Registers all replicas' webhooks and waits until the API server calls them.
    pub async fn register(&self) -> anyhow::Result<()> {
        let registration = Registration::new(self.replicas.iter().map(Operator::webhook_url));
        self.apply(&registration.ca_bundle(self.authority.pem())).await?;
        self.webhook_answers().await
    }

    /// Applies a registration.
    pub async fn apply(&self, registration: &Registration) -> anyhow::Result<()> {
        registration.apply(&self.plane.kubectl(User::Admin)).await
    }

    /// Waits until a dry-run write comes back with a config hash.
    pub async fn webhook_answers(&self) -> anyhow::Result<()> {
        let api = objects::api(self.admin().await?, apps::DEPLOYMENT, "default");
        let probe = objects::workload(apps::DEPLOYMENT, "probe", json!({objects::CONFIGMAPS: "probe"}));
        eventually("the webhook to be called", TIMEOUT, || async {
            let params = kube::api::PostParams { dry_run: true, ..Default::default() };
            let created = api.create(&params, &probe).await?;
            objects::config_hash(&created).map(drop).context("no config hash was set")
        })
        .await
    }

    /// A client that may do everything.
    pub async fn admin(&self) -> anyhow::Result<Client> {
        self.plane.client(User::Admin).await
    }

    /// kubectl as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        self.plane.kubectl(User::Admin)
    }

    /// The API server's audit log.
    pub fn audit(&self) -> Audit {
        self.plane.audit()
    }
}

/// The binary under test: `POD_RELOADER_BINARY`, or what cargo built beside this program.
pub fn operator_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("POD_RELOADER_BINARY") {
        return Ok(path.into());
    }
    let program = std::env::current_exe()?;
    let folder = program.parent().context("a program lies in a folder")?;
    // Programs lie in target/<profile>, tests in target/<profile>/deps.
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let binary = profile.join("pod-reloader");
    anyhow::ensure!(binary.exists(), "{} is missing: cargo build -p pod-reloader", binary.display());
    Ok(binary)
}
