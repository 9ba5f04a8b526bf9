//! Where the processes of a control plane run.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::node::{Entry, network};

/// The network that the processes see.
#[derive(Debug)]
pub(crate) enum Place {
    /// Ours: they listen on loopback.
    Loopback,
    /// That of a node, where others must be able to reach the API server.
    Node {
        /// The way in.
        entry: Entry,
        /// The port on our loopback interface that leads to the API server.
        outer_port: u16,
    },
}

impl Place {
    /// How to start `program` there.
    pub(super) fn command(&self, program: &Path, args: Vec<OsString>) -> (PathBuf, Vec<OsString>) {
        match self {
            Self::Loopback => (program.to_owned(), args),
            Self::Node { entry, .. } => entry.to_network(program, args),
        }
    }

    /// The API server's address there.
    pub(super) fn address(&self) -> &'static str {
        match self {
            Self::Loopback => "127.0.0.1",
            Self::Node { .. } => network::NODE,
        }
    }

    /// What else its certificate must be good for.
    pub(super) fn certificate_addresses(&self) -> &'static [&'static str] {
        match self {
            Self::Loopback => &[],
            Self::Node { .. } => &[network::NODE, network::KUBERNETES_SERVICE],
        }
    }

    /// The port on our loopback interface that leads to the API server, which listens on `port`.
    pub(super) fn outer_port(&self, port: u16) -> u16 {
        match self {
            Self::Loopback => port,
            Self::Node { outer_port, .. } => *outer_port,
        }
    }

    pub(super) fn api_server_args(&self) -> Vec<String> {
        match self {
            Self::Loopback => vec![
                "--bind-address=127.0.0.1".to_owned(),
                // Not taken from a network interface: there may be none. The `kubernetes` Service then has no
                // endpoint, since loopback addresses are not allowed there.
                "--advertise-address=127.0.0.1".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            ],
            Self::Node { .. } => vec![
                "--bind-address=0.0.0.0".to_owned(),
                format!("--advertise-address={}", network::NODE),
                format!("--service-cluster-ip-range={}", network::SERVICES),
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
            ],
        }
    }
}
