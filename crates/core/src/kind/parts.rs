//! The parts of an object that its health is read from.

use serde::Deserialize;

/// An object of a kind whose `spec` and `status` say what these types read.
#[derive(Deserialize)]
#[serde(bound(deserialize = "P: Default + Deserialize<'de>, S: Default + Deserialize<'de>"))]
pub(super) struct Object<P, S> {
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) spec: P,
    #[serde(default)]
    pub(super) status: S,
}

#[derive(Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) generation: i64,
}
