//! `make cluster`: a control plane to play with, until Ctrl-C; with `--real` a cluster on which pods run.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use clap::Parser;
use pod_reloader_e2e::{
    ControlPlane, Options, RealCluster, User,
    claim::{Claim, interrupted},
    control_plane::default_binaries,
};

/// Boots a Kubernetes control plane on the loopback interface, until Ctrl-C.
#[derive(Debug, Parser)]
struct Args {
    /// A whole cluster with one node, on which pods run. Takes root and what e2e/node/packages.sh installs.
    #[arg(long)]
    real: bool,
    /// An OCI or Docker archive for that node; may be given several times.
    #[arg(long, value_name = "FILE", requires = "real")]
    image: Vec<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let claim = Claim::take("cluster")?;
    let leftovers = claim.stop_leftovers().await?;
    if !leftovers.is_empty() {
        println!("stopped what an earlier run had left: {}", leftovers.join(", "));
    }
    let options = Options { directory: Some(claim.directory().to_owned()), ..Options::default() };
    let serve = async {
        if args.real { serve_real(options, &args.image).await } else { serve_control_plane(options).await }
    };
    // Both at once: Ctrl-C also ends a start that hangs, and what was started goes with the future.
    tokio::select! {
        result = serve => return result,
        result = interrupted() => result?,
    }
    claim.remove_directory()?;
    println!("\nstopped");
    Ok(())
}

async fn serve_control_plane(options: Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let control_plane = ControlPlane::start(options).await?;
    println!("The control plane runs at {} ({:.1?}).", control_plane.server(), started.elapsed());
    println!(
        "It has no node: Pods stay pending, everything else is real. Logs: {}",
        control_plane.directory().display()
    );
    print_access(&control_plane);
    println!(
        "  export KUBECONFIG={}   # as pod-reloader",
        control_plane.kubeconfig(User::Operator).display()
    );
    wait_for_ctrl_c().await
}

async fn serve_real(options: Options, images: &[PathBuf]) -> anyhow::Result<()> {
    let started = Instant::now();
    let cluster = RealCluster::start(options).await?;
    for image in images {
        cluster.import_image(image).await?;
    }
    println!("The cluster runs at {} ({:.1?}).", cluster.control_plane().server(), started.elapsed());
    println!("It has one node, and nothing to pull images from. Logs: {}", cluster.directory().display());
    print_access(cluster.control_plane());
    println!("  kubectl port-forward leads to its Services.");
    wait_for_ctrl_c().await
}

fn print_access(control_plane: &ControlPlane) {
    println!();
    println!("  export KUBECONFIG={}", control_plane.kubeconfig(User::Admin).display());
    println!("  kubectl is in {}", default_binaries().display());
}

async fn wait_for_ctrl_c() -> anyhow::Result<()> {
    println!();
    println!("Ctrl-C stops it.");
    std::future::pending().await
}
