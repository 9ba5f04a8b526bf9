//! How a pod template uses config objects: which of them, and which of their keys, a pod cannot start without, and which
//! of them its containers read.

mod mounts;
mod pod_spec;

use std::sync::Arc;

pub(crate) use pod_spec::PodSpec;

use crate::name::ConfigRef;
use crate::reference::Keys;

/// Whether pods can start without the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Every use of it is optional.
    Optional,
    /// At least one use is not optional.
    Required,
}

/// So many objects, and so many keys of all of them together, are kept of one template.
const MAX_USES: usize = 1_000;
/// What Kubernetes accepts as a key's name at most.
const MAX_KEY_BYTES: usize = 253;

/// What a pod template names in env, envFrom and volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateUses {
    /// In the order of their objects: they are few, and a list is the smallest that keeps them.
    uses: Vec<Use>,
    /// Of all of them together.
    key_count: usize,
    is_truncated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Use {
    object: ConfigRef,
    need: Need,
    /// Whether containers read all that it holds.
    is_read_whole: bool,
    /// The keys that the template names, in their order.
    keys: Vec<UsedKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct UsedKey {
    name: Box<str>,
    /// The template cannot do without it.
    is_required: bool,
    /// Containers read it.
    is_read: bool,
}

impl TemplateUses {
    /// Whether the template needs the object; `None` where it does not name it.
    pub fn need(&self, name: &ConfigRef) -> Option<Need> {
        self.get(name).map(|(_, need)| need)
    }

    /// The object as the template names it, so that whoever names it as well can share that.
    pub(crate) fn get(&self, name: &ConfigRef) -> Option<(&ConfigRef, Need)> {
        let at = self.position(name).ok()?;
        self.uses.get(at).map(|it| (&it.object, it.need))
    }

    /// All that the template names.
    pub fn objects(&self) -> impl Iterator<Item = &ConfigRef> {
        self.uses.iter().map(|it| &it.object)
    }

    /// The same, to be named by the same names.
    pub(crate) fn objects_mut(&mut self) -> impl Iterator<Item = &mut ConfigRef> {
        self.uses.iter_mut().map(|it| &mut it.object)
    }

    /// What containers read: by environment variables, and from volumes that they mount (7.1), each with the keys that
    /// they can see of it (7.2).
    pub fn read(&self) -> impl Iterator<Item = (&ConfigRef, Keys)> {
        self.uses.iter().filter_map(|it| Some((&it.object, it.keys_read()?)))
    }

    /// All that the template cannot do without.
    pub fn required(&self) -> impl Iterator<Item = &ConfigRef> {
        self.required_keys().map(|(object, _)| object)
    }

    /// The same, each with the keys of it that the template cannot do without.
    pub fn required_keys(&self) -> impl Iterator<Item = (&ConfigRef, impl Iterator<Item = &str>)> {
        let required = self.uses.iter().filter(|it| it.need == Need::Required);
        required.map(|it| (&it.object, it.keys.iter().filter(|key| key.is_required).map(|key| &*key.name)))
    }

    /// About how many bytes the keys take that it names.
    pub(crate) fn key_bytes(&self) -> usize {
        self.uses.iter().flat_map(|it| &it.keys).map(|key| size_of::<UsedKey>() + key.name.len()).sum()
    }

    /// Whether it names more than is kept.
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// Adds a use; one that is required outweighs those that are optional.
    pub fn add(&mut self, name: ConfigRef, need: Need) {
        self.entry(name, need);
    }

    /// Adds a required use of one key.
    pub fn require_key(&mut self, name: ConfigRef, key: &str) {
        self.add_key(name, Need::Required, &UsedKey { name: key.into(), is_required: true, is_read: false });
    }

    /// Adds a use of all that the object holds.
    pub fn read_all(&mut self, name: ConfigRef, need: Need) {
        if let Some(entry) = self.entry(name, need) {
            entry.is_read_whole = true;
        }
    }

    /// Adds a use of what the object holds under that key, which is as needed as the object.
    pub fn read_key(&mut self, name: ConfigRef, need: Need, key: &str) {
        let is_required = need == Need::Required;
        self.add_key(name, need, &UsedKey { name: key.into(), is_required, is_read: true });
    }

    fn add_key(&mut self, name: ConfigRef, need: Need, key: &UsedKey) {
        let has_room = self.key_count < MAX_USES;
        let Some(entry) = self.entry(name, need) else { return };
        // A longer one no object can have, and the API server refuses it.
        if key.name.is_empty() || key.name.len() > MAX_KEY_BYTES {
            return;
        }
        match entry.keys.binary_search_by(|known| known.name.cmp(&key.name)) {
            Ok(at) => {
                let known = &mut entry.keys[at];
                known.is_required |= key.is_required;
                known.is_read |= key.is_read;
            }
            Err(at) if has_room => {
                entry.keys.insert(at, key.clone());
                self.key_count += 1;
            }
            // Following more than is read is the lesser harm.
            Err(_) => {
                entry.is_read_whole |= key.is_read;
                self.is_truncated = true;
            }
        }
    }

    /// The use of that object, now with that need at least; `None` if there are too many.
    fn entry(&mut self, name: ConfigRef, need: Need) -> Option<&mut Use> {
        let at = match self.position(&name) {
            Ok(at) => at,
            Err(_) if self.uses.len() >= MAX_USES => {
                self.is_truncated = true;
                return None;
            }
            Err(at) => {
                self.uses.insert(at, Use { object: name, need, is_read_whole: false, keys: vec![] });
                at
            }
        };
        let entry = self.uses.get_mut(at)?;
        entry.need = entry.need.max(need);
        Some(entry)
    }

    fn position(&self, name: &ConfigRef) -> Result<usize, usize> {
        self.uses.binary_search_by(|it| it.object.cmp(name))
    }

    /// The same uses by a workload in that namespace: a pod can use only what is in its own. No more room is kept than
    /// they take.
    #[must_use]
    pub(crate) fn in_namespace(mut self, namespace: &Arc<str>) -> Self {
        for it in &mut self.uses {
            it.object = it.object.in_namespace(namespace);
            it.keys.shrink_to_fit();
        }
        self.uses.shrink_to_fit();
        self
    }

    fn add_all(&mut self, other: Self) {
        self.is_truncated |= other.is_truncated;
        for Use { object, need, is_read_whole, keys } in other.uses {
            for key in keys {
                self.add_key(object.clone(), need, &key);
            }
            if let Some(entry) = self.entry(object, need) {
                entry.is_read_whole |= is_read_whole;
            }
        }
    }
}

impl Use {
    fn keys_read(&self) -> Option<Keys> {
        if self.is_read_whole {
            return Some(Keys::All);
        }
        let mut keys = self.keys.iter().filter(|key| key.is_read).map(|key| &*key.name).peekable();
        keys.peek()?;
        Some(Keys::only(keys))
    }
}

#[cfg(test)]
mod tests;
