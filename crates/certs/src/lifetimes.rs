//! How long things are valid, and how long they wait for each other.

use std::time::Duration;

/// How long things are valid.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Of a CA; it is renewed after two thirds of it.
    pub ca: Duration,
    /// Of a serving certificate; likewise.
    pub leaf: Duration,
    /// How long the next CA is published before it signs: long enough for all API servers to have read it.
    pub overlap: Duration,
    /// How long a CA that no longer signs, or that another installation published, is trusted at most.
    pub former: Duration,
    /// How long a CA has been published before it is relied on where there is no time for the overlap: API servers learn
    /// of it within a second.
    pub publication: Duration,
    /// How often all objects are read again, if no watch reports a change.
    pub check_every: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Self {
            ca: day * 365,
            leaf: day * 90,
            overlap: Duration::from_hours(1),
            former: day,
            publication: Duration::from_secs(10),
            check_every: Duration::from_secs(30),
        }
    }
}
