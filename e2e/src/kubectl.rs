//! The real `kubectl`.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context as _, bail};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// Runs `kubectl` as one user.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    directory: PathBuf,
}

impl Kubectl {
    /// Uses the given binary and kubeconfig; commands run in `directory`, so that manifests can have short paths.
    pub fn new(program: &Path, kubeconfig: &Path, directory: &Path) -> Self {
        Self {
            program: program.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            directory: directory.to_owned(),
        }
    }

    /// The same with another working directory.
    #[must_use]
    pub fn in_directory(mut self, directory: &Path) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// Runs it and gives what it printed; an error with its message if it failed.
    pub async fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> anyhow::Result<String> {
        self.run_with_input(args, "").await
    }

    /// Runs it with `input` on stdin (for `-f -`).
    pub async fn run_with_input<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> anyhow::Result<String> {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output = self.output(&args, input).await?;
        if !output.status.success() {
            bail!(
                "kubectl {} failed: {}",
                args.join(OsStr::new(" ")).to_string_lossy(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        String::from_utf8(output.stdout).context("kubectl printed what is not UTF-8")
    }

    async fn output(&self, args: &[OsString], input: &str) -> anyhow::Result<Output> {
        let mut child = Command::new(&self.program)
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            // A personal kuberc could change what commands do.
            .env("KUBECTL_KUBERC", "false")
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("a child without its pipe")?;
        let feed = async move {
            // It may end without reading all; its exit status tells.
            let _ = stdin.write_all(input.as_bytes()).await;
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        output.context("cannot wait for kubectl")
    }
}
