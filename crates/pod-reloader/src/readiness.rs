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
    /// What only the webhook needs; `None` without one.
    pub(crate) webhook: Option<WebhookNeeds>,
    pub(crate) key: KeyReader,
    /// Empty unless this replica leads.
    pub(crate) watches: WatchHealth,
    pub(crate) is_stopping: Arc<AtomicBool>,
}

/// What the webhook needs to answer.
#[derive(Clone)]
pub(crate) struct WebhookNeeds {
    pub(crate) certificates: Arc<Certificates>,
    /// The user name that the operator's own requests are authenticated as.
    pub(crate) own_user: watch::Receiver<Option<String>>,
}

impl WebhookNeeds {
    fn missing(&self) -> Vec<String> {
        // A certificate that clients do not trust now is no better than none.
        let problem = self.certificates.problem(SystemTime::now());
        let is_unknown = self.own_user.borrow().is_none();
        let unknown = is_unknown.then(|| "own user name not known yet".to_owned());
        problem.into_iter().chain(unknown).collect()
    }
}

impl Readiness {
    /// What is missing; nothing when ready.
    pub(crate) fn missing(&self) -> Vec<String> {
        // A replica that stands down can answer: it changes nothing.
        let has_key = self.key.get().is_some() || self.key.is_standing_down();
        let conditions = [
            (has_key, "the digest key is not known, or not the stored one"),
            (!self.is_stopping.load(Ordering::Relaxed), "shutting down"),
        ];
        let unmet = conditions.into_iter().filter(|(is_met, _)| !is_met).map(|(_, what)| what.to_owned());
        let silent = self.watches.silent();
        let silent = (!silent.is_empty())
            .then(|| format!("no sign of life from the watches of {}", silent.join(", ")));
        let of_webhook = self.webhook.iter().flat_map(WebhookNeeds::missing);
        of_webhook.chain(unmet).chain(silent).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in tests a panic is a failure")]

    use std::time::Duration;

    use pod_reloader_controller::controller;
    use pod_reloader_stub_api::{Fault, FaultRule, StubApi};
    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::terms::tests::settings;

    #[tokio::test(start_paused = true)]
    async fn c5_7_a_leader_is_not_ready_while_one_of_its_watches_has_been_silent_for_minutes() {
        let stub = StubApi::new(1);
        let settings = settings(&stub);
        let readiness = Readiness {
            webhook: Some(WebhookNeeds {
                certificates: Certificates::new(pod_reloader_serving::metrics::Metrics::default()),
                own_user: watch::channel(Some("pod-reloader".to_owned())).1,
            }),
            key: settings.key.clone(),
            watches: settings.metrics.watches.clone(),
            is_stopping: Arc::default(),
        };
        // Of the certificate, which has nothing to do with it.
        let others = readiness.missing();
        assert_eq!(others.len(), 1, "{others:?}");
        let silence =
            || readiness.missing().into_iter().filter(|what| !others.contains(what)).collect::<Vec<_>>();
        let stop = CancellationToken::new();
        let reconciler = tokio::spawn(controller::run(settings, stop.clone()));
        sleep(Duration::from_mins(10)).await;
        assert_eq!(silence(), [""; 0], "all is well");

        let hangs = stub.fail(FaultRule::new(Fault::HangBeforeHeaders).resource("secrets"));
        sleep(Duration::from_mins(2)).await;
        assert_eq!(silence(), [""; 0], "it may be silent for two minutes");
        sleep(Duration::from_mins(2)).await;
        assert_eq!(silence(), ["no sign of life from the watches of Secret"]);
        stub.heal(hangs);
        sleep(Duration::from_mins(1)).await;
        assert_eq!(silence(), [""; 0], "it speaks again");

        // A replica that does not lead has no watches.
        stub.fail(FaultRule::new(Fault::HangBeforeHeaders).resource("secrets"));
        sleep(Duration::from_mins(4)).await;
        assert_eq!(silence().len(), 1);
        stop.cancel();
        reconciler.await.unwrap();
        assert_eq!(silence(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn c4_8_without_a_webhook_neither_a_certificate_nor_our_own_name_is_needed() {
        let stub = StubApi::new(1);
        let settings = settings(&stub);
        let certificates = Certificates::new(pod_reloader_serving::metrics::Metrics::default());
        let needs = WebhookNeeds { certificates, own_user: watch::channel(None).1 };
        let mut readiness = Readiness {
            webhook: Some(needs),
            key: settings.key.clone(),
            watches: settings.metrics.watches.clone(),
            is_stopping: Arc::default(),
        };
        assert_eq!(readiness.missing().len(), 2, "{:?}", readiness.missing());
        readiness.webhook = None;
        assert_eq!(readiness.missing(), [""; 0]);
    }
}
