//! etcd, kube-apiserver and kube-controller-manager as child processes.

mod commands;
mod credentials;
mod directory;
mod place;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::{Api, Client, Config};

use self::{
    commands::{AUDIT_LOG, Plan},
    credentials::Credentials,
};
pub(crate) use self::{directory::RunDirectory, place::Place};
use crate::{
    audit::Audit,
    chart,
    client::{Retries, config, connect, ready},
    kubectl::Kubectl,
    paths, ports,
    process::Process,
    random::random_hex,
    user::User,
    wait::{eventually, give_up},
};

/// Generous: it takes 4 seconds on two idle cores, but tests are not the only thing that a machine does.
const START_DEADLINE: Duration = Duration::from_mins(2);
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// How often to start over when another process takes a port first.
const ATTEMPTS: usize = 5;

/// What may be chosen about a control plane.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The folder with `etcd`, `kube-apiserver`, `kube-controller-manager` and `kubectl`; by default `e2e/bin`, where
    /// `e2e/control-plane/build.sh` puts them. For a [`crate::RealCluster`] also `kubelet`, `kube-proxy` and
    /// `kube-scheduler` (`build.sh node`).
    pub binaries: Option<PathBuf>,
    /// The folder for data and logs, emptied first and kept afterwards; by default a temporary one, which is removed
    /// unless something went wrong.
    pub directory: Option<PathBuf>,
    /// Further arguments of kube-apiserver.
    pub api_server_args: Vec<String>,
    /// Further arguments of kube-controller-manager.
    pub controller_manager_args: Vec<String>,
}

/// The processes of a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The store.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
}

/// A running control plane. Dropping it stops it.
///
/// It can live in a `static` and be shared between tests: nothing in it belongs to one async runtime. A [`Client`]
/// does, so each test asks for one of its own.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped in this order.
    controller_manager: Mutex<Process>,
    api_server: Mutex<Process>,
    etcd: Mutex<Process>,
    plan: Plan,
    /// Shared with whatever else runs there: it goes with the last.
    directory: Arc<RunDirectory>,
}

