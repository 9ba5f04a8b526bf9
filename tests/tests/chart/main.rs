//! The Helm chart: what `helm` makes of it, without a cluster. The chart's own suites (`charts/pod-reloader/tests`) say
//! what each value does; here is what holds for all that is rendered, and what the chart must have in common with the
//! operator.

#![expect(clippy::unwrap_used, clippy::panic, reason = "nothing but tests, and what they share")]

mod agreement;
mod alerts;
mod generated;
mod helm;
mod hostile;
mod kinds;
mod lint;
mod objects;
mod pods;
mod rendering;
mod schema;
