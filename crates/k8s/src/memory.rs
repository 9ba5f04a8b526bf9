//! The digests that are remembered, bounded by the bytes they take.

use std::collections::HashMap;
use std::sync::Arc;

use pod_reloader_core::content::KeyNames;
use pod_reloader_core::digest::Digest;
use pod_reloader_core::lookup::ConfigVersion;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::reference::Keys;

/// What an entry takes beside its strings: map slot, vector slot, allocations.
const ENTRY_BYTES: usize = 256;
/// What a digest of a former key takes, with its id.
const FORMER_BYTES: usize = 80;

/// What a digest covers: an object, and which of its keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Selection {
    pub(crate) object: ConfigRef,
    pub(crate) keys: Keys,
}

/// A remembered version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) version: ConfigVersion,
    pub(crate) digest: Digest,
    /// The digests of the digest keys that were replaced a short while ago, by their ids.
    pub(crate) former: Vec<(Arc<str>, Digest)>,
    /// Which keys the object has, where they are not too many.
    pub(crate) keys: Option<KeyNames>,
    /// The length of the object's JSON, to know how much room the next read needs.
    pub(crate) json_bytes: usize,
    /// Whether the object was seen in another version since: then that alone is of use.
    pub(crate) is_outdated: bool,
}

/// Digests made with one key. When it is full, entries are replaced at random: going through a little more than fits,
/// again and again, then still finds most (the least recently used first would find none).
#[derive(Debug)]
pub(crate) struct Memory {
    max_bytes: usize,
    bytes: usize,
    key_id: String,
    index: HashMap<Selection, usize>,
    /// Boxed: there is up to twice the room that they need.
    entries: Vec<(Selection, Box<Remembered>)>,
    random: u64,
}

impl Memory {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            key_id: String::new(),
            index: HashMap::new(),
            entries: vec![],
            // Any seed does: nothing depends on which entries are evicted.
            random: 0x9E37_79B9_7F4A_7C15,
        }
    }

    pub(crate) fn get(&self, key_id: &str, selection: &Selection) -> Option<&Remembered> {
        if self.key_id != key_id {
            return None;
        }
        self.index.get(selection).map(|at| &*self.entries[*at].1)
    }

    /// The object was seen in another version than the one that is remembered.
    pub(crate) fn outdate(&mut self, selection: &Selection, present: &ConfigVersion) {
        if let Some(at) = self.index.get(selection) {
            let remembered = &mut self.entries[*at].1;
            remembered.is_outdated = remembered.version != *present;
        }
    }

    pub(crate) fn put(&mut self, key_id: &str, selection: &Selection, remembered: Remembered) {
        // Digests of another key cannot be compared any more.
        if self.key_id != key_id {
            *self = Self { key_id: key_id.to_owned(), random: self.random, ..Self::new(self.max_bytes) };
        }
        self.forget(selection);
        let needed = weight(selection, &remembered);
        while self.bytes + needed > self.max_bytes && !self.entries.is_empty() {
            let victim = self.random_entry();
            self.remove(victim);
        }
        self.bytes += needed;
        self.index.insert(selection.clone(), self.entries.len());
        self.entries.push((selection.clone(), Box::new(remembered)));
    }

    pub(crate) fn forget(&mut self, selection: &Selection) {
        if let Some(at) = self.index.get(selection) {
            self.remove(*at);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove(&mut self, at: usize) {
        let (selection, remembered) = self.entries.swap_remove(at);
        self.bytes -= weight(&selection, &remembered);
        self.index.remove(&selection);
        // `swap_remove` has put the last entry in its place.
        if let Some((moved, _)) = self.entries.get(at) {
            self.index.insert(moved.clone(), at);
        }
    }

    /// Xorshift: evictions need not be unpredictable, only spread.
    fn random_entry(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % self.entries.len() as u64).unwrap_or_default()
    }
}

fn weight(Selection { object, keys }: &Selection, remembered: &Remembered) -> usize {
    let of_keys = match keys {
        Keys::All => 0,
        Keys::Only(keys) => keys.iter().map(|key| size_of_val(key) + key.len()).sum(),
    };
    ENTRY_BYTES
        + of_keys
        + object.namespace.len()
        + object.name.len()
        + remembered.version.uid.len()
        + remembered.version.resource_version.len()
        + remembered.former.len() * FORMER_BYTES
        + remembered.keys.as_ref().map_or(0, KeyNames::bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(i: usize) -> Selection {
        Selection { object: ConfigRef::configmap("shop", format!("object-{i:06}")), keys: Keys::All }
    }

    fn remembered(i: usize) -> Remembered {
        Remembered {
            version: ConfigVersion::new(format!("{i:036}"), format!("{i:010}")),
            digest: Digest::parse("AAAAAAAAAAAAAAAAAAAAAA").unwrap(),
            former: vec![],
            keys: Some(KeyNames::of(["a", "b"])),
            json_bytes: 1000,
            is_outdated: false,
        }
    }

    #[test]
    fn c5_2_a_little_more_than_fits_still_finds_most() {
        let weight = weight(&object(0), &remembered(0));
        let fits = 1000;
        let mut memory = Memory::new(fits * weight);
        let mut found = 0;
        for round in 0..10 {
            for i in 0..fits * 12 / 10 {
                if memory.get("key", &object(i)).is_some() {
                    found += usize::from(round > 0);
                } else {
                    memory.put("key", &object(i), remembered(i));
                }
                assert!(memory.bytes() <= memory.max_bytes);
            }
        }
        assert!(found > 9 * fits * 12 / 10 / 2, "{found} of {}", 9 * fits * 12 / 10);
    }

    #[test]
    fn c5_2_what_is_forgotten_takes_nothing_and_the_rest_stays_right() {
        let mut memory = Memory::new(usize::MAX);
        for i in 0..100 {
            memory.put("key", &object(i), remembered(i));
            memory.put("key", &object(i), remembered(i));
        }
        for i in (0..100).step_by(3) {
            memory.forget(&object(i));
        }
        for i in 0..100 {
            assert_eq!(memory.get("key", &object(i)).cloned(), (i % 3 != 0).then(|| remembered(i)));
        }
        assert_eq!(memory.get("other", &object(1)), None);
        for i in 0..100 {
            memory.forget(&object(i));
        }
        assert_eq!((memory.bytes(), memory.index.len()), (0, 0));
        memory.put("key", &object(1), remembered(1));
        memory.put("other", &object(2), remembered(2));
        assert_eq!(memory.entries.len(), 1, "digests of another key are worth nothing");
    }
}
