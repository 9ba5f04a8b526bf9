//! The scenarios of `docs/examples` and the operator's own troubles, on a cluster whose pods really run.

mod flask;
mod operations;
mod postgres;
mod sap_readme;
