//! The lookout for a kind that may not be there (9.2): one for all streams of that kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::Client;
use pod_reloader_core::kind::{Entry, KindRef};
use pod_reloader_k8s::discovery;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::pace;

/// See the module.
pub(super) struct Lookout {
    client: Client,
    entry: Arc<Entry>,
    /// A stream has found that it is not there, and nobody that it is since.
    is_gone: AtomicBool,
    /// People have been told that it is missing.
    is_reported: AtomicBool,
    /// Whoever has it looks; the others wait for what is found.
    turn: Mutex<()>,
}

impl Lookout {
    pub(super) fn of(client: &Client, entry: &Arc<Entry>) -> Self {
        Self {
            client: client.clone(),
            entry: entry.clone(),
            is_gone: AtomicBool::new(false),
            is_reported: AtomicBool::new(false),
            turn: Mutex::new(()),
        }
    }

    /// The kind, once it is there. Until a stream says otherwise, one whose name is known is taken to be: its list tells.
    pub(super) async fn there(&self) -> KindRef {
        loop {
            if let Some(kind) = self.known() {
                return kind;
            }
            let _turn = self.turn.lock().await;
            // It may have been found while this one waited for its turn.
            if self.known().is_none() {
                if self.is_gone.load(Ordering::Relaxed) {
                    sleep(pace::before_next_look()).await;
                }
                self.look().await;
            }
        }
    }

    /// A stream has found that it is not there.
    pub(super) fn is_gone(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
        if !self.is_reported.swap(true, Ordering::Relaxed) {
            let resource = self.entry.resource();
            tracing::info!(
                resource,
                "the API server does not have this kind of workload; it is looked for again"
            );
        }
    }

    fn known(&self) -> Option<KindRef> {
        self.entry.kind().filter(|_| !self.is_gone.load(Ordering::Relaxed))
    }

    async fn look(&self) {
        match discovery::kind_of(&self.client, &self.entry).await {
            Ok(Some(name)) => {
                self.entry.name(&name);
                self.is_gone.store(false, Ordering::Relaxed);
                if self.is_reported.swap(false, Ordering::Relaxed) {
                    tracing::info!(
                        resource = self.entry.resource(),
                        "the API server has this kind of workload now"
                    );
                }
            }
            Ok(None) => self.is_gone(),
            Err(error) => {
                tracing::debug!(resource = self.entry.resource(), %error, "cannot look for a kind of workload");
                // Its list tells, too; of one without a name nothing can be listed.
                self.is_gone.store(self.entry.kind().is_none(), Ordering::Relaxed);
            }
        }
    }
}
