//! The cluster of the demo: a control plane and two replicas of the operator.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use k8s_openapi::api::{admissionregistration::v1::MutatingWebhookConfiguration, apps::v1::Deployment};
use kube::{Api, Client, api::PostParams};
use pod_reloader_e2e::{
    ControlPlane, Kubectl, Operator, OperatorOptions, Options, Registration, Space, Testbed, User,
    eventually,
    objects::{self, CONFIG_HASH, apps},
};
use serde_json::json;

use super::output::Output;

const NAMESPACE: &str = "default";
/// For what normally takes a second or two.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Dropping it stops everything.
pub(super) struct Environment {
    // Dropped in this order.
    cluster: Cluster,
    /// The namespace of the demo.
    pub(super) space: Space,
    /// As the demo's user.
    pub(super) kubectl: Kubectl,
}

/// Where the demo runs.
enum Cluster {
    /// No node: the operator runs as two processes beside the control plane.
    ControlPlane { operators: Vec<Operator>, control_plane: Box<ControlPlane> },
    /// A node on which pods run, the operator's among them.
    Node(Box<Testbed>),
}

/// What a Deployment looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rollout {
    /// How many revisions the Deployment controller has made (`ReplicaSets`).
    pub(super) revisions: usize,
    pub(super) config_hash: Option<String>,
    pub(super) image: String,
}

impl Environment {
    /// Boots the control plane, starts the operator twice and registers its webhook.
    pub(super) async fn without_node(
        binary: &Path,
        directory: &Path,
        output: &mut Output,
    ) -> anyhow::Result<Self> {
        Output::step("Starting a cluster with pod-reloader");
        let begun = Instant::now();
        let options = Options { directory: Some(directory.to_owned()), ..Options::default() };
        let control_plane = ControlPlane::start(options).await?;
        let client = control_plane.client_without_retries(User::Admin).await?;
        let version = client.apiserver_version().await.context("the API server does not tell its version")?;
        let took = begun.elapsed().as_secs_f64();
        output.met(&format!("a Kubernetes {} control plane on 127.0.0.1 ({took:.1} s)", version.git_version));

        let begun = Instant::now();
        let kubeconfig = control_plane.kubeconfig(User::Operator);
        let mut operators = Vec::new();
        for name in ["pod-reloader-1", "pod-reloader-2"] {
            let options =
                OperatorOptions::new(binary, &kubeconfig, control_plane.directory()).name(name).args([
                    "--leader-elect",
                    "--leader-election-namespace=pod-reloader",
                    "--log-format=text",
                    // Half of the default: users wait for it several times.
                    "--settle-window=1s",
                ]);
            operators.push(Operator::spawn_unready(&options).await?);
        }
        // In a cluster one Service stands before both replicas. Here each is registered, so that every write passes
        // both: the second must find nothing left to do.
        let registration = Registration::new(operators.iter().map(Operator::webhook_url));
        registration.apply(&control_plane.kubectl(User::Admin)).await?;
        for operator in &mut operators {
            operator.wait_ready(DEADLINE).await?;
        }
        let took = begun.elapsed().as_secs_f64();
        output.met(&format!("two replicas of pod-reloader, ready ({took:.1} s)"));

        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/demo");
        let kubectl = control_plane.kubectl(User::Editor).in_directory(&manifests);
        let cluster = Cluster::ControlPlane { operators, control_plane: Box::new(control_plane) };
        let environment = Self::new(cluster, client, kubectl);
        environment.webhook_answers().await?;
        output.met("their webhook is registered with a certificate of their own making, and answers");
        Output::note("(The kubectl commands below run in e2e/manifests/demo.)");
        Ok(environment)
    }

    /// Boots a cluster with a node, and has Helm install the operator there.
    pub(super) async fn with_node(directory: &Path, output: &mut Output) -> anyhow::Result<Self> {
        Output::step("Starting a cluster with pod-reloader");
        let begun = Instant::now();
        let options = Options { directory: Some(directory.to_owned()), ..Options::default() };
        let bed = Testbed::own(options).await?;
        let cluster = bed.own_cluster().context("a cluster of our own")?;
        let client = cluster.control_plane().client_without_retries(User::Admin).await?;
        let version = client.apiserver_version().await.context("the API server does not tell its version")?;
        let took = begun.elapsed().as_secs_f64();
        output.met(&format!(
            "a Kubernetes {} cluster with a node, and pod-reloader installed from an OCI registry ({took:.1} s)",
            version.git_version
        ));
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/demo-real");
        let kubectl = cluster.kubectl(User::Editor).in_directory(&manifests);
        Output::run(&kubectl, &["get", "pods", "--namespace=pod-reloader"]).await?;
        Output::note("(The kubectl commands below run in e2e/manifests/demo-real.)");
        Ok(Self::new(Cluster::Node(Box::new(bed)), client, kubectl))
    }

    fn new(cluster: Cluster, client: Client, kubectl: Kubectl) -> Self {
        let space = Space::open(client, kubectl.clone(), NAMESPACE, DEADLINE);
        Self { cluster, space, kubectl }
    }

