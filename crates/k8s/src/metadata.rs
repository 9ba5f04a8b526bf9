//! What is picked out of the metadata of config objects while it is scanned: versions and marks.

use std::collections::{BTreeMap, BTreeSet};

use pod_reloader_core::lookup::ConfigVersion;
use pod_reloader_core::marks::Marks;
use pod_reloader_core::name::ConfigKind;

use crate::scan::{Path, Scalar, Visitor};

/// The version of one object of a kind.
pub(crate) struct OneVersion {
    kind: ConfigKind,
    pub(crate) version: ConfigVersion,
}

impl OneVersion {
    pub(crate) fn of(kind: ConfigKind) -> Self {
        Self { kind, version: ConfigVersion::default() }
    }
}

impl Visitor for OneVersion {
    fn scalar(&mut self, path: &Path, value: &Scalar<'_>) {
        if path.is(&["metadata", "uid"]) {
            self.version.uid = value.string().unwrap_or_default();
        } else if path.is(&["metadata", "resourceVersion"]) {
            self.version.resource_version = value.string().unwrap_or_default();
        } else {
            add_mark(&mut self.version.marks, self.kind, &["metadata"], path, value);
        }
    }
}

/// Picks the wanted objects out of a list of one kind.
pub(crate) struct ListedVersions<'a> {
    kind: ConfigKind,
    wanted: &'a BTreeSet<Box<str>>,
    name: String,
    version: ConfigVersion,
    pub(crate) found: BTreeMap<String, ConfigVersion>,
    pub(crate) next: Option<String>,
    pub(crate) remaining: Option<u64>,
}

impl<'a> ListedVersions<'a> {
    pub(crate) fn of(kind: ConfigKind, wanted: &'a BTreeSet<Box<str>>) -> Self {
        Self {
            kind,
            wanted,
            name: String::new(),
            version: ConfigVersion::default(),
            found: BTreeMap::new(),
            next: None,
            remaining: None,
        }
    }
}

impl Visitor for ListedVersions<'_> {
    fn scalar(&mut self, path: &Path, value: &Scalar<'_>) {
        if path.is(&["items", "*", "metadata", "name"]) {
            self.name = value.string().unwrap_or_default();
        } else if path.is(&["items", "*", "metadata", "uid"]) {
            self.version.uid = value.string().unwrap_or_default();
        } else if path.is(&["items", "*", "metadata", "resourceVersion"]) {
            self.version.resource_version = value.string().unwrap_or_default();
        } else if path.is(&["metadata", "continue"]) {
            self.next = value.string();
        } else if path.is(&["metadata", "remainingItemCount"]) {
            self.remaining = value.number();
        } else {
            add_mark(&mut self.version.marks, self.kind, &["items", "*", "metadata"], path, value);
        }
    }

    fn end(&mut self, path: &Path) {
        if path.is(&["items", "*"]) {
            let (name, version) = (std::mem::take(&mut self.name), std::mem::take(&mut self.version));
            if self.wanted.contains(name.as_str()) {
                self.found.insert(name, version);
            }
        }
    }
}

fn add_mark(marks: &mut Marks, kind: ConfigKind, metadata: &[&str], path: &Path, value: &Scalar<'_>) {
    if !path.is_below(metadata, "annotations") {
        return;
    }
    for key in Marks::KEYS {
        if path.ends_with(key)
            && let Some(value) = value.string()
        {
            marks.add(kind, key, &value);
        }
    }
}

#[cfg(test)]
mod tests {
    use pod_reloader_core::marks::Marks;

    use super::*;
    use crate::scan::Scanner;

    #[test]
    fn c7_4_marks_are_picked_out_of_the_metadata_of_the_object_they_are_on() {
        let object = |name: &str, annotations: &str| {
            format!(
                r#"{{"metadata":{{"annotations":{{{annotations}}},"name":"{name}","uid":"u","resourceVersion":"7"}},
                    "pod-reloader.cs.sap.com/ignore":"true"}}"#
            )
        };
        let auto = r#""a":"b","pod-reloader.cs.sap.com/auto":"secrets""#;
        let ignore = r#""pod-reloader.cs.sap.com/ignore":"true""#;
        let cases = [
            (auto, Marks { follow: true, ignore: false }),
            (ignore, Marks { follow: false, ignore: true }),
            ("", Marks::default()),
        ];
        for (annotations, expected) in cases {
            let mut one = OneVersion::of(ConfigKind::Secret);
            Scanner::default().feed(object("x", annotations).as_bytes(), &mut one);
            assert_eq!((one.version.marks, one.version.resource_version.as_str()), (expected, "7"));
            let mut of_configmap = OneVersion::of(ConfigKind::ConfigMap);
            Scanner::default().feed(object("x", annotations).as_bytes(), &mut of_configmap);
            assert!(!of_configmap.version.marks.follow, "its value is for Secrets");
        }
        let wanted: BTreeSet<Box<str>> = ["0".into(), "1".into(), "2".into()].into();
        let items = [0, 1, 2].map(|i| object(&i.to_string(), cases[i].0)).join(",");
        let mut list = ListedVersions::of(ConfigKind::Secret, &wanted);
        let text = format!(r#"{{"metadata":{{"annotations":{{{auto}}}}},"items":[{items}]}}"#);
        Scanner::default().feed(text.as_bytes(), &mut list);
        let found: Vec<_> = list.found.into_values().map(|version| version.marks).collect();
        assert_eq!(found, cases.map(|(_, expected)| expected));
    }
}
