//! Why a reload is due, and what it may have to wait for.

use std::fmt;

use crate::name::ConfigRef;

/// Why a reload is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Its content differs from what the running pods saw.
    Changed(ConfigRef),
    /// It appeared, and nothing in the template requires it.
    Appeared(ConfigRef),
    /// It was deleted, and every use of it is optional.
    Disappeared(ConfigRef),
    /// It was added to the lists.
    Listed(ConfigRef),
    /// It was taken off the lists.
    Unlisted(ConfigRef),
    /// The template has no config hash.
    NoHash,
    /// The hash matches nothing that is there now: the configuration changed while the operator was not running (2.5).
    Unwatched,
    /// The owner's own rollout sets the normalized hash, in place of one that was adopted from another tool or kept
    /// while an object appeared or was deleted (section 3).
    Adopted,
}

impl Cause {
    /// The reference that changed, where it is known.
    pub fn reference(&self) -> Option<&ConfigRef> {
        match self {
            Self::Changed(name)
            | Self::Appeared(name)
            | Self::Disappeared(name)
            | Self::Listed(name)
            | Self::Unlisted(name) => Some(name),
            Self::NoHash | Self::Unwatched | Self::Adopted => None,
        }
    }

    /// Whether it is the owner's doing: such a reload is not deferred.
    pub(crate) fn is_the_owners(&self) -> bool {
        matches!(self, Self::Listed(_) | Self::Unlisted(_) | Self::NoHash | Self::Adopted)
    }

    /// A short constant word, for metrics and logs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Changed(_) => "changed",
            Self::Appeared(_) => "appeared",
            Self::Disappeared(_) => "disappeared",
            Self::Listed(_) => "listed",
            Self::Unlisted(_) => "unlisted",
            Self::NoHash => "no_hash",
            Self::Unwatched => "unwatched",
            Self::Adopted => "adopted",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(name) => write!(f, "{name} changed"),
            Self::Appeared(name) => write!(f, "{name} appeared"),
            Self::Disappeared(name) => write!(f, "{name} is gone"),
            Self::Listed(name) => write!(f, "{name} was listed"),
            Self::Unlisted(name) => write!(f, "{name} is no longer listed"),
            Self::NoHash => f.write_str("the pod template had no config hash"),
            Self::Unwatched => f.write_str("the configuration changed while it was not watched"),
            Self::Adopted => f.write_str("the config hash was brought up to date along with a rollout"),
        }
    }
}

/// Something that the template requires and that is not there: pods cannot start without it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// The object.
    pub object: ConfigRef,
    /// The key that the object lacks; `None` if the object itself is missing.
    pub key: Option<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, key } = self;
        match key {
            // An owner's text, on its way into an Event.
            Some(key) => write!(f, "key \"{}\" of {object}", key.escape_debug()),
            None => write!(f, "{object}"),
        }
    }
}
