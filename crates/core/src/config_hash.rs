//! The config hash: one value over all references, in our form (2.1) and in SAP's (2.4).

use std::collections::BTreeMap;
use std::fmt;

use crate::digest::DigestKey;
use crate::lookup::{Lookup, Lookups};
use crate::observed::Record;
use crate::reference::{ConfigKind, ConfigName, References, is_valid_name};
use crate::sha::Sha256;

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

    /// Our hash: a pure function of the references as observed-config records them, whatever their order. What is not
    /// followed it does not cover.
    pub fn of_content(key: &DigestKey, namespace: &str, records: &BTreeMap<ConfigName, Record>) -> Self {
        let mut sum = key.sum("pod-reloader config hash 1");
        sum.field(namespace.as_bytes());
        let is_covered = |record: &Record| *record != Record::Unfollowed;
        let covered = records.values().filter(|record| is_covered(record)).count();
        sum.field(&(covered as u64).to_be_bytes());
        for (name, record) in records.iter().filter(|(_, record)| is_covered(record)) {
            sum.field(match name.kind {
                ConfigKind::ConfigMap => b"ConfigMap",
                ConfigKind::Secret => b"Secret",
            });
            sum.field(name.name.as_bytes());
            match record {
                Record::Absent => sum.field(b"absent"),
                // There are none of the latter.
                Record::Uncompared | Record::Unfollowed => sum.field(b"uncompared"),
                Record::Digest(digest) => {
                    sum.field(b"digest");
                    sum.field(digest.as_bytes());
                }
            }
        }
        Self(hex(&sum.finish()))
    }

    /// SAP's hash over the names as listed; `None` while an object could not be looked up.
    pub fn of_versions(namespace: &str, listed: &[ConfigName], live: &Lookups) -> Option<Self> {
        let mut sum = VersionSum::new(namespace);
        for name in listed {
            sum.line(name.kind, &name.name, Some(live.get(name)?))?;
        }
        Some(sum.finish())
    }

    /// The hash that SAP's pod-reloader makes of lists that are not tidy: it splits at commas and takes what it gets,
    /// blanks and all. What is no name, it does not find. `None` where the lists are tidy, or too long to have been
    /// kept, or while an object could not be looked up.
    pub fn of_versions_as_written(namespace: &str, references: &References, live: &Lookups) -> Option<Self> {
        let mut sum = VersionSum::new(namespace);
        for (kind, entry) in references.as_written()? {
            let lookup = if is_valid_name(entry) {
                Some(live.get(&ConfigName { kind, name: entry.to_owned() })?)
            } else {
                None
            };
            sum.line(kind, entry, lookup)?;
        }
        Some(sum.finish())
    }
}

/// SHA-256 over one line per entry of the lists.
struct VersionSum<'a> {
    sum: Sha256,
    namespace: &'a str,
}

impl<'a> VersionSum<'a> {
    fn new(namespace: &'a str) -> Self {
        Self { sum: Sha256::new(), namespace }
    }

    /// `None` for what could not be asked for; what is no name cannot be there.
    fn line(&mut self, kind: ConfigKind, name: &str, lookup: Option<&Lookup>) -> Option<()> {
        let version = match lookup {
            Some(Lookup::Unknown | Lookup::Unfollowed) => return None,
            Some(Lookup::Absent) | None => String::new(),
            Some(Lookup::Known(live)) => format!("{}.{}", live.uid, live.resource_version),
        };
        self.sum.update(format!("{}/{}/{name}/{version}\n", kind.singular(), self.namespace));
        Some(())
    }

    fn finish(self) -> ConfigHash {
        ConfigHash(hex(&self.sum.finish()))
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

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}
