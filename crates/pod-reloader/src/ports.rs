//! The ports of the process: where they listen, and what their clients may take.

use std::net::SocketAddr;

use anyhow::Context;
use pod_reloader_k8s::connect::MAX_REQUESTS;
use pod_reloader_serving::descriptors;
use pod_reloader_serving::server::{Limits, Port, Transport};
use tokio::net::TcpListener;

use crate::args::{Args, BindAddress};

/// Descriptors for everything that has no number of its own: the runtime, files that are read, log output.
const OTHER_DESCRIPTORS: usize = 64;
/// Watches of one namespace, or of the cluster, and the election: each has a connection.
const WATCHES: usize = 8;

/// The ports, of which none serves yet.
pub(crate) struct Ports {
    pub(crate) metrics: Option<OpenPort>,
    pub(crate) health: Option<OpenPort>,
    pub(crate) webhook: Option<OpenPort>,
}

/// A port that listens.
pub(crate) struct OpenPort {
    name: &'static str,
    listener: TcpListener,
    limits: Limits,
}

impl OpenPort {
    /// The port, for clients that speak that.
    pub(crate) fn over(self, transport: Transport) -> Port {
        Port { name: self.name, listener: self.listener, transport, limits: self.limits }
    }
}

impl Ports {
    /// Listens on all addresses that the flags give, and sees that there are descriptors for what comes in.
    ///
    /// # Errors
    /// If an address is unusable.
    pub(crate) async fn open(args: &Args) -> anyhow::Result<Self> {
        let mut ports = Self {
            metrics: open("metrics", &args.metrics_bind_address, Limits::admin()).await?,
            health: open("health", &args.health_probe_bind_address, Limits::admin()).await?,
            webhook: open("webhook", &args.webhook_bind_address, Limits::webhook()).await?,
        };
        ports.provide_descriptors(args.namespaces().len().max(1));
        Ok(ports)
    }

    fn provide_descriptors(&mut self, scopes: usize) {
        let reserve = OTHER_DESCRIPTORS + 2 * MAX_REQUESTS + WATCHES * scopes;
        let mut open = [&mut self.webhook, &mut self.metrics, &mut self.health]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        let mut limits = open.iter().map(|port| port.limits).collect::<Vec<_>>();
        descriptors::provide(&mut limits, reserve);
        for (port, limits) in open.iter_mut().zip(limits) {
            port.limits = limits;
        }
    }
}

async fn open(name: &'static str, address: &BindAddress, limits: Limits) -> anyhow::Result<Option<OpenPort>> {
    let BindAddress::At { host, port } = address else { return Ok(None) };
    let bound = match host {
        Some(host) => TcpListener::bind((host.as_str(), *port)).await,
        // All addresses of both families, as in Go; IPv4 alone where there is no IPv6.
        None => match TcpListener::bind(SocketAddr::from(([0; 16], *port))).await {
            Ok(listener) => Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
            Err(_) => TcpListener::bind(SocketAddr::from(([0; 4], *port))).await,
        },
    };
    let shown = format!("{}:{port}", host.as_deref().unwrap_or_default());
    let listener = bound.with_context(|| format!("cannot listen on the {name} address {shown}"))?;
    tracing::info!(port = name, address = %listener.local_addr()?, "listening");
    Ok(Some(OpenPort { name, listener, limits }))
}
