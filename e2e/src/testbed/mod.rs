//! Where the scenarios run: a cluster with pod-reloader installed and the applications' images at hand.
//!
//! That is a [`RealCluster`] of our own, or any cluster that is given (`make e2e KUBECONFIG=...`). Whatever scenarios look
//! at, they see through the API server, as a user would, so that they need not know which it is.
//!
//! ```text
//! Testbed::shared ──> scenario() ──> Scenario   a namespace for each; many at once
//!                └──> operation() ──> Turn      the operator and the node; no other scenario meanwhile
//! ```

mod scenario;
mod writes;

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use self::{
    scenario::Scenario,
    writes::{Writes, under_writes},
};
use crate::{
    Helm, Kubectl, Options, RealCluster, Registry, User,
    installation::{self, Installation, image_archive, operator_image, publish_chart},
    node, paths,
};

/// Names the kubeconfig of a cluster to use instead of one of our own.
const KUBECONFIG: &str = "POD_RELOADER_E2E_KUBECONFIG";
/// Names the registry that the given cluster pulls images from. Without it, they have to be on its nodes.
const REGISTRY: &str = "POD_RELOADER_E2E_REGISTRY";

/// The image names of the manifests in `docs/examples` begin with it.
const EXAMPLE_IMAGES: &str = "localhost/pod-reloader-e2e/";

/// Nodes have it from an archive, under the name that it would have in Docker's own registry.
const PRELOADED_OPERATOR: &str = "--set=image.repository=docker.io/library/pod-reloader";

/// For what takes seconds on a quiet machine: images are there, but pods have to start and to become ready.
pub const ROLLOUT_TIMEOUT: Duration = Duration::from_mins(3);

/// One cluster for all tests of a binary.
static SHARED: OnceCell<Option<Testbed>> = OnceCell::const_new();

/// A cluster with pod-reloader.
#[derive(Debug)]
pub struct Testbed {
    // Dropped in this order.
    installation: Installation,
    kubectl: Kubectl,
    kubeconfig: PathBuf,
    /// What the images' names begin with.
    images: String,
    turns: RwLock<()>,
    /// Only held.
    _registry: Option<Registry>,
    own: Option<RealCluster>,
    _directory: tempfile::TempDir,
}

/// A part of a test that has the operator and the node for itself.
#[derive(Debug)]
pub struct Turn {
    /// Where it is.
    pub bed: &'static Testbed,
    _guard: RwLockWriteGuard<'static, ()>,
}

