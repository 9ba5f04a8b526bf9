//! `lab up` and `lab down`: clusters to try things on, a control plane without a node, or one on which pods run.

mod background;

use std::{path::PathBuf, time::Instant};

use pod_reloader_e2e::{
    ControlPlane, Options, RealCluster, Testbed, User,
    claim::{Claim, interrupted},
    node, paths,
};

use self::background::Background;

/// Boots a Kubernetes control plane on the loopback interface, until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// A whole cluster with one node, on which pods run. Takes root and what e2e/node/packages.sh installs.
    #[arg(long)]
    node: bool,
    /// An OCI or Docker archive for that node; may be given several times.
    #[arg(long, value_name = "FILE", requires = "node")]
    image: Vec<PathBuf>,
    /// Install pod-reloader there, and bring the images of the examples.
    #[arg(long, requires = "node")]
    install: bool,
    /// Leave it running in the background once it is up. If one runs already, say so and leave it.
    #[arg(long)]
    background: bool,
}

/// Stops the cluster that runs, in the background or elsewhere, and removes all that is left of it.
pub(crate) async fn down() -> anyhow::Result<()> {
    Background::new()?.stop().await
}

pub(crate) async fn up(args: Up) -> anyhow::Result<()> {
    let background = Background::new()?;
    if args.background {
        if args.node {
            // Said here, where it is read.
            node::available()?;
        }
        return background.start().await;
    }
    let claim = Claim::take("cluster")?;
    background.is_us()?;
    let leftovers = claim.stop_leftovers().await?;
    if !leftovers.is_empty() {
        println!("stopped what an earlier run had left: {}", leftovers.join(", "));
    }
    let options = Options { directory: Some(claim.directory().to_owned()), ..Options::default() };
    let serve = async {
        match (args.node, args.install) {
            (false, _) => serve_control_plane(options, &background).await,
            (true, false) => serve_node(options, &args.image, &background).await,
            (true, true) => serve_testbed(options, &args.image, &background).await,
        }
    };
    // Both at once: Ctrl-C also ends a start that hangs, and what was started goes with the future.
    tokio::select! {
        result = serve => return result,
        result = interrupted() => result?,
    }
    background.is_over()?;
    claim.remove_directory()?;
    println!("\nstopped");
    Ok(())
}

async fn serve_control_plane(options: Options, background: &Background) -> anyhow::Result<()> {
    let started = Instant::now();
    let control_plane = ControlPlane::start(options).await?;
    let text = format!(
        "The control plane runs at {} ({:.1?}).\n\
         It has no node: Pods stay pending, everything else is real. Logs: {}\n\n{}\n  export KUBECONFIG={}   # as pod-reloader",
        control_plane.server(),
        started.elapsed(),
        control_plane.directory().display(),
        access(&control_plane),
        control_plane.kubeconfig(User::Operator).display()
    );
    wait_for_ctrl_c(&text, background).await
}

async fn serve_node(options: Options, images: &[PathBuf], background: &Background) -> anyhow::Result<()> {
    let started = Instant::now();
    let cluster = RealCluster::start(options).await?;
    for image in images {
        cluster.import_image(image).await?;
    }
    wait_for_ctrl_c(&describe(&cluster, started), background).await
}

async fn serve_testbed(options: Options, images: &[PathBuf], background: &Background) -> anyhow::Result<()> {
    let started = Instant::now();
    let bed = Testbed::own(options).await?;
    let Some(cluster) = bed.own_cluster() else { return Ok(()) };
    for image in images {
        cluster.import_image(image).await?;
    }
    let text = format!(
        "{}\n\n\
         pod-reloader is installed in the namespace pod-reloader. The examples (docs/examples) can be applied as they are.",
        describe(cluster, started)
    );
    wait_for_ctrl_c(&text, background).await
}

fn describe(cluster: &RealCluster, started: Instant) -> String {
    format!(
        "The cluster runs at {} ({:.1?}).\n\
         It has one node, and nothing to pull images from. Logs: {}\n\n{}\n  kubectl port-forward leads to its Services.",
        cluster.control_plane().server(),
        started.elapsed(),
        cluster.directory().display(),
        access(cluster.control_plane())
    )
}

fn access(control_plane: &ControlPlane) -> String {
    format!(
        "  export KUBECONFIG={}\n  export PATH=$PATH:{}   # kubectl, helm",
        control_plane.kubeconfig(User::Admin).display(),
        paths::binaries().display()
    )
}

async fn wait_for_ctrl_c(text: &str, background: &Background) -> anyhow::Result<()> {
    println!("{text}\n\nCtrl-C stops it.");
    background.is_up(text)?;
    std::future::pending().await
}
