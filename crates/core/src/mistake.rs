//! What is wrong with the words of a workload, as its owner is told in admission warnings and Events.

use std::fmt;

use crate::kind::KindRef;

/// So many characters of what was written are shown.
const MAX_SHOWN: usize = 32;

/// A value that does not count, or not as it was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// `auto` has none of its values (7.1), and is as if it were absent.
    Auto(Shown),
    /// `on-change` has none of the values that it can have on that kind (9.5).
    OnChange(KindRef, Shown),
    /// An entry of an exclude list that no name can match (7.3), under that annotation.
    Exclusion(&'static str, Shown),
    /// The pod template names more objects or keys than are kept: what is beyond is not followed, or as a whole.
    TooManyUses,
    /// Exclude lists have more entries than count, or patterns that take too long to be tried.
    TooManyExclusions,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto(value) => write!(
                f,
                "auto is {value}: it can be \"true\", \"configmaps\", \"secrets\" or \"false\", and is ignored"
            ),
            Self::OnChange(kind, value) => {
                let can_be: Vec<_> =
                    kind.actions.asked.iter().map(|action| format!("\"{}\"", action.name())).collect();
                let can_be = can_be.join(" or ");
                let else_is = kind.actions.unasked.map_or("taken for \"none\"", |_| "ignored");
                write!(f, "on-change is {value}: on a {} it can be {can_be}, and is {else_is}", kind.kind)
            }
            Self::Exclusion(key, entry) => {
                let key = key.rsplit('/').next().unwrap_or(key);
                write!(f, "{key}: no name matches {entry}, which is left out")
            }
            Self::TooManyUses => {
                f.write_str("the pod template uses more objects or keys than are followed (1,000 of each)")
            }
            Self::TooManyExclusions => f.write_str("there are too many exclusions, and some do not count"),
        }
    }
}

/// A user's text, as far as it is shown: short, and without what could break a terminal or a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(Box<str>);

impl Shown {
    /// The beginning of that text.
    pub(crate) fn of(text: &str, most: usize) -> Self {
        let mut rest = text.chars();
        let shown = rest.by_ref().take(most).map(|c| match c {
            c if c.is_ascii_graphic() => c,
            c if c.is_ascii_whitespace() => ' ',
            _ => '?',
        });
        let mut shown: String = shown.collect();
        if rest.next().is_some() {
            shown.push_str("...");
        }
        Self(shown.into())
    }
}

impl From<&str> for Shown {
    fn from(text: &str) -> Self {
        Self::of(text, MAX_SHOWN)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}
