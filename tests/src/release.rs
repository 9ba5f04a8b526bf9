//! The chart, installed by the real Helm into a control plane that has no node: the pods' part is played by processes,
//! started as the installed Deployment says, with the service account that the chart made.

use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use pod_reloader_e2e::{Helm, Operator, OperatorOptions, User};
use serde_json::{Value, json};

use crate::World;
use crate::world::operator_binary;

/// The chart in this repository.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/pod-reloader")
}

/// A release of the chart.
pub struct Release {
    /// Its namespace.
    pub namespace: String,
    /// What its objects are called.
    pub fullname: String,
    kubeconfig: PathBuf,
    args: Vec<String>,
}

impl Release {
    /// Installs it with the given values (`--set` and its like) and a service account token of its own.
    pub async fn install(world: &World, namespace: &str, values: &[&str]) -> anyhow::Result<Self> {
        let helm = Helm::new("helm", &world.plane.kubeconfig(User::Admin), world.directory())?;
        let chart = chart();
        let mut args =
            vec!["upgrade", "--install", "reloader", chart.to_str().context("a path that is no UTF-8")?];
        args.extend(["--namespace", namespace, "--create-namespace"]);
        args.extend(values);
        helm.run(args).await?;
        let fullname = "reloader-pod-reloader".to_owned();

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
        Ok(Self { namespace: namespace.to_owned(), fullname, kubeconfig, args })
    }

    /// The user that its pods are to the API server.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.fullname)
    }

    /// Starts a replica as the Deployment says. A mounted Secret is laid out beside its log.
    pub async fn start_replica(&self, world: &World, name: &str) -> anyhow::Result<Operator> {
        let mut args = vec![];
        for arg in &self.args {
            // The harness chooses the addresses: many replicas share this machine.
            if arg.contains("-bind-address=") {
                continue;
            }
            if arg.starts_with("--webhook-tls-directory=") {
                let directory = self.mount_certificate(world, name).await?;
                args.push(format!("--webhook-tls-directory={}", directory.display()));
                continue;
            }
            args.push(arg.clone());
        }
        let options = OperatorOptions::new(&operator_binary()?, &self.kubeconfig, world.plane.directory());
        Operator::spawn(&options.name(name).args(args)).await
    }

    async fn mount_certificate(&self, world: &World, name: &str) -> anyhow::Result<PathBuf> {
        let client = world.admin().await?;
        let deployments = Api::<Deployment>::namespaced(client.clone(), &self.namespace);
        let pod = deployments
            .get(&self.fullname)
            .await?
            .spec
            .and_then(|spec| spec.template.spec)
            .context("no pods")?;
        let volumes = pod.volumes.unwrap_or_default();
        let secret = volumes.into_iter().find(|volume| volume.name == "tls").and_then(|volume| volume.secret);
        let secret = secret.and_then(|secret| secret.secret_name).context("no Secret is mounted")?;
        let data = Api::<Secret>::namespaced(client, &self.namespace).get(&secret).await?.data;
        let directory = world.directory().join(format!("{name}-tls"));
        std::fs::create_dir_all(&directory)?;
        for (key, value) in data.unwrap_or_default() {
            std::fs::write(directory.join(key), value.0)?;
        }
        Ok(directory)
    }

    /// Has the API server call that replica itself: there is no node here whose Services would lead to it. All else of
    /// the registration stays as the chart made it.
    pub async fn route_to(&self, world: &World, replica: &Operator) -> anyhow::Result<()> {
        let patch = json!([
            {"op": "remove", "path": "/webhooks/0/clientConfig/service"},
            {"op": "add", "path": "/webhooks/0/clientConfig/url", "value": replica.webhook_url()},
        ]);
        let kubectl = world.kubectl();
        let target = ["patch", "mutatingwebhookconfiguration", self.fullname.as_str(), "--type=json"];
        kubectl.run(target.into_iter().chain(["-p", &patch.to_string()])).await?;
        world.webhook_answers().await
    }
}

/// A Secret with a serving certificate, as a user would bring it: its name, and the CA as a file.
pub async fn bring_certificate(world: &World, namespace: &str) -> anyhow::Result<(String, PathBuf)> {
    let pair = world.authority.issue(&["localhost", "127.0.0.1"])?;
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
