//! What a process takes, as the kernel counts it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::Context;

/// In which the kernel counts the times of a process, on all platforms that this runs on (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// A process by its id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resources(u32);

impl Resources {
    /// Of that process.
    pub(super) fn of(process_id: u32) -> Self {
        Self(process_id)
    }

    /// User and system time so far.
    pub(super) fn cpu_time(self) -> anyhow::Result<Duration> {
        Ok(CpuTimes::of(self)?.since(&CpuTimes::default()))
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

/// What a process has taken so far: all of it in ticks, and what its threads took that still run, in nanoseconds.
#[derive(Debug, Default)]
struct CpuTimes {
    process: Duration,
    /// By their ids. Empty where the kernel has no `schedstat`.
    threads: HashMap<OsString, Duration>,
}

impl CpuTimes {
    fn of(Resources(process): Resources) -> anyhow::Result<Self> {
        let folder = format!("/proc/{process}");
        let entries = std::fs::read_dir(format!("{folder}/task")).with_context(|| format!("no {folder}"))?;
        let mut threads = HashMap::new();
        for entry in entries {
            let entry = entry?;
            // A thread may have ended by now.
            let Ok(stat) = std::fs::read_to_string(entry.path().join("schedstat")) else { continue };
            let nanoseconds = stat.split(' ').next().and_then(|field| field.parse().ok());
            let time = Duration::from_nanos(nanoseconds.context("schedstat begins with nanoseconds")?);
            threads.insert(entry.file_name(), time);
        }
        let stat = std::fs::read_to_string(format!("{folder}/stat")).context("cannot read stat")?;
        Ok(Self { process: ticks(&stat).context("stat has times")?, threads })
    }

    /// What was taken since then. To a nanosecond, unless a thread has ended whose part only the ticks have.
    fn since(&self, before: &Self) -> Duration {
        let taken = self.threads.iter().map(|(thread, time)| {
            time.saturating_sub(before.threads.get(thread).copied().unwrap_or_default())
        });
        let of_threads = taken.sum();
        let has_all = before.threads.keys().all(|thread| self.threads.contains_key(thread));
        let of_process = self.process.saturating_sub(before.process);
        // A thread that began and ended meanwhile has left no trace but there.
        if has_all && of_process < of_threads + 2 * TICK { of_threads } else { of_threads.max(of_process) }
    }
}

/// The times of proc(5)'s stat: after the command in parentheses, state is field 3, utime 14 and stime 15.
fn ticks(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let user: u32 = times.next()?.parse().ok()?;
    let system: u32 = times.next()?.parse().ok()?;
    Some(TICK * user + TICK * system)
}

/// CPU time over a span.
pub(super) struct CpuSpan {
    process: Resources,
    before: CpuTimes,
    begin: Instant,
}

impl CpuSpan {
    /// Begins now.
    pub(super) fn begin(process: Resources) -> anyhow::Result<Self> {
        Ok(Self { process, before: CpuTimes::of(process)?, begin: Instant::now() })
    }

    /// CPU seconds, and the time that has passed.
    pub(super) fn end(&self) -> anyhow::Result<(f64, Duration)> {
        let elapsed = self.begin.elapsed();
        Ok((CpuTimes::of(self.process)?.since(&self.before).as_secs_f64(), elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(process: u64, threads: &[(&str, u64)]) -> CpuTimes {
        let threads =
            threads.iter().map(|(id, nanoseconds)| ((*id).into(), Duration::from_nanos(*nanoseconds)));
        CpuTimes { process: Duration::from_millis(process), threads: threads.collect() }
    }

    #[test]
    fn times_are_those_of_threads_unless_one_has_ended() {
        let before = times(100, &[("1", 7_000_000), ("2", 93_000_000)]);
        let since = |after: CpuTimes| after.since(&before).as_micros();
        assert_eq!(since(times(110, &[("1", 8_000_000), ("2", 93_500_000), ("3", 200_000)])), 1700);
        assert_eq!(since(times(150, &[("1", 8_000_000)])), 50_000);
        assert_eq!(since(times(150, &[("1", 8_000_000), ("2", 93_000_000)])), 50_000);
        assert_eq!(since(times(140, &[])), 40_000, "a kernel without schedstat");
        assert_eq!(ticks("1 (a) b) S 1 1 1 0 -1 4 1 0 0 0 12 3 0 0 20"), Some(Duration::from_millis(150)));
    }
}
