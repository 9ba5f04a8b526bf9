//! Witnesses: the versions in which objects had the content that is recorded (2.3).

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::digest::{Digest, DigestKey};
use crate::lookup::ConfigVersion;
use crate::name::ConfigRef;
use crate::reference::Keys;

/// Proof that an object had a certain digest in a certain version: 64 bits of a keyed sum over both, shown as 11
/// characters of base64url. Since a version has one content only, the digest is known wherever the object is found in
/// that version. Without the key neither a digest nor a version can be put in the place of another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Witness([u8; Self::LEN]);

/// The witnesses of those records that have one.
pub type Witnesses = BTreeMap<ConfigRef, Witness>;

impl Witness {
    /// Length in bytes. It is no digest of content: two objects are never told apart by it.
    pub const LEN: usize = 8;

    /// The witness that these keys of the object had that digest in that version.
    pub fn of(
        key: &DigestKey,
        object: &ConfigRef,
        version: &ConfigVersion,
        keys: &Keys,
        digest: Digest,
    ) -> Self {
        let mut sum = key.sum("pod-reloader witness 1");
        sum.field(object.namespace.as_bytes());
        sum.field(object.kind.as_str().as_bytes());
        sum.field(object.name.as_bytes());
        sum.field(version.uid.as_bytes());
        sum.field(version.resource_version.as_bytes());
        sum.field(digest.as_bytes());
        match keys {
            Keys::All => sum.field(b"all"),
            Keys::Only(keys) => {
                sum.field(b"only");
                keys.iter().for_each(|key| sum.field(key.as_bytes()));
            }
        }
        let full = sum.finish();
        let mut short = [0; Self::LEN];
        short.copy_from_slice(&full[..Self::LEN]);
        Self(short)
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Witness({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGESTS: [&str; 2] = ["AAAAAAAAAAAAAAAAAAAAAA", "BAAAAAAAAAAAAAAAAAAAAA"];

    #[test]
    fn c2_3_a_witness_is_of_one_object_one_version_one_digest_and_one_key_alone() {
        let key = |id, byte| DigestKey::new(id, &[byte; DigestKey::LEN]).unwrap();
        let version = |uid: &str, version: &str| ConfigVersion::new(uid.to_owned(), version.to_owned());
        let digest = |at: usize| Digest::parse(DIGESTS[at]).unwrap();
        let (k1, k2) = (key("k1", 7), key("k2", 8));
        let (a, all) = (ConfigRef::configmap("shop", "a"), Keys::All);
        let (u1, u2) = (version("u", "1"), version("u", "2"));
        let only = |keys: &[&str]| Keys::only(keys.iter().copied());
        let different = [
            Witness::of(&k1, &a, &u1, &all, digest(0)),
            Witness::of(&k2, &a, &u1, &all, digest(0)),
            Witness::of(&k1, &ConfigRef::configmap("shop", "b"), &u1, &all, digest(0)),
            Witness::of(&k1, &ConfigRef::configmap("other", "a"), &u1, &all, digest(0)),
            Witness::of(&k1, &ConfigRef::secret("shop", "a"), &u1, &all, digest(0)),
            Witness::of(&k1, &a, &u2, &all, digest(0)),
            Witness::of(&k1, &a, &version("u1", ""), &all, digest(0)),
            Witness::of(&k1, &a, &u1, &only(&["x", "y"]), digest(0)),
            Witness::of(&k1, &a, &u1, &only(&["xy"]), digest(0)),
            Witness::of(&k1, &a, &u1, &all, digest(1)),
        ];
        for (at, one) in different.iter().enumerate() {
            assert_eq!(Witness::parse(&one.to_string()), Some(*one));
            assert!(!different[at + 1..].contains(one), "{at}");
        }
        // It stands in annotations: another value would have everything read once more.
        assert_eq!(different[0].to_string(), "ygnR9hMrqYg");
    }
}
