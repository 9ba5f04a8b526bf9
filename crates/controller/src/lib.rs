//! The reconciler (section 5): bumps the config hash when a referenced object changed, and heals drift.
//!
//! In come watch events of workloads and of config objects' metadata; out go guarded patches of annotations, Events,
//! log lines and metrics. The invariant: nothing is written unless [`pod_reloader_core::decide`] says so from a
//! workload and live lookups that are at least as new, and every write is guarded by the version it was decided on.
//!
//! ```text
//! watch -> index -> queue (settle window, backoff) -> evaluate from memory -> gate -> evaluate live -> write -> events
//!            ^                                                                         |
//!            +--- compare (has the content changed?) ----------> live (shared reads) --+-> ConfigReader
//! ```
//!
//! [`controller`] is the one task that owns index and queue; reconciles run beside it and report back. [`leader`]
//! decides whether any of it runs.

mod compare;
pub mod controller;
mod evaluate;
pub mod events;
mod gate;
mod index;
mod jitter;
pub mod leader;
mod live;
pub mod metrics;
mod queue;
mod reconcile;
mod rivals;
mod selection;
mod sources;
mod tidings;
mod unanswered;
mod warn;
pub mod watch;
mod write;
