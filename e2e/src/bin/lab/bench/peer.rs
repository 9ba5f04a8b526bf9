//! Other programs for the same purpose, described in files (`docs/performance.md` says how).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

/// How a program is started, and what it follows. In `command` and `env` these are filled in: `{kubeconfig}`,
/// `{tls_directory}` (with `tls.crt` and `tls.key`), `{webhook_port}`, `{metrics_port}`, `{health_port}`,
/// `{namespace}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    /// For tables and for names of namespaces: lower-case letters, digits and dashes.
    pub(super) name: String,
    /// The program and its arguments; a path with a slash is relative to the file.
    pub(super) command: Vec<String>,
    /// Variables beside `KUBECONFIG`.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// What is asked until it answers 200; without it the program counts as ready at once.
    #[serde(default)]
    pub(super) ready: Option<Ready>,
    /// What makes a workload follow the `ConfigMaps` that `{configmap}` stands for.
    pub(super) workload_annotations: BTreeMap<String, String>,
    /// Where its webhook takes reviews of Deployments, if it has one.
    #[serde(default)]
    pub(super) webhook_path: Option<String>,
    /// What has to be applied before it starts, relative to the file.
    #[serde(default)]
    pub(super) manifests: Vec<PathBuf>,
}

/// A question whether a program is ready.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ready {
    /// Where.
    pub(super) port: Port,
    /// With a leading slash.
    pub(super) path: String,
}

/// One of the ports that are chosen for a program.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Port {
    /// `{health_port}`.
    Health,
    /// `{metrics_port}`.
    Metrics,
}

impl Description {
    /// Reads a description.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot use {} as the description of a peer", file.display());
        let text = std::fs::read_to_string(file).with_context(context)?;
        let mut description: Self = serde_json::from_str(&text).with_context(context)?;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            !description.name.is_empty() && description.name.chars().all(is_plain),
            "the name of a peer has lower-case letters, digits and dashes only: {}",
            description.name
        );
        let folder = file.parent().unwrap_or(Path::new(".")).canonicalize().with_context(context)?;
        for manifest in &mut description.manifests {
            *manifest = folder.join(&*manifest);
        }
        let program =
            description.command.first_mut().context("its command is empty").with_context(context)?;
        let path = folder.join(&*program);
        ensure!(path.is_file(), "{}: its program is not there: {}", file.display(), path.display());
        *program = path.display().to_string();
        Ok(description)
    }
}

/// Has the API server send a peer all reviews of Deployments, and go on without it when it does not answer.
pub(super) fn registration(name: &str, url: &str, ca_pem: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{
            "name": format!("{name}.peer.example"),
            "clientConfig": {"url": url, "caBundle": BASE64_STANDARD.encode(ca_pem)},
            "rules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
                "operations": ["CREATE", "UPDATE"]
            }],
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
            "timeoutSeconds": 10
        }]
    })
}
