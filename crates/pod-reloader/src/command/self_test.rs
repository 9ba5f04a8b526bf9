//! `pod-reloader self-test`: what `helm test` runs. It checks that the running webhook and reconciler reload a
//! Deployment without replicas, as they would a user's.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{Arg, Parser};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, Config};
use pod_reloader_core::annotation;
use pod_reloader_core::dialect::sap;
use pod_reloader_core::kind::apps::DEPLOYMENT;
use pod_reloader_core::selector::Selector;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Command;
use crate::args::{Args, BindAddress, LoggingArgs};
use crate::connection::api_config;
use crate::logging::LineLimit;
use crate::signals::StopSignals;

/// How long the webhook and the reconciler have, each; the settle window comes on top.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(45);
const PAUSE: Duration = Duration::from_millis(500);

/// Flags that the test has a use for, by their ids, with what they say here if that is not what they say to the
/// operator.
const USED: [(&str, Option<&str>); 12] = [
    ("webhook_bind_address", Some("Address of the operator's webhook; \"0\" if it has none")),
    (
        "leader_election_namespace",
        Some("The operator's namespace, where the test runs; by default the pod's own, or the kubeconfig's"),
    ),
    ("settle_window", Some("The operator's settle window, for which the test waits as well")),
    ("namespaces", Some("The operator's --namespaces, comma-separated: the test runs in the first of them")),
    ("object_selector", Some("The operator's --object-selector: the test's Deployment has such labels")),
    ("kubeconfig", None),
    ("log_format", None),
    ("zap_log_level", None),
    ("zap_encoder", None),
    ("zap_devel", None),
    ("help", None),
    ("version", None),
];

/// Creates a Deployment with zero replicas, verifies that the running operator reloads it, and exits.
///
/// The Deployment and a `ConfigMap` are created in the operator's namespace, or in the first of --namespaces, and
/// deleted at the end. All other flags of the operator are accepted, without effect.
#[derive(Clone, Debug, Parser)]
#[command(name = "self-test", mut_args(of_the_test))]
pub(crate) struct SelfTest {
    /// Those of the operator that is tested: the chart gives the same to both.
    #[command(flatten)]
    pub(super) operator: Args,
}

/// The operator's flag as the test takes it.
fn of_the_test(arg: Arg) -> Arg {
    match USED.iter().find(|(id, _)| arg.get_id() == id) {
        Some((_, Some(help))) => arg.help(*help),
        Some((_, None)) => arg,
        None => arg.hide(true),
    }
}

impl Command for SelfTest {
    fn validate(&self) -> Result<(), String> {
        self.operator.validate()
    }

    fn logging(&self) -> &LoggingArgs {
        &self.operator.logging
    }

    async fn run(self, _: LineLimit) -> anyhow::Result<()> {
        let args = self.operator;
        let mut stop_signals = StopSignals::install()?;
        let config = api_config(&args.connection).await?;
        let namespace = args.namespaces.first().or(args.leader_election_namespace.as_ref());
        let namespace = namespace.unwrap_or(&config.default_namespace).clone();
        let installation = Installation {
            settle_window: args.settle_window,
            has_webhook: args.webhook_bind_address != BindAddress::Off,
            object_selector: args.scope.object_selector,
        };
        run(config, &namespace, installation, stop_signals.received()).await
    }
}

/// Creates a `ConfigMap` and a Deployment that lists it in `namespace`, changes the former, sees that the latter gets
/// another hash, and deletes both; also if `stop` comes first.
///
/// # Errors
/// If something of that does not happen in time, or is not allowed; the error says what was seen last.
async fn run(
    config: Config,
    namespace: &str,
    installation: Installation,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let client = Client::try_from(config).context("cannot use the API server's configuration")?;
    let random = getrandom::u32().context("the system gave no random bytes")?;
    let name = format!("pod-reloader-test-{random:08x}");
    let Installation { settle_window, has_webhook, object_selector } = installation;
    let labels = object_selector.example();
    let test = Test {
        has_webhook,
        labels: labels.with_context(|| format!("no labels are found that {object_selector} selects"))?,
        configmaps: api(&client, namespace, "", "ConfigMap"),
        deployments: api(&client, namespace, DEPLOYMENT.group, DEPLOYMENT.kind),
        name: name.clone(),
    };
    println!("testing with the Deployment and the ConfigMap {name} in the namespace {namespace}");
    let outcome = tokio::select! {
        outcome = test.run(settle_window) => outcome,
        () = stop => Err(anyhow!("stopped before the end")),
    };
    // Nothing is left behind, whatever happened.
    let deleted = test.clean_up().await;
    outcome?;
    deleted
}

