//! How the processes of a node are called.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::{
    namespaces::{Entry, child_in_other_namespace},
    network,
};
use crate::{
    image::Image,
    paths::find,
    process::{Process, send_signal},
    tool::Tool,
    user::User,
    wait::{eventually, give_up},
};

const TEMPLATES: [(&str, &str); 6] = [
    ("containerd.toml", include_str!("../../node/containerd.toml")),
    ("cni/pods.conflist", include_str!("../../node/cni.conflist")),
    ("kubelet.yaml", include_str!("../../node/kubelet.yaml")),
    ("kube-proxy.yaml", include_str!("../../node/kube-proxy.yaml")),
    ("Corefile", include_str!("../../node/Corefile")),
    (DNS_MANIFEST, include_str!("../../node/dns.yaml")),
];
const SANDBOX_IMAGE: &str = "localhost/pod-reloader-e2e/sandbox:1";
/// What makes the DNS server the cluster's.
pub(super) const DNS_MANIFEST: &str = "dns.yaml";
const SOCKET: &str = "/run/node/containerd/containerd.sock";
const DEADLINE: Duration = Duration::from_mins(1);

/// The processes of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodePart {
    /// Runs the containers, which survive its end.
    Containerd,
    /// Runs the pods, which survive its end.
    Kubelet,
    /// Makes Services reachable; what it has set up stays.
    Proxy,
    /// The scheduler, which assigns pods to the node.
    Scheduler,
    /// Resolves the names of Services for pods.
    Dns,
}

impl NodePart {
    pub(super) const ALL: [Self; 5] =
        [Self::Containerd, Self::Kubelet, Self::Proxy, Self::Scheduler, Self::Dns];

    fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
            Self::Scheduler => "kube-scheduler",
            Self::Dns => "coredns",
        }
    }
}

/// What is decided about a node before its processes are started.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) binaries: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) entry: Entry,
}

impl Programs {
    /// Writes what the processes read.
    pub(super) fn write_configuration(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.directory.join("cni")).context("cannot make the folder cni")?;
        for (name, template) in TEMPLATES {
            let user = if name == "Corefile" { User::Dns } else { User::Proxy };
            let text = template
                .replace("${DIRECTORY}", &self.path(""))
                .replace("${SANDBOX_IMAGE}", SANDBOX_IMAGE)
                .replace("${PODS}", network::PODS)
                .replace("${NODE}", network::NODE)
                .replace("${DNS_SERVICE}", network::DNS_SERVICE)
                .replace("${KUBECONFIG}", &self.path(user.file_name()));
            let path = self.directory.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    pub(super) fn spawn(&self, part: NodePart) -> anyhow::Result<NodeProcess> {
        let name = part.name();
        let (program, args) = match part {
            NodePart::Containerd => (find(name)?, vec![format!("--config={}", self.path("containerd.toml"))]),
            NodePart::Kubelet => (
                self.binaries.join(name),
                vec![
                    format!("--config={}", self.path("kubelet.yaml")),
                    format!("--kubeconfig={}", self.path(User::Kubelet.file_name())),
                    "--root-dir=/run/node/kubelet".to_owned(),
                    "--cert-dir=/run/node/kubelet/pki".to_owned(),
                    format!("--hostname-override={}", network::NODE_NAME),
                    format!("--node-ip={}", network::NODE),
                ],
            ),
            NodePart::Proxy => {
                (self.binaries.join(name), vec![format!("--config={}", self.path("kube-proxy.yaml"))])
            }
            NodePart::Scheduler => (
                self.binaries.join(name),
                vec![
                    format!("--kubeconfig={}", self.path(User::Scheduler.file_name())),
                    "--leader-elect=false".to_owned(),
                    "--secure-port=0".to_owned(),
                ],
            ),
            NodePart::Dns => (self.binaries.join(name), vec![format!("-conf={}", self.path("Corefile"))]),
        };
        let (program, args) = self.entry.to_node(&program, args.into_iter().map(OsString::from).collect());
        let log = self.directory.join(format!("{name}.log"));
        Ok(NodeProcess { inner: Process::spawn(name, &program, args, [super::path()], &log)? })
    }

    /// Gives containerd the image of which it makes each pod's sandbox.
    pub(super) async fn import_sandbox(&self) -> anyhow::Result<()> {
        let archive = self.directory.join("sandbox.tar");
        let wait = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done";
        Image::busybox(SANDBOX_IMAGE)?.entrypoint(["/bin/sh", "-c", wait]).write(&archive)?;
        self.import(&archive).await
    }

    /// Waits until containerd answers, while `running` has no error.
    pub(super) async fn containerd_answers(
        &self,
        running: impl Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let ctr = self.ctr()?;
        eventually("containerd to answer", DEADLINE, || {
            let running = running().map_err(|error| give_up(format!("{error:#}")));
            let ctr = &ctr;
            async move {
                running?;
                ctr.run(["version"]).await.map(drop)
            }
        })
        .await
    }

    /// Imports the images of a tar archive, for the kubelet.
    pub(super) async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        let archive = archive.canonicalize().with_context(|| format!("there is no {}", archive.display()))?;
        let ctr = self.ctr()?;
        let args = [OsStr::new("images"), OsStr::new("import"), archive.as_os_str()];
        ctr.run(args).await.context("cannot import an image")?;
        eventually("the image to be known to the kubelet's side of containerd", DEADLINE, || async {
            let images = ctr.run(["images", "ls"]).await?;
            let unknown =
                images.lines().skip(1).find(|line| !line.contains("io.cri-containerd.image=managed"));
            ensure!(unknown.is_none(), "{}", unknown.unwrap_or_default());
            Ok(())
        })
        .await
    }

    fn ctr(&self) -> anyhow::Result<Tool> {
        let args = ["--address", SOCKET, "--namespace", "k8s.io"].map(OsString::from).to_vec();
        Ok(self.entry.tool(&find("ctr")?, args, &self.directory))
    }

    fn path(&self, name: &str) -> String {
        let path = if name.is_empty() { self.directory.clone() } else { self.directory.join(name) };
        path.display().to_string()
    }
}

/// A process on the node, with the one here that has started it and ends as it does.
#[derive(Debug)]
pub(super) struct NodeProcess {
    pub(super) inner: Process,
}

impl NodeProcess {
    /// Kills it (SIGKILL) and waits for its end. It may have ended before.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        let what = format!("{} to end", self.inner.name());
        eventually(what, DEADLINE, || {
            let killed = self.kill_once();
            async move {
                ensure!(killed?, "it is still running");
                Ok(())
            }
        })
        .await
    }

    /// Whether it has ended.
    fn kill_once(&mut self) -> anyhow::Result<bool> {
        if self.inner.exited()?.is_some() {
            return Ok(true);
        }
        if let Some(id) = child_in_other_namespace(self.inner.id()) {
            // It may end at the same moment.
            let _ = send_signal(id, "KILL");
        }
        Ok(false)
    }
}
