//! The connection to the API server.

use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config};

use crate::requests::Bounded;
pub use crate::requests::MAX_REQUESTS;
use crate::transport::{Connect, Transport};

/// The longest that a single request may take, watches apart.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for that configuration, whose requests have deadlines and do not stay on dead connections
/// ([`crate::transport`]). It does not retry by itself: callers have deadlines and backoff of their own, and kube's
/// retries can take minutes.
///
/// # Errors
/// If the configuration's certificates or addresses are unusable.
pub fn client(mut config: Config) -> Result<Client, kube::Error> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let namespace = config.default_namespace.clone();
    client_over(Arc::new(move || Client::try_from(config.clone())), namespace)
}

/// A client over clients that `connect` makes, each with a connection pool of its own.
///
/// # Errors
/// If the first one cannot be made.
pub fn client_over(connect: Connect, namespace: impl Into<String>) -> Result<Client, kube::Error> {
    Ok(Client::new(Bounded::new(Transport::new(connect)?), namespace))
}
