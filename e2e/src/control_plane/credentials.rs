//! Who may talk to the API server, and how.

use std::path::Path;

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::KeyPair;
use serde_json::json;

use crate::Authority;

/// A user that the API server knows by a static token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum User {
    /// May do everything; the one for setting up and looking on.
    Admin,
    /// May do everything; the one that plays the cluster's users, to tell the two apart in the audit log.
    Editor,
    /// The operator's service account, with exactly the rights that the chart grants by default.
    Operator,
    /// May do nothing but what a test grants it: for an operator with Roles in a few namespaces, for instance.
    Guest,
    /// The controller manager, whose controllers then use service accounts of their own.
    ControllerManager,
    /// The scheduler of a [`crate::RealCluster`].
    Scheduler,
    /// The kubelet of a [`crate::RealCluster`].
    Kubelet,
    /// kube-proxy of a [`crate::RealCluster`].
    Proxy,
    /// The DNS server of a [`crate::RealCluster`].
    Dns,
}

impl User {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Admin,
        Self::Editor,
        Self::Operator,
        Self::Guest,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubelet,
        Self::Proxy,
        Self::Dns,
    ];

    /// The user name, as RBAC and the audit log show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Editor => "editor",
            Self::Operator => "system:serviceaccount:pod-reloader:pod-reloader",
            Self::Guest => "guest",
            Self::ControllerManager => "system:kube-controller-manager",
            Self::Scheduler => "system:kube-scheduler",
            Self::Kubelet => "system:node:node",
            Self::Proxy => "system:kube-proxy",
            Self::Dns => "system:coredns",
        }
    }

    /// Whether it is a part of Kubernetes itself, which reaches the API server from where that runs.
    fn is_component(self) -> bool {
        matches!(self, Self::ControllerManager | Self::Scheduler | Self::Kubelet | Self::Proxy | Self::Dns)
    }

    /// What its kubeconfig file is called.
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Admin => "admin.kubeconfig",
            Self::Editor => "editor.kubeconfig",
            Self::Operator => "operator.kubeconfig",
            Self::Guest => "guest.kubeconfig",
            Self::ControllerManager => "controller-manager.kubeconfig",
            Self::Scheduler => "scheduler.kubeconfig",
            Self::Kubelet => "kubelet.kubeconfig",
            Self::Proxy => "proxy.kubeconfig",
            Self::Dns => "dns.kubeconfig",
        }
    }

    fn groups(self) -> &'static str {
        match self {
            Self::Admin | Self::Editor => "system:masters",
            Self::Operator => {
                "system:serviceaccounts,system:serviceaccounts:pod-reloader,system:authenticated"
            }
            Self::Kubelet => "system:nodes,system:authenticated",
            Self::Guest | Self::ControllerManager | Self::Scheduler | Self::Proxy | Self::Dns => {
                "system:authenticated"
            }
        }
    }

    /// Without `--leader-election-namespace` the operator takes the namespace of its kubeconfig for its own.
    fn namespace(self) -> &'static str {
        match self {
            Self::Operator => "pod-reloader",
            _ => "default",
        }
    }
}

/// Names of the files written by [`write()`].
pub(super) mod file {
    pub(crate) const CA: &str = "ca.crt";
    pub(crate) const SERVING_CERTIFICATE: &str = "apiserver.crt";
    pub(crate) const SERVING_KEY: &str = "apiserver.key";
    pub(crate) const SERVICE_ACCOUNT_KEY: &str = "service-account.key";
    pub(crate) const SERVICE_ACCOUNT_PUBLIC_KEY: &str = "service-account.pub";
    pub(crate) const TOKENS: &str = "tokens.csv";
}

/// The CA and the tokens of one control plane.
pub(super) struct Credentials {
    ca_pem: String,
    tokens: Vec<(User, String)>,
}

/// Makes everything secret about a control plane and writes what its processes need into `directory`.
///
/// The API server's certificate is for `addresses` too.
pub(super) fn write(directory: &Path, addresses: &[&str]) -> anyhow::Result<Credentials> {
    let put = |name: &str, content: &str| {
        let path = directory.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };

    let authority = Authority::new("pod-reloader-e2e")?;
    let names = [&["127.0.0.1", "localhost", "kubernetes.default.svc"], addresses].concat();
    let serving = authority.issue(&names)?;
    put(file::CA, &authority.pem())?;
    put(file::SERVING_CERTIFICATE, &serving.certificate)?;
    put(file::SERVING_KEY, &serving.key)?;

    let key = KeyPair::generate().context("cannot make a key")?;
    put(file::SERVICE_ACCOUNT_KEY, &key.serialize_pem())?;
    put(file::SERVICE_ACCOUNT_PUBLIC_KEY, &key.public_key_pem())?;

    let mut tokens = Vec::new();
    let mut lines = Vec::new();
    for user in User::ALL {
        let token = random_hex()?;
        let (name, groups) = (user.name(), user.groups());
        // CSV with the columns token, user name, uid, groups.
        lines.push(format!("{token},{name},{name},\"{groups}\"\n"));
        tokens.push((user, token));
    }
    put(file::TOKENS, &lines.concat())?;
    Ok(Credentials { ca_pem: authority.pem(), tokens })
}

impl Credentials {
    /// Writes a kubeconfig for each user: with the address `inside` for parts of Kubernetes, `outside` for the others.
    /// JSON is YAML, so no YAML library is needed.
    pub(super) fn write_kubeconfigs(
        &self,
        directory: &Path,
        outside: &str,
        inside: &str,
    ) -> anyhow::Result<()> {
        for (user, token) in &self.tokens {
            let server = if user.is_component() { inside } else { outside };
            let kubeconfig = json!({
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{ "name": "e2e", "cluster": {
                    "server": server,
                    "certificate-authority-data": BASE64_STANDARD.encode(&self.ca_pem),
                }}],
                "users": [{ "name": user.name(), "user": { "token": token } }],
                "contexts": [{ "name": "e2e", "context": {
                    "cluster": "e2e", "user": user.name(), "namespace": user.namespace(),
                }}],
                "current-context": "e2e",
            });
            let path = directory.join(user.file_name());
            std::fs::write(&path, format!("{kubeconfig:#}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// 128 random bits in hex digits.
pub(crate) fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
