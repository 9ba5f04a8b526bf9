//! The config hash: one value over all references, in our form (2.1). SAP's (2.4) is in `dialect/sap.rs`.

use std::borrow::Cow;
use std::fmt;

use crate::digest::DigestKey;
use crate::name::ConfigRef;
use crate::observed::{Records, Seen};

/// How the config hash is made (`--hash`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashMode {
    /// From the content, keyed (2.1 to 2.3).
    #[default]
    Content,
    /// From uid and resource version, as SAP's pod-reloader does (2.4).
    Version,
}

/// The value of the config-hash annotation: 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigHash(String);

impl ConfigHash {
    /// The hash as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Our hash: a pure function of the references as observed-config records them, whatever their order and wherever they
    /// come from. What is not followed it does not cover.
    pub fn of_content(key: &DigestKey, namespace: &str, records: &Records) -> Self {
        let mut sum = key.sum("pod-reloader config hash 1");
        sum.field(namespace.as_bytes());
        let covered = || records.iter().filter(|(_, record)| record.seen != Seen::Unfollowed);
        sum.field(&(covered().count() as u64).to_be_bytes());
        for (object, record) in covered() {
            sum.field(object.kind.as_str().as_bytes());
            sum.field(name_beside(namespace, object).as_bytes());
            match record.seen {
                Seen::Absent => sum.field(b"absent"),
                // There are none of the latter.
                Seen::Uncompared | Seen::Unfollowed => sum.field(b"uncompared"),
                Seen::Digest(digest) => {
                    sum.field(b"digest");
                    sum.field(digest.as_bytes());
                }
            }
        }
        Self(hex(&sum.finish()))
    }

    /// The same, unless that is the hash that is there already: a reload has to change the template. Pods may run with
    /// something else than it stands for where it was kept from other times (section 3).
    pub(crate) fn other_than(
        present: Option<&str>,
        key: &DigestKey,
        namespace: &str,
        records: &Records,
    ) -> Self {
        let hash = Self::of_content(key, namespace, records);
        if present != Some(hash.as_str()) {
            return hash;
        }
        let mut sum = key.sum("pod-reloader config hash 1, again");
        sum.field(hash.as_str().as_bytes());
        Self(hex(&sum.finish()))
    }

    /// A hash that a dialect computes.
    pub(crate) fn of_sum(sum: &[u8]) -> Self {
        Self(hex(sum))
    }
}

/// The object's name as seen from that namespace: `namespace/name` if it is in another.
pub(crate) fn name_beside<'o>(namespace: &str, object: &'o ConfigRef) -> Cow<'o, str> {
    if *object.namespace == *namespace {
        Cow::Borrowed(&object.name)
    } else {
        Cow::Owned(format!("{}/{}", object.namespace, object.name))
    }
}

impl fmt::Display for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for ConfigHash {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}
