//! Flags that say which API server is meant.

use std::path::PathBuf;

use clap::Args;

/// The way to the API server.
#[derive(Clone, Debug, Args)]
pub struct ConnectionArgs {
    /// Kubeconfig to use; by default that of KUBECONFIG, ~/.kube/config, or the pod's service account
    #[arg(long, value_name = "FILE", env = "POD_RELOADER_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
}
