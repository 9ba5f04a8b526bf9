//! Clients of the API server.

use std::path::Path;

use anyhow::{Context as _, bail};
use http::Request;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Whether a client tries again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retries {
    Default,
    None,
}

pub(crate) async fn connect(kubeconfig: &Path, retries: Retries) -> anyhow::Result<Client> {
    let mut config = config(kubeconfig).await?;
    config.default_retry = retries == Retries::Default;
    Client::try_from(config).context("cannot make a client")
}

pub(crate) async fn config(kubeconfig: &Path) -> anyhow::Result<Config> {
    let context = || format!("cannot use the kubeconfig {}", kubeconfig.display());
    let parsed = Kubeconfig::read_from(kubeconfig).with_context(context)?;
    Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.with_context(context)
}

pub(crate) async fn ready(client: &Client) -> anyhow::Result<()> {
    let request = Request::get("/readyz").body(Vec::new()).context("cannot build a request")?;
    let answer = client.request_text(request).await.context("no answer from /readyz")?;
    if answer != "ok" {
        bail!("/readyz answered {answer:?}");
    }
    Ok(())
}
