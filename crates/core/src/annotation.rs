//! The keys of our own annotations, which count whichever dialects there are, and how much room annotations have.

use std::time::Duration;

/// On the pod template: the config hash (2.1). On the workload itself it is only SAP's trigger (4.5).
pub const CONFIG_HASH: &str = "pod-reloader.cs.sap.com/config-hash";
/// On the workload: what the config hash stands for (2.3).
pub const OBSERVED_CONFIG: &str = "pod-reloader.cs.sap.com/observed-config";
/// On the workload: a settle window of its own, as a Go duration of at most [`MAX_SETTLE_WINDOW`] (3.1).
pub const SETTLE_WINDOW: &str = "pod-reloader.cs.sap.com/settle-window";
/// On the workload: what is done about a change of configuration (9.4, 9.5).
pub const ON_CHANGE: &str = "pod-reloader.cs.sap.com/on-change";
/// On a Job that stands in for one that is made anew: what that is made of (9.4).
pub const RECREATES: &str = "pod-reloader.cs.sap.com/recreates";
/// On the same: how far that is.
pub const RECREATES_PHASE: &str = "pod-reloader.cs.sap.com/recreates-phase";
/// The longest settle window that a workload can have.
pub const MAX_SETTLE_WINDOW: Duration = Duration::from_hours(24);

/// What the API server allows all annotations of one object to hold together: bytes of keys and values
/// (`TotalAnnotationSizeLimitB` in apimachinery's validation).
pub const MAX_TOTAL_BYTES: usize = 256 * 1024;

/// Left free beside observed-config: the Deployment controller copies a workload's annotations to its `ReplicaSets` and
/// adds its own, and has to stay below the limit too.
pub const HEADROOM_BYTES: usize = 8 * 1024;
