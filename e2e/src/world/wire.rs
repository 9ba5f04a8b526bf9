//! A TCP proxy between the operator and the API server, for connections that go deaf: a load balancer that hangs, a
//! conntrack entry that is gone. It sees ciphertext only.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::World;
use crate::{Operator, User};

/// A running proxy. It ends with the runtime that started it.
pub struct Wire {
    address: SocketAddr,
    /// Connections of this generation and earlier ones are deaf.
    deaf: watch::Sender<u64>,
    generation: watch::Sender<u64>,
}

impl Wire {
    /// A proxy in front of that world's API server.
    pub async fn start(world: &World) -> anyhow::Result<Self> {
        let config = world.plane.config(User::Operator).await?;
        let host = config.cluster_url.host().context("the API server has a host")?.to_owned();
        let port = config.cluster_url.port_u16().context("the API server has a port")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (deaf, _) = watch::channel(0);
        let (generation, current) = watch::channel(1);
        let heard = deaf.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (deaf, born) = (heard.subscribe(), *current.borrow());
                let target = (host.clone(), port);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(target).await {
                        let (client_in, client_out) = client.into_split();
                        let (server_in, server_out) = server.into_split();
                        let up = pump(client_in, server_out, deaf.clone(), born);
                        let down = pump(server_in, client_out, deaf, born);
                        tokio::join!(up, down);
                    }
                });
            }
        });
        Ok(Self { address, deaf, generation })
    }

    /// All connections that are open now stay open, but nothing comes through any more. New ones work.
    pub fn hang_open_connections(&self) {
        let generation = *self.generation.borrow();
        self.deaf.send_replace(generation);
        self.generation.send_replace(generation + 1);
    }

    /// The operator's kubeconfig, with this proxy for a server.
    pub fn kubeconfig(&self, world: &World) -> anyhow::Result<PathBuf> {
        let original = std::fs::read_to_string(world.plane.kubeconfig(User::Operator))?;
        let line = original.lines().find(|line| line.contains("server:") || line.contains("\"server\":"));
        let line = line.context("the operator's kubeconfig has a server")?;
        let url = line.split("https://").nth(1).context("the server is an https URL")?;
        let url = url.trim_matches(['"', ',', ' ']);
        let path: &Path = world.directory();
        let path = path.join("wire.kubeconfig");
        std::fs::write(&path, original.replace(url, &self.address.to_string()))?;
        Ok(path)
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut deaf: watch::Receiver<u64>,
    born: u64,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let is_deaf = async { drop(deaf.wait_for(|deaf| *deaf >= born).await) };
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = is_deaf => {
                // Neither end hears of it.
                return std::future::pending().await;
            }
        };
        match read {
            Ok(0) | Err(_) => {
                let _ = to.shutdown().await;
                return;
            }
            Ok(length) => {
                if to.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A world whose only replica reaches the API server through such a proxy.
pub async fn behind_wire(args: &[&str]) -> anyhow::Result<(World, Wire)> {
    let mut world = World::without_operator().await?;
    let wire = Wire::start(&world).await?;
    let mut options = world.replica_options("replica", args)?;
    options.kubeconfig = wire.kubeconfig(&world)?;
    world.replicas.push(Operator::spawn(&options).await?);
    world.register().await?;
    Ok((world, wire))
}
