//! `make demo`: what pod-reloader does, shown on a real control plane with real `kubectl` commands.

mod audience;
mod narrator;
mod stage;
mod story;

use std::{path::PathBuf, process::ExitCode};

use anyhow::ensure;
use clap::Parser;
use pod_reloader_e2e::claim::{Claim, interrupted};

use crate::{narrator::Narrator, stage::Stage};

/// Shows what pod-reloader does, on a control plane of its own on the loopback interface.
#[derive(Debug, Parser)]
struct Args {
    /// The built operator.
    #[arg(long, value_name = "FILE", default_value = "target/release/pod-reloader")]
    operator: PathBuf,
    /// On a cluster with a node, on which pods run. Takes root and what e2e/node/packages.sh installs.
    #[arg(long)]
    real: bool,
    /// Leave the cluster and the operator running in the background.
    #[arg(long)]
    keep: bool,
    /// Stop what an earlier run with --keep has left running, and do nothing else.
    #[arg(long, conflicts_with = "keep")]
    stop: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let claim = Claim::take("demo")?;
    let leftovers = claim.stop_leftovers().await?;
    if args.stop {
        claim.remove_directory()?;
        let stopped =
            if leftovers.is_empty() { "nothing was running".to_owned() } else { leftovers.join(", ") };
        println!("stopped: {stopped}");
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        !(args.real && args.keep),
        "a node cannot be left running by the demo: `make real-up` starts a cluster with a node that stays"
    );
    ensure!(
        args.real || args.operator.is_file(),
        "there is no operator at {}: build it first (cargo build --release -p pod-reloader)",
        args.operator.display()
    );
    if !leftovers.is_empty() {
        println!("stopped what an earlier run had left: {}", leftovers.join(", "));
    }

    // Whatever was started goes with the future that started it, also on Ctrl-C.
    let code = tokio::select! {
        result = perform(&args, &claim) => result,
        result = interrupted() => {
            result?;
            println!("\ninterrupted: everything was stopped");
            claim.remove_directory()?;
            return Ok(ExitCode::from(130));
        }
    };
    code
}

async fn perform(args: &Args, claim: &Claim) -> anyhow::Result<ExitCode> {
    let logs = format!("logs: {}", claim.directory().display());
    let mut narrator = Narrator::new();
    let built = if args.real {
        Stage::build_real(claim.directory(), &mut narrator).await
    } else {
        Stage::build(&args.operator, claim.directory(), &mut narrator).await
    };
    let stage = match built {
        Ok(stage) => stage,
        Err(error) => return Err(error.context(format!("the stage could not be set ({logs})"))),
    };
    if let Err(error) = story::tell(&stage, &mut narrator).await {
        narrator.missed(&format!("{error:#}"));
    }
    if args.keep {
        let kubeconfig = stage.detach();
        let success = narrator.summary();
        println!("\nEverything is left running in the background ({logs}). To look around and to stop it:");
        println!("  export KUBECONFIG={}", kubeconfig.display());
        println!("  make demo-stop");
        return Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Narrator::chapter("Clearing up");
    if let Err(error) = stage.strike(&mut narrator).await {
        narrator.missed(&format!("{error:#}"));
    }
    if narrator.summary() {
        claim.remove_directory()?;
        Ok(ExitCode::SUCCESS)
    } else {
        println!("{logs}");
        Ok(ExitCode::FAILURE)
    }
}
