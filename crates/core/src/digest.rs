//! Keyed digests of config objects (2.2).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::content::ContentSum;
use crate::name::ConfigRef;
use crate::sha::HmacSha256;

/// The installation's random key with its id.
#[derive(Clone, PartialEq, Eq)]
pub struct DigestKey {
    id: Arc<str>,
    bytes: [u8; Self::LEN],
    former: Vec<DigestKey>,
}

impl DigestKey {
    /// Length of the key in bytes.
    pub const LEN: usize = 32;

    /// A key from its stored parts; `None` if the id is empty, longer than 64 bytes or not alphanumeric, or the
    /// key has another length than [`Self::LEN`].
    pub fn new(id: impl Into<Arc<str>>, bytes: &[u8]) -> Option<Self> {
        let id: Arc<str> = id.into();
        let is_proper = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        Some(Self { id: is_proper.then_some(id)?, bytes: bytes.try_into().ok()?, former: vec![] })
    }

    /// The key, and those that it replaced a short while ago: what was recorded with one of these is compared under it,
    /// and then recorded again (2.2).
    #[must_use]
    pub fn with_former(self, former: impl IntoIterator<Item = Self>) -> Self {
        let former = former.into_iter().map(|key| Self { former: vec![], ..key }).collect();
        Self { former, ..self }
    }

    /// The keys that this one replaced a short while ago.
    pub fn former(&self) -> &[Self] {
        &self.former
    }

    /// Whether the two give the same digests, whatever came before them.
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.bytes == other.bytes
    }

    /// The key's random id, which observed-config names.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The same, to be shared.
    pub fn shared_id(&self) -> Arc<str> {
        self.id.clone()
    }

    /// The key itself, to be stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Starts a keyed sum over fields. `purpose` keeps sums of different meaning apart.
    pub(crate) fn sum(&self, purpose: &str) -> KeyedSum {
        let mut sum = KeyedSum(HmacSha256::new(&self.bytes));
        sum.field(purpose.as_bytes());
        sum
    }
}

// A key must not reach a log, not even by accident.
impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// HMAC-SHA-256 over fields with their lengths, so that no two lists of fields give the same input.
pub(crate) struct KeyedSum(HmacSha256);

impl KeyedSum {
    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finish()
    }
}

/// The keyed digest of one config object's content: 128 bits, shown as 22 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; Self::LEN]);

impl Digest {
    /// Length in bytes; 2.2 asks for at least 96 bits.
    pub const LEN: usize = 16;

    /// The digest of that object with that content. Namespace, kind and name go under the key with the content, so that
    /// equal contents of different objects have different digests.
    pub fn of(key: &DigestKey, object: &ConfigRef, content: &ContentSum) -> Self {
        let mut sum = key.sum("pod-reloader digest 1");
        sum.field(object.namespace.as_bytes());
        sum.field(object.kind.as_str().as_bytes());
        sum.field(object.name.as_bytes());
        sum.field(content.as_bytes());
        let full = sum.finish();
        let mut short = [0; Self::LEN];
        short.copy_from_slice(&full[..Self::LEN]);
        Self(short)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
