//! A memory limit like that of a container. It needs root and a cgroup file system that may be written.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use pod_reloader_e2e::eventually;

/// A cgroup with a limit.
pub(super) struct Cgroup {
    directory: PathBuf,
    peak: &'static str,
    kills: &'static str,
}

impl Cgroup {
    /// `None` where there is no right to make one.
    pub(super) fn new(limit: u64) -> Option<Self> {
        let name = format!("pod-reloader-memory-{}", std::process::id());
        [
            (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.max_usage_in_bytes",
                "memory.oom_control",
            ),
            ("/sys/fs/cgroup", "memory.max", "memory.peak", "memory.events"),
        ]
        .into_iter()
        .find_map(|(mount, limit_file, peak, kills)| {
            let directory = Path::new(mount).join(&name);
            fs::create_dir(&directory).ok()?;
            let group = Self { directory, peak, kills };
            fs::write(group.directory.join(limit_file), limit.to_string()).ok()?;
            Some(group)
        })
    }

    /// A script that starts a program in the group.
    pub(super) fn wrap(&self, program: &Path, script: &Path) -> anyhow::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let text = format!(
            "#!/bin/sh\necho $$ >'{}/cgroup.procs' && exec '{}' \"$@\"\n",
            self.directory.display(),
            program.display()
        );
        fs::write(script, text).context("cannot write the script")?;
        Ok(fs::set_permissions(script, fs::Permissions::from_mode(0o755))?)
    }

    /// The most that the kernel counted, buffers of sockets and files among it.
    pub(super) fn peak(&self) -> Option<u64> {
        fs::read_to_string(self.directory.join(self.peak)).ok()?.trim().parse().ok()
    }

    /// How many processes were killed for want of memory, where the kernel counts them.
    pub(super) fn kills(&self) -> Option<u64> {
        let text = fs::read_to_string(self.directory.join(self.kills)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
    }

    /// Removes it; the kernel needs a moment until the last process is out.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        eventually("the cgroup to be empty", Duration::from_secs(5), || async {
            fs::remove_dir(&self.directory).context("cannot remove it")
        })
        .await
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It is gone already where all went well.
        let _ = fs::remove_dir(&self.directory);
    }
}
