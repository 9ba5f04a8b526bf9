//! Questions about config objects, and what is known of them now.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::content::KeyNames;
use crate::digest::{Digest, DigestKey};
use crate::marks::Marks;
use crate::name::ConfigRef;
use crate::reference::Keys;

/// What a decision lacks: one object, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Query {
    /// The object.
    pub object: ConfigRef,
    /// How much of it.
    pub depth: Depth,
}

/// How much of an object has to be known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// Whether it is there. The workload need not refer to it, only its pod template requires it.
    Exists,
    /// Its uid and resource version.
    Version,
    /// These, the digest over these keys, and which keys it has.
    Content(Keys),
}

/// What is known of one config object now. "Not there" and "could not ask" are different answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It exists.
    Found(Found),
    /// It does not exist.
    Absent,
    /// It could not be asked for.
    Unknown,
    /// It is not asked for: objects of its kind are not followed here (5.9).
    Unfollowed,
}

/// One version of a config object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigVersion {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// How the object is marked in that version.
    pub marks: Marks,
}

/// An existing config object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its version.
    pub version: ConfigVersion,
    /// The digests of its content that are known, none where it was not asked for.
    pub digests: Vec<KnownDigest>,
    /// Which keys it has; `None` where the content was not asked for. Only this proves that a key is missing.
    pub keys: Option<KeyNames>,
}

/// A digest, and what it was made with and over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDigest {
    /// Id of the [`DigestKey`] that it was made with.
    pub key_id: Arc<str>,
    /// The object's keys that it covers.
    pub keys: Keys,
    /// The digest.
    pub digest: Digest,
}

impl ConfigVersion {
    /// The version with that uid and resource version of an object without marks.
    pub fn new(uid: impl Into<String>, resource_version: impl Into<String>) -> Self {
        Self { uid: uid.into(), resource_version: resource_version.into(), marks: Marks::default() }
    }
}

impl Found {
    /// An object of which nothing but its version is known.
    pub fn version(version: ConfigVersion) -> Self {
        Self { version, digests: vec![], keys: None }
    }

    /// The digest over these keys under that key, if it is known.
    pub fn digest(&self, key: &DigestKey, keys: &Keys) -> Option<Digest> {
        let mut known = self.digests.iter();
        known.find(|known| *known.key_id == *key.id() && known.keys == *keys).map(|known| known.digest)
    }
}

impl Lookup {
    /// Whether it answers a question of that depth, if digests are made with that key.
    pub fn answers(&self, depth: &Depth, key: &DigestKey) -> bool {
        match (self, depth) {
            (Self::Found(found), Depth::Content(keys)) => found.digest(key, keys).is_some(),
            (Self::Found(_) | Self::Absent | Self::Unknown | Self::Unfollowed, _) => true,
        }
    }
}

/// What is known of config objects, as far as they were asked for.
pub type Lookups = BTreeMap<ConfigRef, Lookup>;

/// The versions in which objects were seen first since they were unknown or absent.
pub type FirstSeen = BTreeMap<ConfigRef, ConfigVersion>;
