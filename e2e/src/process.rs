//! Child processes that never outlive us, unless they are meant to.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};

use crate::wait::eventually;

/// Starts the program given as its arguments, beside a guard that kills it when our end of the pipe on stdin closes
/// without a word, which happens however we die. A line on the pipe dismisses the guard.
///
/// `PR_SET_PDEATHSIG` would be shorter, but it follows the *thread* that forked: a runtime whose worker ends would take
/// the children with it. The hangup of a terminal is ignored for those that are to stay (`Process::detach`).
const GUARDED: &str = r#"trap '' HUP
exec 3<&0
( read -r _ <&3 || kill -KILL $$ ) &
exec "$@" 3<&- </dev/null"#;

/// A child process with its log file. Dropping it kills it.
///
/// It runs in the folder of its log file, and its process id lies beside the log, in a file ending in `.pid`: that is
/// how [`stop_leftovers`] knows it again.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Present until the guard is dismissed.
    lifeline: Option<ChildStdin>,
    log: PathBuf,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts `program` with its output appended to `log`.
    ///
    /// It gets a process group of its own: Ctrl-C in a terminal is for us, and we stop it in good order.
    pub fn spawn<A: AsRef<OsStr>, K: AsRef<OsStr>, V: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = A>,
        env: impl IntoIterator<Item = (K, V)>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        ensure!(program.is_file(), "{name} cannot be started: there is no file {}", program.display());
        let output = open_log(log)?;
        let mut child = Command::new("sh")
            .args(["-c", GUARDED, name])
            .arg(program)
            .args(args)
            .envs(env)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().context("cannot share the log file")?)
            .stderr(output)
            .current_dir(log.parent().unwrap_or(Path::new(".")))
            .process_group(0)
            .spawn()
            .with_context(|| format!("{name} cannot be started (through sh)"))?;
        let lifeline = child.stdin.take();
        let process = Self { name: name.to_owned(), child, lifeline, log: log.to_owned(), exit: None };
        let pid_file = process.pid_file();
        std::fs::write(&pid_file, format!("{}\n", process.id()))
            .with_context(|| format!("cannot write {}", pid_file.display()))?;
        Ok(process)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The name given at its start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that holds its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, or `None` while it runs.
    pub fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().with_context(|| format!("cannot ask after {}", self.name))?;
            if self.exit.is_some() {
                self.clean_up();
            }
        }
        Ok(self.exit)
    }

    /// An error with the end of its log if it no longer runs.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.exited()? {
            bail!("{} ended ({status}); {}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// Freezes it (SIGSTOP): it keeps its connections and answers nothing.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.signal("STOP")
    }

    /// Lets it run on after [`Self::pause`].
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.signal("CONT")
    }

    /// Kills it (SIGKILL) and waits for its end. It may have ended before.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.exited()? {
            return Ok(status);
        }
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        self.exit = Some(status);
        self.clean_up();
        Ok(status)
    }

    /// Asks it to end (SIGTERM) without waiting.
    pub fn request_end(&mut self) -> anyhow::Result<()> {
        self.signal("TERM")
    }

    /// Asks it to end (SIGTERM) and waits until it has; an error if it still runs after `deadline`.
    pub async fn terminate(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        if self.exited()?.is_none() {
            self.request_end()?;
        }
        self.wait(deadline).await
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        eventually(what, deadline, || {
            let exited = self.exited();
            async move { exited?.context("it is still running") }
        })
        .await
    }

    /// Lets it run on without us, and gives its process id.
    pub fn detach(mut self) -> u32 {
        self.dismiss_guard();
        // As good as ended for us: `drop` must not kill it.
        self.exit = Some(ExitStatus::default());
        self.id()
    }

    /// Where the log is, and its last lines, as part of an error message.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    /// Adds the end of its log to an error that may have its cause there.
    pub(crate) fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let text = format!("{error:#}");
        let log = self.log.display().to_string();
        // An error that says that the process ended shows it already.
        if text.contains(&log) { anyhow!(text) } else { anyhow!("{text}; {}", self.log_tail()) }
    }

    fn signal(&mut self, signal: &str) -> anyhow::Result<()> {
        // Asked first: once it is reaped its process id can belong to another process.
        self.ensure_running()?;
        send_signal(self.id(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    fn pid_file(&self) -> PathBuf {
        self.log.with_extension("pid")
    }

    fn clean_up(&mut self) {
        self.dismiss_guard();
        // It may be gone with its folder.
        let _ = std::fs::remove_file(self.pid_file());
    }

    fn dismiss_guard(&mut self) {
        if let Some(mut lifeline) = self.lifeline.take() {
            // A guard that is gone already needs no dismissal.
            let _ = lifeline.write_all(b"\n");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// Has `sh` run `script` with `args` when we are gone, unless the returned pipe gets a line first.
pub(crate) fn after_our_end(script: &str, args: &[&OsStr]) -> anyhow::Result<(Child, ChildStdin)> {
    let mut child = Command::new("sh")
        .args(["-c", &format!("trap '' HUP\nread -r _ || {{\n{script}\n}}"), "janitor"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start sh")?;
    let lifeline = child.stdin.take().context("a child without its pipe")?;
    Ok((child, lifeline))
}

/// Kills what an earlier run left running in `directory`, going by its `.pid` files, and gives the names. A process id
/// can belong to another process by now: only what runs in that folder is killed. The files are removed.
pub async fn stop_leftovers(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut stopped = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(stopped) };
    // What /proc shows has no symlinks in it.
    let directory =
        directory.canonicalize().with_context(|| format!("cannot resolve {}", directory.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", directory.display()))?.path();
        if path.extension() != Some(OsStr::new("pid")) {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let process_id = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        let runs_here =
            |id: u32| std::fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|folder| folder == directory);
        if let Some(id) = process_id.filter(|id| runs_here(*id)) {
            send_signal(id, "KILL")?;
            eventually(format!("{name} (process {id}) to end"), Duration::from_secs(10), || async move {
                ensure!(!runs(id), "it is still running");
                Ok(())
            })
            .await?;
            stopped.push(name);
        }
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    stopped.sort();
    Ok(stopped)
}

/// Whether a process runs.
fn runs(process_id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap_or_default();
    // After the command's name in parentheses comes the state; a zombie waits for init to reap it.
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Sends a signal by name (`TERM`, `STOP`, ...) through the shell, which has `kill` built in.
pub fn send_signal(process_id: u32, signal: &str) -> anyhow::Result<()> {
    let output = Command::new("sh")
        .args(["-c", r#"kill -s "$1" "$2""#, "kill", signal, &process_id.to_string()])
        .output()
        .context("cannot start sh")?;
    ensure!(
        output.status.success(),
        "cannot send SIG{signal} to process {process_id}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// The last lines of a log file with its path, as part of an error message.
pub fn log_tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = match std::fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return format!("its log {} cannot be read: {error}", log.display()),
    };
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
    format!("log: {}, its end:\n  {tail}", log.display())
}

fn open_log(log: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot open the log file {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(log: &Path) -> Process {
        let env: [(&str, &str); 0] = [];
        Process::spawn("sleeper", Path::new("/bin/sleep"), ["600"], env, log).unwrap()
    }

    #[tokio::test]
    async fn ends_on_terminate_and_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = sleeper(&dir.path().join("a.log"));
        let status = process.terminate(Duration::from_secs(5)).await.unwrap();
        assert!(!status.success());

        let process = sleeper(&dir.path().join("b.log"));
        let id = process.id();
        assert!(runs(id));
        drop(process);
        assert!(!runs(id));
    }

    #[tokio::test]
    async fn is_killed_when_our_end_of_the_pipe_closes() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = sleeper(&dir.path().join("a.log"));
        // Frozen any earlier, it could not start its guard.
        let comm = format!("/proc/{}/comm", process.id());
        eventually("sh to start the program", Duration::from_secs(5), || async {
            let name = std::fs::read_to_string(&comm)?;
            ensure!(name.trim() == "sleep", "{name}");
            Ok(())
        })
        .await
        .unwrap();
        process.pause().unwrap();
        // What the kernel does for a parent that was killed.
        drop(process.lifeline.take());
        process.wait(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_detached_process_stays() {
        let dir = tempfile::tempdir().unwrap();
        let id = sleeper(&dir.path().join("a.log")).detach();
        // The guard had the time to read its dismissal when a later process has started and ended.
        sleeper(&dir.path().join("b.log")).kill().unwrap();
        assert!(runs(id));
        // The process id of another process, as after a reboot.
        std::fs::write(dir.path().join("c.pid"), std::process::id().to_string()).unwrap();
        assert_eq!(stop_leftovers(dir.path()).await.unwrap(), ["a"]);
        assert!(!runs(id));
        assert_eq!(stop_leftovers(dir.path()).await.unwrap(), [""; 0]);
    }

    #[test]
    fn a_missing_program_is_named() {
        let env: [(&str, &str); 0] = [];
        let args: [&str; 0] = [];
        let error = Process::spawn("etcd", Path::new("/nowhere/etcd"), args, env, Path::new("/nowhere/log"))
            .unwrap_err();
        assert!(error.to_string().contains("/nowhere/etcd"), "{error}");
    }
}
