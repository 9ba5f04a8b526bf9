//! Who may talk to the API server.

/// A user that the API server knows by a static token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum User {
    /// May do everything; the one for setting up and observing.
    Admin,
    /// May do everything; the one that plays the cluster's users, to distinguish the two in the audit log.
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
    pub(crate) fn is_component(self) -> bool {
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

    pub(crate) fn groups(self) -> &'static str {
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
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Self::Operator => "pod-reloader",
            _ => "default",
        }
    }
}
