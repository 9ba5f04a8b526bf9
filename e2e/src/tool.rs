//! Real command-line tools, run as a user would run them.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context as _, bail};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// A command-line tool with its environment.
#[derive(Debug, Clone)]
pub struct Tool {
    program: PathBuf,
    /// Before those of each call.
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: PathBuf,
}

impl Tool {
    /// The given binary; commands run in `directory`.
    pub fn new(program: &Path, directory: &Path) -> Self {
        Self { program: program.to_owned(), args: vec![], env: vec![], directory: directory.to_owned() }
    }

    /// The same with arguments that come before those of each call.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// The same with an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
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

    /// Runs it with `input` on stdin.
    pub async fn run_with_input<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> anyhow::Result<String> {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output = self.output(&args, input).await?;
        if !output.status.success() {
            // Some say what is wrong where others print their results.
            let said = [output.stdout, output.stderr].concat();
            bail!(
                "{} {} failed: {}",
                self.name(),
                args.join(OsStr::new(" ")).to_string_lossy(),
                String::from_utf8_lossy(&said).trim()
            );
        }
        String::from_utf8(output.stdout).with_context(|| format!("{} printed what is not UTF-8", self.name()))
    }

    fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    async fn output(&self, args: &[OsString], input: &str) -> anyhow::Result<Output> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .args(args)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("a child without its pipe")?;
        let feed = async move {
            // It may end without reading all; its exit status says so.
            let _ = stdin.write_all(input.as_bytes()).await;
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        output.with_context(|| format!("cannot wait for {}", self.name()))
    }
}
