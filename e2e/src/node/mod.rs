//! A whole cluster with one node, on which pods run and Services answer: [`RealCluster`].
//!
//! It takes root, Linux and some packages ([`available`] says what is missing). The node is a network, mount and process
//! namespace, and all of the cluster runs in it. Nothing of the machine is changed: the firewall, routes, mounts and
//! processes of the node are its own, and gone when its first process ends.

mod forward;
mod kernel;
mod namespaces;
mod preconditions;
mod programs;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::{Api, Client};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use self::{
    forward::Forwarder,
    namespaces::{Entry, Namespaces},
    programs::{NodeProcess, Programs},
};
pub use self::{
    preconditions::{Unavailable, available},
    programs::NodePart,
};
use crate::{
    audit::Audit,
    client::ready,
    control_plane::{ControlPlane, Options, Place, RunDirectory},
    kubectl::Kubectl,
    paths,
    process::stop_leftovers,
    user::User,
    wait::{eventually, give_up},
};

/// Addresses in the node's network, in which there are no others.
mod network {
    pub(super) const NODE: &str = "172.31.255.2";
    pub(super) const NODE_NAME: &str = "node";
    pub(super) const PODS: &str = "10.244.0.0/24";
    pub(super) const SERVICES: &str = "10.96.0.0/16";
    /// The first address of the Services.
    pub(super) const KUBERNETES_SERVICE: &str = "10.96.0.1";
    /// Where pods ask for names.
    pub(super) const DNS_SERVICE: &str = "10.96.0.10";
    /// Where the DNS server says whether it is ready.
    pub(super) const DNS_READY: u16 = 8181;
    /// etcd's clients, etcd's peers, API server.
    pub(super) const PORTS: [u16; 3] = [2379, 2380, 6443];
}

/// Removes what outlives the node: cgroups.
const CLEANUP_SCRIPT: &str = include_str!("../../node/clean.sh");
const DEADLINE: Duration = Duration::from_mins(2);

/// A running cluster with one node. Dropping it stops it.
///
/// It can live in a `static` and be shared between tests: nothing in it belongs to one async runtime.
#[derive(Debug)]
pub struct RealCluster {
    // Dropped in this order. The folder goes with the last that uses it.
    control_plane: ControlPlane,
    node: RunningNode,
}

#[derive(Debug)]
struct RunningNode {
    // Dropped in this order: the namespaces take with them what is still running there.
    parts: [(NodePart, Mutex<Option<NodeProcess>>); 5],
    forwarder: Forwarder,
    namespaces: Namespaces,
    programs: Programs,
    /// Only held.
    _directory: Arc<RunDirectory>,
}

