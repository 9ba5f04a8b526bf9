//! The keys of our annotations and labels, and how much room annotations have.

use std::time::Duration;

/// On the workload: comma-separated names of `ConfigMap`s (1.2).
pub const CONFIGMAPS: &str = "pod-reloader.cs.sap.com/configmaps";
/// On the workload: comma-separated names of `Secret`s (1.2).
pub const SECRETS: &str = "pod-reloader.cs.sap.com/secrets";
/// On the pod template: the config hash (2.1). On the workload itself it is only SAP's trigger (4.5).
pub const CONFIG_HASH: &str = "pod-reloader.cs.sap.com/config-hash";
/// On the workload: what the config hash stands for (2.3).
pub const OBSERVED_CONFIG: &str = "pod-reloader.cs.sap.com/observed-config";
/// On the workload: a settle window of its own, as a Go duration of at most [`MAX_SETTLE_WINDOW`] (3.1).
pub const SETTLE_WINDOW: &str = "pod-reloader.cs.sap.com/settle-window";
/// The longest settle window that a workload can have.
pub const MAX_SETTLE_WINDOW: Duration = Duration::from_hours(24);
/// Label on the workload: `"true"` has us leave it alone (1.3).
pub const IGNORED: &str = "pod-reloader.cs.sap.com/ignored";
/// Label on the workload: a synonym of [`IGNORED`] (1.3).
pub const DISABLED: &str = "pod-reloader.cs.sap.com/disabled";

/// What the API server allows all annotations of one object to hold together: bytes of keys and values
/// (`TotalAnnotationSizeLimitB` in apimachinery's validation).
pub const MAX_TOTAL_BYTES: usize = 256 * 1024;

/// Left free beside observed-config: the Deployment controller copies a workload's annotations to its `ReplicaSets` and
/// adds its own, and has to stay below the limit too.
pub const HEADROOM_BYTES: usize = 8 * 1024;
