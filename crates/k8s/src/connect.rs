//! The connection to the API server.

use std::time::Duration;

use kube::{Client, Config};

/// The longest that a single request may take, watches apart.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for that configuration. It does not retry by itself: callers have deadlines and backoff of their own,
/// and kube's retries can take minutes.
///
/// # Errors
/// If the configuration's certificates or addresses are unusable.
pub fn client(mut config: Config) -> Result<Client, kube::Error> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    Client::try_from(config)
}
