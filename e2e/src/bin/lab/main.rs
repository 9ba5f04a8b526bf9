//! The lab program: clusters to try things on, the demo, benchmarks, images, and the documents that go with them. The
//! make targets call it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic"))]

mod bench;
mod cluster;
mod demo;
mod documents;
mod image;
mod memory;

use std::process::ExitCode;

use clap::Parser;
use pod_reloader_e2e::node;

/// What pod-reloader is tested, shown and released with.
#[derive(Debug, Parser)]
#[command(name = "lab")]
enum Command {
    /// Boot a cluster to try things on.
    Up(cluster::Up),
    /// Stop that cluster, and remove what is left of it.
    Down,
    /// Say whether a cluster with a node can run here, and why not.
    Check,
    /// Show what pod-reloader does.
    Demo(demo::Args),
    /// Measure what pod-reloader costs, beside what the machine can do at best.
    Bench(bench::Args),
    /// Serve the webhook that `bench` compares with.
    #[command(hide = true)]
    BlindWebhook(bench::BlindWebhook),
    /// Measure peak memory under a limit, whatever tenants do.
    Memory(memory::Args),
    /// Pack container images without an engine.
    #[command(subcommand)]
    Image(image::Command),
    /// Write the documents that go with an image.
    #[command(subcommand)]
    Documents(documents::Command),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Command::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => cluster::up(args).await?,
        Command::Down => cluster::down().await?,
        Command::Check => node::available()?,
        Command::Demo(args) => return demo::run(args).await,
        Command::Bench(args) => return bench::run(&args).await,
        Command::BlindWebhook(args) => bench::serve_blind_webhook(&args).await?,
        Command::Memory(args) => return Ok(memory::run(args).await),
        Command::Image(command) => image::run(command)?,
        Command::Documents(command) => documents::run(&command)?,
    }
    Ok(ExitCode::SUCCESS)
}
