//! Whether an earlier release still keeps the certificates.
//!
//! It kept the CAs' keys beside the certificate, and takes a Secret without them for corrupt: it puts back what it
//! knew. While a rolling upgrade has replicas of both releases run, the new ones therefore leave the Secret to the old
//! ones, as long as it holds such keys; after a while without old replicas they take over and remove the keys. If these
//! come back, an old replica is still there, and the next attempt is made later.

use std::time::Duration;

use tokio::time::Instant;

/// About as long as a rolling upgrade takes.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_mins(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Handover {
    /// Since when keys were seen.
    since: Option<Instant>,
    patience: Duration,
}

impl Default for Handover {
    fn default() -> Self {
        Self { since: None, patience: FIRST }
    }
}

impl Handover {
    /// How much longer the Secret is left to old replicas; `has_keys` says whether it holds keys of CAs now.
    pub(crate) fn remaining(&mut self, has_keys: bool, now: Instant) -> Option<Duration> {
        if !has_keys {
            if self.since.take().is_some() {
                self.patience = (self.patience * 2).min(LONGEST);
            }
            return None;
        }
        let end = *self.since.get_or_insert(now) + self.patience;
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
        let mut patience = FIRST;
        for _ in 0..10 {
            assert_eq!(handover.remaining(true, now), Some(patience));
            assert!(handover.remaining(true, now + patience / 2).is_some());
            now += patience;
            assert_eq!(handover.remaining(true, now), None, "time to take over");
            assert_eq!(handover.remaining(false, now), None);
            patience = (patience * 2).min(LONGEST);
        }
        assert_eq!(patience, LONGEST);
    }
}
