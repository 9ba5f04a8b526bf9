//! Where the processes of a control plane run.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The network that the processes see.
#[derive(Debug)]
pub(crate) struct Place {
    /// The program, with its first arguments, that starts others there; empty for our own network.
    pub(crate) enter: Vec<OsString>,
    /// The API server's address there.
    pub(crate) address: &'static str,
    /// What else its certificate must be good for.
    pub(crate) certificate_addresses: Vec<&'static str>,
    /// The port on our loopback interface that leads to the API server, unless it listens there itself.
    pub(crate) outer_port: Option<u16>,
    /// Arguments of the API server.
    pub(crate) api_server_args: Vec<String>,
}

impl Place {
    /// Our own network: they listen on loopback.
    pub(super) fn loopback() -> Self {
        Self {
            enter: vec![],
            address: "127.0.0.1",
            certificate_addresses: vec![],
            outer_port: None,
            api_server_args: vec![
                "--bind-address=127.0.0.1".to_owned(),
                // Not taken from a network interface: there may be none. The `kubernetes` Service then has no
                // endpoint, since loopback addresses are not allowed there.
                "--advertise-address=127.0.0.1".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            ],
        }
    }

    /// Whether others may take the ports there.
    pub(super) fn is_shared(&self) -> bool {
        self.enter.is_empty()
    }

    /// How to start `program` there.
    pub(super) fn command(&self, program: &Path, args: Vec<OsString>) -> (PathBuf, Vec<OsString>) {
        match self.enter.split_first() {
            None => (program.to_owned(), args),
            Some((enter, first)) => {
                let program = OsString::from(program);
                (enter.into(), first.iter().cloned().chain([program]).chain(args).collect())
            }
        }
    }
}
