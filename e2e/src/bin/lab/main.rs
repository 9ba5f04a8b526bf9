//! The lab program, behind the make targets.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic"))]

mod documents;
mod image;

use std::process::ExitCode;

use clap::Parser;

/// What pod-reloader is tested, shown and released with.
#[derive(Debug, Parser)]
enum Args {
    #[command(subcommand)]
    Image(image::Command),
    #[command(subcommand)]
    Documents(documents::Command),
}

fn main() -> ExitCode {
    let done = match Args::parse() {
        Args::Image(command) => image::run(command),
        Args::Documents(command) => documents::run(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
