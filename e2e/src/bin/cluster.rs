//! `make cluster`: a control plane to play with, until Ctrl-C.

use std::{process::ExitCode, time::Instant};

use pod_reloader_e2e::{
    ControlPlane, Options, User,
    claim::{Claim, interrupted},
};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let claim = Claim::take("cluster")?;
    let leftovers = claim.stop_leftovers().await?;
    if !leftovers.is_empty() {
        println!("stopped what an earlier run had left: {}", leftovers.join(", "));
    }
    let started = Instant::now();
    let options = Options { directory: Some(claim.directory().to_owned()), ..Options::default() };
    // Both at once: Ctrl-C also ends a start that hangs, and what was started goes with the future.
    let serve = async {
        let control_plane = ControlPlane::start(options).await?;
        println!("The control plane runs at {} ({:.1?}).", control_plane.server(), started.elapsed());
        println!(
            "It has no node: Pods stay pending, everything else is real. Logs: {}",
            claim.directory().display()
        );
        println!();
        println!("  export KUBECONFIG={}", control_plane.kubeconfig(User::Admin).display());
        println!(
            "  export KUBECONFIG={}   # as pod-reloader",
            control_plane.kubeconfig(User::Operator).display()
        );
        println!("  kubectl is in {}", pod_reloader_e2e::control_plane::default_binaries().display());
        println!();
        println!("Ctrl-C stops it.");
        std::future::pending::<anyhow::Result<()>>().await
    };
    tokio::select! {
        result = serve => return result,
        result = interrupted() => result?,
    }
    claim.remove_directory()?;
    println!("\nstopped");
    Ok(())
}
