//! Whether this replica can answer correctly (4.8).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use pod_reloader_controller::watch::health::WatchHealth;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_serving::certificate::Certificates;
use tokio::sync::watch;

/// What readiness depends on.
#[derive(Clone)]
pub(crate) struct Readiness {
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) key: KeyReader,
    pub(crate) own_user: watch::Receiver<Option<String>>,
    /// Empty unless this replica leads.
    pub(crate) watches: WatchHealth,
    pub(crate) is_stopping: Arc<AtomicBool>,
}

impl Readiness {
    /// What is missing; nothing when ready.
    pub(crate) fn missing(&self) -> Vec<String> {
        // One that stands down can answer: that it has nothing to say.
        let has_key = self.key.get().is_some() || self.key.is_standing_down();
        let conditions = [
            (has_key, "the digest key is not known, or not the stored one"),
            (self.own_user.borrow().is_some(), "the API server has not said yet who we are"),
            (!self.is_stopping.load(Ordering::Relaxed), "shutting down"),
        ];
        let unmet = conditions.into_iter().filter(|(is_met, _)| !is_met).map(|(_, what)| what.to_owned());
        let silent = self.watches.silent();
        let silent = (!silent.is_empty())
            .then(|| format!("no sign of life from the watches of {}", silent.join(", ")));
        // A certificate that clients do not trust now is no better than none.
        self.certificates.problem(SystemTime::now()).into_iter().chain(unmet).chain(silent).collect()
    }
}
