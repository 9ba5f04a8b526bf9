//! 4.9: however many connections somebody opens, others are served.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::Context;
use pod_reloader_e2e::world::webhook::{Webhook, request};
use pod_reloader_e2e::{Operator, World, objects, operator_binary};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Half a request, or the start of a handshake, from the n-th client of this machine.
async fn half(client: u8, port: u16, beginning: &[u8]) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, client], 0).into())?;
    let connect = socket.connect(([127, 0, 0, 1], port).into());
    let mut stream = timeout(Duration::from_secs(20), connect).await.context("not accepted")??;
    // It may be closed for another one already.
    let _ = stream.write_all(beginning).await;
    Ok(stream)
}

/// Everything works that needs a connection from outside, or one to the API server.
async fn serves_others(world: &World, replica: &Operator) -> anyhow::Result<()> {
    let (status, text) = replica.readiness().await?;
    anyhow::ensure!(status == 200, "{text}");
    replica.metrics().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    let good = json!(objects::listing("app", "settings"));
    // A connection of its own.
    let webhook = Webhook::of(world, replica)?;
    let (object, warnings) = webhook.mutate(&request("CREATE", &space.name, &good, None)).await?;
    anyhow::ensure!(
        object["spec"]["template"]["metadata"]["annotations"][objects::CONFIG_HASH].is_string(),
        "{warnings:?}"
    );
    Ok(())
}

#[tokio::test]
async fn c4_9_a_thousand_connections_and_more_of_one_client_keep_nobody_out() -> anyhow::Result<()> {
    let world = World::own(&[]).await?;
    let replica = &world.replicas[0];
    let mut halves = vec![];
    for port in replica.ports() {
        for _ in 0..1100 {
            halves.push(half(2, port, b"\x16\x03\x01").await?);
        }
        serves_others(&world, replica).await?;
    }
    serves_others(&world, replica).await
}

#[tokio::test]
async fn c4_9_connections_never_take_all_descriptors() -> anyhow::Result<()> {
    let mut world = World::without_operator().await?;
    let binary = world.directory().join("pod-reloader-with-few-files");
    let script = format!("#!/bin/sh\nulimit -n 128\nexec '{}' \"$@\"\n", operator_binary()?.display());
    std::fs::write(&binary, script)?;
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755))?;
    let mut options = world.replica_options("replica-1", &["--leader-elect"])?;
    options.binary = binary;
    world.replicas.push(Operator::spawn(&options).await?);
    world.register().await?;
    let replica = &world.replicas[0];
    let log = std::fs::read_to_string(options.directory.join("replica-1.log"))?;
    anyhow::ensure!(log.contains("few files may be open at once"), "{log}");
    let mut halves = vec![];
    for i in 0..450 {
        // Of many clients, on all ports.
        let client = 2 + u8::try_from(i % 50)?;
        halves.push(half(client, replica.ports()[i % 3], b"\x16\x03\x01").await?);
        if i % 150 == 149 {
            serves_others(&world, replica).await?;
        }
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", replica.id()))?.count();
    anyhow::ensure!(open < 128, "{open}");
    let log = std::fs::read_to_string(options.directory.join("replica-1.log"))?;
    anyhow::ensure!(!log.contains("cannot accept"), "{log}");
    Ok(())
}
