//! What the actions that make Jobs have in common.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Change;
use crate::config_hash::hex;
use crate::observed::without_witnesses;
use crate::sha::Sha256;

/// Names of Jobs have at most 63 characters, since their pods' labels name them.
const MAX_NAME: usize = 63;
const SUFFIX: usize = 10;

/// The name of a Job that is made because of a change: as much of the workload's name as leaves room for `spare` characters
/// more, and digits of what the Job is made for, which is `parts`. So it is the same whenever the same is tried again.
pub(super) fn name_for(name: &str, spare: usize, parts: &[&str]) -> String {
    let digits = digest(parts);
    let end = name.floor_char_boundary(MAX_NAME - SUFFIX - 1 - spare);
    format!("{}-{}", name[..end].trim_end_matches(['-', '.']), &digits[..SUFFIX])
}

/// Tells texts from others, in hex.
pub(super) fn digest(parts: &[&str]) -> String {
    let mut sum = Sha256::new();
    for part in parts {
        sum.update((part.len() as u64).to_be_bytes());
        sum.update(part);
    }
    hex(&sum.finish())
}

impl Change<'_> {
    /// What tells it from other changes. In which versions objects have what is recorded from now on makes no difference.
    pub(super) fn parts(&self) -> [Cow<'_, str>; 2] {
        let after = self.after.unwrap_or_default();
        let after = without_witnesses(after).map_or(Cow::Borrowed(after), Cow::Owned);
        [Cow::Borrowed(self.before.unwrap_or_default()), after]
    }
}

/// A member that leads to a text.
pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// These members of an object, as far as they are there.
pub(super) fn some_of(value: Option<&Value>, members: &[&str]) -> Map<String, Value> {
    let given =
        members.iter().filter_map(|member| Some(((*member).to_owned(), value?.get(*member)?.clone())));
    given.collect()
}
