//! What a process takes, as the kernel counts it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// `USER_HZ`, in which the kernel shows times, on all platforms that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process by its id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resources(u32);

impl Resources {
    /// Of that process.
    pub(super) fn of(process_id: u32) -> Self {
        Self(process_id)
    }

    /// User and system time so far, in seconds, to 10 ms.
    pub(super) fn cpu_seconds(self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/stat", self.0);
        let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let (_, fields) = stat.rsplit_once(") ").context("stat has a command in parentheses")?;
        // After the command: state is field 3 of proc(5), utime 14 and stime 15.
        let ticks: Vec<f64> = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse().context("a number of ticks"))
            .collect::<anyhow::Result<_>>()?;
        ensure!(ticks.len() == 2, "stat lacks the times");
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    }

    /// The resident set, in MiB.
    pub(super) fn resident_mib(self) -> anyhow::Result<f64> {
        self.status_mib("VmRSS:")
    }

    /// The largest resident set since [`Self::reset_peak`], or since the start, in MiB.
    pub(super) fn peak_mib(self) -> anyhow::Result<f64> {
        self.status_mib("VmHWM:")
    }

    /// Begins to look for the largest resident set anew.
    pub(super) fn reset_peak(self) -> anyhow::Result<()> {
        let path = format!("/proc/{}/clear_refs", self.0);
        std::fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
    }

    fn status_mib(self, field: &str) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.0);
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix(field)).context("no such line in status")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("a number of kB")?;
        Ok(kib / 1024.0)
    }
}

/// CPU time over a span.
pub(super) struct CpuSpan {
    process: Resources,
    cpu_seconds: f64,
    begin: Instant,
}

impl CpuSpan {
    /// Begins now.
    pub(super) fn begin(process: Resources) -> anyhow::Result<Self> {
        Ok(Self { process, cpu_seconds: process.cpu_seconds()?, begin: Instant::now() })
    }

    /// CPU seconds, and the time that has passed.
    pub(super) fn end(&self) -> anyhow::Result<(f64, Duration)> {
        Ok((self.process.cpu_seconds()? - self.cpu_seconds, self.begin.elapsed()))
    }
}
