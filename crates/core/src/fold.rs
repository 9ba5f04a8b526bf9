//! Lists that are read without being kept.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A list that is folded into `T` while it is read, so that memory does not grow with its length. `null` is an empty
/// one.
pub(crate) struct Folded<T>(pub(crate) T);

impl<T: Default> Default for Folded<T> {
    fn default() -> Self {
        Self(T::default())
    }
}

/// Takes a list's items one by one.
pub(crate) trait FoldItem: Default {
    type Item;
    fn item(&mut self, item: Self::Item);
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: FoldItem<Item: Deserialize<'de>>> Visitor<'de> for ListVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut folded = T::default();
        while let Some(item) = list.next_element()? {
            folded.item(item);
        }
        Ok(folded)
    }
}

impl<'de, T: FoldItem<Item: Deserialize<'de>>> Deserialize<'de> for Folded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor(PhantomData)).map(Self)
    }
}
