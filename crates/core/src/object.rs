//! Reads a workload's metadata and, at its kind's path, its pod template, or what stands for one. Everything else is
//! skipped while parsing.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::action::recreate::ENDS;
use crate::fold::{FoldItem, Folded};
use crate::kind::{KindRef, Shape};

/// The two parts of a workload that matter, read as whatever the reader needs of them. What is missing or `null` is
/// `None`.
pub(crate) struct WorkloadParts<M, T> {
    pub(crate) metadata: Option<M>,
    pub(crate) template: Option<T>,
    /// How many members of the path to the template are there, itself included.
    pub(crate) steps: usize,
    /// Whether another object has the template.
    pub(crate) is_elsewhere: bool,
    /// Whether it has come to its end, where its kind does.
    pub(crate) has_ended: bool,
}

/// As much of a status as says whether that is the end.
#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Folded<HasEnded>,
}

#[derive(Default)]
struct HasEnded(bool);

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    name: Option<String>,
    status: Option<String>,
}

impl FoldItem for HasEnded {
    type Item = Condition;

    fn item(&mut self, condition: Condition) {
        let is_end = condition.name.is_some_and(|name| ENDS.contains(&name.as_str()));
        self.0 |= is_end && condition.status.as_deref() == Some("True");
    }
}

impl<'de, M: Deserialize<'de>, T: Part<'de>> WorkloadParts<M, T> {
    /// Reads the JSON text of a workload.
    pub(crate) fn read(kind: KindRef, json: &'de str) -> Result<Self, serde_json::Error> {
        read_with(WorkloadPartsSeed::of(kind), json)
    }

    /// The same, with the first member of the path as the template.
    pub(crate) fn read_around(kind: KindRef, json: &'de str) -> Result<Self, serde_json::Error> {
        let path = kind.template.get(..1).unwrap_or_default();
        read_with(WorkloadPartsSeed { kind, path, read: PhantomData }, json)
    }
}

/// What a pod template is read as, or what stands for one.
pub(crate) trait Part<'de>: Sized {
    fn read<D: Deserializer<'de>>(shape: Shape, deserializer: D) -> Result<Self, D::Error>;
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
pub(crate) struct WorkloadPartsSeed<M, T> {
    kind: KindRef,
    path: &'static [&'static str],
    read: PhantomData<(M, T)>,
}

impl<M, T> WorkloadPartsSeed<M, T> {
    pub(crate) fn of(kind: KindRef) -> Self {
        Self { kind, path: kind.template, read: PhantomData }
    }
}

impl<'de, M: Deserialize<'de>, T: Part<'de>> DeserializeSeed<'de> for WorkloadPartsSeed<M, T> {
    type Value = WorkloadParts<M, T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<WorkloadParts<M, T>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, M: Deserialize<'de>, T: Part<'de>> Visitor<'de> for WorkloadPartsSeed<M, T> {
    type Value = WorkloadParts<M, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a workload")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WorkloadParts<M, T>, A::Error> {
        let (mut metadata, mut on_the_way, mut status) = (None, None, None);
        let path = self.path.split_first();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match path {
                _ if key.0 == "metadata" => set_once(&mut metadata, "metadata", map.next_value()?)?,
                Some((first, rest)) if key.0 == *first => {
                    set_once(&mut on_the_way, first, map.next_value_seed(At::path(self.kind, rest))?)?;
                }
                _ if self.kind.ends && key.0 == "status" => {
                    set_once(&mut status, "status", map.next_value::<Option<Status>>()?)?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let Found { template, steps, is_elsewhere } = on_the_way.unwrap_or_default();
        let has_ended = status.flatten().unwrap_or_default().conditions.0.0;
        Ok(WorkloadParts { metadata: metadata.flatten(), template, steps, is_elsewhere, has_ended })
    }
}

/// What there is at a path.
struct Found<T> {
    template: Option<T>,
    steps: usize,
    is_elsewhere: bool,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { template: None, steps: 0, is_elsewhere: false }
    }
}

/// Reads what a path leads to from here, if it is there.
struct At<T> {
    kind: KindRef,
    path: &'static [&'static str],
    read: PhantomData<T>,
}

impl<T> At<T> {
    fn path(kind: KindRef, path: &'static [&'static str]) -> Self {
        Self { kind, path, read: PhantomData }
    }
}

impl<'de, T: Part<'de>> DeserializeSeed<'de> for At<T> {
    type Value = Found<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found<T>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, T: Part<'de>> Visitor<'de> for At<T> {
    type Value = Found<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_none<E>(self) -> Result<Found<T>, E> {
        Ok(Found::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found<T>, D::Error> {
        if self.path.is_empty() {
            let template = Some(T::read(self.kind.shape, deserializer)?);
            Ok(Found { template, steps: 1, is_elsewhere: false })
        } else {
            deserializer.deserialize_map(self)
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<T>, A::Error> {
        let (mut found, mut elsewhere) = (None, None);
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match self.path {
                [first, rest @ ..] if key.0 == *first => {
                    set_once(&mut found, first, map.next_value_seed(Self::path(self.kind, rest))?)?;
                }
                [_] if self.kind.template_elsewhere.is_some_and(|member| key.0 == member) => {
                    elsewhere = map.next_value::<Option<IgnoredAny>>()?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let mut found = found.unwrap_or_default();
        found.steps += 1;
        found.is_elsewhere |= elsewhere.is_some();
        Ok(found)
    }
}

/// A repeated member is an error, as in types that derive serde's traits: readers might take different ones.
fn set_once<T, E: Error>(slot: &mut Option<T>, member: &'static str, value: T) -> Result<(), E> {
    if slot.replace(value).is_some() { Err(E::duplicate_field(member)) } else { Ok(()) }
}

/// A string that borrows from the input where it has no escapes.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);
