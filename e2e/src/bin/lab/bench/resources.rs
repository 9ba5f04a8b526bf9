//! What a process takes, as the kernel counts it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// A process by its id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resources(u32);

impl Resources {
    /// Of that process.
    pub(super) fn of(process_id: u32) -> Self {
        Self(process_id)
    }

    /// User and system time so far of those threads that still run.
    pub(super) fn cpu_time(self) -> anyhow::Result<Duration> {
        Ok(self.cpu_times()?.into_values().sum())
    }

    /// By the ids of threads. `schedstat` counts nanoseconds, where the times of a process are counted in ticks of 10 ms.
    fn cpu_times(self) -> anyhow::Result<HashMap<OsString, Duration>> {
        let threads = format!("/proc/{}/task", self.0);
        let entries = std::fs::read_dir(&threads).with_context(|| format!("cannot read {threads}"))?;
        let mut times = HashMap::new();
        for entry in entries {
            let entry = entry?;
            // A thread may have ended by now.
            let Ok(stat) = std::fs::read_to_string(entry.path().join("schedstat")) else { continue };
            let nanoseconds = stat.split(' ').next().and_then(|field| field.parse().ok());
            let time = Duration::from_nanos(nanoseconds.context("schedstat begins with nanoseconds")?);
            times.insert(entry.file_name(), time);
        }
        ensure!(!times.is_empty(), "no thread of {threads} has a schedstat");
        Ok(times)
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

/// CPU time over a span. What a thread takes that ends meanwhile is left out.
pub(super) struct CpuSpan {
    process: Resources,
    before: HashMap<OsString, Duration>,
    begin: Instant,
}

impl CpuSpan {
    /// Begins now.
    pub(super) fn begin(process: Resources) -> anyhow::Result<Self> {
        Ok(Self { process, before: process.cpu_times()?, begin: Instant::now() })
    }

    /// CPU seconds, and the time that has passed.
    pub(super) fn end(&self) -> anyhow::Result<(f64, Duration)> {
        let elapsed = self.begin.elapsed();
        let times = self.process.cpu_times()?;
        let taken = times
            .iter()
            .map(|(thread, time)| time.saturating_sub(self.before.get(thread).copied().unwrap_or_default()));
        Ok((taken.sum::<Duration>().as_secs_f64(), elapsed))
    }
}
