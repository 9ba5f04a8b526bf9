//! What users see, one module per theme of `docs/behaviour.md`. All but `lifecycle` share one control plane.

mod flows;
mod jobs;
mod lifecycle;
mod lists;
mod opting_in;
mod shared;
mod table;
mod third_party;
