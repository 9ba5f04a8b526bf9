//! What was found of several objects.

use std::collections::BTreeMap;

use pod_reloader_core::lookup::{Found, Lookup, Lookups};
use pod_reloader_core::name::ConfigRef;

use crate::unreadable::Unreadable;

/// What was found of several objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The answer for each; [`Lookup::Unknown`] for those that could not be read.
    pub lookups: Lookups,
    /// Those that could not be read, and why.
    unreadable: BTreeMap<ConfigRef, Unreadable>,
}

impl Reads {
    /// Those that could not be read, and why.
    pub fn unreadable(&self) -> impl ExactSizeIterator<Item = (&ConfigRef, Unreadable)> {
        self.unreadable.iter().map(|(object, why)| (object, *why))
    }

    /// Whether all that could not be read of what `matters` stays unreadable until an administrator acts.
    pub fn only_lasting(&self, matters: impl Fn(&ConfigRef) -> bool) -> bool {
        self.unreadable.iter().filter(|(object, _)| matters(object)).all(|(_, why)| why.is_lasting())
    }

    /// Adds the answer to one question. An object of which one question failed is unknown, whatever others found: if
    /// one of the failures may pass, that one counts.
    pub fn add(&mut self, object: ConfigRef, answer: Result<Lookup, Unreadable>) {
        let lookup = match answer {
            Err(why) => {
                let known = self.unreadable.entry(object.clone()).or_insert(why);
                if known.is_lasting() {
                    *known = why;
                }
                Lookup::Unknown
            }
            Ok(_) if self.unreadable.contains_key(&object) => return,
            Ok(Lookup::Unknown) => return self.add(object, Err(Unreadable::Unanswered)),
            Ok(lookup) => lookup,
        };
        let lookup = match (self.lookups.remove(&object), lookup) {
            (Some(Lookup::Found(before)), Lookup::Found(found)) => Lookup::Found(merged(before, found)),
            (_, lookup) => lookup,
        };
        self.lookups.insert(object, lookup);
    }

    /// Adds the answers to further questions.
    pub fn extend(&mut self, other: Self) {
        for (object, lookup) in other.lookups {
            let why = other.unreadable.get(&object).copied();
            self.add(object, why.map_or(Ok(lookup), Err));
        }
    }
}

/// Merges two reads of one object. If it was written between them, the later one counts.
fn merged(before: Found, mut found: Found) -> Found {
    if before.version == found.version {
        found.digests.extend(before.digests);
        found.keys = found.keys.or(before.keys);
    }
    found
}