impl Testbed {
    /// The cluster that all tests of this binary share. `None`, and a line that says why, if none can run here.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn shared() -> anyhow::Result<Option<&'static Self>> {
        let make = || async {
            if let Some(kubeconfig) = variable(KUBECONFIG) {
                return Self::given(kubeconfig.as_ref()).await.map(Some);
            }
            match node::available() {
                Ok(()) => Self::own(Options::default()).await.map(Some),
                Err(_) => Ok(None),
            }
        };
        let bed = SHARED.get_or_try_init(make).await.context("there is no cluster to run on")?;
        if bed.is_none()
            && let Err(why) = node::available()
        {
            println!("skipped: {why}");
        }
        Ok(bed.as_ref())
    }

    /// Boots a cluster of our own and installs pod-reloader there. Secrets are encrypted at rest.
    ///
    /// # Errors
    /// If it does not come up, or if an image is missing.
    pub async fn own(mut options: Options) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a temporary folder")?;
        let encryption = directory.path().join("encryption.yaml");
        std::fs::write(&encryption, include_str!("../../manifests/encryption.yaml"))
            .context("cannot write the configuration for encryption")?;
        options.api_server_args.push(format!("--encryption-provider-config={}", encryption.display()));
        let apps = [image_archive("apps.tar", "e2e-images")?, image_archive("apps-next.tar", "e2e-images")?];
        let images = [operator_image()?].into_iter().chain(apps).chain(postgres_image().ok());
        let cluster = RealCluster::start(options).await?;
        for image in images {
            cluster.import_image(&image).await?;
        }
        let registry = Registry::start(directory.path()).await?;
        let chart = publish_chart(directory.path(), registry.address()).await?;
        let values = ["--plain-http", PRELOADED_OPERATOR];
        let kubeconfig = cluster.kubeconfig(User::Admin);
        let bed = Self {
            installation: Installation::new(
                Helm::new("helm", &kubeconfig, directory.path())?,
                cluster.kubectl(User::Admin),
                chart,
                values.map(ToOwned::to_owned).to_vec(),
            ),
            kubectl: cluster.kubectl(User::Admin),
            kubeconfig,
            images: EXAMPLE_IMAGES.to_owned(),
            turns: RwLock::default(),
            _registry: Some(registry),
            own: Some(cluster),
            _directory: directory,
        };
        bed.installation.upgrade(&[]).await.context("pod-reloader was not installed")?;
        Ok(bed)
    }

    /// Uses the cluster that is given, and installs pod-reloader there unless it is.
    async fn given(kubeconfig: &Path) -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = kubeconfig.canonicalize().with_context(|| format!("no {}", kubeconfig.display()))?;
        let directory = tempfile::tempdir().context("cannot make a temporary folder")?;
        let kubectl = Kubectl::new(&paths::binaries().join("kubectl"), &kubeconfig, directory.path());
        let (registry, chart, mut values, images) = if let Some(address) = variable(REGISTRY) {
            let address = address.trim_end_matches('/').to_owned();
            (None, format!("oci://{address}/{}", installation::NAME), vec![], format!("{address}/"))
        } else {
            let registry = Registry::start(directory.path()).await?;
            let chart = publish_chart(directory.path(), registry.address()).await?;
            (Some(registry), chart, vec!["--plain-http".to_owned()], EXAMPLE_IMAGES.to_owned())
        };
        let helm = Helm::new("helm", &kubeconfig, directory.path())?;
        let release = Installation::new(helm.clone(), kubectl.clone(), chart.clone(), values.clone());
        let exists = release.exists().await.context("the cluster does not answer")?;
        if !exists && registry.is_some() {
            values.push(PRELOADED_OPERATOR.to_owned());
        }
        let bed = Self {
            installation: Installation::new(helm, kubectl.clone(), chart, values),
            kubectl,
            kubeconfig,
            images,
            turns: RwLock::default(),
            _registry: registry,
            own: None,
            _directory: directory,
        };
        if !exists {
            bed.installation.upgrade(&[]).await.context("pod-reloader was not installed")?;
        }
        bed.installation.is_ready().await?;
        Ok(bed)
    }

    /// A namespace for a scenario, beside others. `None` if there is no cluster.
    pub async fn scenario(name: &str) -> anyhow::Result<Option<Scenario>> {
        let Some(bed) = Self::shared().await? else { return Ok(None) };
        let guard: RwLockReadGuard<'static, ()> = bed.turns.read().await;
        Scenario::make(bed, name, Some(guard)).await.map(Some)
    }

    /// Waits until no scenario runs, and keeps it so. `None` if there is no cluster.
    pub async fn operation() -> anyhow::Result<Option<Turn>> {
        let Some(bed) = Self::shared().await? else { return Ok(None) };
        Ok(Some(Turn { bed, _guard: bed.turns.write().await }))
    }

    /// A client for the administrator, without retries. It belongs to the async runtime in which it was made.
    pub async fn client(&self) -> anyhow::Result<Client> {
        let file = Kubeconfig::read_from(&self.kubeconfig).context("cannot read the kubeconfig")?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .context("cannot use the kubeconfig")?;
        config.default_retry = false;
        Client::try_from(config).context("cannot make a client")
    }

    /// pod-reloader.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// `kubectl` as the administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The cluster, if it is our own: only then its node and its files can be reached.
    pub fn own_cluster(&self) -> Option<&RealCluster> {
        self.own.as_ref()
    }

    /// The name that an image of the examples (`NAME:TAG`) has here.
    pub fn image(&self, name: &str) -> String {
        format!("{}{name}", self.images)
    }

    /// Manifests with the names that the images have here.
    fn localized(&self, manifests: &str) -> String {
        manifests.replace(EXAMPLE_IMAGES, &self.images)
    }

    /// Stops what is ours.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self.own {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }
}

impl Turn {
    /// A namespace meanwhile.
    pub async fn space(&self, name: &str) -> anyhow::Result<Scenario> {
        Scenario::make(self.bed, name, None).await
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// PostgreSQL's image, if it could be made.
pub fn postgres_image() -> anyhow::Result<PathBuf> {
    image_archive("postgres.tar", "e2e-images")
}

/// The manifests of an example: a file or a folder in `docs/examples`.
fn example(path: &str) -> anyhow::Result<String> {
    let path = paths::root().join("docs/examples").join(path);
    if path.is_file() {
        return std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()));
    }
    let entries = std::fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    ensure!(!files.is_empty(), "no manifests in {}", path.display());
    let mut all = Vec::new();
    for file in files {
        all.push(std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(all.join("---\n"))
}
