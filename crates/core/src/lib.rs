//! Facts and decisions of pod-reloader, without a clock, an environment, randomness or a Kubernetes client.
//!
//! In come the relevant parts of a workload ([`workload::Workload`]) and what is known about the config objects
//! it refers to ([`lookup::Lookup`]); out comes what should happen to its annotations ([`decide::Decision`]) and
//! the patch that does it ([`patch`]). The admission webhook and the reconciler call the very same functions, so
//! they cannot disagree.
//!
//! ```text
//! annotations --dialect----> References --+
//! pod template ---template--> TemplateUses +--decide--> Decision --patch--> JSON Patch | merge patch
//! config objects --digest--> Lookups ------+
//! ```
//!
//! Numbers in comments and tests ("2.5", "section 3") are those of `docs/behaviour.md`.

pub mod action;
pub mod admission;
pub mod annotation;
mod by_version;
pub mod cause;
mod compare;
pub mod config_hash;
pub mod content;
pub mod decide;
pub mod dialect;
pub mod digest;
pub mod duration;
mod entries;
pub mod exclusion;
mod fold;
pub mod guard;
mod json_text;
pub mod kind;
mod lacking;
pub mod lookup;
pub mod marks;
pub mod mistake;
pub mod name;
pub mod object;
pub mod observed;
pub mod patch;
pub mod reference;
mod rotation;
pub mod selector;
mod sha;
pub mod surroundings;
pub mod template;
pub mod template_diff;
pub mod witness;
pub mod workload;
