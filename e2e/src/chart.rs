//! The chart of this repository, rendered without a cluster: what runs on the lab's control planes has the rights and
//! the webhook registration that users get.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{helm::Helm, paths};

/// The release that is rendered, and its namespace: its account is [`crate::User::Operator`].
pub const RELEASE: &str = "pod-reloader";

/// The chart's folder.
pub fn folder() -> PathBuf {
    paths::root().join("charts/pod-reloader")
}

/// Renders some of its templates (`rbac.yaml`), with further arguments for Helm (`--set=...`).
///
/// # Errors
/// If Helm has not been built, or does not like the values.
pub async fn render(templates: &[&str], values: &[&str]) -> anyhow::Result<String> {
    let shown = templates.iter().map(|template| format!("--show-only=templates/{template}"));
    let args: Vec<_> = shown.chain(values.iter().map(|value| (*value).to_owned())).collect();
    let helm = Helm::offline("helm")?;
    helm.template(RELEASE, folder(), RELEASE, &args).await.context("the chart cannot be rendered")
}

/// The same as documents, without labels: they would say that a release of the chart is installed, beside which it
/// refuses another.
async fn documents(templates: &[&str]) -> anyhow::Result<Vec<Value>> {
    let rendered = render(templates, &[]).await?;
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(&rendered).context("Helm printed no YAML")?;
    documents.retain(|document| !document.is_null());
    for document in &mut documents {
        if let Some(metadata) = document["metadata"].as_object_mut() {
            metadata.remove("labels");
        }
    }
    Ok(documents)
}

/// The operator's namespace and account, with the rights that the chart grants by default, as documents for `kubectl
/// apply`. Rendered once per process.
pub(crate) async fn rights() -> anyhow::Result<&'static str> {
    static RIGHTS: OnceCell<String> = OnceCell::const_new();
    let render = || async {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": RELEASE } });
        let rights = documents(&["serviceaccount.yaml", "rbac.yaml"]).await?;
        let all: Vec<_> = [namespace].iter().chain(&rights).map(Value::to_string).collect();
        anyhow::Ok(all.join("\n---\n"))
    };
    RIGHTS.get_or_try_init(render).await.map(String::as_str)
}

/// The `MutatingWebhookConfiguration` that the chart makes by default. Rendered once per process.
pub(crate) async fn webhook() -> anyhow::Result<&'static Value> {
    static WEBHOOK: OnceCell<Value> = OnceCell::const_new();
    let render = || async {
        documents(&["webhook.yaml"]).await?.into_iter().next().context("the chart registers no webhook")
    };
    WEBHOOK.get_or_try_init(render).await
}
