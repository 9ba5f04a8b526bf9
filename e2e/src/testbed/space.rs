//! A namespace of its own for each scenario, and what scenarios do and see there.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use http::{Method, Request};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, ReplicaSet},
    core::v1::{Event, Namespace, Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, ObjectMeta, PostParams},
};
use serde_json::{Value, json};
use tokio::sync::RwLockReadGuard;

use super::{SeenPod, Testbed, example};
use crate::{paths, wait::eventually};

/// For what takes seconds on a quiet machine: images are there, but pods have to start and to become ready.
pub const PATIENCE: Duration = Duration::from_mins(3);

const SENTINEL: &str = include_str!("../../manifests/sentinel.yaml");

/// A namespace with a random name. Dropping it deletes it.
pub struct Space {
    /// Where it lies.
    pub bed: &'static Testbed,
    /// Its name.
    pub name: String,
    client: Client,
    _guard: Option<RwLockReadGuard<'static, ()>>,
}

impl Space {
    pub(super) async fn make(
        bed: &'static Testbed,
        name: &str,
        guard: Option<RwLockReadGuard<'static, ()>>,
    ) -> anyhow::Result<Self> {
        let client = bed.client().await?;
        let namespace = Namespace {
            metadata: ObjectMeta { generate_name: Some(format!("e2e-{name}-")), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let namespace = Api::all(client.clone()).create(&PostParams::default(), &namespace).await;
        let name = namespace.context("cannot make a namespace")?.name_any();
        let space = Self { bed, name, client, _guard: guard };
        space.apply_text(SENTINEL).await?;
        Ok(space)
    }

    /// A client for the administrator, without retries.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Runs `kubectl` here.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        let here = ["--namespace", self.name.as_str()];
        self.bed.kubectl.run(here.into_iter().chain(args.iter().copied())).await
    }

    /// Applies the manifests of an example: a file or a folder in `docs/examples`.
    pub async fn apply(&self, path: &str) -> anyhow::Result<()> {
        self.apply_text(&example(path)?).await
    }

    /// Applies manifests, with the images of the examples under the names that they have here.
    pub async fn apply_text(&self, manifests: &str) -> anyhow::Result<()> {
        self.with_input(&["apply", "-f", "-"], manifests).await
    }

    /// Runs `kubectl` here on manifests (`-f -`), with the images under the names that they have here.
    pub async fn with_input(&self, args: &[&str], manifests: &str) -> anyhow::Result<()> {
        let here = ["--namespace", self.name.as_str()];
        let args = here.into_iter().chain(args.iter().copied());
        self.bed.kubectl.run_with_input(args, &self.bed.localized(manifests)).await?;
        Ok(())
    }

    /// Writes one entry of a `ConfigMap` (`configmap/NAME`) or of a Secret (`secret/NAME`).
    pub async fn set(&self, object: &str, key: &str, value: &str) -> anyhow::Result<()> {
        let field = if object.starts_with("secret/") { "stringData" } else { "data" };
        let patch = json!({ field: { key: value } }).to_string();
        self.kubectl(&["patch", object, "--type=merge", "--patch", &patch]).await?;
        Ok(())
    }

    /// Waits until a workload (`deployment/NAME`) has rolled out.
    pub async fn rolled_out(&self, workload: &str) -> anyhow::Result<()> {
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        if let Err(error) = self.kubectl(&["rollout", "status", workload, &timeout]).await {
            let pods = self.kubectl(&["describe", "pods"]).await.unwrap_or_default();
            return Err(error.context(format!("in {}:\n{pods}", self.name)));
        }
        Ok(())
    }

    /// What a Service (`NAME` or `NAME:PORT`) answers, asked through the API server. JSON, unless it is none.
    pub async fn get(&self, service: &str, path: &str) -> anyhow::Result<Value> {
        let service = if service.contains(':') { service.to_owned() } else { format!("{service}:80") };
        self.proxy("services", &service, path).await
    }

    /// What a pod (`NAME:PORT`) answers.
    pub async fn get_from_pod(&self, pod: &str, path: &str) -> anyhow::Result<Value> {
        self.proxy("pods", pod, path).await
    }

    async fn proxy(&self, kind: &str, target: &str, path: &str) -> anyhow::Result<Value> {
        let uri = format!("/api/v1/namespaces/{}/{kind}/{target}/proxy{path}", self.name);
        let request = Request::builder().method(Method::GET).uri(&uri).body(vec![]).context("a bad path")?;
        let text = self.client.request_text(request).await.with_context(|| format!("GET {uri}"))?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The same until `holds` says that it is as it should be.
    pub async fn get_until(
        &self,
        service: &str,
        path: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        eventually(what, PATIENCE, || async {
            let answer = self.get(service, path).await?;
            ensure!(holds(&answer), "{answer}");
            Ok(answer)
        })
        .await
    }

    /// The pods with the label `app`, without those that are going, in order of their names.
    pub async fn pods(&self, app: &str) -> anyhow::Result<Vec<SeenPod>> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.name);
        let pods = pods.list(&ListParams::default().labels(&format!("app={app}"))).await?;
        let staying = pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let mut seen: Vec<_> = staying.map(SeenPod::of).collect();
        seen.sort();
        Ok(seen)
    }

