//! Standing down as a whole installation: what one replica found out, all other replicas read from the Secret.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::{Instant, sleep};

use super::secret::{STAND_DOWN, STANDING_DOWN, standing_down_until};
use super::{ANNOUNCE_AGAIN, KeyError, KeyKeeper};
use crate::named::with_causes;

impl KeyKeeper {
    /// Stands down, and writes it into the Secret for all replicas to see.
    pub(super) async fn announce_stand_down(&mut self) {
        let now = Instant::now();
        if self.stands_down_until.is_none_or(|until| until <= now) {
            tracing::error!(
                "another installation writes the same workloads: this one stands down for {} minutes",
                STAND_DOWN.as_secs() / 60
            );
        }
        // At once here, and whether or not it can be written.
        let until = *self.stands_down_until.get_or_insert(now + STAND_DOWN);
        self.set_standing_down(true);
        let for_others = Timestamp::now() + until.saturating_duration_since(now);
        let result = async {
            let (Some(mut stored), _) = self.secret.find().await? else {
                return Err(KeyError::Malformed);
            };
            stored.annotations_mut().insert(STANDING_DOWN.into(), for_others.to_string());
            self.secret.replace(&stored).await?;
            Ok::<_, KeyError>(())
        };
        match result.await {
            // From here on the Secret says how long.
            Ok(()) => self.stands_down_until = None,
            Err(error) => {
                tracing::warn!(error = %with_causes(&error), "cannot write that this installation stands down; trying again");
                sleep(ANNOUNCE_AGAIN).await;
                self.stand_down.notify_one();
            }
        }
    }

    /// Takes over what the Secret says of standing down.
    pub(super) fn see_stand_down(&mut self, stored: &Secret) {
        let now = Instant::now();
        self.stands_down_until = self.stands_down_until.filter(|until| *until > now);
        self.set_standing_down(self.stands_down_until.is_some() || standing_down_until(stored).is_some());
    }

    fn set_standing_down(&self, is_standing_down: bool) {
        self.metrics.set_standing_down(is_standing_down);
        let is_news = self.state.send_if_modified(|state| {
            std::mem::replace(&mut state.is_standing_down, is_standing_down) != is_standing_down
        });
        if is_news {
            tracing::warn!(is_standing_down, "whether this installation stands down has changed");
        }
    }
}
