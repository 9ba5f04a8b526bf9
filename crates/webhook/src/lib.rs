//! The mutating admission webhook (section 4).
//!
//! In comes an `AdmissionReview` about a workload; out goes one that always allows, with the smallest JSON Patch
//! that gives the workload the annotations it should have. The invariant: it never denies, never writes, and what
//! it cannot do in time it leaves to the reconciler with a warning.
//!
//! ```text
//! POST /mutate --body--> bytes --prepare--> Prepared --admit--> Response --http--> 200
//!                                               |
//!                       core::admission::classify -> ConfigReader (live) -> core::decide -> core::patch
//! ```

pub mod admit;
mod body;
pub mod caller;
mod fact;
pub mod http;
pub mod metrics;
mod prepare;
pub mod review;
mod warning;
