//! A cluster that stays when the command that has started it ends: the same program once more, in a session of its own.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use pod_reloader_e2e::{
    claim::{Claim, InUse},
    eventually, give_up, paths,
};

/// Images are imported and pods started, on slow machines too.
const START_DEADLINE: Duration = Duration::from_mins(10);
const STOP_DEADLINE: Duration = Duration::from_mins(2);

/// The cluster's folder, or `None` if another process has it.
fn take() -> anyhow::Result<Option<Claim>> {
    match Claim::take("cluster") {
        Ok(claim) => Ok(Some(claim)),
        Err(error) if error.is::<InUse>() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Files beside the cluster's folder, by which the programs know of each other.
pub(crate) struct Background {
    /// Says who serves.
    id: PathBuf,
    /// What that one has to say, once the cluster is up.
    up: PathBuf,
    log: PathBuf,
}

impl Background {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let runs = paths::runs();
        fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
        let file = |name: &str| runs.join(name);
        Ok(Self { id: file("cluster.pid"), up: file("cluster.up"), log: file("cluster.log") })
    }

    /// Starts the program again with the same arguments but `--background`, and waits until its cluster is up.
    pub(crate) async fn start(&self) -> anyhow::Result<()> {
        let Some(claim) = take()? else {
            let text =
                eventually("the cluster that is being started", START_DEADLINE, || async { self.text() })
                    .await?;
            println!("It is up already.\n\n{text}\n\n`make real-down` stops it.");
            return Ok(());
        };
        self.forget()?;
        // The one that is to serve takes it.
        drop(claim);
        let log =
            fs::File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut child = Command::new("setsid")
            .arg(std::env::current_exe().context("this program has no path")?)
            .args(std::env::args_os().skip(1).filter(|arg| arg != "--background"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log")?)
            .stderr(log)
            .spawn()
            .context("setsid cannot be started")?;
        let text = eventually("the cluster to be up", START_DEADLINE, || {
            let ended = child.try_wait().context("cannot look at the child");
            async {
                if let Some(status) = ended? {
                    let log = fs::read_to_string(&self.log).unwrap_or_default();
                    return Err(give_up(format!("it ended ({status}):\n{log}")));
                }
                self.text()
            }
        })
        .await?;
        println!("{text}\n\n`make real-down` stops it.");
        Ok(())
    }

    /// Stops whatever serves, and removes what one that was killed has left.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        if take()?.is_none() {
            let id = fs::read_to_string(&self.id).context("a cluster runs, but nobody knows whose it is")?;
            let status = Command::new("kill").args(["-TERM", id.trim()]).status().context("no kill")?;
            ensure!(status.success(), "process {} cannot be stopped", id.trim());
        }
        let claim =
            eventually("the cluster to be down", STOP_DEADLINE, || async { Claim::take("cluster") }).await?;
        let leftovers = claim.stop_leftovers().await?;
        claim.remove_directory()?;
        self.forget()?;
        if !leftovers.is_empty() {
            println!("stopped what an earlier run had left: {}", leftovers.join(", "));
        }
        println!("The cluster is down.");
        Ok(())
    }

    /// Notes that this process serves.
    pub(crate) fn is_us(&self) -> anyhow::Result<()> {
        self.forget()?;
        fs::write(&self.id, std::process::id().to_string())
            .with_context(|| format!("cannot write {}", self.id.display()))
    }

    /// Notes that the cluster is up.
    pub(crate) fn is_up(&self, text: &str) -> anyhow::Result<()> {
        // At once or not at all: another process may be reading.
        let whole = self.up.with_extension("tmp");
        fs::write(&whole, text).with_context(|| format!("cannot write {}", whole.display()))?;
        fs::rename(&whole, &self.up).with_context(|| format!("cannot write {}", self.up.display()))
    }

    /// Records that no cluster is served.
    pub(crate) fn is_over(&self) -> anyhow::Result<()> {
        self.forget()
    }

    fn forget(&self) -> anyhow::Result<()> {
        for path in [&self.id, &self.up] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn text(&self) -> anyhow::Result<String> {
        match fs::read_to_string(&self.up) {
            Ok(text) => Ok(text),
            Err(error) => bail!("{}: {error}; log: {}", self.up.display(), self.log.display()),
        }
    }
}
