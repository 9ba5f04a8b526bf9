//! What is marked on config objects themselves (7.4, 7.5).

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::dialect::own::{AUTO, Auto, IGNORE};
use crate::name::ConfigKind;
use crate::object::Text;

/// The marks of one config object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// Every workload of its namespace that reads it is to follow it.
    pub follow: bool,
    /// Its changes concern only those that list it.
    pub ignore: bool,
}

impl Marks {
    /// The annotations that are marks.
    pub const KEYS: [&'static str; 2] = [AUTO, IGNORE];

    /// Adds an annotation of an object of that kind; others than [`Self::KEYS`] are no marks.
    pub fn add(&mut self, kind: ConfigKind, key: &str, value: &str) {
        match key {
            AUTO => self.follow = Auto::parse(value).is_some_and(|auto| auto.includes(kind)),
            IGNORE => self.ignore = value == "true",
            _ => {}
        }
    }
}

/// The values that a map of annotations has for [`Marks::KEYS`]. Others may hold whole Secrets: they are skipped while
/// parsing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MarkAnnotations([Option<Box<str>>; 2]);

impl MarkAnnotations {
    /// What they mean on an object of that kind.
    pub fn of(&self, kind: ConfigKind) -> Marks {
        let mut marks = Marks::default();
        for (key, value) in Marks::KEYS.into_iter().zip(&self.0) {
            if let Some(value) = value {
                marks.add(kind, key, value);
            }
        }
        marks
    }

    /// The value of the annotation `auto`.
    pub fn auto(&self) -> Option<&str> {
        self.0[0].as_deref()
    }
}

impl<'de> serde::Deserialize<'de> for MarkAnnotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = MarkAnnotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(MarkAnnotations::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut values = MarkAnnotations::default();
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    match Marks::KEYS.iter().position(|known| *known == key.0) {
                        Some(at) => values.0[at] = map.next_value::<Option<Box<str>>>()?,
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(values)
            }
        }
        deserializer.deserialize_any(Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c7_4_marks_are_two_annotations_and_nothing_else_is_kept() {
        let marks = |annotations: &str, kind| {
            let read: MarkAnnotations = serde_json::from_str(annotations).unwrap();
            let Marks { follow, ignore } = read.of(kind);
            (follow, ignore)
        };
        let auto =
            |value: &str| format!(r#"{{"a": "x", "pod-reloader.cs.sap.com/auto": "{value}", "b": null}}"#);
        for (value, of_configmap, of_secret) in [
            ("true", true, true),
            ("configmaps", true, false),
            ("secrets", false, true),
            ("false", false, false),
            ("yes", false, false),
        ] {
            assert_eq!(marks(&auto(value), ConfigKind::ConfigMap), (of_configmap, false), "{value}");
            assert_eq!(marks(&auto(value), ConfigKind::Secret), (of_secret, false), "{value}");
        }
        let ignore = r#"{"pod-reloader.cs.sap.com/ignore": "true"}"#;
        assert_eq!(marks(ignore, ConfigKind::Secret), (false, true));
        for none in [
            "null",
            "{}",
            r#"{"pod-reloader.cs.sap.com/ignore": "1"}"#,
            r#"{"pod-reloader.cs.sap.com/auto": null}"#,
        ] {
            assert_eq!(marks(none, ConfigKind::Secret), (false, false), "{none}");
        }
    }
}
