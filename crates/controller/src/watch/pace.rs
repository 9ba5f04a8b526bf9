//! When a stream tries again, and when it lists again.

use std::time::Duration;

use crate::jitter;

/// The first pause after a failure; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(24);

/// How often a kind that is not there is looked for (9.2).
const LOOK: Duration = Duration::from_secs(10);

/// A stream is relisted this often at least, and with many objects less often.
const RESYNC: Duration = Duration::from_mins(10);
const RESYNC_PER_OBJECT: Duration = Duration::from_millis(30);
const MAX_RESYNC: Duration = Duration::from_hours(1);

/// The pauses of one stream.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
}

impl Pace {
    /// Failures since the stream was steady last.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The stream is healthy. Not called for a list that began, nor for one that completed and was of no use.
    pub(super) fn steady(&mut self) {
        self.failures = 0;
    }

    /// How long to pause after one more failure.
    pub(super) fn after_failure(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        jittered(pause)
    }
}

/// How long a list of so many objects is relied on (the slow resync, 5.7).
pub(super) fn resync_after(objects: usize) -> Duration {
    let by_size = RESYNC_PER_OBJECT.saturating_mul(u32::try_from(objects).unwrap_or(u32::MAX));
    // Less than the whole, so that the bounds hold with the jitter.
    jittered(RESYNC.saturating_add(by_size).min(MAX_RESYNC)).min(MAX_RESYNC)
}

/// How long to wait before a kind that is not there is looked for again.
pub(super) fn before_next_look() -> Duration {
    jittered(LOOK)
}

/// Replicas and streams that lost the same server should not come back in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + jitter::fraction() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c5_7_failing_streams_back_off_to_tens_of_seconds_until_they_are_steady() {
        let mut pace = Pace::default();
        let pauses: Vec<_> = (0..12).map(|_| pace.after_failure()).collect();
        for (i, pause) in pauses.iter().enumerate() {
            let middle = FIRST.saturating_mul(1 << i).min(MAX_PAUSE);
            assert!(*pause >= middle.mul_f64(0.75) && *pause <= middle.mul_f64(1.25), "{i}: {pause:?}");
        }
        assert!(*pauses.last().unwrap() >= Duration::from_secs(18));
        pace.steady();
        assert!(pace.after_failure() < Duration::from_millis(400));
    }

    #[test]
    fn c5_7_the_resync_takes_from_ten_minutes_to_an_hour_by_the_size() {
        assert!(resync_after(0) >= Duration::from_secs(450) && resync_after(0) <= Duration::from_secs(750));
        assert!(resync_after(1_000_000) <= MAX_RESYNC);
        assert!(resync_after(1_000_000) >= Duration::from_mins(45));
        assert!(resync_after(50_000) >= Duration::from_mins(20));
    }
}
