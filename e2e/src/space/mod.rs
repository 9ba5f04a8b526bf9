//! A namespace of its own for each test, and what tests do and see there.

mod workloads;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::{Method, Request};
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, ObjectMeta, PostParams},
};
use serde_json::{Value, json};

use crate::{
    kubectl::Kubectl,
    objects::{self, KindRef, apps},
    pods::SeenPod,
    random::random_hex,
    wait::eventually,
    workload::Workload,
};

/// The workload, and its `ConfigMap`, that [`Space::settle`] waits for.
const SENTINEL: &str = "sentinel";

/// A namespace, with what is needed to work there.
#[derive(Clone)]
pub struct Space {
    /// Its name.
    pub name: String,
    /// A client for whoever works there.
    pub client: Client,
    kubectl: Kubectl,
    timeout: Duration,
}

impl Space {
    /// Makes a namespace whose name begins with `prefix`. What is waited for there has to happen within `timeout`.
    pub async fn new(
        client: Client,
        kubectl: Kubectl,
        prefix: &str,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let namespace = Namespace {
            metadata: ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let namespace = Api::all(client.clone()).create(&PostParams::default(), &namespace).await;
        let name = namespace.context("cannot make a namespace")?.name_any();
        Ok(Self { name, client, kubectl, timeout })
    }

    /// A namespace that is there.
    pub fn open(client: Client, kubectl: Kubectl, name: &str, timeout: Duration) -> Self {
        Self { name: name.to_owned(), client, kubectl, timeout }
    }

    /// Runs `kubectl` here.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.kubectl.run(self.here(args)).await
    }

    /// Runs `kubectl` here on manifests (`-f -`).
    pub async fn with_input(&self, args: &[&str], manifests: &str) -> anyhow::Result<()> {
        self.kubectl.run_with_input(self.here(args), manifests).await?;
        Ok(())
    }

    fn here<'a>(&'a self, args: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
        ["--namespace", self.name.as_str()].into_iter().chain(args.iter().copied())
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
        let timeout = format!("--timeout={}s", self.timeout.as_secs());
        if let Err(error) = self.kubectl(&["rollout", "status", workload, &timeout]).await {
            let pods = self.kubectl(&["describe", "pods"]).await.unwrap_or_default();
            return Err(error.context(format!("in {}:\n{pods}", self.name)));
        }
        Ok(())
    }

    /// What a Service (`NAME` or `NAME:PORT`) answers, asked through the API server. JSON, unless it is none.
    pub async fn get_from_service(&self, service: &str, path: &str) -> anyhow::Result<Value> {
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
        eventually(what, self.timeout, || async {
            let answer = self.get_from_service(service, path).await?;
            ensure!(holds(&answer), "{answer}");
            Ok(answer)
        })
        .await
    }

    /// The pods with the label `app`, without those that are being deleted, in order of their names.
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

    /// A workload here.
    pub fn workload(&self, kind: KindRef, name: &str) -> Workload {
        Workload::new(self.client.clone(), &self.name, kind, name, self.timeout)
    }

    /// The texts of the Events of that reason on an object, oldest first.
    pub async fn events(&self, name: &str, reason: &str) -> anyhow::Result<Vec<String>> {
        let selector = format!("reason={reason},involvedObject.name={name}");
        let events = Api::<Event>::namespaced(self.client.clone(), &self.name);
        let mut events = events.list(&ListParams::default().fields(&selector)).await?.items;
        events.sort_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp));
        Ok(events.into_iter().filter_map(|event| event.message).collect())
    }

    /// Waits for an Event of that reason on an object, and gives the texts of all.
    pub async fn event_comes(&self, name: &str, reason: &str) -> anyhow::Result<Vec<String>> {
        eventually(format!("an Event {reason} on {name}"), self.timeout, || async {
            let texts = self.events(name, reason).await?;
            ensure!(!texts.is_empty(), "none");
            Ok(texts)
        })
        .await
    }

    /// Returns when the reconciler has done all that follows from what happened before this call.
    ///
    /// "Nothing happens" cannot be awaited. But the settle window of a change that is made now begins later than that of
    /// every change before: when the sentinel, whose configuration is changed last, has been reloaded, so have the others.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let sentinel = self.workload(apps::DEPLOYMENT, SENTINEL);
        if self.workloads(apps::DEPLOYMENT).get_opt(SENTINEL).await?.is_none() {
            self.configmap(SENTINEL, "start").await?;
            let mut deployment = objects::listing(SENTINEL, SENTINEL);
            deployment.data["spec"]["replicas"] = json!(0);
            self.create(&deployment).await?;
        }
        let before =
            eventually("the sentinel to have a hash", self.timeout, || sentinel.config_hash()).await?;
        self.configmap(SENTINEL, &random_hex()?).await?;
        sentinel.hash_changes(&before).await.context("the sentinel was not reloaded")?;
        Ok(())
    }

    /// The same, and the Deployment controller has seen it.
    pub async fn settle_with_controllers(&self) -> anyhow::Result<()> {
        self.settle().await?;
        self.workload(apps::DEPLOYMENT, SENTINEL).revisions().await?;
        Ok(())
    }
}
