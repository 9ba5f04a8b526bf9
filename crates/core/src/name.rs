//! Config objects and how they are named.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The two kinds of config object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigKind {
    /// `v1` `ConfigMap`.
    ConfigMap,
    /// `v1` `Secret`.
    Secret,
}

impl ConfigKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ConfigMap, Self::Secret];

    /// The `kind` field's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    /// The lower-case singular, as in `configmap/name`.
    pub const fn singular(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }

    /// The resource's plural name in URLs.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
        }
    }
}

/// A config object anywhere in the cluster. Thousands are kept, in several places each: it takes no more room than a
/// pointer, and clones share what it points to.
///
/// Shown as users name it beside its workload, `configmap/name`; with its namespace by `{:#}`, `configmap/namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigRef(Arc<ConfigName>);

/// What a [`ConfigRef`] says.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigName {
    /// `ConfigMap` or `Secret`.
    pub kind: ConfigKind,
    /// The object's namespace.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Box<str>,
}

impl Deref for ConfigRef {
    type Target = ConfigName;

    fn deref(&self) -> &ConfigName {
        &self.0
    }
}

impl ConfigRef {
    /// The object of that kind, namespace and name.
    pub fn new(kind: ConfigKind, namespace: impl Into<Arc<str>>, name: impl Into<Box<str>>) -> Self {
        Self(Arc::new(ConfigName { kind, namespace: namespace.into(), name: name.into() }))
    }

    /// The `ConfigMap` of that name.
    pub fn configmap(namespace: impl Into<Arc<str>>, name: impl Into<Box<str>>) -> Self {
        Self::new(ConfigKind::ConfigMap, namespace, name)
    }

    /// The `Secret` of that name.
    pub fn secret(namespace: impl Into<Arc<str>>, name: impl Into<Box<str>>) -> Self {
        Self::new(ConfigKind::Secret, namespace, name)
    }

    /// The object of the same kind and name in that namespace.
    #[must_use]
    pub(crate) fn in_namespace(&self, namespace: &Arc<str>) -> Self {
        Self::new(self.kind, namespace.clone(), self.name.clone())
    }
}

impl fmt::Display for ConfigRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigName { kind, namespace, name } = &**self;
        if f.alternate() {
            write!(f, "{}/{namespace}/{name}", kind.singular())
        } else {
            write!(f, "{}/{name}", kind.singular())
        }
    }
}

/// Whether Kubernetes accepts this as the name of a namespace: an RFC 1123 label. Whatever comes from outside has to
/// pass here before it becomes part of a request's path.
pub fn is_valid_namespace(name: &str) -> bool {
    name.len() <= 63 && !name.contains('.') && is_valid_name(name)
}

/// The longest name of a `ConfigMap` or `Secret`.
pub(crate) const MAX_NAME_BYTES: usize = 253;

/// Whether Kubernetes accepts this as the name of a `ConfigMap` or `Secret`: an RFC 1123 subdomain
/// (`IsDNS1123Subdomain` in apimachinery).
pub(crate) fn is_valid_name(name: &str) -> bool {
    let is_alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= MAX_NAME_BYTES
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            bytes.first().is_some_and(is_alphanumeric)
                && bytes.last().is_some_and(is_alphanumeric)
                && bytes.iter().all(|b| is_alphanumeric(b) || *b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c4_6_a_namespace_that_is_no_name_is_told_from_one_that_is() {
        for name in ["default", "a", "kube-system", "0-1"] {
            assert!(is_valid_namespace(name), "{name}");
        }
        let long = "a".repeat(64);
        for name in ["", "a.b", "../../secrets", "ns/secrets/key?", "v%2f..", "A", "-a", "a ", &long] {
            assert!(!is_valid_namespace(name), "{name}");
        }
    }
}
