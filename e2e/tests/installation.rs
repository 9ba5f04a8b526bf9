//! An installation as a user makes it, on a real node: the image, the chart from an OCI registry, `helm test`, upgrades
//! under writes, certificates that the kubelet brings, and the end.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use pod_reloader_e2e::installation::{NAME, operator_image, publish_chart};
use pod_reloader_e2e::process::Process;
use pod_reloader_e2e::testbed::under_writes;
use pod_reloader_e2e::{
    Helm, Image, Installation, Kubectl, Options, RealCluster, Registry, User, eventually, node, paths,
};
use serde_json::json;

const DEADLINE: Duration = Duration::from_mins(3);
const APP: &str = include_str!("real-cluster/app.yaml");

#[tokio::test]
async fn an_installation_works_upgrades_and_goes() -> anyhow::Result<()> {
    if let Err(why) = node::available() {
        println!("skipped: {why}");
        return Ok(());
    }
    let cluster = RealCluster::start(Options::default()).await?;
    cluster.import_image(&operator_image()?).await?;
    let busybox = cluster.directory().join("app.tar");
    Image::busybox("localhost/app:1")?.write(&busybox)?;
    cluster.import_image(&busybox).await?;
    let registry = Registry::start(cluster.directory()).await?;
    // The node has it from an archive, under the name that it would have in Docker's own registry.
    let values = ["--plain-http", "--set=image.repository=docker.io/library/pod-reloader"];
    let trial = Trial {
        operator: Installation::new(
            Helm::new("helm", &cluster.kubeconfig(User::Admin), cluster.directory())?,
            cluster.kubectl(User::Admin),
            publish_chart(cluster.directory(), registry.address()).await?,
            values.map(ToOwned::to_owned).to_vec(),
        ),
        kubectl: cluster.kubectl(User::Editor),
        cluster,
    };
    trial.is_made().await?;
    trial.reloads_pods().await?;
    trial.is_upgraded_under_writes().await?;
    Box::pin(trial.gets_certificates_from_cert_manager()).await?;
    trial.goes().await?;
    trial.cluster.stop().await
}

struct Trial {
    operator: Installation,
    kubectl: Kubectl,
    cluster: RealCluster,
}

impl Trial {
    async fn is_made(&self) -> anyhow::Result<()> {
        // The namespace takes nothing less than the restricted profile.
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        self.kubectl.run_with_input(["apply", "-f", "-"], &namespace.to_string()).await?;
        self.operator.upgrade(&[]).await?;
        let log = self.operator.helm(&["test", NAME, "--logs", "--timeout=180s"]).await?;
        ensure!(log.contains("gave it another after the ConfigMap had changed"), "{log}");
        Ok(())
    }

