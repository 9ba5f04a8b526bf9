//! Where things are in the repository.

use std::path::{Path, PathBuf};

use anyhow::ensure;

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

/// A pinned tool of [`binaries`].
///
/// # Errors
/// If it is not there; the error says how to get it.
pub fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let program = binaries().join(name);
    ensure!(program.exists(), "{} is missing: run e2e/tools/build.sh {name}", program.display());
    Ok(program)
}
