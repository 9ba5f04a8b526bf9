//! What is known of config objects now.

use std::collections::BTreeMap;

use crate::content::KeyNames;
use crate::digest::Digest;
use crate::reference::ConfigName;

/// What is known of one config object now. "Not there" and "could not ask" are different answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It exists.
    Known(Live),
    /// It does not exist.
    Absent,
    /// It could not be asked for.
    Unknown,
    /// It is not asked for: objects of its kind are not followed here (5.9).
    Unfollowed,
}

/// An existing config object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// The digest of its content; `None` where the content was not asked for (see
    /// [`crate::decide::needs_content`]).
    pub digest: Option<Digest>,
    /// Which keys it has; `None` where the content was not asked for. A key is missing only if this says so.
    pub keys: Option<KeyNames>,
}

/// What is known of each reference, and of each object that the template requires, as far as it was asked for.
pub type Lookups = BTreeMap<ConfigName, Lookup>;