/// What the test has to know of the installation.
struct Installation {
    settle_window: Duration,
    /// Else the reconciler alone sets hashes.
    has_webhook: bool,
    object_selector: Selector,
}

struct Test {
    has_webhook: bool,
    /// With which workloads are selected.
    labels: BTreeMap<String, String>,
    configmaps: Api<DynamicObject>,
    deployments: Api<DynamicObject>,
    name: String,
}

impl Test {
    async fn run(&self, settle_window: Duration) -> anyhow::Result<()> {
        let configmap = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}, "data": {"key": "one"},
        });
        self.configmaps
            .create(&PostParams::default(), &serde_json::from_value(configmap)?)
            .await
            .context("cannot create a ConfigMap")?;

        let before = self.first_hash().await?;

        let change = Patch::Merge(json!({"data": {"key": "two"}}));
        self.configmaps
            .patch(&self.name, &PatchParams::default(), &change)
            .await
            .context("cannot change the ConfigMap")?;
        let after = until(RELOAD_TIMEOUT + settle_window, || self.another_hash(&before))
            .await
            .context("the reconciler did not reload the Deployment: see the leader's logs")?;
        println!("the reconciler gave it another after the ConfigMap had changed: {after}");
        Ok(())
    }

    /// Creates the Deployment and gives the hash that it gets.
    async fn first_hash(&self) -> anyhow::Result<String> {
        if !self.has_webhook {
            self.create_deployment().await.context("cannot create a Deployment")?;
            let hash = until(RELOAD_TIMEOUT, || self.another_hash("")).await.context(
                "the reconciler put no hash on an opted-in Deployment: see the leader's logs, and whether \
                 --namespaces and --namespace-selector cover this namespace",
            )?;
            println!("the reconciler put a hash on it: {hash}");
            return Ok(hash);
        }
        // A webhook that was registered a moment ago may not be trusted yet.
        let hash = until(RELOAD_TIMEOUT, || self.create_with_hash()).await.context(
            "the webhook put no hash on an opted-in Deployment: see the operator's logs, whether the \
             MutatingWebhookConfiguration has a caBundle, and whether --namespace-selector covers this namespace",
        )?;
        println!("the webhook put a hash on it: {hash}");
        Ok(hash)
    }

    /// Creates the Deployment and gives the hash that it got on the way; without one it is deleted again.
    async fn create_with_hash(&self) -> anyhow::Result<String> {
        let created = self.create_deployment().await?;
        if let Some(hash) = config_hash(&created) {
            return Ok(hash);
        }
        self.deployments.delete(&self.name, &DeleteParams::default()).await?;
        bail!("a Deployment was created without a hash");
    }

    async fn create_deployment(&self) -> anyhow::Result<DynamicObject> {
        let labels = json!({"app": self.name});
        let deployment = json!({
            "apiVersion": DEPLOYMENT.api_version(), "kind": DEPLOYMENT.kind,
            "metadata": {
                "name": self.name, "labels": self.labels, "annotations": {(sap::CONFIGMAPS): self.name},
            },
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                        "containers": [{
                            "name": "none",
                            "image": "none",
                            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                        }],
                    },
                },
            },
        });
        let params = PostParams::default();
        Ok(self.deployments.create(&params, &serde_json::from_value(deployment)?).await?)
    }

    async fn another_hash(&self, before: &str) -> anyhow::Result<String> {
        let deployment = self.deployments.get(&self.name).await?;
        config_hash(&deployment)
            .filter(|hash| hash != before)
            .context("the Deployment's hash stays as it was")
    }

    async fn clean_up(&self) -> anyhow::Result<()> {
        for objects in [&self.deployments, &self.configmaps] {
            match objects.delete(&self.name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot delete {} again", self.name));
                }
            }
        }
        Ok(())
    }
}

fn api(client: &Client, namespace: &str, group: &str, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn config_hash(deployment: &DynamicObject) -> Option<String> {
    let annotations =
        deployment.data.pointer(DEPLOYMENT.template_pointer(&["metadata", "annotations"]).as_str())?;
    annotations.get(annotation::CONFIG_HASH)?.as_str().map(str::to_owned)
}

/// Tries until it works or time is up; the error is the last one.
async fn until<T, Fut>(timeout: Duration, attempt: impl Fn() -> Fut) -> anyhow::Result<T>
where
    Fut: Future<Output = anyhow::Result<T>>,
{
    let end = Instant::now() + timeout;
    let mut last_seen = String::new();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(error) => {
                let seen = format!("{error:#}");
                if seen != last_seen {
                    println!("not yet: {seen}");
                    last_seen = seen;
                }
            }
        }
        sleep(PAUSE).await;
    }
}
