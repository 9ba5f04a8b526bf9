//! The parts together, against a real API server: what the integration tests share.
//!
//! [`World`] is one control plane with two replicas of the built operator and its registration, booted once per test
//! binary. Each test takes a [`Space`] of its own, a namespace with a random name, so that all run in parallel.

pub mod objects;
pub mod policy;
pub mod proxy;
pub mod release;
pub mod space;
pub mod webhook;
pub mod wire;
pub mod world;

pub use release::Release;
pub use space::Space;
pub use world::{SETTLE_WINDOW, World};

/// How long a test waits for something that should happen.
pub use pod_reloader_e2e::TIMEOUT as PATIENCE;
