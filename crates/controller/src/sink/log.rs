//! Facts in the log.

use super::Sink;
use crate::fact::{Fact, PatchFailure, Reload, Subject, join};

/// Writes a line for each fact that is worth one.
pub(super) struct Log;

impl Sink for Log {
    fn publish(&self, Subject { workload, .. }: &Subject, fact: &Fact) {
        match fact {
            Fact::Reloaded(Reload { acted: Some(_), references, .. }) => {
                tracing::info!(%workload, references = join(references), "{fact}");
            }
            Fact::Reloaded(reload) => {
                let Reload { changes, old_hash, new_hash, references, .. } = reload;
                tracing::info!(
                    %workload,
                    references = join(references),
                    old_hash = old_hash.as_deref().unwrap_or("none"),
                    new_hash = new_hash.as_deref().unwrap_or("none"),
                    "reloaded: {changes}"
                );
            }
            Fact::Recorded => tracing::info!(%workload, "{fact}"),
            Fact::PatchFailed { failure: PatchFailure::Error(error), .. } => {
                tracing::warn!(%workload, error, "{fact}; trying again later");
            }
            Fact::WorkloadUnreadable { error } => tracing::warn!(%workload, error, "{fact}"),
            // Counted, or said by a condition.
            Fact::PatchFailed { .. } | Fact::KeyReplaced => {}
            // Said once at the start, and not of every workload.
            Fact::SecretsNotFollowed { .. } => tracing::debug!(%workload, reason = reason(fact), "{fact}"),
            _ => tracing::warn!(%workload, reason = reason(fact), "{fact}"),
        }
    }
}

fn reason(fact: &Fact) -> &'static str {
    fact.condition().map_or("", |condition| condition.as_str())
}
