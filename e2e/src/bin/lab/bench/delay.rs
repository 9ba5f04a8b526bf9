//! A TCP proxy that makes an API server seem far away: what clients send arrives a while later, as much at a time as
//! before. It sees ciphertext only.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use pod_reloader_e2e::User;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::stage::Stage;

/// A running proxy. It ends when dropped; its connections end with their clients.
pub(super) struct Delay {
    port: u16,
    task: JoinHandle<()>,
}

impl Delay {
    /// A proxy in front of the stage's API server that holds up requests for that long.
    pub(super) async fn start(stage: &Stage, delay: Duration) -> anyhow::Result<Self> {
        let server = stage.plane().server();
        let server = server.trim_start_matches("https://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move {
                    // Either end sees a connection that ends.
                    if let Ok(upstream) = TcpStream::connect(&server).await {
                        drop(pass_on(client, upstream, delay).await);
                    }
                });
            }
        });
        Ok(Self { port, task })
    }

    /// That user's kubeconfig, with this proxy for a server.
    pub(super) fn kubeconfig(&self, stage: &Stage, user: User) -> anyhow::Result<PathBuf> {
        let text = std::fs::read_to_string(stage.plane().kubeconfig(user))?;
        let mut kubeconfig: Value = serde_json::from_str(&text).context("the kubeconfig is JSON")?;
        kubeconfig["clusters"][0]["cluster"]["server"] = json!(format!("https://127.0.0.1:{}", self.port));
        let path = stage.world.directory().join("delay.kubeconfig");
        std::fs::write(&path, kubeconfig.to_string())?;
        Ok(path)
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(client: TcpStream, upstream: TcpStream, delay: Duration) -> anyhow::Result<()> {
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (mut client_in, mut client_out) = client.into_split();
    let (mut server_in, mut server_out) = upstream.into_split();
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let read = async move {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = client_in.read(&mut buffer).await?;
            if length == 0 || sender.send((Instant::now() + delay, buffer[..length].to_vec())).await.is_err()
            {
                return anyhow::Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, data)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            server_out.write_all(&data).await?;
        }
        server_out.shutdown().await?;
        anyhow::Ok(())
    };
    let back = async move {
        copy(&mut server_in, &mut client_out).await?;
        client_out.shutdown().await?;
        anyhow::Ok(())
    };
    tokio::try_join!(read, write, back)?;
    Ok(())
}
