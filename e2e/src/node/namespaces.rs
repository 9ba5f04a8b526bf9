//! The namespaces of a node, and the way in.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{kernel, network};
use crate::{
    paths::find,
    process::Process,
    tool::Tool,
    wait::{eventually, give_up},
};
use anyhow::{Context as _, ensure};

const SETUP: &str = include_str!("../../node/setup.sh");
const READY: &str = "node-is-set-up";
const DEADLINE: Duration = Duration::from_secs(30);

/// A network, mount and process namespace. Dropping it ends whatever runs there, and leaves nothing.
#[derive(Debug)]
pub(super) struct Namespaces {
    process: Process,
    entry: Entry,
}

/// The way into the namespaces of a node.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    nsenter: PathBuf,
    /// The process that is number 1 there, by its number here.
    init: u32,
}

impl Namespaces {
    /// Makes them, with `directory` for what is to be seen outside.
    pub(super) async fn make(directory: &Path) -> anyhow::Result<Self> {
        let script = directory.join("setup.sh");
        std::fs::write(&script, SETUP).with_context(|| format!("cannot write {}", script.display()))?;
        let fixed = ["--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "sh"];
        let args = fixed.map(OsStr::new).into_iter().chain([
            script.as_os_str(),
            directory.as_os_str(),
            OsStr::new(network::NODE),
        ]);
        let log = directory.join("node.log");
        let mut process = Process::spawn("node", &find("unshare")?, args, [super::path()], &log)?;
        let ready = directory.join(READY);
        eventually("the node's namespaces", DEADLINE, || {
            let running = process.ensure_running().map_err(|error| give_up(format!("{error:#}")));
            let ready = &ready;
            async move {
                running?;
                ensure!(ready.exists(), "they are being set up");
                Ok(())
            }
        })
        .await
        .map_err(|error| process.explain(&error))?;
        let init = child_in_other_namespace(process.id()).context("the node's first process is not there")?;
        Ok(Self { process, entry: Entry { nsenter: find("nsenter")?, init } })
    }

    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // If it ended by itself, everything there did.
        if !matches!(self.process.exited(), Ok(None)) {
            return;
        }
        // The kernel ends all others first. Should it fail, the end of `unshare` has the same effect a moment later.
        if let Err(error) = kernel::end(self.entry.init, DEADLINE) {
            eprintln!("the node's first process, {}: {error:#}", self.entry.init);
        }
    }
}

impl Entry {
    /// What starts programs that see the node's network, but our files and processes.
    pub(super) fn to_network(&self) -> Vec<OsString> {
        self.enter(&["net"])
    }

    /// How to start a program on the node. It is a child of the process that is started here.
    pub(super) fn to_node(&self, program: &Path, args: Vec<OsString>) -> (PathBuf, Vec<OsString>) {
        let mut command = self.enter(&["net", "mnt", "pid"]).into_iter().skip(1).collect::<Vec<_>>();
        command.push(program.into());
        command.extend(args);
        (self.nsenter.clone(), command)
    }

    /// A command-line tool on the node, with its first arguments.
    pub(super) fn tool(&self, program: &Path, args: Vec<OsString>, directory: &Path) -> Tool {
        let (program, args) = self.to_node(program, args);
        Tool::new(&program, directory).args(args)
    }

    /// Has the calling thread, and those that it starts, see the node's network.
    pub(super) fn move_thread(&self) -> anyhow::Result<()> {
        kernel::enter_network(Path::new(&self.namespace("net")))
    }

    fn enter(&self, kinds: &[&str]) -> Vec<OsString> {
        let options = kinds.iter().map(|kind| {
            let option = if *kind == "mnt" { "mount" } else { kind };
            OsString::from(format!("--{option}={}", self.namespace(kind)))
        });
        [OsString::from(&self.nsenter)].into_iter().chain(options).chain(["--".into()]).collect()
    }

    fn namespace(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.init)
    }
}

/// The child of process `parent` that is in another process namespace than we are.
pub(super) fn child_in_other_namespace(parent: u32) -> Option<u32> {
    let namespace = |id: &str| std::fs::read_link(format!("/proc/{id}/ns/pid")).ok();
    let ours = namespace("self")?;
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let child = children.split_whitespace().find(|id| namespace(id).is_some_and(|theirs| theirs != ours))?;
    child.parse().ok()
}
