//! The cluster on which the story is played: a control plane and two replicas of the operator.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Event,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use pod_reloader_e2e::{
    ControlPlane, Kubectl, Operator, OperatorOptions, Options, Registration, Testbed, User, eventually,
};
use serde_json::json;

use crate::narrator::Narrator;

const CONFIG_HASH: &str = "pod-reloader.cs.sap.com/config-hash";
const NAMESPACE: &str = "default";
/// For what normally takes a second or two.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Dropping it stops everything.
pub(crate) struct Stage {
    // Dropped in this order.
    ground: Ground,
    client: Client,
    /// As the user of the story.
    pub(crate) kubectl: Kubectl,
}

/// What the story is played on.
enum Ground {
    /// No node: the operator runs as two processes beside the control plane.
    ControlPlane { operators: Vec<Operator>, control_plane: Box<ControlPlane> },
    /// A node on which pods run, the operator's among them.
    Node(Box<Testbed>),
}

/// What a Deployment looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rollout {
    /// How many revisions the Deployment controller has made (`ReplicaSets`).
    pub(crate) revisions: usize,
    pub(crate) config_hash: Option<String>,
    pub(crate) image: String,
}

impl Stage {
    /// Boots the control plane, starts the operator twice and registers its webhook.
    pub(crate) async fn build(
        binary: &Path,
        directory: &Path,
        narrator: &mut Narrator,
    ) -> anyhow::Result<Self> {
        Narrator::chapter("Setting the stage");
        let begun = Instant::now();
        let options = Options { directory: Some(directory.to_owned()), ..Options::default() };
        let control_plane = ControlPlane::start(options).await?;
        let client = control_plane.client_without_retries(User::Admin).await?;
        let version = client.apiserver_version().await.context("the API server does not tell its version")?;
        let took = begun.elapsed().as_secs_f64();
        narrator
            .met(&format!("a Kubernetes {} control plane on 127.0.0.1 ({took:.1} s)", version.git_version));

        let begun = Instant::now();
        let kubeconfig = control_plane.kubeconfig(User::Operator);
        let mut operators = Vec::new();
        for name in ["pod-reloader-1", "pod-reloader-2"] {
            let options =
                OperatorOptions::new(binary, &kubeconfig, control_plane.directory()).name(name).args([
                    "--leader-elect",
                    "--leader-election-namespace=pod-reloader",
                    "--log-format=text",
                    // Half of the default: the audience waits for it several times.
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
        narrator.met(&format!("two replicas of pod-reloader, ready ({took:.1} s)"));

        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/demo");
        let kubectl = control_plane.kubectl(User::Editor).in_directory(&manifests);
        let ground = Ground::ControlPlane { operators, control_plane: Box::new(control_plane) };
        let stage = Self { ground, client, kubectl };
        stage.webhook_answers().await?;
        narrator.met("their webhook is registered with a certificate of their own making, and answers");
        Narrator::note("(The kubectl commands below run in e2e/manifests/demo.)");
        Ok(stage)
    }

    /// Boots a cluster with a node, and has Helm install the operator there.
    pub(crate) async fn build_real(directory: &Path, narrator: &mut Narrator) -> anyhow::Result<Self> {
        Narrator::chapter("Setting the stage");
        let begun = Instant::now();
        let options = Options { directory: Some(directory.to_owned()), ..Options::default() };
        let bed = Testbed::own(options).await?;
        let cluster = bed.own_cluster().context("a cluster of our own")?;
        let client = cluster.control_plane().client_without_retries(User::Admin).await?;
        let version = client.apiserver_version().await.context("the API server does not tell its version")?;
        let took = begun.elapsed().as_secs_f64();
        narrator.met(&format!(
            "a Kubernetes {} cluster with a node, and pod-reloader installed from an OCI registry ({took:.1} s)",
            version.git_version
        ));
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/demo-real");
        let kubectl = cluster.kubectl(User::Editor).in_directory(&manifests);
        Narrator::run(&kubectl, &["get", "pods", "--namespace=pod-reloader"]).await?;
        Narrator::note("(The kubectl commands below run in e2e/manifests/demo-real.)");
        Ok(Self { ground: Ground::Node(Box::new(bed)), client, kubectl })
    }

    /// Where pods run, if they do.
    pub(crate) fn node(&self) -> Option<&Testbed> {
        match &self.ground {
            Ground::ControlPlane { .. } => None,
            Ground::Node(bed) => Some(bed),
        }
    }

    async fn webhook_answers(&self) -> anyhow::Result<()> {
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        eventually("the operators to fill in the caBundle", DEADLINE, || async {
            let configuration = configurations.get(Registration::DEFAULT_NAME).await?;
            for webhook in configuration.webhooks.iter().flatten() {
                ensure!(webhook.client_config.ca_bundle.is_some(), "{} has none", webhook.name);
            }
            Ok(())
        })
        .await
        .map_err(|error| self.explain(&error))?;
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
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
    pub(crate) async fn rollout(&self, name: &str) -> anyhow::Result<Rollout> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), NAMESPACE);
        let deployment =
            deployments.get(name).await.with_context(|| format!("cannot get Deployment {name}"))?;
        let sets = sets.list(&ListParams::default()).await.context("cannot list ReplicaSets")?;
        let is_owner = |set: &&ReplicaSet| {
            set.metadata
                .owner_references
                .iter()
                .flatten()
                .any(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref())
        };
        let template = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let image = template.and_then(|spec| spec.containers.first()?.image.clone()).unwrap_or_default();
        let revisions = sets.items.iter().filter(is_owner).count();
        Ok(Rollout { revisions, config_hash: config_hash(&deployment), image })
    }

    /// Waits until the Deployment controller has made `revisions` of `name`.
    pub(crate) async fn revisions(&self, name: &str, revisions: usize) -> anyhow::Result<Rollout> {
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
    ///
    /// "Nothing happens" cannot be awaited. But when the sentinel, whose configuration is changed last, has been
    /// reloaded after its settle window and has its new `ReplicaSet`, whatever was to happen before it has happened.
    pub(crate) async fn let_things_settle(&self) -> anyhow::Result<()> {
        let before = self.rollout("sentinel").await?;
        let patch = json!({ "data": { "round": before.revisions.to_string() } }).to_string();
        self.kubectl.run(["patch", "configmap", "sentinel", "--type=merge", "-p", &patch]).await?;
        self.revisions("sentinel", before.revisions + 1).await.context("the sentinel was not reloaded")?;
        Ok(())
    }

    /// Waits for the Event that the operator leaves on a Deployment that it reloads, and gives its text.
    pub(crate) async fn reload_event(&self, name: &str) -> anyhow::Result<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), NAMESPACE);
        let selector = format!("reason=ConfigurationChanged,involvedObject.name={name}");
        eventually(format!("an Event on Deployment {name}"), DEADLINE, || async {
            let events = events.list(&ListParams::default().fields(&selector)).await?;
            let event =
                events.items.into_iter().next().context("no Event with reason ConfigurationChanged")?;
            Ok(event.message.unwrap_or_default())
        })
        .await
        .map_err(|error| self.explain(&error))
    }

    /// Stops the operators in good order, then everything else.
    pub(crate) async fn strike(self, narrator: &mut Narrator) -> anyhow::Result<()> {
        let mut operators = match self.ground {
            Ground::ControlPlane { operators, .. } => operators,
            Ground::Node(bed) => {
                bed.stop().await?;
                narrator.met("the cluster is gone");
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
        narrator.expect(
            bad.is_empty(),
            "asked to end, both replicas ended in good order",
            &format!("asked to end, a replica should end with exit code 0, but it was: {}", bad.join(", ")),
        );
        Ok(())
    }

    /// Leaves everything running. Not for a node, which ends with us.
    pub(crate) fn detach(self) -> PathBuf {
        let (operators, control_plane) = match self.ground {
            Ground::ControlPlane { operators, control_plane } => (operators, control_plane),
            Ground::Node(bed) => return bed.kubeconfig().to_owned(),
        };
        let kubeconfig = control_plane.kubeconfig(User::Admin);
        for operator in operators {
            operator.detach();
        }
        control_plane.detach();
        kubeconfig
    }

    /// Says where to look for the reason of an error.
    fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let Ground::ControlPlane { operators, .. } = &self.ground else {
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