    /// What a client of the application sees.
    async fn reloads_pods(&self) -> anyhow::Result<()> {
        self.kubectl.run_with_input(["apply", "-f", "-"], APP).await?;
        self.kubectl.run(["rollout", "status", "deployment/app", "--timeout=120s"]).await?;
        // kube-proxy hears of the pods a moment later.
        let greeting = eventually("the application to answer", DEADLINE, || self.greeting()).await?;
        ensure!(greeting == "one", "{greeting}");
        let first = self.app_pods().await?;

        // A label on the Deployment does not reach the pods.
        self.kubectl.run(["label", "configmap", "greeting", "a=b"]).await?;
        self.kubectl.run(["patch", "configmap", "greeting", "-p", r#"{"data":{"GREETING":"two"}}"#]).await?;
        eventually("the pods to greet anew", DEADLINE, || async {
            ensure!(self.greeting().await? == "two", "still the old greeting");
            Ok(())
        })
        .await?;
        self.kubectl.run(["rollout", "status", "deployment/app", "--timeout=120s"]).await?;
        ensure!(self.app_pods().await?.iter().all(|pod| !first.contains(pod)), "a pod stayed");
        let events = self.kubectl.run(["get", "events", "-o", "jsonpath={.items[*].reason}"]).await?;
        ensure!(events.matches("ConfigurationChanged").count() == 1, "{events}");
        Ok(())
    }

    /// Twice without a change, and once with one, while a client writes all the time.
    async fn is_upgraded_under_writes(&self) -> anyhow::Result<()> {
        let before = self.operator_state().await?;
        let pods = self.app_pods().await?;
        self.operator.upgrade(&[]).await?;
        self.operator.upgrade(&[]).await?;
        ensure!(self.operator_state().await? == before, "an upgrade without a change made one");
        self.under_writes(async {
            self.operator.upgrade(&["--set=log.level=debug"]).await?;
            ensure!(self.operator_state().await? != before, "nothing was upgraded");
            // As a drain does it.
            let pod = self.operator.pods().await?.remove(0);
            self.operator.kubectl(&["delete", "pod", &pod, "--wait=false"]).await?;
            self.operator.is_ready().await
        })
        .await?;
        self.operator.helm(&["rollback", NAME, "1", "--wait"]).await?;
        ensure!(self.app_pods().await? == pods, "the application restarted");
        Ok(())
    }

    async fn gets_certificates_from_cert_manager(&self) -> anyhow::Result<()> {
        let bin = paths::binaries();
        let crds = bin.join("cert-manager-crds.yaml").display().to_string();
        self.kubectl.run(["apply", "--server-side", "-f", &crds]).await?;
        self.kubectl.run(["wait", "--for=condition=Established", "--timeout=60s", "-f", &crds]).await?;
        let kubeconfig = format!("--kubeconfig={}", self.cluster.kubeconfig(User::Admin).display());
        let log = self.cluster.directory().join("cert-manager.log");
        let env = [("NO_COLOR", "1")];
        let _cert_manager =
            Process::spawn("cert-manager", &bin.join("cert-manager"), [kubeconfig], env, &log)?;
        self.operator.upgrade(&["--set=webhook.certManager.enabled=true"]).await?;
        let pods = self.app_pods().await?;
        self.under_writes(Box::pin(async {
            let secrets = Api::<Secret>::namespaced(self.cluster.client(User::Admin).await?, NAME);
            let before = self.certificates_served().await?;
            secrets.delete(&format!("{NAME}-tls-managed"), &DeleteParams::default()).await?;
            // The kubelet takes a minute or two.
            eventually("all pods to serve a new certificate", DEADLINE, || async {
                let now = self.certificates_served().await?;
                ensure!(
                    now.iter().all(|(pod, served)| before.iter().any(|old| old.0 == *pod && old.1 < *served))
                );
                Ok(())
            })
            .await
        }))
        .await?;
        ensure!(self.app_pods().await? == pods, "the application restarted");
        Ok(())
    }

    async fn goes(&self) -> anyhow::Result<()> {
        let pods = self.app_pods().await?;
        self.operator.helm(&["uninstall", NAME, "--wait"]).await?;
        ensure!(self.app_pods().await? == pods, "the application restarted");
        self.kubectl.run(["annotate", "deployment", "app", "example.com/written=yes"]).await?;
        ensure!(self.greeting().await? == "two");
        Ok(())
    }

    async fn under_writes(&self, act: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let client = self.cluster.control_plane().client_without_retries(User::Editor).await?;
        under_writes(client, "default", "app", act).await.map(drop)
    }

    async fn greeting(&self) -> anyhow::Result<String> {
        let target =
            self.kubectl.run(["get", "service", "app", "-o", "jsonpath={.spec.clusterIP}:80"]).await?;
        let address = self.cluster.forward(&target)?;
        let exchange = async {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.write_all(b"GET /greeting HTTP/1.0\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), exchange).await.context("no answer")??;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        ensure!(head.contains(" 200 "), "{head}");
        Ok(body.trim().to_owned())
    }

    /// Name and start of each of the application's pods that is to stay.
    async fn app_pods(&self) -> anyhow::Result<Vec<(String, String)>> {
        let pods = Api::<Pod>::default_namespaced(self.cluster.client(User::Admin).await?);
        let pods = pods.list(&ListParams::default().labels("app=app")).await?;
        let staying = pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let mut seen: Vec<_> = staying
            .map(|pod| {
                let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.clone());
                let started =
                    statuses.unwrap_or_default().into_iter().find_map(|status| status.state?.running);
                (pod.name_any(), format!("{:?}", started.and_then(|running| running.started_at)))
            })
            .collect();
        seen.sort();
        Ok(seen)
    }

    /// The operator's pods and its webhook's certificate.
    async fn operator_state(&self) -> anyhow::Result<String> {
        let bundle = "jsonpath={.webhooks[*].clientConfig.caBundle}";
        let pods = self.operator.pods().await?.join(" ");
        Ok(pods + &self.kubectl.run(["get", "mutatingwebhookconfiguration", NAME, "-o", bundle]).await?)
    }

    /// How many certificates each of the operator's pods has taken up.
    async fn certificates_served(&self) -> anyhow::Result<Vec<(String, u64)>> {
        let mut served = vec![];
        for pod in self.operator.pods().await? {
            let metrics = self.operator.metrics(&pod).await?;
            let name = r#"pod_reloader_certificate_reloads_total{result="success"} "#;
            let count = metrics.lines().find_map(|line| line.strip_prefix(name)).context("no such metric")?;
            served.push((pod, count.parse()?));
        }
        ensure!(served.len() == 2, "{served:?}");
        Ok(served)
    }
}
