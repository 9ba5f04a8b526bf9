//! The chart, installed by Helm into a real control plane.

mod distribution;
mod rights;
mod rolling;
mod takeover;
