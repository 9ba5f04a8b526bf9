//! The chart, installed by the real Helm into a control plane that has no node: the pods' part is played by processes,
//! started as the installed Deployment says, with the service account that the chart made.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{World, operator_binary};
use crate::{Helm, Operator, OperatorOptions, Options, TIMEOUT, User, chart, eventually};

/// Of the webhook's Service.
const WEBHOOK_PORT: u16 = 443;

/// The release's name.
pub const NAME: &str = "reloader";

/// A release of the chart.
pub struct Release {
    /// Its namespace.
    pub namespace: String,
    /// What its objects are called.
    pub fullname: String,
    kubeconfig: PathBuf,
    args: Vec<String>,
    route: Option<Route>,
    mounts: JoinSet<()>,
}

impl Release {
    /// Installs the chart of this repository with the given values (`--set` and its like).
    pub async fn install(world: &World, namespace: &str, values: &[&str]) -> anyhow::Result<Self> {
        let helm = Helm::new("helm", &world.plane.kubeconfig(User::Admin), world.directory())?;
        let args = [&["--create-namespace"], values].concat();
        helm.upgrade(NAME, chart::folder(), namespace, &args).await?;
        Self::installed(world, namespace).await
    }

    /// What Helm has installed as [`NAME`]: how its pods are to be started, with a token of their service account.
    pub async fn installed(world: &World, namespace: &str) -> anyhow::Result<Self> {
        let fullname = format!("{NAME}-pod-reloader");
        let client = world.admin().await?;
        let deployment = Api::<Deployment>::namespaced(client.clone(), namespace).get(&fullname).await?;
        let pod = deployment.spec.and_then(|spec| spec.template.spec).context("a Deployment without pods")?;
        let account = pod.service_account_name.context("no service account")?;
        let container = pod.containers.into_iter().next().context("no container")?;
        let args = container.args.unwrap_or_default();
        let args = args.iter().map(|arg| arg.replace("$(POD_NAMESPACE)", namespace)).collect();

        let accounts = Api::<ServiceAccount>::namespaced(client, namespace);
        let request = TokenRequest {
            metadata: ObjectMeta::default(),
            spec: TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() },
            status: None,
        };
        let token = accounts.create_token_request(&account, &PostParams::default(), &request).await?;
        let token = token.status.context("no token")?.token;
        let kubeconfig = world.directory().join(format!("{namespace}.kubeconfig"));
        let admin = std::fs::read_to_string(world.plane.kubeconfig(User::Admin))?;
        let mut config: Value = serde_json::from_str(&admin)?;
        config["users"][0]["user"] = json!({"token": token});
        std::fs::write(&kubeconfig, config.to_string())?;
        Ok(Self {
            namespace: namespace.to_owned(),
            fullname,
            kubeconfig,
            args,
            route: None,
            mounts: JoinSet::new(),
        })
    }

    /// The user that its pods are to the API server.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.fullname)
    }

    /// Starts a replica as the Deployment says. The Secret with its certificate is laid out as the kubelet does it, and
    /// followed until `self` is dropped.
    pub async fn start_replica(&mut self, world: &World, name: &str) -> anyhow::Result<Operator> {
        let mut args = vec![];
        for arg in self.args.clone() {
            // The harness chooses the addresses: many replicas share this machine. What is not served has none.
            if arg.contains("-bind-address=") && !arg.ends_with("=0") {
                continue;
            }
            if arg.starts_with("--webhook-tls-directory=") {
                let mount = self.mount_certificate(world, name).await?;
                args.push(format!("--webhook-tls-directory={}", mount.directory.display()));
                self.mounts.spawn(mount.follow());
                continue;
            }
            args.push(arg);
        }
        let options = OperatorOptions::new(&operator_binary()?, &self.kubeconfig, world.plane.directory());
        Operator::spawn(&options.name(name).args(args)).await
    }

    async fn mount_certificate(&self, world: &World, name: &str) -> anyhow::Result<Mount> {
        let client = world.admin().await?;
        let deployments = Api::<Deployment>::namespaced(client.clone(), &self.namespace);
        let spec = deployments.get(&self.fullname).await?.spec;
        let pod = spec.and_then(|spec| spec.template.spec).context("no pods")?;
        let volumes = pod.volumes.unwrap_or_default();
        let secret = volumes.into_iter().find(|volume| volume.name == "tls").and_then(|volume| volume.secret);
        let secret = secret.and_then(|secret| secret.secret_name).context("no Secret is mounted")?;
        let directory = world.directory().join(format!("{name}-tls"));
        let mut mount = Mount {
            secrets: Api::namespaced(client, &self.namespace),
            secret,
            directory,
            version: String::new(),
            generation: 0,
        };
        // A pod does not start before its Secret is there, with all that it mounts.
        eventually("the Secret with the certificate", TIMEOUT, || {
            let (secrets, secret) = (mount.secrets.clone(), mount.secret.clone());
            async move {
                let data = secrets.get(&secret).await?.data.unwrap_or_default();
                ensure!(data.contains_key("tls.crt"), "no tls.crt");
                Ok(())
            }
        })
        .await?;
        mount.update().await?;
        Ok(mount)
    }

    /// Has the webhook's Service lead to these replicas from now on; connections that are open stay where they are, as
    /// with a real one. There is no node here whose kernel would do it; but the Service's address lies on the loopback
    /// interface ([`world`]), so that it can be listened on.
    pub async fn route_to(&mut self, world: &World, replicas: &[&Operator]) -> anyhow::Result<()> {
        let targets: Vec<_> = replicas.iter().map(|replica| replica.ports()[2]).collect();
        if let Some(route) = &self.route {
            route.targets.send_replace(targets);
        } else {
            self.route = Some(self.open_route(world, targets).await?);
        }
        world.webhook_answers().await
    }

    async fn open_route(&self, world: &World, targets: Vec<u16>) -> anyhow::Result<Route> {
        let services = Api::<Service>::namespaced(world.admin().await?, &self.namespace);
        let spec = services.get(&self.fullname).await?.spec.context("a Service without a spec")?;
        let address = spec.cluster_ip.context("a Service without an address")?;
        let port = spec.ports.unwrap_or_default().first().context("a Service without a port")?.port;
        let address = format!("{address}:{port}");
        let listener = TcpListener::bind(&address).await.with_context(|| {
            format!("cannot stand in for the Service at {address}; run the tests as root")
        })?;
        let (targets, current) = watch::channel(targets);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut turn = 0;
            while let Ok((mut client, _)) = listener.accept().await {
                turn += 1;
                let target = {
                    let targets = current.borrow();
                    targets.get(turn % targets.len().max(1)).copied()
                };
                let Some(target) = target else { continue };
                connections.spawn(async move {
                    if let Ok(mut replica) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut replica).await;
                    }
                });
            }
        });
        Ok(Route { targets, task })
    }
}

