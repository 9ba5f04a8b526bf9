//! A client that writes a workload all the time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

/// What became of the writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writes {
    /// Those that were stored.
    pub stored: usize,
}

/// What quick acts are followed by, so that connections that break late are met too.
const AT_LEAST: usize = 100;

/// Has a Deployment written all the while that `act` takes, and a little longer. A write that is refused is an error.
pub async fn under_writes<T>(
    client: Client,
    namespace: &str,
    deployment: &str,
    act: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, Writes)> {
    let api = Api::<Deployment>::namespaced(client, namespace);
    let done = AtomicBool::new(false);
    let stored = AtomicUsize::new(0);
    let write = async {
        for turn in 0.. {
            if done.load(Ordering::Relaxed) && turn >= AT_LEAST {
                break;
            }
            let patch = Patch::Merge(json!({"metadata": {"labels": {"turn": turn.to_string()}}}));
            api.patch(deployment, &PatchParams::default(), &patch)
                .await
                .with_context(|| format!("write {turn} was refused"))?;
            stored.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    let act = async {
        let outcome = act.await;
        done.store(true, Ordering::Relaxed);
        outcome
    };
    let ((), outcome) = tokio::try_join!(write, act)?;
    Ok((outcome, Writes { stored: stored.load(Ordering::Relaxed) }))
}
