//! The real `kubectl`.

use std::{ffi::OsStr, path::Path};

use crate::tool::Tool;

/// Runs `kubectl` as one user.
#[derive(Debug, Clone)]
pub struct Kubectl {
    tool: Tool,
}

impl Kubectl {
    /// Uses the given binary and kubeconfig; commands run in `directory`, so that manifests can have short paths.
    pub fn new(program: &Path, kubeconfig: &Path, directory: &Path) -> Self {
        let tool = Tool::new(program, directory)
            .env("KUBECONFIG", kubeconfig)
            // A personal kuberc could change what commands do.
            .env("KUBECTL_KUBERC", "false");
        Self { tool }
    }

    /// The same with another working directory.
    #[must_use]
    pub fn in_directory(self, directory: &Path) -> Self {
        Self { tool: self.tool.in_directory(directory) }
    }

    /// Runs it and gives what it printed; an error with its message if it failed.
    pub async fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> anyhow::Result<String> {
        self.tool.run(args).await
    }

    /// Runs it with `input` on stdin (for `-f -`).
    pub async fn run_with_input<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> anyhow::Result<String> {
        self.tool.run_with_input(args, input).await
    }
}
