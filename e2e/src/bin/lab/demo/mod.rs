//! `lab demo`: what pod-reloader does, shown on a real control plane with real `kubectl` commands.

mod client;
mod environment;
mod output;
mod steps;

use std::{path::PathBuf, process::ExitCode};

use anyhow::ensure;
use pod_reloader_e2e::claim::{Claim, interrupted};

use self::{environment::Environment, output::Output};

/// Shows what pod-reloader does, on a control plane of its own on the loopback interface.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The built operator.
    #[arg(long, value_name = "FILE", default_value = "target/release/pod-reloader")]
    operator: PathBuf,
    /// On a cluster with a node, on which pods run. Takes root and what e2e/node/packages.sh installs.
    #[arg(long)]
    node: bool,
    /// Leave the cluster and the operator running in the background.
    #[arg(long)]
    keep: bool,
    /// Stop what an earlier run with --keep has left running, and do nothing else.
    #[arg(long, conflicts_with = "keep")]
    stop: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
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
        !(args.node && args.keep),
        "a node cannot be left running by the demo: `make real-up` starts a cluster with a node that stays"
    );
    ensure!(
        args.node || args.operator.is_file(),
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
    let mut output = Output::new();
    let started = if args.node {
        Environment::with_node(claim.directory(), &mut output).await
    } else {
        Environment::without_node(&args.operator, claim.directory(), &mut output).await
    };
    let environment = match started {
        Ok(environment) => environment,
        Err(error) => return Err(error.context(format!("the cluster could not be prepared ({logs})"))),
    };
    if let Err(error) = steps::run(&environment, &mut output).await {
        output.missed(&format!("{error:#}"));
    }
    if args.keep {
        let kubeconfig = environment.detach();
        let success = output.summary();
        println!("\nEverything is left running in the background ({logs}). To look around and to stop it:");
        println!("  export KUBECONFIG={}", kubeconfig.display());
        println!("  make demo-stop");
        return Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Output::step("Cleaning up");
    if let Err(error) = environment.stop(&mut output).await {
        output.missed(&format!("{error:#}"));
    }
    if output.summary() {
        claim.remove_directory()?;
        Ok(ExitCode::SUCCESS)
    } else {
        println!("{logs}");
        Ok(ExitCode::FAILURE)
    }
}
