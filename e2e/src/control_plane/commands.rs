//! How each process is called.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use super::{credentials::file, place::Place};
use crate::{process::Process, user::User};

pub(super) const AUDIT_LOG: &str = "audit.log";
const AUDIT_POLICY: &str = include_str!("../../manifests/audit-policy.yaml");
const BINARIES: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];
const ETCD_DATA: &str = "etcd";

/// Everything that is decided about a control plane before its processes are started.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) binaries: PathBuf,
    pub(super) directory: PathBuf,
    /// etcd's clients, etcd's peers, API server.
    pub(super) ports: [u16; 3],
    /// Should our etcd lose its port to that of another run, our API server must not mix up the two.
    pub(super) etcd_prefix: String,
    pub(super) place: Place,
    pub(super) api_server_args: Vec<String>,
    pub(super) controller_manager_args: Vec<String>,
    /// What gives the operator's user its rights, unless it is to be installed.
    pub(super) rights: Option<&'static str>,
}

/// Says which binaries are missing and how to get them.
pub(super) fn ensure_present(binaries: &Path) -> anyhow::Result<()> {
    let missing: Vec<_> = BINARIES.into_iter().filter(|name| !binaries.join(name).is_file()).collect();
    ensure!(
        missing.is_empty(),
        "{} lacks {}: run e2e/control-plane/build.sh first, which puts them there",
        binaries.display(),
        missing.join(", ")
    );
    Ok(())
}

impl Plan {
    pub(super) fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// The API server's address for us.
    pub(super) fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.place.outer_port.unwrap_or(self.ports[2]))
    }

    /// The API server's address for what runs where it does.
    pub(super) fn inner_server(&self) -> String {
        format!("https://{}:{}", self.place.address, self.ports[2])
    }

    pub(super) fn spawn_etcd(&self) -> anyhow::Result<Process> {
        let clients = format!("http://127.0.0.1:{}", self.ports[0]);
        let peers = format!("http://127.0.0.1:{}", self.ports[1]);
        let args = [
            "--name=e2e".to_owned(),
            format!("--data-dir={}", self.path(ETCD_DATA)),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=e2e={peers}"),
            // The data is not needed after a power cut.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        self.spawn("etcd", &args)
    }

    pub(super) fn spawn_api_server(&self) -> anyhow::Result<Process> {
        let policy = self.directory.join("audit-policy.yaml");
        std::fs::write(&policy, AUDIT_POLICY)
            .with_context(|| format!("cannot write {}", policy.display()))?;
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.ports[0]),
            format!("--etcd-prefix={}", self.etcd_prefix),
            format!("--secure-port={}", self.ports[2]),
            format!("--tls-cert-file={}", self.path(file::SERVING_CERTIFICATE)),
            format!("--tls-private-key-file={}", self.path(file::SERVING_KEY)),
            format!("--cert-dir={}", self.path("apiserver-certs")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", self.path(file::SERVICE_ACCOUNT_PUBLIC_KEY)),
            format!("--service-account-signing-key-file={}", self.path(file::SERVICE_ACCOUNT_KEY)),
            "--authorization-mode=Node,RBAC".to_owned(),
            format!("--token-auth-file={}", self.path(file::TOKENS)),
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", self.path(AUDIT_LOG)),
            // A request is answered when its entry is written. Positions in the log need one file.
            "--audit-log-mode=blocking".to_owned(),
            "--audit-log-maxsize=100000".to_owned(),
            // Asked to end, it would otherwise wait a minute for the controllers to close their watches.
            "--shutdown-watch-termination-grace-period=1s".to_owned(),
        ];
        args.extend_from_slice(&self.place.api_server_args);
        args.extend_from_slice(&self.api_server_args);
        self.spawn("kube-apiserver", &args)
    }

    pub(super) fn spawn_controller_manager(&self) -> anyhow::Result<Process> {
        let kubeconfig = self.path(User::ControllerManager.file_name());
        let mut args = vec![
            format!("--kubeconfig={kubeconfig}"),
            // No client calls it.
            "--secure-port=0".to_owned(),
            "--leader-elect=false".to_owned(),
            // So the audit log distinguishes the controllers.
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", self.path(file::SERVICE_ACCOUNT_KEY)),
            format!("--root-ca-file={}", self.path(file::CA)),
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
        ];
        args.extend_from_slice(&self.controller_manager_args);
        self.spawn("kube-controller-manager", &args)
    }

    /// Removes what an attempt that lost its ports has left.
    pub(super) fn remove_traces(&self) -> anyhow::Result<()> {
        let data = self.directory.join(ETCD_DATA);
        if data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
        for name in BINARIES {
            // Not every attempt came as far as each process; the old log would look like a taken port for ever.
            let _ = std::fs::remove_file(self.directory.join(format!("{name}.log")));
        }
        Ok(())
    }

    fn spawn(&self, name: &str, args: &[String]) -> anyhow::Result<Process> {
        let env: [(&str, &str); 0] = [];
        let args = args.iter().map(OsString::from).collect();
        let (program, args) = self.place.command(&self.binary(name), args);
        Process::spawn(name, &program, args, env, &self.directory.join(format!("{name}.log")))
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}
