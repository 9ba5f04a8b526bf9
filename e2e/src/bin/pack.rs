//! Packs files as a container image, for `e2e/apps/build.sh`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use pod_reloader_e2e::Image;

/// Packs files as a container image, without an engine.
#[derive(Debug, Parser)]
struct Args {
    /// Its complete name: `localhost/web:1`.
    #[arg(long)]
    name: String,
    /// A file to put in, and where; may be given several times.
    #[arg(long, value_name = "SOURCE=PATH")]
    file: Vec<String>,
    /// A tar archive that becomes a layer; may be given several times.
    #[arg(long, value_name = "TAR")]
    layer: Vec<PathBuf>,
    /// Who runs it, by number.
    #[arg(long)]
    user: Option<String>,
    /// The signal that asks a container to end, unless SIGTERM.
    #[arg(long)]
    stop_signal: Option<String>,
    /// What a container starts.
    #[arg(long)]
    entrypoint: String,
    /// The archive to write.
    archive: PathBuf,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let mut image = Image::new(args.name).entrypoint([args.entrypoint]);
    for file in &args.file {
        let (source, path) = file.split_once('=').context("--file takes SOURCE=PATH")?;
        image = image.file(source.as_ref(), path);
    }
    for layer in args.layer {
        image = image.layer(layer);
    }
    if let Some(user) = args.user {
        image = image.user(user);
    }
    if let Some(signal) = args.stop_signal {
        image = image.stop_signal(signal);
    }
    image.write(&args.archive)?;
    println!("{} is {}", image.name(), args.archive.display());
    Ok(())
}
