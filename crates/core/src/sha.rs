//! SHA-256 and HMAC-SHA-256: `RustCrypto`'s, or with the feature `fips` those of the validated module (4.11).

/// A running SHA-256.
pub(crate) struct Sha256(inner::Sha256);

/// A running HMAC-SHA-256.
pub(crate) struct HmacSha256(inner::HmacSha256);

impl Sha256 {
    pub(crate) fn new() -> Self {
        Self(inner::sha256())
    }

    pub(crate) fn digest(bytes: impl AsRef<[u8]>) -> [u8; 32] {
        let mut sum = Self::new();
        sum.update(bytes);
        sum.finish()
    }

    pub(crate) fn update(&mut self, bytes: impl AsRef<[u8]>) {
        inner::update_sha256(&mut self.0, bytes.as_ref());
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        inner::finish_sha256(self.0)
    }
}

impl HmacSha256 {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(inner::hmac_sha256(key))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        inner::update_hmac(&mut self.0, bytes);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        inner::finish_hmac(self.0)
    }
}

#[cfg(not(feature = "fips"))]
mod inner {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Digest as _;
    pub(super) use sha2::Sha256;

    pub(super) type HmacSha256 = Hmac<Sha256>;

    pub(super) fn sha256() -> Sha256 {
        Sha256::new()
    }

    pub(super) fn update_sha256(sum: &mut Sha256, bytes: &[u8]) {
        sum.update(bytes);
    }

    pub(super) fn finish_sha256(sum: Sha256) -> [u8; 32] {
        sum.finalize().into()
    }

    pub(super) fn hmac_sha256(key: &[u8; 32]) -> HmacSha256 {
        HmacSha256::new_from_slice(key).expect("HMAC takes a key of any length")
    }

    pub(super) fn update_hmac(sum: &mut HmacSha256, bytes: &[u8]) {
        sum.update(bytes);
    }

    pub(super) fn finish_hmac(sum: HmacSha256) -> [u8; 32] {
        sum.finalize().into_bytes().into()
    }
}

#[cfg(feature = "fips")]
mod inner {
    pub(super) use aws_lc_rs::digest::Context as Sha256;
    use aws_lc_rs::digest::SHA256;
    pub(super) use aws_lc_rs::hmac::Context as HmacSha256;
    use aws_lc_rs::hmac::{HMAC_SHA256, Key};

    const LENGTH: &str = "SHA-256 has 32 bytes";

    pub(super) fn sha256() -> Sha256 {
        Sha256::new(&SHA256)
    }

    pub(super) fn update_sha256(sum: &mut Sha256, bytes: &[u8]) {
        sum.update(bytes);
    }

    pub(super) fn finish_sha256(sum: Sha256) -> [u8; 32] {
        sum.finish().as_ref().try_into().expect(LENGTH)
    }

    pub(super) fn hmac_sha256(key: &[u8; 32]) -> HmacSha256 {
        HmacSha256::with_key(&Key::new(HMAC_SHA256, key))
    }

    pub(super) fn update_hmac(sum: &mut HmacSha256, bytes: &[u8]) {
        sum.update(bytes);
    }

    pub(super) fn finish_hmac(sum: HmacSha256) -> [u8; 32] {
        sum.sign().as_ref().try_into().expect(LENGTH)
    }
}
