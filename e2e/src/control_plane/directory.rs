//! The folder that holds a control plane's data and logs.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin},
    sync::{Mutex, Once, PoisonError},
};

use anyhow::Context as _;

use crate::process::after_our_end;

/// Marks the logs as still wanted, for the next cleanup.
const KEEP: &str = "keep";

/// Removed when a run ends well, kept when it panicked. A folder chosen by the caller is always kept.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    /// Clears up if we are killed, or leave through `exit` with the control plane in a `static`.
    janitor: Option<(Child, ChildStdin)>,
    temporary: bool,
}

/// Removes a temporary folder. The processes are killed at the same moment: what one of them still writes needs a
/// second go.
const REMOVE: &str = r#"[ -e "$1/keep" ] || rm -rf "$1" || { sleep 1; rm -rf "$1"; }"#;

/// The temporary folders in use, for the panic hook.
static IN_USE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

impl RunDirectory {
    /// Makes a temporary one. The shell script `cleanup`, in which `$1` is the folder, runs before it is removed.
    pub(crate) fn temporary(cleanup: &str) -> anyhow::Result<Self> {
        let path = tempfile::Builder::new()
            .prefix("pod-reloader-e2e-")
            .tempdir()
            .context("cannot make a temporary folder")?
            .keep();
        let janitor = after_our_end(&format!("{cleanup}\n{REMOVE}"), &[path.as_os_str()])?;
        keep_logs_of_panics();
        IN_USE.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        Ok(Self { path, janitor: Some(janitor), temporary: true })
    }

    /// Uses `path`, emptied first, except for what is hidden. The script `cleanup`, in which `$1` is the folder,
    /// runs when it is no longer used.
    pub(crate) fn at(path: &Path, cleanup: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("cannot resolve {}", path.display()))?;
        let entries = std::fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
        for entry in entries.flatten().filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        {
            let old = entry.path();
            let removed =
                if old.is_dir() { std::fs::remove_dir_all(&old) } else { std::fs::remove_file(&old) };
            removed.with_context(|| format!("cannot remove {}, left from an earlier run", old.display()))?;
        }
        let janitor = match cleanup {
            "" => None,
            script => Some(after_our_end(script, &[path.as_os_str()])?),
        };
        Ok(Self { path, janitor, temporary: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(Path::new(&name))
    }

    /// Keeps it beyond our end.
    pub(crate) fn keep(&self) {
        // Without the mark the logs are lost, which must not hide the error they belong to.
        let _ = std::fs::write(self.join(KEEP), "");
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let Some((mut janitor, lifeline)) = self.janitor.take() else { return };
        if self.temporary {
            IN_USE.lock().unwrap_or_else(PoisonError::into_inner).retain(|path| *path != self.path);
        }
        // The processes have ended before: the janitor does its work now.
        drop(lifeline);
        match janitor.wait() {
            Ok(status) if status.success() => {}
            other => eprintln!("{} may not have been cleared up: {other:?}", self.path.display()),
        }
    }
}

/// A failed test panics in a thread of its own while the control plane stays in a `static`: only a hook sees both.
fn keep_logs_of_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            previous(info);
            // The folders' owner may be the one that panics, with the lock held.
            let Ok(paths) = IN_USE.try_lock() else { return };
            for path in paths.iter() {
                eprintln!("logs of the control plane: {}", path.display());
                let _ = std::fs::write(path.join(KEEP), "");
            }
        }));
    });
}
