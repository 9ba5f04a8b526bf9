//! Lists the workloads of one namespace once more, beside the watches: since something there has them follow more or less.

use std::sync::Arc;

use kube::Client;
use pod_reloader_core::kind::Kinds;
use pod_reloader_core::selector::Selector;
use pod_reloader_k8s::objects::WorkloadObject;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;

use super::health::WatchHealth;
use super::pace::Pace;
use super::requests::Requests;
use super::{Coverage, Out, Update};

/// After so many failures the slow resync of the watches has to do.
const MAX_FAILURES: u32 = 8;

/// Lists namespaces. Clones share the turns that lists take.
#[derive(Clone)]
pub(crate) struct Relister {
    pub(super) client: Client,
    pub(super) kinds: Kinds,
    pub(super) labels: Selector,
    pub(super) sender: mpsc::Sender<Update>,
    pub(super) turns: Arc<Semaphore>,
}

impl Relister {
    /// Reports all workloads of that namespace as [`Update::Relisted`]; returns whether that was possible.
    pub(crate) async fn relist(self, namespace: String) -> bool {
        // No watch: its failures are none of readiness.
        let health = WatchHealth::default();
        let mut is_complete = true;
        for kind in self.kinds.entries().filter_map(|entry| entry.kind()) {
            let sign = health.stream(kind.label(), Some(namespace.clone()));
            let mut requests =
                Requests::new(self.client.clone(), kind, Some(namespace.clone()), &self.labels);
            let out = Out::<WorkloadObject> {
                coverage: Coverage { kind, namespace: Some(namespace.clone()) },
                update: Update::Relisted,
                sender: self.sender.clone(),
            };
            let mut pace = Pace::default();
            loop {
                let listed = {
                    let Ok(_turn) = self.turns.acquire().await else { return false };
                    requests.list(&out, &sign).await
                };
                match listed {
                    Ok(_) => break,
                    // A kind that is not there has no workloads.
                    Err(failure) if failure.is_absence() => break,
                    Err(_) if self.sender.is_closed() => return false,
                    Err(failure) if pace.failures() >= MAX_FAILURES => {
                        tracing::warn!(kind = kind.label(), namespace, error = %failure, "cannot list workloads");
                        is_complete = false;
                        break;
                    }
                    Err(_) => sleep(pace.after_failure()).await,
                }
            }
        }
        is_complete
    }
}
