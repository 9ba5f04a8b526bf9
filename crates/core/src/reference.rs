//! References: which config objects a workload follows, and names for workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::kind::KindRef;
use crate::name::is_valid_name;
pub use crate::name::{ConfigKind, ConfigRef, is_valid_namespace};
use crate::template::{Need, TemplateUses};

/// A config object that a workload follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The object.
    pub object: ConfigRef,
    /// Which of its keys count.
    pub keys: Keys,
    /// Where the reference comes from.
    pub origin: Origin,
    /// Whether pods can start without the object; `None` where the pod template does not name it.
    pub need: Option<Need>,
}

/// Where a reference comes from. What is listed is its owner's explicit wish: listing it, or not listing it any more, is a
/// reload. What is followed for any other reason comes and goes silently (section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// One of the two lists names it (1.2).
    #[default]
    Listed,
    /// Anything else: what the pod template uses, a mark on the object, another tool's words.
    Followed,
}

/// Which keys of an object count.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keys {
    /// All that there are, and a Secret's type.
    #[default]
    All,
    /// These, in the order of their names.
    Only(Arc<[Box<str>]>),
}

impl Keys {
    /// Exactly these keys.
    pub fn only<'k>(keys: impl IntoIterator<Item = &'k str>) -> Self {
        let keys: BTreeSet<Box<str>> = keys.into_iter().map(Box::from).collect();
        Self::Only(keys.into_iter().collect())
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

/// What one workload follows, and what is wrong with the way it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// The listed ones first, in their order and with repetitions.
    entries: Vec<Reference>,
    left_out: usize,
    bad: Vec<BadName>,
    bad_count: usize,
    as_written: Option<Box<AsWritten>>,
}

impl References {
    /// Parses the values of the two annotations of a workload in that namespace (1.2). Never fails: a bad name is left out
    /// and kept for the report, and so is counted what goes past [`MAX_REFERENCES`].
    pub fn parse(namespace: &str, configmaps: Option<&str>, secrets: Option<&str>) -> Self {
        let lists = [(ConfigKind::ConfigMap, configmaps), (ConfigKind::Secret, secrets)]
            .map(|(kind, list)| (kind, list.unwrap_or_default()));
        let mut references = Self::default();
        let mut is_tidy = true;
        let namespace: Arc<str> = namespace.into();
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
                } else if references.entries.len() < MAX_REFERENCES {
                    let object = ConfigRef::new(kind, namespace.clone(), name);
                    let (keys, origin) = (Keys::All, Origin::Listed);
                    references.entries.push(Reference { object, keys, origin, need: None });
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

    /// Adds what is followed without being listed. What is listed as well stays listed, with all of its keys.
    #[must_use]
    pub fn following(mut self, followed: impl IntoIterator<Item = (ConfigRef, Keys)>) -> Self {
        let mut known: BTreeSet<ConfigRef> = self.listed().cloned().collect();
        for (object, keys) in followed {
            if known.insert(object.clone()) {
                self.entries.push(Reference { object, keys, origin: Origin::Followed, need: None });
            }
        }
        self
    }

    /// The same, each with the need that the pod template has of it.
    #[must_use]
    pub fn needed_by(mut self, uses: &TemplateUses) -> Self {
        for reference in &mut self.entries {
            reference.need = uses.need(&reference.object);
        }
        self
    }

    /// The same references of a workload that is in another namespace.
    pub(crate) fn moved(mut self, from: &str, to: &Arc<str>) -> Self {
        for reference in &mut self.entries {
            if *reference.object.namespace == *from {
                reference.object.namespace = to.clone();
            }
        }
        self
    }

    /// Whether the workload opted in: at least one entry that is not blank, valid or not, or something that is followed.
    pub fn opted_in(&self) -> bool {
        !self.entries.is_empty() || self.bad_count > 0
    }

    /// The objects that are listed: `ConfigMap`s first, in order and with repetitions, as SAP hashes them; the first
    /// [`MAX_REFERENCES`] of them.
    pub fn listed(&self) -> impl Iterator<Item = &ConfigRef> + Clone {
        self.entries
            .iter()
            .filter(|reference| reference.origin == Origin::Listed)
            .map(|reference| &reference.object)
    }

    /// Every reference once, in the order of their objects.
    pub fn all(&self) -> BTreeMap<&ConfigRef, &Reference> {
        // A later one takes the place of an earlier one; repetitions are the same but for where they stand.
        self.entries.iter().map(|reference| (&reference.object, reference)).collect()
    }

    /// The objects that are followed, each once.
    pub fn objects(&self) -> BTreeSet<&ConfigRef> {
        self.entries.iter().map(|reference| &reference.object).collect()
    }

    /// The Secrets among them, each once.
    pub fn secrets(&self) -> BTreeSet<&ConfigRef> {
        let objects = self.entries.iter().map(|reference| &reference.object);
        objects.filter(|object| object.kind == ConfigKind::Secret).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_2_blanks_empty_entries_order_and_repetition_make_no_difference() {
        let tidy = References::parse("shop", Some("a,b"), Some("c"));
        let untidy = References::parse("shop", Some(" ,b , a,,\ta\n,"), Some("c,, c"));
        assert_eq!(tidy.objects(), untidy.objects());
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
                References::parse("shop", configmaps, secrets).opted_in(),
                expected,
                "{configmaps:?} {secrets:?}"
            );
        }
    }

