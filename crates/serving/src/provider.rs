//! The one provider of cryptography, as the features choose it: `ring`, or `aws-lc-rs` in FIPS mode.
//!
//! Nothing else names a provider, so that there is never a second one in the process.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

#[cfg(all(feature = "fips", feature = "ring"))]
compile_error!("choose one provider of cryptography: --no-default-features --features fips, or the default");
#[cfg(not(any(feature = "fips", feature = "ring")))]
compile_error!("choose a provider of cryptography: the feature ring (the default) or fips");

/// Whether this build has the validated module for its TLS.
pub const IS_FIPS: bool = cfg!(feature = "fips");

/// A provider is installed already.
#[derive(Debug, thiserror::Error)]
#[error("a TLS provider was installed already")]
pub struct InstalledAlready;

/// The provider for TLS, signatures and the keys of certificates.
pub fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "fips")]
    let provider = rustls::crypto::default_fips_provider();
    #[cfg(not(feature = "fips"))]
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(provider)
}

/// Makes it the default of the process, which is what the client of the API server takes. To be called before either.
///
/// # Errors
/// If there is a default already.
pub fn install() -> Result<(), InstalledAlready> {
    CryptoProvider::clone(&provider()).install_default().map_err(|_| InstalledAlready)
}