/// A Secret that is mounted: each version lies in a folder of its own, and a symbolic link is swapped.
struct Mount {
    secrets: Api<Secret>,
    secret: String,
    directory: PathBuf,
    version: String,
    generation: usize,
}

impl Mount {
    /// Looks every second, which is sooner than a kubelet does.
    async fn follow(mut self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // A Secret that is gone for the moment leaves what is mounted.
            let _ = self.update().await;
        }
    }

    async fn update(&mut self) -> anyhow::Result<()> {
        let secret = self.secrets.get(&self.secret).await?;
        let version = secret.resource_version().unwrap_or_default();
        let data = secret.data.unwrap_or_default();
        if version == self.version || !data.contains_key("tls.crt") {
            return Ok(());
        }
        self.generation += 1;
        let name = format!("..{}", self.generation);
        let folder = self.directory.join(&name);
        std::fs::create_dir_all(&folder)?;
        for (key, value) in data {
            std::fs::write(folder.join(&key), value.0)?;
            if self.generation == 1 {
                symlink(Path::new("..data").join(&key), self.directory.join(&key))?;
            }
        }
        symlink(&name, self.directory.join("..data_tmp"))?;
        std::fs::rename(self.directory.join("..data_tmp"), self.directory.join("..data"))?;
        self.version = version;
        Ok(())
    }
}

/// What stands in for a Service, until it is dropped.
struct Route {
    targets: watch::Sender<Vec<u16>>,
    task: JoinHandle<()>,
}

impl Drop for Route {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A control plane without an operator, whose Services have addresses on the loopback interface; `None`, with a word on
/// it, for a user who may not listen on the webhook's port there.
pub async fn world() -> anyhow::Result<Option<World>> {
    world_with(&[]).await
}

/// The same with further arguments of kube-apiserver.
pub async fn world_with(api_server_args: &[&str]) -> anyhow::Result<Option<World>> {
    let random = getrandom::u32().ok().context("no random bytes")?.to_be_bytes();
    let (second, third) = (64 + random[0] % 128, random[1]);
    // The range's broadcast address: no Service gets it.
    if let Err(error) = TcpListener::bind((Ipv4Addr::new(127, second, third, 255), WEBHOOK_PORT)).await {
        println!("skipped: port {WEBHOOK_PORT} cannot stand in for a Service ({error}); root can");
        return Ok(None);
    }
    let range = format!("--service-cluster-ip-range=127.{second}.{third}.0/24");
    let api_server_args = api_server_args.iter().map(ToString::to_string).chain([range]).collect();
    World::without_operator_on(Options { api_server_args, ..Options::default() }).await.map(Some)
}

/// A Secret with a serving certificate, as a user would bring it: its name, and the CA as a file.
pub async fn bring_certificate(world: &World, namespace: &str) -> anyhow::Result<(String, PathBuf)> {
    let pair = world.authority.issue(&[&format!("{NAME}-pod-reloader.{namespace}.svc")])?;
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    let secret = json!({
        "apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
             "metadata": {"name": "webhook-certificate", "namespace": namespace},
             "data": {"tls.crt": encode(&pair.certificate), "tls.key": encode(&pair.key)}},
        ]
    });
    world.kubectl().run_with_input(["apply", "-f", "-"], &secret.to_string()).await?;
    let ca = world.directory().join("brought-ca.crt");
    std::fs::write(&ca, world.authority.pem())?;
    Ok(("webhook-certificate".into(), ca))
}
