//! The words of SAP's pod-reloader: two lists on the workload (1.2), two labels (1.3), and a config hash made from uid and
//! resource version (2.4).

use std::sync::Arc;

use super::{Dialect, Effect, Entries, Key, Place, Selection};
use crate::config_hash::ConfigHash;
use crate::lookup::{Lookup, Lookups};
use crate::name::{ConfigKind, ConfigRef, is_valid_name};
use crate::reference::References;
use crate::sha::Sha256;
use crate::template::TemplateUses;

/// On the workload: comma-separated names of `ConfigMap`s (1.2).
pub const CONFIGMAPS: &str = "pod-reloader.cs.sap.com/configmaps";
/// On the workload: comma-separated names of `Secret`s (1.2).
pub const SECRETS: &str = "pod-reloader.cs.sap.com/secrets";
/// Label on the workload: `"true"` excludes it (1.3).
pub const IGNORED: &str = "pod-reloader.cs.sap.com/ignored";
/// Label on the workload: a synonym of [`IGNORED`] (1.3).
pub const DISABLED: &str = "pod-reloader.cs.sap.com/disabled";

const KEYS: [Key; 4] = [
    Key { name: CONFIGMAPS, place: Place::Annotation, effect: Effect::OptsIn(&[ConfigKind::ConfigMap]) },
    Key { name: SECRETS, place: Place::Annotation, effect: Effect::OptsIn(&[ConfigKind::Secret]) },
    Key { name: IGNORED, place: Place::Label, effect: Effect::LeavesAlone },
    Key { name: DISABLED, place: Place::Label, effect: Effect::LeavesAlone },
];

/// The lists, in the order in which they are hashed.
const LISTS: [(ConfigKind, &str); 2] = [(ConfigKind::ConfigMap, CONFIGMAPS), (ConfigKind::Secret, SECRETS)];

/// Untidy lists are kept as they were written up to this length, to recognise what SAP's pod-reloader made of them.
const MAX_AS_WRITTEN_BYTES: usize = 32 * 1024;

/// SAP's pod-reloader.
pub struct Sap;

impl Dialect for Sap {
    fn name(&self) -> &'static str {
        "sap"
    }

    fn keys(&self) -> &'static [Key] {
        &KEYS
    }

    fn select(&self, entries: &Entries, _uses: &TemplateUses, namespace: &Arc<str>) -> Selection {
        let is_true = |label| entries.get(Place::Label, label) == Some("true");
        Selection {
            references: read_lists(namespace, entries),
            is_left_alone: is_true(IGNORED) || is_true(DISABLED),
            ..Selection::default()
        }
    }

    /// SAP's takes the lists as they are written, we leave out what is no name.
    fn left_behind(&self, hash: &str, namespace: &str, references: &References, known: &Lookups) -> bool {
        version_hash(namespace, references.listed(), known).is_some_and(|saps| saps == *hash)
            || version_hash_as_written(namespace, references, known).is_some_and(|saps| saps == *hash)
    }
}

/// What a workload in that namespace with these values of the two lists refers to. Never fails: a bad name is left out
/// and kept for the report.
pub fn references(namespace: &str, configmaps: Option<&str>, secrets: Option<&str>) -> References {
    let mut entries = Entries::default();
    for (key, list) in KEYS.iter().zip([configmaps, secrets]) {
        if let Some(list) = list {
            entries.add(key, list);
        }
    }
    read_lists(&namespace.into(), &entries)
}

fn read_lists(namespace: &Arc<str>, entries: &Entries) -> References {
    let mut references = References::default();
    let (mut is_tidy, mut bytes) = (true, 0);
    for (kind, key) in LISTS {
        let list = list(entries, key);
        bytes += list.len();
        for entry in split(list) {
            let name = entry.trim();
            is_tidy &= name.len() == entry.len() && !name.is_empty();
            if name.is_empty() {
                continue;
            }
            if is_valid_name(name) {
                references.list(ConfigRef::new(kind, namespace.clone(), name));
            } else {
                is_tidy = false;
                references.refuse(kind, name);
            }
        }
    }
    if !is_tidy && references.opted_in() && references.left_out() == 0 && bytes <= MAX_AS_WRITTEN_BYTES {
        references.keep(entries.only(Place::Annotation, &[CONFIGMAPS, SECRETS]));
    }
    references
}

fn list<'e>(entries: &'e Entries, key: &str) -> &'e str {
    entries.get(Place::Annotation, key).unwrap_or_default()
}

/// An empty list has no entry, any other one more than it has commas.
fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').take(if list.is_empty() { 0 } else { usize::MAX })
}

/// The entries as SAP's pod-reloader takes them, with blanks, empty ones and bad names; `None` if they are the same as
/// those that count, or too long to have been kept.
fn as_written(references: &References) -> Option<impl Iterator<Item = (ConfigKind, &str)>> {
    let entries = references.kept()?;
    Some(LISTS.into_iter().flat_map(|(kind, key)| split(list(entries, key)).map(move |entry| (kind, entry))))
}

