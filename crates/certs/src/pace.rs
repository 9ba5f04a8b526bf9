//! How soon the next pass follows.

use std::time::Duration;

use tokio::time::Instant;

const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The caBundle is to be right soon after the API server answers again.
const MAX_PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Upper bound while another writer keeps reverting our changes.
const MAX_PAUSE_AFTER_WRITE: Duration = Duration::from_secs(5);
/// After so long without a write of ours no other writer reverts them.
const CALM: Duration = Duration::from_secs(30);

/// Slows down while things fail, or while writes follow upon each other.
pub(crate) struct Pace {
    pause: Duration,
    last_write: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { pause: MIN_PAUSE, last_write: None }
    }
}

impl Pace {
    /// The pause after a pass and the event that ended it.
    pub(crate) fn after_pass(&mut self, has_written: bool) -> Duration {
        if has_written {
            self.last_write = Some(Instant::now());
            self.pause = (self.pause * 2).min(MAX_PAUSE_AFTER_WRITE);
        } else if self.last_write.is_none_or(|last| last.elapsed() >= CALM) {
            self.pause = MIN_PAUSE;
        }
        self.pause
    }

    /// The pause after a pass that failed.
    pub(crate) fn after_failure(&mut self) -> Duration {
        self.pause = (self.pause * 2).min(MAX_PAUSE_AFTER_FAILURE.max(self.pause));
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fight_over_an_object_slows_down_and_calms_again() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            let pause = pace.after_pass(true);
            assert!(pause <= MAX_PAUSE_AFTER_WRITE);
            // The other replica's write, or the echo of our own.
            tokio::time::sleep(pace.after_pass(false)).await;
        }
        assert_eq!(pace.after_pass(true), MAX_PAUSE_AFTER_WRITE);
        tokio::time::sleep(CALM).await;
        assert_eq!(pace.after_pass(false), MIN_PAUSE);
    }

    #[test]
    fn failures_are_retried_within_a_second() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            assert!(pace.after_failure() <= MAX_PAUSE_AFTER_FAILURE);
        }
        assert_eq!(pace.after_pass(false), MIN_PAUSE);
    }
}