    #[test]
    fn c1_2_a_name_that_kubernetes_would_refuse_is_reported_and_left_out() {
        let long = "a".repeat(254);
        let list = format!("good,Upper,under_score,-x,x-,a..b,.a,ns/name,{long},also.good-1");
        let references = References::parse("shop", Some(&list), None);
        let names: Vec<_> = references.listed().map(|object| &*object.name).collect();
        assert_eq!(names, ["good", "also.good-1"]);
        assert_eq!(references.bad_names().len(), 8);
        assert_eq!(references.bad_names()[0].to_string(), "configmap \"Upper\"");
        assert!(references.bad_names()[7].to_string().len() < 60);
    }

    #[test]
    fn a_bad_name_is_shown_without_control_characters() {
        let references = References::parse("shop", None, Some("a\u{1b}[31m\u{e9}"));
        assert_eq!(references.bad_names()[0].to_string(), "secret \"a?[31m?\"");
    }

    #[test]
    fn c1_2_the_first_thousand_entries_count_and_the_rest_is_told() {
        let names: Vec<_> = (0..700).map(|n| format!("n{n}")).collect();
        let list = names.join(",");
        let references = References::parse("shop", Some(&list), Some(&list));
        assert_eq!((references.listed().count(), references.left_out()), (MAX_REFERENCES, 400));
        assert_eq!(references.listed().last(), Some(&ConfigRef::secret("shop", "n299")));

        let exactly = References::parse("shop", Some(&list), Some(&names[..300].join(" , ")));
        assert_eq!((exactly.listed().count(), exactly.left_out()), (1_000, 0));
    }

    #[test]
    fn c1_2_of_many_bad_names_some_are_kept_and_all_are_counted() {
        let references = References::parse("shop", Some(&"A,".repeat(120_000)), Some("B"));
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
            let references = References::parse("shop", Some(list), None);
            assert_eq!(references.bad_names()[0].to_string(), shown);
        }
        let long = References::parse("shop", None, Some(&"a ".repeat(100)));
        assert!(long.bad_names()[0].to_string().len() < 70, "{}", long.bad_names()[0]);
    }

    #[test]
    fn c2_5_lists_are_kept_as_written_only_where_they_are_untidy() {
        for tidy in [(None, None), (Some("a,b,a"), Some("c")), (Some(""), Some("c")), (Some(" ,"), None)] {
            assert!(References::parse("shop", tidy.0, tidy.1).as_written().is_none(), "{tidy:?}");
        }
        let untidy = References::parse("shop", Some("a, b,"), Some("c"));
        let entries: Vec<_> = untidy.as_written().unwrap().map(|(_, entry)| entry).collect();
        assert_eq!(entries, ["a", " b", "", "c"]);
    }

    #[test]
    fn c2_3_what_is_listed_and_followed_is_listed_and_each_reference_carries_its_need() {
        let (a, b) = (ConfigRef::configmap("shop", "a"), ConfigRef::secret("other", "b"));
        let followed = [(a.clone(), Keys::only(["k"])), (b.clone(), Keys::only(["y", "x", "y"]))];
        let mut uses = TemplateUses::default();
        uses.add(a.clone(), Need::Required);
        let references = References::parse("shop", Some("a,a"), None).following(followed).needed_by(&uses);
        let all: Vec<_> = references.all().into_values().cloned().collect();
        assert_eq!(
            all,
            [
                Reference { object: a, keys: Keys::All, origin: Origin::Listed, need: Some(Need::Required) },
                Reference {
                    object: b,
                    keys: Keys::Only(["x".into(), "y".into()].into()),
                    origin: Origin::Followed,
                    need: None
                },
            ]
        );
        assert_eq!(references.listed().count(), 2, "with repetitions, as SAP hashes them");
    }
}
