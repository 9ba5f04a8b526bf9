//! The name of this replica, and the operator's own user name.

use std::time::Duration;

use anyhow::Context;
use kube::Client;
use pod_reloader_k8s::identity::own_user_name;
use tokio::sync::watch;

/// Names this replica: the pod's name in a cluster, and something random for replicas that share a host name.
pub(crate) fn instance_name() -> anyhow::Result<String> {
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "pod-reloader".to_owned());
    let random = getrandom::u32().context("the system gave no random bytes")?;
    Ok(format!("{host}-{random:08x}"))
}

/// Asks the API server for the operator's own user name until it answers, and then keeps that.
pub(crate) async fn find_own_user(client: Client, own_user: watch::Sender<Option<String>>) {
    loop {
        match own_user_name(&client).await {
            Ok(Some(name)) => {
                tracing::info!(user = name, "authenticated");
                own_user.send_replace(Some(name));
                return std::future::pending().await;
            }
            Ok(None) => {
                tracing::error!(
                    "the API server names no user for the operator's requests: are they authenticated?"
                );
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "own user name not known yet"
                );
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
