//! Flags that say what an installation manages (1.6, 5.9, 9.1).

use clap::{ArgAction, Args};
use pod_reloader_core::kind::{Kinds, Wanted};
use pod_reloader_core::selector::Selector;

use crate::go_flags::parse_bool;

/// Kinds of workload, selectors, and whether Secrets are followed.
#[derive(Clone, Debug, Args)]
pub struct ScopeArgs {
    /// A further kind of workload beside those of apps/v1; may be given several times. A preset (argo-rollouts,
    /// knative-services, openkruise, openshift-deploymentconfigs), or GROUP/VERSION/PLURAL:KIND=PATH with the path of the
    /// pod template, such as example.com/v1/servers:Server=spec.template, or of a map of the pods' annotations, as
    /// annotations:spec.podAnnotations; without :KIND the API server is asked for it
    #[arg(long, value_name = "KIND", value_delimiter = ',', env = "POD_RELOADER_WORKLOAD")]
    pub workload: Vec<Wanted>,

    /// Only workloads in namespaces with such labels, as kubectl writes selectors: team=shop,env in (a,b),!legacy
    #[arg(long, value_name = "SELECTOR", default_value = "", hide_default_value = true,
          env = "POD_RELOADER_NAMESPACE_SELECTOR", value_parser = Selector::parse)]
    pub namespace_selector: Selector,

    /// Only workloads with such labels
    #[arg(long, value_name = "SELECTOR", default_value = "", hide_default_value = true,
          env = "POD_RELOADER_OBJECT_SELECTOR", value_parser = Selector::parse)]
    pub object_selector: Selector,

    /// Whether Secrets are followed. With false, ConfigMaps alone are, and no right on Secrets is needed but on the
    /// operator's own; not with --hash=version
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, env = "POD_RELOADER_SECRETS",
          value_parser = parse_bool)]
    pub secrets: bool,

    /// Whether the label pod-reloader.cs.sap.com/auto of a namespace has the workloads in it follow what their pod
    /// templates read. It takes the right to list and watch namespaces or, with --namespaces, to get them
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, env = "POD_RELOADER_NAMESPACE_LABELS",
          value_parser = parse_bool)]
    pub namespace_labels: bool,

    /// Whether the annotation pod-reloader.cs.sap.com/auto of a config object has the workloads follow it whose pod
    /// templates read it
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, env = "POD_RELOADER_OBJECT_MARKS",
          value_parser = parse_bool)]
    pub object_marks: bool,

    /// Whether CronJobs and Jobs are looked at, of which those with the annotation pod-reloader.cs.sap.com/on-change have
    /// something done about a change. It takes the rights to list, watch, get and patch both, and to create and delete Jobs
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, env = "POD_RELOADER_JOBS",
          value_parser = parse_bool)]
    pub jobs: bool,
}

impl ScopeArgs {
    /// The kinds of workload.
    ///
    /// # Errors
    /// If one is there twice, with what is wrong.
    pub(crate) fn kinds(&self) -> Result<Kinds, String> {
        let kinds = Kinds::with(&self.workload).map_err(|why| format!("--workload: {why}"))?;
        Ok(if self.jobs { kinds.and_jobs() } else { kinds })
    }
}
