//! What the admission webhook and the reconciler share about Kubernetes.
//!
//! Narrow object types that skip what does not concern us while they are parsed ([`objects`], [`scan`]), reading config
//! objects as digests ([`reader`]) until a decision lacks nothing ([`evaluate`]), keeping an object of the operator's
//! own ([`named`], [`own_secret`]), the installation's digest key and its Secret ([`key`]), the operator's own user
//! name ([`identity`]), what kinds of workload there are ([`discovery`]), and how much may be in flight at once ([`budget`], [`fair`]). The one invariant: content of a
//! config object lives only as long as it takes to sum it; what is kept, logged or returned are digests.

pub mod budget;
pub mod connect;
mod costs;
pub mod discovery;
pub mod evaluate;
pub mod fair;
mod fetch;
mod flights;
pub mod identity;
pub mod key;
mod listing;
mod memory;
mod metadata;
pub mod metrics;
pub mod named;
mod namespaces;
pub mod objects;
pub mod own_secret;
pub mod reader;
pub mod reads;
mod requests;
pub mod scan;
pub mod scope;
mod selected;
mod shared;
pub mod transport;
mod unreadable;

/// The field manager of all our writes. Together with the authenticated user name it identifies our patches (4.3).
pub const FIELD_MANAGER: &str = "pod-reloader";
