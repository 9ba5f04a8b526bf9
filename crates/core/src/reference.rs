//! References: which config objects a workload listed, and names for both sides.

use std::collections::BTreeSet;
use std::fmt;

use crate::kind::KindRef;

/// The two kinds of config object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigKind {
    /// `v1` `ConfigMap`.
    ConfigMap,
    /// `v1` `Secret`.
    Secret,
}

impl ConfigKind {
    /// The lower-case singular, as in `configmap/name`.
    pub const fn singular(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

/// A config object in the namespace of the workload that is being looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigName {
    /// `ConfigMap` or `Secret`.
    pub kind: ConfigKind,
    /// The object's name.
    pub name: String,
}

impl ConfigName {
    /// The `ConfigMap` of that name.
    pub fn configmap(name: impl Into<String>) -> Self {
        Self { kind: ConfigKind::ConfigMap, name: name.into() }
    }

    /// The `Secret` of that name.
    pub fn secret(name: impl Into<String>) -> Self {
        Self { kind: ConfigKind::Secret, name: name.into() }
    }
}

impl fmt::Display for ConfigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.singular(), self.name)
    }
}

/// A config object anywhere in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigRef {
    /// The object's namespace.
    pub namespace: String,
    /// Its kind and name.
    pub object: ConfigName,
}

impl ConfigRef {
    /// The object in that namespace.
    pub fn new(namespace: impl Into<String>, object: ConfigName) -> Self {
        Self { namespace: namespace.into(), object }
    }
}

impl fmt::Display for ConfigRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.object.kind.singular(), self.namespace, self.object.name)
    }
}

/// A workload anywhere in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadRef {
    /// Its kind.
    pub kind: KindRef,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for WorkloadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.as_str().to_ascii_lowercase(), self.namespace, self.name)
    }
}

/// A listed name that Kubernetes would refuse (1.2), as far as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadName {
    kind: ConfigKind,
    shown: Box<str>,
    has_blanks: bool,
}

impl BadName {
    fn new(kind: ConfigKind, name: &str) -> Self {
        let has_blanks = name.contains(char::is_whitespace);
        // A warning has room for 120 characters.
        let most = if has_blanks { 20 } else { 32 };
        let mut rest = name.chars();
        // It goes into warnings and Events: short, and without what could break a terminal or a header.
        let shown = rest.by_ref().take(most).map(|c| match c {
            c if c.is_ascii_graphic() => c,
            c if c.is_ascii_whitespace() => ' ',
            _ => '?',
        });
        let mut shown: String = shown.collect();
        if rest.next().is_some() {
            shown.push_str("...");
        }
        Self { kind, shown: shown.into(), has_blanks }
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind.singular(), self.shown)?;
        if self.has_blanks {
            f.write_str(" (names are separated by commas)")?;
        }
        Ok(())
    }
}

/// So many entries of one workload's lists count; what is listed beyond is left out, and reported. It bounds the memory
/// and the reads that one workload can ask for.
pub const MAX_REFERENCES: usize = 1_000;
/// Bad names kept for the report; more are counted only.
const MAX_BAD_NAMES: usize = 20;
/// Untidy lists are kept as they were written up to this length, to recognise what SAP's pod-reloader made of them.
const MAX_AS_WRITTEN_BYTES: usize = 32 * 1024;

/// The lists of `ConfigMap`s and of Secrets, unparsed.
type AsWritten = [(ConfigKind, Box<str>); 2];

/// The reference lists of one workload, parsed (1.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    listed: Vec<ConfigName>,
    left_out: usize,
    bad: Vec<BadName>,
    bad_count: usize,
    as_written: Option<Box<AsWritten>>,
}

impl References {
    /// Parses the values of the two annotations. Never fails: a bad name is left out and kept for the report, and so
    /// is counted what goes past [`MAX_REFERENCES`].
    pub fn parse(configmaps: Option<&str>, secrets: Option<&str>) -> Self {
        let lists = [(ConfigKind::ConfigMap, configmaps), (ConfigKind::Secret, secrets)]
            .map(|(kind, list)| (kind, list.unwrap_or_default()));
        let mut references = Self::default();
        let mut is_tidy = true;
        for (kind, list) in lists {
            for entry in entries(list) {
                let name = entry.trim();
                is_tidy &= name.len() == entry.len() && !name.is_empty();
                if name.is_empty() {
                    continue;
                }
                if !is_valid_name(name) {
                    is_tidy = false;
                    references.bad_count += 1;
                    if references.bad.len() < MAX_BAD_NAMES {
                        references.bad.push(BadName::new(kind, name));
                    }
                } else if references.listed.len() < MAX_REFERENCES {
                    references.listed.push(ConfigName { kind, name: name.to_owned() });
                } else {
                    references.left_out += 1;
                }
            }
        }
        let bytes: usize = lists.iter().map(|(_, list)| list.len()).sum();
        if !is_tidy && references.opted_in() && references.left_out == 0 && bytes <= MAX_AS_WRITTEN_BYTES {
            references.as_written = Some(Box::new(lists.map(|(kind, list)| (kind, list.into()))));
        }
        references
    }

    /// Whether the workload opted in: at least one entry that is not blank, valid or not.
    pub fn opted_in(&self) -> bool {
        !self.listed.is_empty() || self.bad_count > 0
    }

    /// The valid names as they were listed: `ConfigMap`s first, in order and with repetitions, as SAP hashes them; the
    /// first [`MAX_REFERENCES`] of them.
    pub fn listed(&self) -> &[ConfigName] {
        &self.listed
    }

    /// The valid names, each once.
    pub fn names(&self) -> BTreeSet<&ConfigName> {
        self.listed.iter().collect()
    }

