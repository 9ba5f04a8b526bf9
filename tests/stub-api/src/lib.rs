//! An API server in the process, under the real `kube::Client`, for fault suites and seeded simulations.
//!
//! It knows no clock but tokio's, which tests pause, and no randomness but its seed. The README shows a history.

mod connection;
mod fault;
mod json_patch;
mod log;
pub mod objects;
mod random;
mod read;
mod request;
mod resource;
mod select;
mod service;
mod shared;
mod status;
mod store;
mod stub;
mod watch;
mod write;

pub use fault::{Fault, FaultRule, RuleId};
pub use log::{LogEntry, Outcome};
pub use random::Random;
pub use request::{RequestInfo, RequestKind};
pub use resource::ResourceType;
pub use service::{StubBody, StubService};
pub use store::{Author, Revision, Write};
pub use stub::StubApi;
pub use write::{Admission, Refusal};

/// The user as whom every client is authenticated that is not named `user:<name>`.
pub const OPERATOR_USER: &str = "system:serviceaccount:pod-reloader:pod-reloader";
/// The author of what the test itself writes.
pub const TEST_USER: &str = "kubernetes-admin";
