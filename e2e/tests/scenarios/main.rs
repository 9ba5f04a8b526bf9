//! The scenarios of `docs/examples` and operator failures, on a cluster whose pods really run.

mod containers;
mod crashing;
mod csi;
mod encrypted;
mod flask;
mod operations;
mod postgres;
mod rollouts;
mod sap_readme;
mod strategies;
mod third_party_chart;
