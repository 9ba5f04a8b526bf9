//! Flags that say what an installation manages (1.6, 5.9, 9.1).

use clap::{ArgAction, Args};
use pod_reloader_core::selector::Selector;

use super::KindArgs;
use crate::go_flags::parse_bool;

/// Kinds of workload, selectors, and whether Secrets are followed.
#[derive(Clone, Debug, Args)]
pub struct ScopeArgs {
    /// Which kinds of workload.
    #[command(flatten)]
    pub kinds: KindArgs,

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
}
