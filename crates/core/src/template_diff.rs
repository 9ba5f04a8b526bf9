//! Whether a write changes the pod template, our hash apart (4.3).
//!
//! Both objects are walked as text: a template may be megabytes large, and a tree of it takes many times that. Parts
//! whose texts are equal, which is nearly all, are not entered.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Number;
use serde_json::value::RawValue;

use crate::annotation::CONFIG_HASH;
use crate::json_text::{Budget, GaveUp, Member, Parts, is_same_string};
use crate::kind::{KindRef, Shape};
use crate::object::{Part, WorkloadParts};

/// Deeper than this only texts are compared; the walk is recursive.
const MAX_DEPTH: usize = 64;
/// How many times the length of both templates may be read. What Kubernetes writes has its members in the same order
/// in both, and needs two or three times.
const MAX_READINGS: usize = 8;
/// Small templates may be read more often.
const MIN_BUDGET: usize = 256 * 1024;
/// A pod template has two members, its metadata at most fifteen, and the spec of a custom resource with many fields some
/// hundred.
const MAX_MEMBERS: usize = 256;

/// Compares the pod templates of two versions of a workload of that kind, given as the JSON of the whole objects. Where
/// there is but a map of annotations, all that is around it may be what pods are made of, and counts. What
/// cannot be read, or not compared at a bearable price, counts as changed: reading the configuration once too often is
/// harmless.
pub fn differs(kind: KindRef, old: &str, new: &str) -> bool {
    let (Ok(old), Ok(new)) = (template(kind, old), template(kind, new)) else { return true };
    let (old, new, place) = match (kind.shape, old, new) {
        (_, None, None) => return false,
        (Shape::PodTemplate, Some(old), Some(new)) => (old, new, Place::Template),
        (Shape::PodTemplate, ..) => return true,
        // Without our hash what is around it may be gone, too.
        (Shape::Annotations, old, new) => {
            let rest = kind.template.get(1..).unwrap_or_default();
            (old.unwrap_or("{}"), new.unwrap_or("{}"), Place::around(rest))
        }
    };
    let bytes = (old.len() + new.len()).saturating_mul(MAX_READINGS);
    let mut walk = Walk { budget: Budget::of_bytes(bytes.max(MIN_BUDGET)), depth: 0 };
    !walk.is_same(old.as_bytes(), new.as_bytes(), place).unwrap_or(false)
}

/// The pod template; of a map of annotations, the member of the object that it is in.
fn template(kind: KindRef, object: &str) -> Result<Option<&str>, serde_json::Error> {
    let parts: WorkloadParts<IgnoredAny, Whole<'_>> = match kind.shape {
        Shape::PodTemplate => WorkloadParts::read(kind, object)?,
        Shape::Annotations => WorkloadParts::read_around(kind, object)?,
    };
    Ok(parts.template.map(|Whole(text)| text.get()))
}

/// All of it, whatever it is.
struct Whole<'a>(&'a RawValue);

impl<'de> Part<'de> for Whole<'de> {
    fn read<D: Deserializer<'de>>(_: Shape, deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer).map(Self)
    }
}

/// Where in the template a value is, as far as it matters for what is left out of the comparison.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Template,
    Metadata,
    /// Around a map of annotations, to which this path leads.
    Around(&'static [&'static str]),
    Annotations,
    Elsewhere,
}

impl Place {
    fn around(path: &'static [&'static str]) -> Self {
        if path.is_empty() { Self::Annotations } else { Self::Around(path) }
    }

    fn of_member(self, key: &[u8]) -> Result<Self, GaveUp> {
        Ok(match self {
            Self::Template if is_key(key, "metadata")? => Self::Metadata,
            Self::Metadata if is_key(key, "annotations")? => Self::Annotations,
            Self::Around([first, rest @ ..]) if is_key(key, first)? => Self::around(rest),
            _ => Self::Elsewhere,
        })
    }
}

struct Walk {
    budget: Budget,
    depth: usize,
}

impl Walk {
    fn is_same(&mut self, old: &[u8], new: &[u8], place: Place) -> Result<bool, GaveUp> {
        if old == new {
            return Ok(true);
        }
        if self.depth == MAX_DEPTH {
            return Err(GaveUp);
        }
        self.depth += 1;
        let is_same = match (old.first(), new.first()) {
            (Some(b'{'), Some(b'{')) => self.is_same_object(old, new, place),
            (Some(b'['), Some(b'[')) => self.is_same_list(old, new),
            (Some(b'"'), Some(b'"')) => {
                self.budget.take(old.len() + new.len())?;
                is_same_string(old, new)
            }
            _ => Ok(is_same_number(old, new)),
        };
        self.depth -= 1;
        is_same
    }

