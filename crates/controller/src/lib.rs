//! The reconciler (section 5): bumps the config hash when a referenced object changed, and heals drift.
//!
//! In come watch events of workloads and of config objects' metadata; out go guarded patches of annotations, Events,
//! log lines and metrics. The invariant: nothing is written unless [`pod_reloader_core::decide`] says so from a
//! workload and live lookups that are at least as new, and every write is guarded by the version it was decided on.
//!
//! ```text
//! watch -> index -> queue (settle window, backoff) -> evaluate from memory -> gate -> evaluate live -> apply -> facts
//!            ^                                                                         |
//!            +--- compare (has the content changed?) ----------> live (shared reads) --+-> ConfigReader
//! ```
//!
//! [`controller`] is the one task that owns index, queue and gate; reconciles run beside it and report back. What happened
//! to a workload is a `fact::Fact`, published to every `sink`. [`leader`] decides whether any of it runs.

mod apply;
mod compare;
mod conditions;
pub mod controller;
mod evaluate;
mod fact;
mod first_lists;
#[cfg(test)]
mod footprint;
mod gate;
mod index;
mod jitter;
pub mod leader;
mod live;
pub mod metrics;
mod opt_ins;
mod problems;
mod queue;
mod reconciler;
mod recreation;
mod rivals;
mod selection;
mod sink;
mod sources;
mod unconfirmed;
pub mod watch;
mod write;
