//! What has to hold on every machine: counts and bytes, never times.

use serde::Serialize;

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Expectation {
    /// The scenario and the quantity.
    pub(super) what: String,
    /// What was found.
    pub(super) got: String,
    /// What it should have been.
    pub(super) wanted: String,
    /// Whether it was.
    pub(super) holds: bool,
}

impl Expectation {
    /// Exactly that many.
    pub(super) fn exactly(what: impl Into<String>, got: usize, wanted: usize) -> Self {
        Self { what: what.into(), got: got.to_string(), wanted: wanted.to_string(), holds: got == wanted }
    }

    /// At least and at most that many.
    pub(super) fn within(what: impl Into<String>, got: usize, least: usize, most: usize) -> Self {
        Self {
            what: what.into(),
            got: got.to_string(),
            wanted: format!("{least} to {most}"),
            holds: (least..=most).contains(&got),
        }
    }

    /// Less than so many MiB.
    pub(super) fn below_mib(what: impl Into<String>, got: f64, limit: f64) -> Self {
        Self {
            what: what.into(),
            got: format!("{got:.1} MiB"),
            wanted: format!("below {limit} MiB"),
            holds: got < limit,
        }
    }

    /// As many MiB as before, or at most `tolerance` more.
    pub(super) fn back_to_mib(what: impl Into<String>, got: f64, before: f64, tolerance: f64) -> Self {
        Self {
            what: what.into(),
            got: format!("{got:.1} MiB"),
            wanted: format!("at most {before:.1} + {tolerance} MiB"),
            holds: got <= before + tolerance,
        }
    }
}