    fn is_same_list(&mut self, old: &[u8], new: &[u8]) -> Result<bool, GaveUp> {
        let (mut old, mut new) = (Parts::of(old), Parts::of(new));
        loop {
            match (old.element(&mut self.budget)?, new.element(&mut self.budget)?) {
                (None, None) => return Ok(true),
                (Some(old), Some(new)) if self.is_same(old, new, Place::Elsewhere)? => {}
                _ => return Ok(false),
            }
        }
    }

    fn is_same_object(&mut self, old: &[u8], new: &[u8], place: Place) -> Result<bool, GaveUp> {
        if matches!(place, Place::Template | Place::Metadata | Place::Around(_)) {
            self.require_each_once(old)?;
            self.require_each_once(new)?;
        }
        let (mut old_parts, mut new_parts) = (Parts::of(old), Parts::of(new));
        loop {
            match (self.member(&mut old_parts, place)?, self.member(&mut new_parts, place)?) {
                (None, None) => return Ok(true),
                (Some((old_key, old_value)), Some((new_key, new_value))) => {
                    if !is_same_string(old_key, new_key)? {
                        return self.is_same_in_another_order(old, new, place);
                    }
                    if !self.is_same(old_value, new_value, place.of_member(old_key)?)? {
                        return Ok(false);
                    }
                }
                _ => return Ok(false),
            }
        }
    }

    /// Looks each member up in the other object, which costs the square of their number: the budget ends it.
    fn is_same_in_another_order(&mut self, old: &[u8], new: &[u8], place: Place) -> Result<bool, GaveUp> {
        let (mut old_count, mut new_count) = (0_usize, 0_usize);
        let mut parts = Parts::of(new);
        while self.member(&mut parts, place)?.is_some() {
            new_count += 1;
        }
        let mut parts = Parts::of(old);
        while let Some((key, value)) = self.member(&mut parts, place)? {
            old_count += 1;
            // A repeated key counts with its last value, so it could be taken for another's place.
            if self.find(old, key, place)?.is_none() {
                return Err(GaveUp);
            }
            match self.find(new, key, place)? {
                Some(other) if self.is_same(value, other, place.of_member(key)?)? => {}
                _ => return Ok(false),
            }
        }
        Ok(old_count == new_count)
    }

    /// The value of the only member with that key; `None` also if there are several.
    fn find<'a>(&mut self, object: &'a [u8], key: &[u8], place: Place) -> Result<Option<&'a [u8]>, GaveUp> {
        let mut found = None;
        let mut parts = Parts::of(object);
        while let Some((candidate, value)) = self.member(&mut parts, place)? {
            if is_same_string(candidate, key)? && found.replace(value).is_some() {
                return Ok(None);
            }
        }
        Ok(found)
    }

    /// The next member that counts.
    fn member<'a>(&mut self, parts: &mut Parts<'a>, place: Place) -> Result<Option<Member<'a>>, GaveUp> {
        while let Some((key, value)) = parts.member(&mut self.budget)? {
            if self.counts(key, value, place)? {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }

    /// Whether a member makes a difference: our hash does not, and neither does metadata that is empty without it.
    fn counts(&mut self, key: &[u8], value: &[u8], place: Place) -> Result<bool, GaveUp> {
        match place {
            Place::Elsewhere => Ok(true),
            Place::Annotations => Ok(!is_key(key, CONFIG_HASH)?),
            Place::Metadata if value == b"null" => Ok(false),
            Place::Template | Place::Metadata | Place::Around(_) => match place.of_member(key)? {
                inner @ (Place::Metadata | Place::Annotations | Place::Around(_))
                    if value.starts_with(b"{") =>
                {
                    Ok(self.member(&mut Parts::of(value), inner)?.is_some())
                }
                _ => Ok(true),
            },
        }
    }

    /// Only the last one of a repeated member counts. Kubernetes writes no such thing, and what leaves members out
    /// could be deceived by it.
    fn require_each_once(&mut self, object: &[u8]) -> Result<(), GaveUp> {
        let mut seen: Vec<&[u8]> = vec![];
        let mut parts = Parts::of(object);
        while let Some((key, _)) = parts.member(&mut self.budget)? {
            for other in &seen {
                if is_same_string(other, key)? {
                    return Err(GaveUp);
                }
            }
            if seen.len() == MAX_MEMBERS {
                return Err(GaveUp);
            }
            seen.push(key);
        }
        Ok(())
    }
}

/// Whether a key, quotes included, is that name, which needs no escapes.
fn is_key(key: &[u8], name: &str) -> Result<bool, GaveUp> {
    if !key.contains(&b'\\') {
        return Ok(key.get(1..key.len().saturating_sub(1)) == Some(name.as_bytes()));
    }
    is_same_string(key, format!("\"{name}\"").as_bytes())
}

/// Numbers that are written differently; all other scalars have one spelling.
fn is_same_number(old: &[u8], new: &[u8]) -> bool {
    let read = |text| serde_json::from_slice::<Number>(text).ok();
    read(old).is_some_and(|old| Some(old) == read(new))
}