    /// The Secrets among them, each once.
    pub fn secrets(&self) -> BTreeSet<&ConfigName> {
        self.listed.iter().filter(|name| name.kind == ConfigKind::Secret).collect()
    }

    /// How many valid entries are past [`MAX_REFERENCES`] and do not count.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The first of the names that Kubernetes would refuse.
    pub fn bad_names(&self) -> &[BadName] {
        &self.bad
    }

    /// How many names Kubernetes would refuse.
    pub fn bad_count(&self) -> usize {
        self.bad_count
    }

    /// The entries as SAP's pod-reloader takes them, with blanks, empty ones and bad names; `None` if they are the same
    /// as [`Self::listed`], or too long to have been kept.
    pub(crate) fn as_written(&self) -> Option<impl Iterator<Item = (ConfigKind, &str)>> {
        let lists = self.as_written.as_deref()?.iter();
        Some(lists.flat_map(|(kind, list)| entries(list).map(|entry| (*kind, entry))))
    }
}

/// An empty list has no entry, any other one more than it has commas.
fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').take(if list.is_empty() { 0 } else { usize::MAX })
}

/// Whether Kubernetes accepts this as the name of a namespace: an RFC 1123 label. Whatever comes from outside has to
/// pass here before it becomes part of a request's path.
pub fn is_valid_namespace(name: &str) -> bool {
    name.len() <= 63 && !name.contains('.') && is_valid_name(name)
}

/// Whether Kubernetes accepts this as the name of a `ConfigMap` or `Secret`: an RFC 1123 subdomain
/// (`IsDNS1123Subdomain` in apimachinery).
pub(crate) fn is_valid_name(name: &str) -> bool {
    let is_alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
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
    fn c1_2_blanks_empty_entries_order_and_repetition_make_no_difference() {
        let tidy = References::parse(Some("a,b"), Some("c"));
        let untidy = References::parse(Some(" ,b , a,,\ta\n,"), Some("c,, c"));
        assert_eq!(tidy.names(), untidy.names());
        assert!(untidy.bad_names().is_empty());
    }

    #[test]
    fn c1_2_opted_in_means_one_entry_that_is_not_blank() {
        for (configmaps, secrets, expected) in [
            (None, None, false),
            (Some(""), None, false),
            (Some(" , ,"), Some("\n"), false),
            (Some("a"), None, true),
            (None, Some(" a "), true),
            (Some("Not_Valid"), None, true),
        ] {
            assert_eq!(
                References::parse(configmaps, secrets).opted_in(),
                expected,
                "{configmaps:?} {secrets:?}"
            );
        }
    }

    #[test]
    fn c1_2_a_name_that_kubernetes_would_refuse_is_reported_and_left_out() {
        let long = "a".repeat(254);
        let list = format!("good,Upper,under_score,-x,x-,a..b,.a,ns/name,{long},also.good-1");
        let references = References::parse(Some(&list), None);
        let names: Vec<_> = references.listed().iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["good", "also.good-1"]);
        assert_eq!(references.bad_names().len(), 8);
        assert_eq!(references.bad_names()[0].to_string(), "configmap \"Upper\"");
        assert!(references.bad_names()[7].to_string().len() < 60);
    }

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

    #[test]
    fn a_bad_name_is_shown_without_control_characters() {
        let references = References::parse(None, Some("a\u{1b}[31m\u{e9}"));
        assert_eq!(references.bad_names()[0].to_string(), "secret \"a?[31m?\"");
    }

    #[test]
    fn c1_2_the_first_thousand_entries_count_and_the_rest_is_told() {
        let names: Vec<_> = (0..700).map(|n| format!("n{n}")).collect();
        let list = names.join(",");
        let references = References::parse(Some(&list), Some(&list));
        assert_eq!((references.listed().len(), references.left_out()), (MAX_REFERENCES, 400));
        assert_eq!(references.listed()[999], ConfigName::secret("n299"));

        let exactly = References::parse(Some(&list), Some(&names[..300].join(" , ")));
        assert_eq!((exactly.listed().len(), exactly.left_out()), (1_000, 0));
    }

    #[test]
    fn c1_2_of_many_bad_names_some_are_kept_and_all_are_counted() {
        let references = References::parse(Some(&"A,".repeat(120_000)), Some("B"));
        assert_eq!((references.bad_names().len(), references.bad_count()), (MAX_BAD_NAMES, 120_001));
        assert!(references.opted_in() && references.left_out() == 0);
        assert_eq!(references.as_written().map(Iterator::count), None, "too long to be kept");
    }

    #[test]
    fn c1_2_one_name_per_line_is_said_to_be_what_it_is() {
        for (list, shown) in [
            ("a\nb", "configmap \"a b\" (names are separated by commas)"),
            ("a b", "configmap \"a b\" (names are separated by commas)"),
            ("A_b", "configmap \"A_b\""),
        ] {
            let references = References::parse(Some(list), None);
            assert_eq!(references.bad_names()[0].to_string(), shown);
        }
        let long = References::parse(None, Some(&"a ".repeat(100)));
        assert!(long.bad_names()[0].to_string().len() < 70, "{}", long.bad_names()[0]);
    }

    #[test]
    fn c2_5_lists_are_kept_as_written_only_where_they_are_untidy() {
        for tidy in [(None, None), (Some("a,b,a"), Some("c")), (Some(""), Some("c")), (Some(" ,"), None)] {
            assert!(References::parse(tidy.0, tidy.1).as_written().is_none(), "{tidy:?}");
        }
        let untidy = References::parse(Some("a, b,"), Some("c"));
        let entries: Vec<_> = untidy.as_written().unwrap().map(|(_, entry)| entry).collect();
        assert_eq!(entries, ["a", " b", "", "c"]);
    }
}
