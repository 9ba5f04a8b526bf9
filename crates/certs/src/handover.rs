//! Whether an earlier release still keeps the certificates.
//!
//! It kept the CAs' keys beside the certificate, and takes a Secret without them for corrupt: it puts back what it
//! knew. While replicas of both releases run in a rolling upgrade, the new ones therefore leave the Secret to the old
//! ones, as long as it holds such keys; after a while without old replicas they take over and remove the keys. If these
//! come back, an old replica is still there, and the next attempt is made later.

use std::time::Duration;

use tokio::time::Instant;

/// About as long as a rolling upgrade takes.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const MAX_WAIT: Duration = Duration::from_mins(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Handover {
    /// Since when keys were seen.
    since: Option<Instant>,
    wait: Duration,
}

impl Default for Handover {
    fn default() -> Self {
        Self { since: None, wait: FIRST_WAIT }
    }
}

impl Handover {
    /// How much longer the Secret is left to old replicas; `has_keys` says whether it holds keys of CAs now.
    pub(crate) fn remaining(&mut self, has_keys: bool, now: Instant) -> Option<Duration> {
        if !has_keys {
            if self.since.take().is_some() {
                self.wait = (self.wait * 2).min(MAX_WAIT);
            }
            return None;
        }
        let end = *self.since.get_or_insert(now) + self.wait;
        (now < end).then(|| end - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c4_7_keys_that_come_back_are_left_alone_for_longer_but_not_for_ever() {
        let (mut handover, mut now) = (Handover::default(), Instant::now());
        assert_eq!(handover.remaining(false, now), None);
        let mut wait = FIRST_WAIT;
        for _ in 0..10 {
            assert_eq!(handover.remaining(true, now), Some(wait));
            assert!(handover.remaining(true, now + wait / 2).is_some());
            now += wait;
            assert_eq!(handover.remaining(true, now), None, "time to take over");
            assert_eq!(handover.remaining(false, now), None);
            wait = (wait * 2).min(MAX_WAIT);
        }
        assert_eq!(wait, MAX_WAIT);
    }
}
