//! Why something could not be read, and when to try again.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Why an object could not be read. Short and without content, so it can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The API server refused, with that status code.
    Status(u16),
    /// No answer in time.
    TimedOut,
    /// The connection failed.
    Connection,
    /// The object is larger than any that the API server would store.
    TooLarge,
    /// The memory budget had no room for it in time.
    NoRoom,
    /// The answer was no config object.
    Malformed,
    /// It is one of the operator's own Secrets, which are not read on behalf of a workload.
    OperatorsOwn,
    /// There was no answer that can be used: no two reads found it in the same version, say.
    Unanswered,
}

impl Unreadable {
    /// A constant word, for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Status(code) => status_reason(code),
            Self::TimedOut => "timeout",
            Self::Connection => "transport",
            Self::TooLarge => "too_large",
            Self::NoRoom => "no_room",
            Self::Malformed => "malformed",
            Self::OperatorsOwn => "own",
            Self::Unanswered => "unanswered",
        }
    }

    /// Whether it makes sense to ask again at once.
    pub const fn is_transient(self) -> bool {
        match self {
            Self::Status(code) => code == 429 || code >= 500,
            Self::TimedOut | Self::Connection | Self::Unanswered => true,
            Self::TooLarge | Self::NoRoom | Self::Malformed | Self::OperatorsOwn => false,
        }
    }

    /// Whether it stays so until an administrator acts: a missing right, an object that is too large.
    pub const fn is_lasting(self) -> bool {
        !self.is_transient() && !matches!(self, Self::NoRoom)
    }
}

/// The word for a status code.
pub(crate) const fn status_reason(code: u16) -> &'static str {
    match code {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        409 => "conflict",
        422 => "invalid",
        429 => "too_many_requests",
        400..=499 => "client_error",
        _ => "server_error",
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(401) => f.write_str("unauthorized"),
            Self::Status(403) => f.write_str("forbidden"),
            Self::Status(429) => f.write_str("too many requests"),
            Self::Status(code @ 500..) => write!(f, "server error {code}"),
            Self::Status(code) => write!(f, "error {code}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Connection => f.write_str("connection failed"),
            Self::TooLarge => f.write_str("too large"),
            Self::NoRoom => f.write_str("no memory free for it"),
            Self::Malformed => f.write_str("not a config object"),
            Self::OperatorsOwn => f.write_str("the operator's own"),
            Self::Unanswered => f.write_str("no usable answer"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// The first attempt may take this long, or a third of the time, so that one connection that hangs leaves time for
/// another: the transport moves to a fresh one when a request is given up.
const FIRST_ATTEMPT: Duration = Duration::from_millis(1500);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Makes attempts until one succeeds, fails for good, or the deadline is over.
pub(crate) async fn attempts<T, F>(deadline: Instant, mut attempt: impl FnMut() -> F) -> Result<T, Unreadable>
where
    F: Future<Output = Result<T, Unreadable>>,
{
    let mut last = Unreadable::TimedOut;
    for number in 0_u32.. {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let limit = match number {
            0 => (left / 3).min(FIRST_ATTEMPT),
            1 => (left / 2).min(FIRST_ATTEMPT * 2),
            _ => left,
        };
        match timeout(limit, attempt()).await {
            Ok(Err(error)) if error.is_transient() => {
                last = error;
                let pause = (FIRST_PAUSE * 2_u32.pow(number.min(8))).min(MAX_PAUSE);
                sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            }
            Ok(result) => return result,
            Err(_) => last = Unreadable::TimedOut,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn c4_2_a_first_attempt_that_hangs_leaves_time_for_another() {
        for (seconds, expected) in [(9, 1500), (3, 1000)] {
            let begin = Instant::now();
            let count = Cell::new(0);
            let read = attempts(begin + Duration::from_secs(seconds), || async {
                count.set(count.get() + 1);
                if count.get() == 1 { std::future::pending().await } else { Ok(()) }
            });
            assert_eq!(read.await, Ok(()));
            assert_eq!(begin.elapsed().as_millis(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c4_2_what_may_pass_is_tried_again_and_what_will_not_is_not() {
        for (error, is_retried) in [
            (Unreadable::Status(500), true),
            (Unreadable::Status(429), true),
            (Unreadable::Connection, true),
            (Unreadable::Status(403), false),
            (Unreadable::TooLarge, false),
        ] {
            let count = Cell::new(0);
            let begin = Instant::now();
            let read: Result<(), _> = attempts(begin + Duration::from_secs(3), || async {
                count.set(count.get() + 1);
                Err(error)
            })
            .await;
            assert_eq!(read, Err(error));
            assert_eq!(count.get() > 3, is_retried, "{error}: {}", count.get());
            assert!(count.get() < 20 && begin.elapsed() <= Duration::from_secs(3));
        }
    }
}
