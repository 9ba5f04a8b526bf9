//! What the programs of this crate share: one run at a time in a fixed folder, ended by a signal.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{paths, process::stop_leftovers};

/// Another process has the folder.
#[derive(Debug)]
pub struct InUse {
    directory: PathBuf,
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is in use: end the other run first (Ctrl-C where it runs)", self.directory.display())
    }
}

impl std::error::Error for InUse {}

/// The exclusive use of a run folder, given back when dropped or when the process ends.
#[derive(Debug)]
pub struct Claim {
    directory: PathBuf,
    /// The lock lies beside the folder, which is emptied and removed.
    _lock: File,
}

impl Claim {
    /// Claims `e2e/run/NAME`.
    ///
    /// # Errors
    /// [`InUse`] if another process has it; others if the folder cannot be used.
    pub fn take(name: &str) -> anyhow::Result<Self> {
        let runs = paths::runs();
        std::fs::create_dir_all(&runs)
            .with_context(|| format!("cannot make the folder {}", runs.display()))?;
        let directory = runs.join(name);
        let path = runs.join(format!("{name}.lock"));
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(InUse { directory }.into()),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// The folder.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Kills what an earlier run has left running, and gives the names of those processes.
    pub async fn stop_leftovers(&self) -> anyhow::Result<Vec<String>> {
        stop_leftovers(&self.directory).await.context("what an earlier run left running cannot be stopped")
    }

    /// Removes the folder.
    pub fn remove_directory(&self) -> anyhow::Result<()> {
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.directory.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Waits for SIGINT (Ctrl-C), SIGTERM or SIGHUP.
pub async fn interrupted() -> anyhow::Result<()> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
