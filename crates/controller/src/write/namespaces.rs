//! Where something may be written: in namespaces that live and are selected.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use pod_reloader_core::dialect::own::AUTO;
use tokio::time::Instant;

use super::{WriteError, Writer, Written};

/// How long it is believed that a namespace is not being deleted, and selected.
const NAMESPACE_MAX_AGE: Duration = Duration::from_secs(2);

/// What is to be known of a namespace before something is written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamespaceState {
    /// It is there and selected (1.6).
    Ours,
    /// It is being deleted (1.5), or not selected.
    NotOurs,
    /// It could not be asked for.
    Unknown,
}

impl Writer {
    /// Whether something may be written in that namespace; else, what came of it.
    pub(crate) async fn is_ours(&self, namespace: &str) -> Result<(), Written> {
        match self.namespace_state(namespace).await {
            NamespaceState::Ours => Ok(()),
            NamespaceState::NotOurs => Err(Written::Gone),
            NamespaceState::Unknown if self.namespace_selector.is_empty() => Ok(()),
            NamespaceState::Unknown => Err(Written::Failed(WriteError::UnknownNamespace)),
        }
    }

    /// Whether the namespace lives and is selected, as of a moment ago.
    async fn namespace_state(&self, namespace: &str) -> NamespaceState {
        let is_living = |at: &Instant| at.elapsed() < NAMESPACE_MAX_AGE;
        if self.living().get(namespace).is_some_and(is_living) {
            return NamespaceState::Ours;
        }
        let api = Api::<Namespace>::all(self.client.clone());
        let asked_at = Instant::now();
        let meta = match self.call("get_namespace", api.get_metadata_opt(namespace)).await {
            Ok(Some(meta)) => meta.metadata,
            Ok(None) => return NamespaceState::NotOurs,
            Err(_) => return NamespaceState::Unknown,
        };
        let labels = meta.labels.unwrap_or_default();
        self.opt_ins.lock().asked(namespace, labels.get(AUTO).map(String::as_str));
        if meta.deletion_timestamp.is_some() || !self.namespace_selector.matches(&labels) {
            return NamespaceState::NotOurs;
        }
        let mut living = self.living();
        living.retain(|_, at| is_living(at));
        living.insert(namespace.to_owned(), asked_at);
        NamespaceState::Ours
    }

    fn living(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.living_namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