    /// A field of an object (`deployment/NAME`, `.spec.replicas`), as `kubectl` prints it with a JSON path.
    pub async fn field(&self, object: &str, path: &str) -> anyhow::Result<String> {
        self.kubectl(&["get", object, "--output", &format!("jsonpath={{{path}}}")]).await
    }

    /// The config-hash on a workload's pod template; empty if there is none.
    pub async fn config_hash(&self, workload: &str) -> anyhow::Result<String> {
        self.field(workload, r".spec.template.metadata.annotations.pod-reloader\.cs\.sap\.com/config-hash")
            .await
    }

    /// How many revisions of a workload's pod template its controller has made, once it has seen the last change:
    /// `ReplicaSets` of a Deployment, `ControllerRevisions` of the others.
    pub async fn revisions(&self, workload: &str) -> anyhow::Result<usize> {
        eventually(format!("the controller to have seen {workload}"), PATIENCE, || async {
            let path = "{.metadata.uid} {.metadata.generation} {.status.observedGeneration}";
            let output = format!("jsonpath={path}");
            let seen = self.kubectl(&["get", workload, "--output", &output]).await?;
            let [uid, generation, observed] = seen.split(' ').collect::<Vec<_>>()[..] else {
                bail!("{seen}")
            };
            ensure!(generation == observed, "observed {observed} of {generation}");
            let is_owned =
                |meta: &ObjectMeta| meta.owner_references.iter().flatten().any(|owner| owner.uid == uid);
            let all = ListParams::default();
            Ok(if workload.starts_with("deployment/") {
                let sets = Api::<ReplicaSet>::namespaced(self.client.clone(), &self.name).list(&all).await?;
                sets.iter().filter(|set| is_owned(&set.metadata)).count()
            } else {
                let revisions = Api::<ControllerRevision>::namespaced(self.client.clone(), &self.name);
                revisions.list(&all).await?.iter().filter(|revision| is_owned(&revision.metadata)).count()
            })
        })
        .await
    }

    /// The texts of the Events on a workload that say that it was reloaded, oldest first.
    pub async fn reload_events(&self, workload: &str) -> anyhow::Result<Vec<String>> {
        let (_, name) = workload.split_once('/').context("KIND/NAME")?;
        let selector = format!("reason=ConfigurationChanged,involvedObject.name={name}");
        let events = Api::<Event>::namespaced(self.client.clone(), &self.name);
        let mut events = events.list(&ListParams::default().fields(&selector)).await?.items;
        events.sort_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp));
        Ok(events.into_iter().filter_map(|event| event.message).collect())
    }

    /// Waits until a workload has another config-hash than `before`, and gives the new one.
    pub async fn hash_changes(&self, workload: &str, before: &str) -> anyhow::Result<String> {
        eventually(format!("another config-hash on {workload}"), PATIENCE, || async {
            let hash = self.config_hash(workload).await?;
            ensure!(hash != before, "still {before}");
            Ok(hash)
        })
        .await
    }

    /// Waits until all that was done before this call has had its consequences.
    ///
    /// "Nothing happens" cannot be awaited. But when the sentinel, whose configuration is changed last, has been reloaded
    /// after its settle window and its controller has seen that, whatever was to happen before it has happened.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let before = self.config_hash("deployment/sentinel").await?;
        let round = self.field("configmap/sentinel", ".data.round").await?;
        let round: u64 = round.parse().context("the sentinel's round")?;
        self.set("configmap/sentinel", "round", &(round + 1).to_string()).await?;
        self.hash_changes("deployment/sentinel", &before).await.context("the sentinel was not reloaded")?;
        self.revisions("deployment/sentinel").await?;
        Ok(())
    }

    /// What the hammer (`docs/examples/hammer.yaml`) has counted: an error if a request has failed.
    pub async fn nothing_failed(&self) -> anyhow::Result<u64> {
        let counts = self.get("hammer", "/").await?;
        ensure!(counts["failed"] == 0, "requests failed: {counts}");
        counts["requests"].as_u64().with_context(|| format!("no count in {counts}"))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // Also if the test has failed. Nobody waits for it: the pods of the next one may start meanwhile.
        let outcome = std::process::Command::new(paths::binaries().join("kubectl"))
            .args(["delete", "namespace", &self.name, "--wait=false"])
            .env("KUBECONFIG", &self.bed.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !outcome.is_ok_and(|status| status.success()) {
            eprintln!("the namespace {} could not be deleted", self.name);
        }
    }
}
