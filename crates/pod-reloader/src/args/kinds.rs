//! Flags that say which kinds of workload there are (9.1, 9.4).

use clap::{ArgAction, Args};
use pod_reloader_core::kind::{Kinds, Wanted};

use crate::go_flags::parse_bool;

/// Kinds of workload.
#[derive(Clone, Debug, Args)]
pub struct KindArgs {
    /// A further kind of workload beside those of apps/v1; may be given several times. A preset (argo-rollouts,
    /// knative-services, openkruise, openshift-deploymentconfigs), or GROUP/VERSION/PLURAL:KIND=PATH with the path of the
    /// pod template, such as example.com/v1/servers:Server=spec.template, or of a map of the pods' annotations, as
    /// annotations:spec.podAnnotations; without :KIND the API server is asked for it
    #[arg(long, value_name = "KIND", value_delimiter = ',', env = "POD_RELOADER_WORKLOAD")]
    pub workload: Vec<Wanted>,

    /// Whether the kinds of batch/v1 are looked at, of which those with the annotation pod-reloader.cs.sap.com/on-change
    /// have something done about a change. It takes the rights to list, watch, get and patch both, and to create and delete
    /// jobs
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, env = "POD_RELOADER_JOBS",
          value_parser = parse_bool)]
    pub jobs: bool,
}

impl KindArgs {
    /// All of them.
    ///
    /// # Errors
    /// If one is there twice, with what is wrong.
    pub(crate) fn all(&self) -> Result<Kinds, String> {
        let kinds = Kinds::with(&self.workload).map_err(|why| format!("--workload: {why}"))?;
        Ok(if self.jobs { kinds.and_jobs() } else { kinds })
    }
}
