//! What was found of several objects.

use pod_reloader_core::decide::{Lookup, Lookups};
use pod_reloader_core::reference::ConfigName;

use crate::unreadable::Unreadable;

/// What was found of several objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The answer for each; [`Lookup::Unknown`] for those that could not be read.
    pub lookups: Lookups,
    /// Those that could not be read, and why, in a few words.
    pub unreadable: Vec<(ConfigName, String)>,
    /// How many of these may be readable soon.
    passing: usize,
}

impl Reads {
    /// Whether all that could not be read stays unreadable until somebody does something about it.
    pub fn only_lasting(&self) -> bool {
        self.passing == 0
    }

    /// Adds the answer for one object.
    pub fn add(&mut self, name: ConfigName, answer: Result<Lookup, Unreadable>) {
        let lookup = answer.unwrap_or_else(|error| {
            self.unreadable.push((name.clone(), error.to_string()));
            self.passing += usize::from(!error.is_lasting());
            Lookup::Unknown
        });
        self.lookups.insert(name, lookup);
    }
}
