//! Where things are in the repository.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// Where programs are looked for after `PATH`, which often lacks these even for root.
pub(crate) const SYSTEM_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// The top of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `e2e/bin`, where `e2e/control-plane/build.sh` and `e2e/tools/build.sh` put what they build.
pub fn binaries() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bin")
}

/// `e2e/run`, where the lab program keeps what outlives a run.
pub fn runs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("run")
}

/// The program of the system that is called `name`.
pub(crate) fn find(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(SYSTEM_FOLDERS.split(':'))
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("there is no {name} (run e2e/node/packages.sh)"))
}

/// A pinned tool of [`binaries`].
///
/// # Errors
/// If it is not there; the error says how to get it.
pub fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let program = binaries().join(name);
    ensure!(program.exists(), "{} is missing: run e2e/tools/build.sh {name}", program.display());
    Ok(program)
}
