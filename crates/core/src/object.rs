//! Reads a workload's metadata and, at its kind's path, its pod template. Everything else is skipped while parsing.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::kind::KindRef;

/// The two parts of a workload that matter, read as whatever the reader needs of them. What is missing or `null` is
/// `None`.
pub(crate) struct WorkloadParts<M, T> {
    pub(crate) metadata: Option<M>,
    pub(crate) template: Option<T>,
}

impl<'de, M: Deserialize<'de>, T: Deserialize<'de>> WorkloadParts<M, T> {
    /// Reads the JSON text of a workload.
    pub(crate) fn read(kind: KindRef, json: &'de str) -> Result<Self, serde_json::Error> {
        read_with(WorkloadPartsSeed::of(kind), json)
    }
}

/// Reads JSON text with a seed, as `serde_json::from_str` does without one.
pub fn read_with<'de, S: DeserializeSeed<'de>>(
    seed: S,
    json: &'de str,
) -> Result<S::Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads [`WorkloadParts`] of a workload of that kind.
pub(crate) struct WorkloadPartsSeed<M, T>(KindRef, PhantomData<(M, T)>);

impl<M, T> WorkloadPartsSeed<M, T> {
    pub(crate) fn of(kind: KindRef) -> Self {
        Self(kind, PhantomData)
    }
}

impl<'de, M: Deserialize<'de>, T: Deserialize<'de>> DeserializeSeed<'de> for WorkloadPartsSeed<M, T> {
    type Value = WorkloadParts<M, T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<WorkloadParts<M, T>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, M: Deserialize<'de>, T: Deserialize<'de>> Visitor<'de> for WorkloadPartsSeed<M, T> {
    type Value = WorkloadParts<M, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a workload")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WorkloadParts<M, T>, A::Error> {
        let (mut metadata, mut on_the_way) = (None, None);
        let path = self.0.template.split_first();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match path {
                _ if key.0 == "metadata" => set_once(&mut metadata, "metadata", map.next_value()?)?,
                Some((first, rest)) if key.0 == *first => {
                    set_once(&mut on_the_way, first, map.next_value_seed(At::path(rest))?)?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(WorkloadParts { metadata: metadata.flatten(), template: on_the_way.flatten() })
    }
}

/// Reads what a path leads to from here, if it is there.
struct At<T>(&'static [&'static str], PhantomData<T>);

impl<T> At<T> {
    fn path(path: &'static [&'static str]) -> Self {
        Self(path, PhantomData)
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for At<T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        if self.0.is_empty() {
            Option::deserialize(deserializer)
        } else {
            deserializer.deserialize_option(self)
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for At<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_none<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match self.0.split_first() {
                Some((first, rest)) if key.0 == *first => {
                    set_once(&mut found, first, map.next_value_seed(Self::path(rest))?)?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found.flatten())
    }
}

/// A repeated member is an error, as in types that derive serde's traits: readers might take different ones.
fn set_once<T, E: Error>(slot: &mut Option<T>, member: &'static str, value: T) -> Result<(), E> {
    if slot.replace(value).is_some() { Err(E::duplicate_field(member)) } else { Ok(()) }
}

/// A string that borrows from the input where it has no escapes.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);
