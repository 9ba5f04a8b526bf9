//! pod-reloader in a cluster, as its users install it: by Helm, from an OCI registry.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::{helm::Helm, kubectl::Kubectl, paths, tool::Tool};

/// The release, and its namespace.
pub const NAME: &str = "pod-reloader";

/// An installation in the namespace `pod-reloader`, under that name.
#[derive(Debug)]
pub struct Installation {
    helm: Helm,
    kubectl: Kubectl,
    chart: String,
    values: Vec<String>,
}

impl Installation {
    /// Nothing is installed yet. `chart` begins with `oci://`; `values` are further arguments of each `helm upgrade`.
    pub fn new(helm: Helm, kubectl: Kubectl, chart: String, values: Vec<String>) -> Self {
        Self { helm, kubectl, chart, values }
    }

    /// Whether there is a release.
    pub async fn exists(&self) -> anyhow::Result<bool> {
        let names = self.helm.run(["list", "--namespace", NAME, "--short"]).await?;
        Ok(names.lines().any(|name| name == NAME))
    }

    /// Installs or upgrades, and waits until the operator is ready.
    pub async fn upgrade(&self, values: &[&str]) -> anyhow::Result<()> {
        let waiting = ["--create-namespace", "--wait", "--timeout=180s"];
        let ours = self.values.iter().map(String::as_str);
        let args: Vec<_> = waiting.into_iter().chain(ours).chain(values.iter().copied()).collect();
        self.helm.upgrade(NAME, &self.chart, NAME, &args).await?;
        Ok(())
    }

    /// Runs `helm` with arguments of one's own on the release.
    pub async fn helm(&self, args: &[&str]) -> anyhow::Result<String> {
        self.helm.run(args.iter().copied().chain(["--namespace", NAME])).await
    }

    /// Runs `kubectl` in its namespace.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.kubectl.run(["--namespace", NAME].into_iter().chain(args.iter().copied())).await
    }

    /// Its pods that are to stay, by name.
    pub async fn pods(&self) -> anyhow::Result<Vec<String>> {
        let template =
            "{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}";
        let selector = "app.kubernetes.io/component=controller";
        let output = format!("go-template={template}");
        let names = self.kubectl(&["get", "pods", "--selector", selector, "--output", &output]).await?;
        let mut names: Vec<_> = names.split_whitespace().map(ToOwned::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Waits until all replicas are up to date and ready.
    pub async fn is_ready(&self) -> anyhow::Result<()> {
        self.kubectl(&["rollout", "status", &format!("deployment/{NAME}"), "--timeout=180s"]).await?;
        Ok(())
    }

    /// What its running pods have logged.
    pub async fn logs(&self) -> anyhow::Result<String> {
        let mut logs = String::new();
        for pod in self.pods().await? {
            logs += &self.kubectl(&["logs", &pod]).await?;
        }
        Ok(logs)
    }

    /// The metrics of one of its pods.
    pub async fn metrics(&self, pod: &str) -> anyhow::Result<String> {
        let path = format!("/api/v1/namespaces/{NAME}/pods/{pod}:8080/proxy/metrics");
        self.kubectl.run(["get", "--raw", &path]).await
    }
}

/// Packages the chart and pushes it to the registry at `registry`, which has no TLS. Gives its `oci://` address.
pub async fn publish_chart(directory: &Path, registry: &str) -> anyhow::Result<String> {
    let package = Tool::new(&paths::root().join("charts/package.sh"), &paths::root())
        .env("REGISTRY", format!("{registry}/charts"))
        .env("PUSH", "1")
        .env("PLAIN_HTTP", "1")
        .env("OUT", directory.join("chart"))
        .env("HELM_CONFIG_HOME", directory.join("publisher"));
    package.run([""; 0]).await.context("the chart cannot be published")?;
    Ok(format!("oci://{registry}/charts/{NAME}"))
}

/// The operator's image for this machine's architecture, as `make image` makes it.
///
/// # Errors
/// If it has not been made.
pub fn operator_image() -> anyhow::Result<PathBuf> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    image_archive(&format!("pod-reloader-{}-linux-{architecture}.tar", env!("CARGO_PKG_VERSION")), "image")
}

/// An archive in `target/image`, or an error that names the target that makes it.
pub(crate) fn image_archive(name: &str, target: &str) -> anyhow::Result<PathBuf> {
    let path = paths::root().join("target/image").join(name);
    ensure!(path.exists(), "{} is missing: run make {target}", path.display());
    Ok(path)
}
