//! What a node needs of the machine.

use std::{fmt, path::Path, process::Command};

use anyhow::Context as _;

use crate::{
    image::BUSYBOX,
    paths::{self, find},
};

const PROGRAMS: [&str; 10] =
    ["containerd", "ctr", "runc", "iptables", "nft", "conntrack", "ip", "unshare", "nsenter", "tar"];
const PLUGINS: [&str; 4] = ["ptp", "host-local", "portmap", "loopback"];
const PLUGIN_FOLDER: &str = "/usr/lib/cni";
const NODE_BINARIES: [&str; 4] = ["kubelet", "kube-proxy", "kube-scheduler", "coredns"];

/// Why there can be no [`crate::RealCluster`] on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    reasons: Vec<String>,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no node can run here: {}", self.reasons.join("; "))
    }
}

impl std::error::Error for Unavailable {}

/// Whether a [`crate::RealCluster`] can be started on this machine with the binaries in `e2e/bin`.
///
/// # Errors
/// All that is missing.
pub fn available() -> Result<(), Unavailable> {
    check(&paths::binaries())
}

pub(super) fn check(binaries: &Path) -> Result<(), Unavailable> {
    let mut reasons = Vec::new();
    if !cfg!(target_os = "linux") {
        // Nothing else would make sense.
        return Err(Unavailable { reasons: vec!["this is not Linux".to_owned()] });
    }
    if !rustix::process::geteuid().is_root() && binaries == paths::binaries() {
        // What root has built is missing for others only.
        return Err(Unavailable { reasons: vec!["it takes root".to_owned()] });
    }
    let missing: Vec<_> = NODE_BINARIES.into_iter().filter(|name| !binaries.join(name).is_file()).collect();
    if !missing.is_empty() {
        reasons.push(format!("{} lacks {} (run make node)", binaries.display(), missing.join(", ")));
    }
    let mut missing: Vec<_> = PROGRAMS.into_iter().filter(|name| find(name).is_err()).collect();
    missing.extend(PLUGINS.into_iter().filter(|name| !Path::new(PLUGIN_FOLDER).join(name).is_file()));
    if !is_static(Path::new(BUSYBOX)) {
        missing.push("a static /bin/busybox");
    }
    if !missing.is_empty() {
        reasons.push(format!("there is no {} (run e2e/node/packages.sh)", missing.join(", no ")));
    }
    if !rustix::process::geteuid().is_root() {
        reasons.push("it takes root".to_owned());
    } else if let Err(error) = try_namespaces() {
        reasons.push(format!("{error:#}"));
    }
    if reasons.is_empty() { Ok(()) } else { Err(Unavailable { reasons }) }
}

/// Being root does not mean much in a container.
fn try_namespaces() -> anyhow::Result<()> {
    let script = "mount -t tmpfs tmpfs /run && ip link add node0 type veth peer name outside0";
    let output = Command::new(find("unshare")?)
        .args(["--net", "--mount", "--pid", "--mount-proc", "--fork", "sh", "-c", script])
        .env("PATH", super::path().1)
        .output()
        .context("unshare cannot be started")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("namespaces, mounts or veth devices cannot be made: {}", said.trim());
    }
    Ok(())
}

/// Whether it is a 64-bit ELF program that names no dynamic loader.
fn is_static(program: &Path) -> bool {
    const INTERPRETER: u32 = 3;
    let Ok(bytes) = std::fs::read(program) else { return false };
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let kinds = || {
        let (start, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
        (0..count).map(|index| number(start.checked_add(index * size)?, 4)).collect::<Option<Vec<_>>>()
    };
    bytes.starts_with(b"\x7fELF\x02\x01")
        && kinds().is_some_and(|kinds| !kinds.contains(&(INTERPRETER as usize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let text = check(folder.path()).unwrap_err().to_string();
        assert!(text.contains("lacks kubelet, kube-proxy, kube-scheduler, coredns"), "{text}");
    }

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        assert!(!is_static(Path::new("/bin/sh")));
        assert!(!is_static(Path::new("/etc/passwd")));
        assert!(!is_static(Path::new("/nowhere")));
    }
}