impl ControlPlane {
    /// Boots a control plane and waits until the API server is ready, the controllers work and the operator's rights
    /// are granted, as the chart does by default.
    ///
    /// Fails if a binary is missing, or if a process ends or is not ready in time; the error then shows its log.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let directory = match &options.directory {
            Some(path) => RunDirectory::at(path, "")?,
            None => RunDirectory::temporary("")?,
        };
        Self::start_at(Place::loopback(), ports::free()?, Arc::new(directory), options, true).await
    }

    /// The same at a given place, with given ports there (etcd's clients, etcd's peers, API server).
    pub(crate) async fn start_at(
        place: Place,
        ports: [u16; 3],
        directory: Arc<RunDirectory>,
        options: Options,
        operator_rights: bool,
    ) -> anyhow::Result<Self> {
        // Needed once more than one provider is compiled in; it may have been installed before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let binaries = options.binaries.unwrap_or_else(paths::binaries);
        commands::ensure_present(&binaries)?;
        let rights = if operator_rights { Some(chart::rights().await?) } else { None };
        let credentials = credentials::write(directory.path(), &place.certificate_addresses)?;
        let plan = Plan {
            binaries,
            directory: directory.path().to_owned(),
            ports,
            etcd_prefix: format!("/registry-{}", random_hex()?),
            place,
            api_server_args: options.api_server_args,
            controller_manager_args: options.controller_manager_args,
            rights,
        };
        match Self::boot(plan, &credentials).await {
            Ok((etcd, api_server, controller_manager, plan)) => Ok(Self {
                controller_manager: Mutex::new(controller_manager),
                api_server: Mutex::new(api_server),
                etcd: Mutex::new(etcd),
                plan,
                directory,
            }),
            Err(error) => {
                directory.keep();
                Err(error.context("the control plane did not start"))
            }
        }
    }

    async fn boot(
        mut plan: Plan,
        credentials: &Credentials,
    ) -> anyhow::Result<(Process, Process, Process, Plan)> {
        for _ in 1..ATTEMPTS {
            match Self::boot_once(&plan, credentials).await {
                Ok((etcd, api_server, controller_manager)) => {
                    return Ok((etcd, api_server, controller_manager, plan));
                }
                // No other program runs on the node.
                Err(error)
                    if plan.place.is_shared() && format!("{error:#}").contains("address already in use") =>
                {
                    plan.ports = ports::free()?;
                    plan.remove_traces()?;
                }
                Err(error) => return Err(error),
            }
        }
        let (etcd, api_server, controller_manager) = Self::boot_once(&plan, credentials).await?;
        Ok((etcd, api_server, controller_manager, plan))
    }

    async fn boot_once(
        plan: &Plan,
        credentials: &Credentials,
    ) -> anyhow::Result<(Process, Process, Process)> {
        credentials.write_kubeconfigs(&plan.directory, &plan.server(), &plan.inner_server())?;
        let mut etcd = plan.spawn_etcd()?;
        // It waits for etcd by itself.
        let mut api_server = plan.spawn_api_server()?;
        let kubeconfig = plan.directory.join(User::Admin.file_name());
        let client = connect(&kubeconfig, Retries::None).await?;
        eventually("the API server to be ready", START_DEADLINE, || {
            let running = etcd.ensure_running().and_then(|()| api_server.ensure_running());
            let client = client.clone();
            async move {
                running.map_err(|error| give_up(format!("{error:#}")))?;
                ready(&client).await
            }
        })
        .await
        .map_err(|error| api_server.explain(&error))?;

        let mut controller_manager = plan.spawn_controller_manager()?;
        let namespace = if let Some(rights) = plan.rights {
            let kubectl = Kubectl::new(&plan.binary("kubectl"), &kubeconfig, &plan.directory);
            // Nothing is there yet to be compared with, and asking for the OpenAPI schemas takes longer than all else.
            let args = ["create", "--validate=ignore", "-f", "-"];
            kubectl.run_with_input(args, rights).await.context("the operator's rights cannot be granted")?;
            chart::RELEASE
        } else {
            "default"
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let configmaps: Api<ConfigMap> = Api::namespaced(client, namespace);
        eventually("the controllers to work", START_DEADLINE, || {
            let running = controller_manager.ensure_running();
            let (accounts, configmaps) = (accounts.clone(), configmaps.clone());
            async move {
                running.map_err(|error| give_up(format!("{error:#}")))?;
                // Two different controllers make these in each new namespace.
                accounts.get("default").await.context("no default ServiceAccount")?;
                configmaps.get("kube-root-ca.crt").await.context("no ConfigMap kube-root-ca.crt")?;
                Ok(())
            }
        })
        .await
        .map_err(|error| controller_manager.explain(&error))?;
        Ok((etcd, api_server, controller_manager))
    }

    /// The folder with the data, the logs (`*.log`) and the kubeconfigs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The API server's address.
    pub fn server(&self) -> String {
        self.plan.server()
    }

    /// A kubeconfig file for `user`.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.directory.join(user.file_name())
    }

    /// kube's configuration for `user`, for a client with layers of one's own. kube's retries are on.
    pub async fn config(&self, user: User) -> anyhow::Result<Config> {
        config(&self.kubeconfig(user)).await
    }

    /// A client for `user` as kube makes it: it retries what fails for the moment.
    ///
    /// A client belongs to the async runtime in which it was made.
    pub async fn client(&self, user: User) -> anyhow::Result<Client> {
        connect(&self.kubeconfig(user), Retries::Default).await
    }

    /// A client for `user` that reports every failure at once.
    pub async fn client_without_retries(&self, user: User) -> anyhow::Result<Client> {
        connect(&self.kubeconfig(user), Retries::None).await
    }

    /// `kubectl` for `user`.
    pub fn kubectl(&self, user: User) -> Kubectl {
        Kubectl::new(&self.plan.binary("kubectl"), &self.kubeconfig(user), self.directory.path())
    }

    /// The audit log.
    pub fn audit(&self) -> Audit {
        Audit::new(self.directory.join(AUDIT_LOG), self.kubeconfig(User::Admin))
    }

    /// Stops the API server in good order, or kills it if that takes long.
    pub async fn stop_api_server(&self) -> anyhow::Result<()> {
        // A paused process would not see the signal.
        self.lock(Component::ApiServer).resume()?;
        self.lock(Component::ApiServer).request_end()?;
        let stopped = eventually("the API server to end", STOP_DEADLINE, || async {
            self.lock(Component::ApiServer).exited()?.context("it is still running")
        });
        if stopped.await.is_err() {
            self.kill_api_server()?;
        }
        Ok(())
    }

    /// Kills the API server, as a crash would.
    pub fn kill_api_server(&self) -> anyhow::Result<()> {
        self.lock(Component::ApiServer).kill()?;
        Ok(())
    }

    /// Starts the API server again, with the same port and data, and waits until it is ready.
    pub async fn start_api_server(&self) -> anyhow::Result<()> {
        ensure!(
            self.lock(Component::ApiServer).exited()?.is_some(),
            "the API server is running: stop it before starting it again"
        );
        *self.lock(Component::ApiServer) = self.plan.spawn_api_server()?;
        self.api_server_ready().await
    }

    /// Waits until the API server is ready.
    pub async fn api_server_ready(&self) -> anyhow::Result<()> {
        let client = self.client_without_retries(User::Admin).await?;
        eventually("the API server to be ready", START_DEADLINE, || async {
            let running = self.lock(Component::ApiServer).ensure_running();
            running.map_err(|error| give_up(format!("{error:#}")))?;
            ready(&client).await
        })
        .await
    }

    /// The id of a process, to see what it takes.
    pub fn process_id(&self, component: Component) -> u32 {
        self.lock(component).id()
    }

    /// Freezes a process: connections stay open, and nothing is answered.
    pub fn pause(&self, component: Component) -> anyhow::Result<()> {
        self.lock(component).pause()
    }

    /// Lets a process run on after [`Self::pause`].
    pub fn resume(&self, component: Component) -> anyhow::Result<()> {
        self.lock(component).resume()
    }

    /// Lets everything run on without us, and keeps the folder.
    pub fn detach(self) {
        let Self { controller_manager, api_server, etcd, plan: _, directory } = self;
        for process in [controller_manager, api_server, etcd] {
            process.into_inner().unwrap_or_else(PoisonError::into_inner).detach();
        }
        directory.keep();
    }

    fn lock(&self, component: Component) -> MutexGuard<'_, Process> {
        let process = match component {
            Component::Etcd => &self.etcd,
            Component::ApiServer => &self.api_server,
            Component::ControllerManager => &self.controller_manager,
        };
        // A test that panicked with the lock held leaves nothing half done.
        process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
