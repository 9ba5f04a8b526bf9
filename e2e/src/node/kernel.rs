//! What only the kernel of Linux can do.

#[cfg(target_os = "linux")]
mod linux {
    use std::{fs::File, os::fd::AsFd as _, path::Path, time::Duration};

    use anyhow::{Context as _, ensure};
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
        thread::{LinkNameSpaceType, move_into_link_name_space},
    };

    /// Has the calling thread, and those that it starts, see the network of `namespace` (`/proc/ID/ns/net`).
    pub(in super::super) fn enter_network(namespace: &Path) -> anyhow::Result<()> {
        let file = File::open(namespace).with_context(|| format!("cannot open {}", namespace.display()))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("cannot enter the network of {}", namespace.display()))
    }

    /// Kills a process and waits for its end, also if it is not our child. It must not have been waited for.
    pub(in super::super) fn end(id: u32, deadline: Duration) -> anyhow::Result<()> {
        let id = i32::try_from(id).ok().and_then(Pid::from_raw).context("not a process id")?;
        let process = pidfd_open(id, PidfdFlags::empty()).context("it is gone")?;
        pidfd_send_signal(&process, Signal::KILL).context("it cannot be killed")?;
        let deadline = Timespec::try_from(deadline).context("a long deadline")?;
        let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&deadline));
        ensure!(ended.context("its end cannot be awaited")? > 0, "it has not ended");
        Ok(())
    }
}

/// So that all else compiles: `available` says no before it comes to these.
#[cfg(not(target_os = "linux"))]
mod linux {
    use std::{path::Path, time::Duration};

    pub(in super::super) fn enter_network(_: &Path) -> anyhow::Result<()> {
        anyhow::bail!("this is not Linux")
    }

    pub(in super::super) fn end(_: u32, _: Duration) -> anyhow::Result<()> {
        anyhow::bail!("this is not Linux")
    }
}

pub(super) use linux::{end, enter_network};
