//! One page of a list, whose objects are read by a seed: their kind says how.

use std::fmt;

use pod_reloader_core::object::read_with;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page<K> {
    /// The version of the whole list.
    pub(super) version: String,
    /// What asks for the next page.
    pub(super) next: Option<String>,
    pub(super) items: Vec<K>,
}

impl<K> Page<K> {
    /// Reads the JSON text of a list.
    pub(super) fn read<'de, S>(seed: S, json: &'de [u8]) -> Result<Self, serde_json::Error>
    where
        S: DeserializeSeed<'de, Value = K> + Copy,
    {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let page = deserializer.deserialize_map(PageVisitor(seed))?;
        deserializer.end()?;
        Ok(page)
    }
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(rename = "resourceVersion")]
    version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Metadata,
    Items,
    #[serde(other)]
    Other,
}

struct PageVisitor<S>(S);

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for PageVisitor<S> {
    type Value = Page<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Page<S::Value>, A::Error> {
        let (mut metadata, mut items) = (None::<PageMeta>, None);
        while let Some(member) = map.next_key()? {
            match member {
                Member::Metadata if metadata.is_some() => return Err(A::Error::duplicate_field("metadata")),
                Member::Items if items.is_some() => return Err(A::Error::duplicate_field("items")),
                Member::Metadata => metadata = Some(map.next_value()?),
                Member::Items => items = Some(map.next_value_seed(Items(self.0))?),
                Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let PageMeta { version, next } = metadata.ok_or_else(|| A::Error::missing_field("metadata"))?;
        Ok(Page { version, next, items: items.unwrap_or_default() })
    }
}

/// Reads the objects; `null` is none.
struct Items<S>(S);

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for Items<S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<S::Value>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for Items<S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_none<E>(self) -> Result<Vec<S::Value>, E> {
        Ok(vec![])
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<S::Value>, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<S::Value>, A::Error> {
        let mut items = vec![];
        while let Some(item) = list.next_element::<&RawValue>()? {
            // One that cannot be read must not keep us from the others.
            if let Ok(item) = read_with(self.0, item.get()) {
                items.push(item);
            } else {
                tracing::warn!("an object of a list cannot be read and is left out");
            }
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;

    use super::*;

    fn read(json: &str) -> Result<Page<u8>, serde_json::Error> {
        Page::read(PhantomData, json.as_bytes())
    }

    #[test]
    fn a_page_is_read_whatever_else_it_says() {
        let page = read(
            r#"{"kind":"L","items":[1,2],"metadata":{"resourceVersion":"7","continue":"more","x":0},"x":[{}]}"#,
        )
        .unwrap();
        assert_eq!(
            (page.version.as_str(), page.next.as_deref(), page.items),
            ("7", Some("more"), vec![1, 2])
        );
        for none in [
            r#"{"metadata":{"resourceVersion":"7"},"items":null}"#,
            r#"{"metadata":{"resourceVersion":"7"}}"#,
        ] {
            assert!(read(none).unwrap().items.is_empty(), "{none}");
        }
    }

    #[test]
    fn c9_1_an_object_that_cannot_be_read_is_left_out_and_the_others_are_not() {
        let page = read(r#"{"metadata":{"resourceVersion":"7"},"items":[1,"x",{"y":[]},2]}"#).unwrap();
        assert_eq!(page.items, [1, 2]);
    }

    #[test]
    fn what_is_no_page_is_an_error() {
        for bad in [
            "",
            "[]",
            "null",
            "{}",
            r#"{"items":[]}"#,
            r#"{"metadata":{"resourceVersion":"7"},"items":[1"#,
            r#"{"metadata":{"resourceVersion":"7"}} x"#,
            r#"{"metadata":{"resourceVersion":"7"},"items":[1],"items":[2]}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
