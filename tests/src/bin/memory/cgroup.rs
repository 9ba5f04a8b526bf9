//! A memory limit like that of a container. It needs root and a cgroup file system that may be written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A cgroup with a limit; removed on drop, when nothing runs in it any more.
pub(crate) struct Cgroup {
    directory: PathBuf,
    peak: &'static str,
    kills: &'static str,
}

impl Cgroup {
    /// `None` where there is no right to make one.
    pub(crate) fn new(limit: u64) -> Option<Self> {
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
    pub(crate) fn wrap(&self, program: &Path, script: &Path) -> anyhow::Result<()> {
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
    pub(crate) fn peak(&self) -> Option<u64> {
        fs::read_to_string(self.directory.join(self.peak)).ok()?.trim().parse().ok()
    }

    /// How many processes were killed for want of memory, where the kernel counts them.
    pub(crate) fn kills(&self) -> Option<u64> {
        let text = fs::read_to_string(self.directory.join(self.kills)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel needs a moment until the last process is out.
        for _ in 0..50 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        eprintln!("{} is left", self.directory.display());
    }
}
