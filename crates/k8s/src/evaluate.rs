//! Decides about one workload: asks the decision what it lacks, reads that, and asks again.
//!
//! The admission webhook and the reconciler both come through here; they differ in the [`Source`] alone.

use std::collections::HashSet;
use std::future::Future;

use pod_reloader_core::decide::{Answer, Context, Decision, Input, decide};
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::lookup::Query;
use tokio::time::Instant;

use crate::reader::ConfigReader;
use crate::reads::Reads;
use crate::unreadable::Unreadable;

/// Where answers come from.
pub trait Source {
    /// Answers these questions, with digests of that key and those that it replaced. What is left out is taken as
    /// unknown.
    fn look_up(&self, key: &DigestKey, queries: Vec<Query>) -> impl Future<Output = Reads> + Send;
}

/// Reads live from the API server, for one request.
pub struct Live<'a> {
    /// Reads on behalf of the caller.
    pub reader: &'a ConfigReader,
    /// When answers are no use any more.
    pub deadline: Instant,
}

impl Source for Live<'_> {
    async fn look_up(&self, key: &DigestKey, queries: Vec<Query>) -> Reads {
        self.reader.look_up_all(key, queries, self.deadline).await
    }
}

/// What to do about references that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// They hold up the decision.
    None,
    /// Those that stay unreadable until an administrator acts do not.
    Lasting,
    /// None of them does: it was tried often enough.
    All,
}

/// A decision, and what it was made from.
#[derive(Debug)]
pub struct Evaluation {
    /// What should happen.
    pub decision: Decision,
    /// All that was looked up.
    pub reads: Reads,
    /// Whether the decision does not wait for what could not be read.
    pub is_tolerant: bool,
}

/// Decides, with what the source knows. `input.tolerates_unknown` is set from `tolerance` and what was read.
pub async fn evaluate(input: &Input<'_>, source: &impl Source, tolerance: Tolerance) -> Evaluation {
    let mut reads = Reads::default();
    let mut asked = HashSet::new();
    loop {
        let is_tolerant = match tolerance {
            Tolerance::None => false,
            Tolerance::Lasting => match input.context {
                Context::Steady => reads.only_lasting(|_| true),
                // Of what the template requires beside the references nothing has to be known.
                Context::Rollout => {
                    let references = input.references.objects();
                    reads.only_lasting(|object| references.contains(object))
                }
            },
            Tolerance::All => true,
        };
        let input = Input { tolerates_unknown: is_tolerant, ..*input };
        let lacking = match decide(&input, &reads.lookups) {
            Answer::Decided(decision) => return Evaluation { decision, reads, is_tolerant },
            Answer::Lacks(queries) => queries,
        };
        // What was asked for once and is still lacking is not going to be known: an object that is written all the time,
        // say, so that no two reads see the same version.
        let (again, queries): (Vec<_>, Vec<_>) = lacking.into_iter().partition(|query| asked.contains(query));
        for query in again {
            reads.add(query.object, Err(Unreadable::Unanswered));
        }
        if queries.is_empty() {
            continue;
        }
        asked.extend(queries.iter().cloned());
        reads.extend(source.look_up(input.key, queries.clone()).await);
        for query in queries {
            if !reads.lookups.contains_key(&query.object) {
                reads.add(query.object, Err(Unreadable::Unanswered));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]
mod tests;
