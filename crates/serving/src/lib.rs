//! Serving: the accept loop of every port, and which certificate it is served with.
//!
//! In come a listener, a router and a directory or another source of certificates; out go answered requests. The
//! invariants: a certificate, once loaded, is only ever replaced by one that parses and matches its key, and replacing
//! it touches no open connection; no client's idle connections keep other clients out, and no number of connections
//! takes the descriptors that the process needs for its own.
//!
//! ```text
//! directory | others --install--> Certificates --resolve--> server --> router
//!                                    ClientAuthority --verify--^
//! ```

pub mod certificate;
pub mod clients;
pub mod descriptors;
pub mod directory;
pub mod metrics;
pub mod provider;
pub mod server;
pub mod tls;