    /// Whether pods run.
    pub(super) fn has_node(&self) -> bool {
        matches!(self.cluster, Cluster::Node(_))
    }

    async fn webhook_answers(&self) -> anyhow::Result<()> {
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.space.client.clone());
        eventually("the operators to fill in the caBundle", DEADLINE, || async {
            let configuration = configurations.get(Registration::DEFAULT_NAME).await?;
            for webhook in configuration.webhooks.iter().flatten() {
                ensure!(webhook.client_config.ca_bundle.is_some(), "{} has none", webhook.name);
            }
            Ok(())
        })
        .await
        .map_err(|error| self.explain(&error))?;
        let deployments: Api<Deployment> = Api::namespaced(self.space.client.clone(), NAMESPACE);
        let probe = serde_json::from_value(json!({
            "metadata": { "name": "probe", "annotations": { "pod-reloader.cs.sap.com/configmaps": "probe" } },
            "spec": {
                "selector": { "matchLabels": { "app": "probe" } },
                "template": {
                    "metadata": { "labels": { "app": "probe" } },
                    "spec": { "containers": [{ "name": "main", "image": "ubuntu" }] },
                },
            },
        }))
        .context("the probe is not a Deployment")?;
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        eventually("the webhook to set a hash", DEADLINE, || async {
            let answer = deployments.create(&dry_run, &probe).await?;
            config_hash(&answer).context("a new Deployment got no hash")
        })
        .await
        .map_err(|error| self.explain(&error))?;
        Ok(())
    }

    /// What `name` looks like now.
    pub(super) async fn rollout(&self, name: &str) -> anyhow::Result<Rollout> {
        let deployment = self.space.workload(apps::DEPLOYMENT, name);
        let revisions = deployment.revisions().await?;
        let deployment = deployment.get().await?;
        let image = &deployment.data["spec"]["template"]["spec"]["containers"][0]["image"];
        let image = image.as_str().unwrap_or_default().to_owned();
        Ok(Rollout { revisions, config_hash: objects::config_hash(&deployment), image })
    }

    /// Waits until the Deployment controller has made `revisions` of `name`.
    pub(super) async fn revisions(&self, name: &str, revisions: usize) -> anyhow::Result<Rollout> {
        let what = format!("revision {revisions} of Deployment {name}");
        eventually(what, DEADLINE, || async {
            let rollout = self.rollout(name).await?;
            ensure!(rollout.revisions >= revisions, "{rollout:?}");
            Ok(rollout)
        })
        .await
        .map_err(|error| self.explain(&error))
    }

    /// Waits until everything that was done before this call has had all its consequences.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        self.space.settle_with_controllers().await.map_err(|error| self.explain(&error))
    }

    /// Waits for the Event that the operator leaves on a Deployment that it reloads, and gives its text.
    pub(super) async fn reload_event(&self, name: &str) -> anyhow::Result<String> {
        let events = self.space.event_comes(name, "ConfigurationChanged").await;
        let events = events.map_err(|error| self.explain(&error))?;
        Ok(events.into_iter().next().unwrap_or_default())
    }

    /// Stops the operators in good order, then everything else.
    pub(super) async fn stop(self, output: &mut Output) -> anyhow::Result<()> {
        let mut operators = match self.cluster {
            Cluster::ControlPlane { operators, .. } => operators,
            Cluster::Node(bed) => {
                bed.stop().await?;
                output.met("the cluster is gone");
                return Ok(());
            }
        };
        let mut bad = Vec::new();
        for operator in &mut operators {
            let status = operator.terminate(DEADLINE).await?;
            if !status.success() {
                bad.push(format!("{status} (log: {})", operator.log().display()));
            }
        }
        output.expect(
            bad.is_empty(),
            "asked to end, both replicas ended in good order",
            &format!("asked to end, a replica should end with exit code 0, but it was: {}", bad.join(", ")),
        );
        Ok(())
    }

    /// Leaves everything running. Not for a node, which ends with us.
    pub(super) fn detach(self) -> PathBuf {
        let (operators, control_plane) = match self.cluster {
            Cluster::ControlPlane { operators, control_plane } => (operators, control_plane),
            Cluster::Node(bed) => return bed.kubeconfig().to_owned(),
        };
        let kubeconfig = control_plane.kubeconfig(User::Admin);
        for operator in operators {
            operator.detach();
        }
        control_plane.detach();
        kubeconfig
    }

    /// Says where to find the reason of an error.
    fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let Cluster::ControlPlane { operators, .. } = &self.cluster else {
            return anyhow!("{error:#}");
        };
        let logs: Vec<_> = operators.iter().map(|operator| operator.log().display().to_string()).collect();
        anyhow!("{error:#} (the operators' logs: {})", logs.join(", "))
    }
}

fn config_hash(deployment: &Deployment) -> Option<String> {
    let template = deployment.spec.as_ref()?.template.metadata.as_ref()?;
    template.annotations.as_ref()?.get(CONFIG_HASH).cloned()
}
