//! Kinds of other projects that are known by a name.

use super::{KindRef, argo, knative, openkruise, openshift};

/// Kinds that are asked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// As `--workload` takes it.
    pub name: &'static str,
    /// What it stands for.
    pub kinds: &'static [KindRef],
}

/// All of them.
pub const PRESETS: &[Preset] = &[
    Preset { name: "argo-rollouts", kinds: &[argo::ROLLOUT] },
    Preset { name: "knative-services", kinds: &[knative::SERVICE] },
    Preset {
        name: "openkruise",
        kinds: &[openkruise::CLONE_SET, openkruise::STATEFUL_SET, openkruise::DAEMON_SET],
    },
    Preset { name: "openshift-deploymentconfigs", kinds: &[openshift::DEPLOYMENT_CONFIG] },
];
