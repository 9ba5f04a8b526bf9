//! What the reconciler decides from: memory, and reads that reconciles share.

use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::lookup::{ConfigVersion, Depth, FirstSeen, Found, Lookup, Query};
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::reference::Keys;
use pod_reloader_k8s::connect::REQUEST_TIMEOUT;
use pod_reloader_k8s::evaluate::Source;
use pod_reloader_k8s::reader::{ConfigReader, Reads};
use tokio::time::Instant;

use crate::index::{Presence, Snapshot};
use crate::live::LiveReads;

/// Answers from what the watches and earlier reads reported, without a request.
pub(crate) struct Memory<'a> {
    pub(crate) reader: &'a ConfigReader,
    pub(crate) snapshot: &'a Snapshot,
}

impl Source for Memory<'_> {
    async fn look_up(&self, key: &DigestKey, queries: Vec<Query>) -> Reads {
        let mut reads = Reads::default();
        for query in queries {
            let lookup = self.recall(key, &query);
            reads.add(query.object, Ok(lookup));
        }
        reads
    }
}

impl Memory<'_> {
    fn recall(&self, key: &DigestKey, Query { object, depth }: &Query) -> Lookup {
        if let Some(answer) = self.reader.withheld(object) {
            return answer.unwrap_or(Lookup::Unknown);
        }
        let version = match presence(self.snapshot, object) {
            None => return Lookup::Unknown,
            Some(Presence::Absent) => return Lookup::Absent,
            Some(Presence::Version(version)) => &**version,
        };
        match depth {
            Depth::Exists => Lookup::Found(Found::version(version.clone())),
            Depth::Version => {
                let remembered = self.reader.remembered(key, object, &Keys::All, version);
                Lookup::Found(remembered.unwrap_or_else(|| Found::version(version.clone())))
            }
            Depth::Content(keys) => {
                let remembered = self.reader.remembered(key, object, keys, version);
                remembered.map_or(Lookup::Unknown, Lookup::Found)
            }
        }
    }
}

/// Reads from the API server that began at `not_before` or later. Of what the pod template requires beside the
/// references, what the watches reported suffices.
pub(crate) struct Shared<'a> {
    pub(crate) reads: &'a LiveReads,
    pub(crate) reader: &'a ConfigReader,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) not_before: Instant,
}

impl Source for Shared<'_> {
    async fn look_up(&self, key: &DigestKey, queries: Vec<Query>) -> Reads {
        let (required, references): (Vec<_>, Vec<_>) =
            queries.into_iter().partition(|query| query.depth == Depth::Exists);
        let mut reads = self.reads.read_all(key, references, self.not_before).await;
        let mut unseen = vec![];
        for query in required {
            match presence(self.snapshot, &query.object) {
                Some(Presence::Absent) => reads.add(query.object, Ok(Lookup::Absent)),
                Some(Presence::Version(version)) => {
                    reads.add(query.object, Ok(Lookup::Found(Found::version(ConfigVersion::clone(version)))));
                }
                None => unseen.push(query),
            }
        }
        if !unseen.is_empty() {
            let deadline = Instant::now() + REQUEST_TIMEOUT;
            reads.extend(self.reader.look_up_all(key, unseen, deadline).await);
        }
        reads
    }
}

fn presence<'s>(snapshot: &'s Snapshot, object: &ConfigRef) -> Option<&'s Presence> {
    // They are in the order of their objects.
    let at = snapshot.references.binary_search_by(|reference| reference.object.cmp(object)).ok()?;
    snapshot.references[at].presence.as_ref()
}

/// The versions in which the watches saw the references first.
pub(crate) fn first_seen(snapshot: &Snapshot) -> FirstSeen {
    let references = snapshot.references.iter();
    references
        .filter_map(|reference| Some((reference.object.clone(), reference.first_seen.as_deref()?.clone())))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests;
