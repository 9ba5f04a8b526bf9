//! What the actions that make Jobs have in common.

use serde_json::{Map, Value};

use super::Change;
use crate::sha::Sha256;

/// Names of Jobs have at most 63 characters, since their pods' labels name them.
const MAX_NAME: usize = 63;
const SUFFIX: usize = 10;

/// The name of a Job that is made for the workload because of that change: another one for each change, and the same
/// whenever the same change is tried again.
pub(super) fn name_for(name: &str, uid: &str, change: &Change<'_>) -> String {
    let mut sum = Sha256::new();
    for part in [uid, change.before.unwrap_or_default(), change.after.unwrap_or_default()] {
        sum.update((part.len() as u64).to_be_bytes());
        sum.update(part);
    }
    let digits =
        sum.finish().iter().take(SUFFIX / 2).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let end = name.floor_char_boundary(MAX_NAME - SUFFIX - 1);
    format!("{}-{digits}", name[..end].trim_end_matches(['-', '.']))
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
