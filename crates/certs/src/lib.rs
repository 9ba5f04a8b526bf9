//! The operator's own CA and certificate, for installations without cert-manager (4.7).
//!
//! All replicas run the same loop over two shared Secrets, one with the certificate and one with the CAs, and the
//! `MutatingWebhookConfiguration`. Every write is guarded by the version it was decided on, so whichever replica is first
//! wins and the others follow. What the three hold cannot be written at once; the keeper says in which order it is.

mod authority;
mod error;
mod handover;
mod keeper;
mod lifetimes;
mod pace;
mod pair;
mod registration;
mod secret;
mod self_made;

pub use lifetimes::Lifetimes;
pub use self_made::SelfMade;

#[cfg(test)]
mod tests;
