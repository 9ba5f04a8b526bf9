//! The chart, installed by Helm into a real control plane.

mod cert_manager;
mod distribution;
mod plain;
mod policy;
mod rights;
mod rolling;
mod scope;
mod takeover;