/// SAP's hash over the objects as listed; `None` while one could not be looked up.
pub fn version_hash<'l>(
    namespace: &str,
    listed: impl IntoIterator<Item = &'l ConfigRef>,
    known: &Lookups,
) -> Option<ConfigHash> {
    let mut sum = VersionSum::new(namespace);
    for object in listed {
        sum.line(object.kind, &object.name, Some(known.get(object)?))?;
    }
    Some(sum.finish())
}

/// The hash that SAP's pod-reloader computes from untidy lists: it splits at commas and keeps blanks. What is no name,
/// it does not find. `None` where the lists are tidy, or too long to have been kept, or while an object could not be
/// looked up.
pub fn version_hash_as_written(
    namespace: &str,
    references: &References,
    known: &Lookups,
) -> Option<ConfigHash> {
    let mut sum = VersionSum::new(namespace);
    for (kind, entry) in as_written(references)? {
        let lookup = if is_valid_name(entry) {
            Some(known.get(&ConfigRef::new(kind, namespace, entry))?)
        } else {
            None
        };
        sum.line(kind, entry, lookup)?;
    }
    Some(sum.finish())
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
            Some(Lookup::Found(found)) => {
                format!("{}.{}", found.version.uid, found.version.resource_version)
            }
        };
        self.sum.update(format!("{}/{}/{name}/{version}\n", kind.singular(), self.namespace));
        Some(())
    }

    fn finish(self) -> ConfigHash {
        ConfigHash::of_sum(&self.sum.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{MAX_BAD_NAMES, MAX_REFERENCES};

    #[test]
    fn c1_2_blanks_empty_entries_order_and_repetition_make_no_difference() {
        let tidy = references("shop", Some("a,b"), Some("c"));
        let untidy = references("shop", Some(" ,b , a,,\ta\n,"), Some("c,, c"));
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
                references("shop", configmaps, secrets).opted_in(),
                expected,
                "{configmaps:?} {secrets:?}"
            );
        }
    }

    #[test]
    fn c1_2_a_name_that_kubernetes_would_refuse_is_reported_and_left_out() {
        let long = "a".repeat(254);
        let list = format!("good,Upper,under_score,-x,x-,a..b,.a,ns/name,{long},also.good-1");
        let references = references("shop", Some(&list), None);
        let names: Vec<_> = references.listed().map(|object| &*object.name).collect();
        assert_eq!(names, ["good", "also.good-1"]);
        assert_eq!(references.bad_names().len(), 8);
        assert_eq!(references.bad_names()[0].to_string(), "configmap \"Upper\"");
        assert!(references.bad_names()[7].to_string().len() < 60);
    }

    #[test]
    fn a_bad_name_is_shown_without_control_characters() {
        let references = references("shop", None, Some("a\u{1b}[31m\u{e9}"));
        assert_eq!(references.bad_names()[0].to_string(), "secret \"a?[31m?\"");
    }

    #[test]
    fn c1_2_the_first_thousand_entries_count_and_the_rest_is_told() {
        let names: Vec<_> = (0..700).map(|n| format!("n{n}")).collect();
        let list = names.join(",");
        let all = references("shop", Some(&list), Some(&list));
        assert_eq!((all.listed().count(), all.left_out()), (MAX_REFERENCES, 400));
        assert_eq!(all.listed().last(), Some(&ConfigRef::secret("shop", "n299")));

        let exactly = references("shop", Some(&list), Some(&names[..300].join(" , ")));
        assert_eq!((exactly.listed().count(), exactly.left_out()), (1_000, 0));
    }

    #[test]
    fn c1_2_of_many_bad_names_some_are_kept_and_all_are_counted() {
        let references = references("shop", Some(&"A,".repeat(120_000)), Some("B"));
        assert_eq!((references.bad_names().len(), references.bad_count()), (MAX_BAD_NAMES, 120_001));
        assert!(references.opted_in() && references.left_out() == 0);
        assert_eq!(as_written(&references).map(Iterator::count), None, "too long to be kept");
    }

    #[test]
    fn c1_2_one_name_per_line_is_said_to_be_what_it_is() {
        for (list, shown) in [
            ("a\nb", "configmap \"a b\" (names are separated by commas)"),
            ("a b", "configmap \"a b\" (names are separated by commas)"),
            ("A_b", "configmap \"A_b\""),
        ] {
            let references = references("shop", Some(list), None);
            assert_eq!(references.bad_names()[0].to_string(), shown);
        }
        let long = references("shop", None, Some(&"a ".repeat(100)));
        assert!(long.bad_names()[0].to_string().len() < 70, "{}", long.bad_names()[0]);
    }

    #[test]
    fn c2_5_lists_are_kept_as_written_only_where_they_are_untidy() {
        for tidy in [(None, None), (Some("a,b,a"), Some("c")), (Some(""), Some("c")), (Some(" ,"), None)] {
            assert!(as_written(&references("shop", tidy.0, tidy.1)).is_none(), "{tidy:?}");
        }
        let untidy = references("shop", Some("a, b,"), Some("c"));
        let entries: Vec<_> = as_written(&untidy).unwrap().map(|(_, entry)| entry).collect();
        assert_eq!(entries, ["a", " b", "", "c"]);
    }
}
