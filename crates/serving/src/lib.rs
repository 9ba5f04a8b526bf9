//! HTTPS serving: the accept loop, and where its certificate comes from.
//!
//! In come a listener, a router and either a directory or access to the API server; out go answered requests. The
//! invariant: a certificate, once loaded, is only ever replaced by one that parses and matches its key, and replacing
//! it touches no open connection.
//!
//! ```text
//! directory | self_made --install--> Certificates --resolve--> server --> router
//!                                    ClientAuthority --verify--^
//! ```

pub mod certificate;
pub mod clients;
pub mod directory;
pub mod metrics;
pub mod provider;
pub mod self_made;
pub mod server;
pub mod tls;