impl RealCluster {
    /// Boots a cluster and waits until its node is ready and Services answer.
    ///
    /// The operator gets no rights: it is to be installed.
    ///
    /// # Errors
    /// [`Unavailable`] if the machine lacks something; otherwise, if a process ends or is not ready in time: the error
    /// then shows its log.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let binaries = options.binaries.clone().unwrap_or_else(paths::binaries);
        preconditions::check(&binaries)?;
        let directory = match &options.directory {
            Some(path) => {
                stop_leftovers(path).await?;
                RunDirectory::at(path, CLEANUP_SCRIPT)?
            }
            None => RunDirectory::temporary(CLEANUP_SCRIPT)?,
        };
        let directory = Arc::new(directory);
        let started = Self::start_in(directory.clone(), binaries, options).await;
        started.inspect_err(|_| directory.keep()).context("the cluster did not start")
    }

    async fn start_in(
        directory: Arc<RunDirectory>,
        binaries: PathBuf,
        options: Options,
    ) -> anyhow::Result<Self> {
        let node = RunningNode::make(directory.clone(), binaries).await?;
        let server = node.forwarder.forward(&format!("{}:{}", network::NODE, network::PORTS[2]))?;
        let place = place(node.namespaces.entry(), server.port());
        let control_plane = ControlPlane::start_at(place, network::PORTS, directory, options, false);
        let (control_plane, prepared) = tokio::join!(control_plane, node.start_containerd(true));
        prepared?;
        let cluster = Self { control_plane: control_plane?, node };
        for part in [NodePart::Kubelet, NodePart::Proxy, NodePart::Scheduler, NodePart::Dns] {
            cluster.node.spawn(part)?;
        }
        let dns = cluster.directory().join(programs::DNS_MANIFEST);
        cluster.kubectl(User::Admin).run(["apply", "-f", &dns.display().to_string()]).await?;
        cluster.node_ready().await?;
        cluster.services_answer().await?;
        cluster.names_are_known().await?;
        Ok(cluster)
    }

    /// The control plane, which can be stopped and paused like any.
    ///
    /// Kubeconfigs of users that are parts of Kubernetes work on the node only, all others from here.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// The folder with the data, the logs (`*.log`) and the kubeconfigs.
    pub fn directory(&self) -> &Path {
        self.control_plane.directory()
    }

    /// A kubeconfig file for `user`, for use from here.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.control_plane.kubeconfig(user)
    }

    /// A client for `user`. It belongs to the async runtime in which it was made.
    pub async fn client(&self, user: User) -> anyhow::Result<Client> {
        self.control_plane.client(user).await
    }

    /// `kubectl` for `user`.
    pub fn kubectl(&self, user: User) -> Kubectl {
        self.control_plane.kubectl(user)
    }

    /// The audit log.
    pub fn audit(&self) -> Audit {
        self.control_plane.audit()
    }

    /// A port on our loopback interface that leads to `target` (address and port of a Service, a pod or the node) until
    /// the cluster stops. A connection that the target does not accept is accepted here and closed.
    pub fn forward(&self, target: &str) -> anyhow::Result<SocketAddr> {
        let _: SocketAddr = target.parse().with_context(|| format!("{target} is no address with a port"))?;
        self.node.forwarder.forward(target)
    }

    /// Gives the images in an OCI or Docker archive to the node. Their pods need `imagePullPolicy: Never`, since there
    /// is nothing to pull from. The archive must not lie below `/run`, of which the node has one of its own.
    pub async fn import_image(&self, archive: &Path) -> anyhow::Result<()> {
        self.node.programs.import(archive).await
    }

    /// Kills a process of the node, as a crash would. Containers run on.
    pub async fn kill(&self, part: NodePart) -> anyhow::Result<()> {
        match self.node.take(part) {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Starts a process of the node again and waits until it works: for the kubelet, until it has said that the node
    /// is ready. The API server has to run.
    pub async fn start_again(&self, part: NodePart) -> anyhow::Result<()> {
        match part {
            NodePart::Containerd => self.node.start_containerd(false).await,
            NodePart::Kubelet => {
                let before = self.heartbeat().await?;
                self.node.spawn(part)?;
                // The old one's word still stands in the node's status.
                eventually("the kubelet to renew its Lease", DEADLINE, || async {
                    self.node.ensure_running().map_err(|error| give_up(format!("{error:#}")))?;
                    ensure!(self.heartbeat().await? != before, "{before:?}");
                    Ok(())
                })
                .await?;
                self.node_ready().await
            }
            NodePart::Proxy | NodePart::Scheduler => self.node.spawn(part),
            NodePart::Dns => {
                self.node.spawn(part)?;
                self.names_are_known().await
            }
        }
    }

    /// [`Self::kill`] and [`Self::start_again`].
    pub async fn restart(&self, part: NodePart) -> anyhow::Result<()> {
        self.kill(part).await?;
        self.start_again(part).await
    }

    /// Stops everything and waits until nothing is left. Containers are killed with all else.
    pub async fn stop(self) -> anyhow::Result<()> {
        // It waits for processes.
        tokio::task::spawn_blocking(move || drop(self)).await.context("the cluster could not be stopped")
    }

    async fn node_ready(&self) -> anyhow::Result<()> {
        let nodes: Api<Node> = Api::all(self.control_plane.client_without_retries(User::Admin).await?);
        eventually("the node to be ready", DEADLINE, || async {
            self.node.ensure_running().map_err(|error| give_up(format!("{error:#}")))?;
            let status = nodes.get(network::NODE_NAME).await?.status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            let condition = conditions.iter().find(|condition| condition.type_ == "Ready");
            match condition {
                Some(condition) if condition.status == "True" => Ok(()),
                other => bail!("{other:?}"),
            }
        })
        .await
    }

    async fn heartbeat(&self) -> anyhow::Result<Option<String>> {
        let client = self.control_plane.client_without_retries(User::Admin).await?;
        let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
        let lease = leases.get_opt(network::NODE_NAME).await?;
        Ok(lease.and_then(|lease| lease.spec?.renew_time).map(|time| format!("{time:?}")))
    }

    async fn names_are_known(&self) -> anyhow::Result<()> {
        let address = self.forward(&format!("{}:{}", network::NODE, network::DNS_READY))?;
        eventually("the DNS server to be ready", DEADLINE, || async {
            self.node.ensure_running().map_err(|error| give_up(format!("{error:#}")))?;
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            ensure!(answer.starts_with("HTTP/1.0 200"), "{answer:?}");
            Ok(())
        })
        .await
    }

    async fn services_answer(&self) -> anyhow::Result<()> {
        let service = self.forward(&format!("{}:443", network::KUBERNETES_SERVICE))?;
        let mut config = self.control_plane.config(User::Admin).await?;
        config.cluster_url = format!("https://{service}").parse().context("a bad address")?;
        config.default_retry = false;
        let client = Client::try_from(config).context("cannot make a client")?;
        eventually("the Service of the API server to answer", DEADLINE, || async {
            self.node.ensure_running().map_err(|error| give_up(format!("{error:#}")))?;
            ready(&client).await
        })
        .await
    }
}

impl RunningNode {
    async fn make(directory: Arc<RunDirectory>, binaries: PathBuf) -> anyhow::Result<Self> {
        let namespaces = Namespaces::make(directory.path()).await?;
        let entry = namespaces.entry();
        let forwarder = Forwarder::start(entry)?;
        let programs = Programs { binaries, directory: directory.path().to_owned(), entry: entry.clone() };
        programs.write_configuration()?;
        let parts = NodePart::ALL.map(|part| (part, Mutex::default()));
        Ok(Self { parts, forwarder, namespaces, programs, _directory: directory })
    }

    fn slot(&self, part: NodePart) -> &Mutex<Option<NodeProcess>> {
        let index = NodePart::ALL.iter().position(|other| *other == part).unwrap_or_default();
        &self.parts[index].1
    }

    fn take(&self, part: NodePart) -> Option<NodeProcess> {
        self.slot(part).lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn spawn(&self, part: NodePart) -> anyhow::Result<()> {
        let mut slot = self.slot(part).lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(slot.is_none(), "{part:?} is running: kill it before starting it again");
        *slot = Some(self.programs.spawn(part)?);
        Ok(())
    }

    /// Starts containerd and waits until it answers; the first time it lacks the image that the kubelet needs.
    async fn start_containerd(&self, first: bool) -> anyhow::Result<()> {
        self.spawn(NodePart::Containerd)?;
        self.programs.containerd_answers(|| self.ensure_running()).await?;
        if first { self.programs.import_sandbox().await } else { Ok(()) }
    }

    /// An error with the end of the log of a process that ended by itself.
    fn ensure_running(&self) -> anyhow::Result<()> {
        for (_, slot) in &self.parts {
            if let Some(process) = &mut *slot.lock().unwrap_or_else(PoisonError::into_inner) {
                process.inner.ensure_running()?;
            }
        }
        Ok(())
    }
}

/// The node's network, where others must be able to reach the API server.
fn place(entry: &Entry, outer_port: u16) -> Place {
    Place {
        enter: entry.to_network(),
        address: network::NODE,
        certificate_addresses: vec![network::NODE, network::KUBERNETES_SERVICE],
        outer_port: Some(outer_port),
        api_server_args: vec![
            "--bind-address=0.0.0.0".to_owned(),
            format!("--advertise-address={}", network::NODE),
            format!("--service-cluster-ip-range={}", network::SERVICES),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ],
    }
}

/// What the node's processes find programs by: they start some that lie where `PATH` may not lead.
fn path() -> (&'static str, String) {
    let ours = std::env::var("PATH").unwrap_or_default();
    ("PATH", format!("{ours}:{}", paths::SYSTEM_FOLDERS))
}
