//! `lab image`: container images without a container engine.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use pod_reloader_e2e::{
    Image,
    image::dockerfile::{self, Build},
    paths,
};

/// Packs container images without an engine.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// An image of a few files, as an archive.
    Files(Files),
    /// The operator's image, as the last stage of the Dockerfile describes it (called by e2e/image/pack.sh).
    Release(Release),
}

#[derive(Debug, Args)]
pub(crate) struct Files {
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

#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The static binary.
    #[arg(long)]
    binary: PathBuf,
    /// The licences of what is in the binary.
    #[arg(long)]
    notices: PathBuf,
    /// As images call it: amd64, arm64.
    #[arg(long)]
    architecture: String,
    /// The image's name, with its registry if it has one.
    #[arg(long)]
    name: String,
    /// The commit that it is of.
    #[arg(long, default_value = "")]
    revision: String,
    /// Where the source is published.
    #[arg(long, default_value = "")]
    source_url: String,
    /// The date of everything, in seconds since 1970.
    #[arg(long)]
    epoch: u64,
    /// The same for people.
    #[arg(long)]
    created: String,
    /// The folder to write, in the OCI image layout; OUTPUT.tar becomes an archive of it.
    output: PathBuf,
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Files(files) => files.pack(),
        Command::Release(release) => release.pack(),
    }
}

impl Files {
    fn pack(self) -> anyhow::Result<()> {
        let mut image = Image::new(self.name).entrypoint([self.entrypoint]);
        for file in &self.file {
            let (source, path) = file.split_once('=').context("--file takes SOURCE=PATH")?;
            image = image.file(source.as_ref(), path);
        }
        for layer in self.layer {
            image = image.layer(layer);
        }
        if let Some(user) = self.user {
            image = image.user(user);
        }
        if let Some(signal) = self.stop_signal {
            image = image.stop_signal(signal);
        }
        image.write(&self.archive)?;
        println!("{} is {}", image.name(), self.archive.display());
        Ok(())
    }
}

impl Release {
    fn pack(self) -> anyhow::Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        let tag = format!("{}:v{version}", self.name);
        let owned = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let build = Build {
            name: complete(&tag),
            tag,
            architecture: self.architecture,
            root: paths::root(),
            built: BTreeMap::from([
                ("/pod-reloader".to_owned(), self.binary),
                ("/THIRD-PARTY.txt".to_owned(), self.notices),
            ]),
            arguments: BTreeMap::from([
                owned("VERSION", version),
                owned("REVISION", &self.revision),
                owned("CREATED", &self.created),
            ]),
            labels: BTreeMap::from([owned("org.opencontainers.image.source", &self.source_url)]),
            epoch: self.epoch,
            created: self.created,
        };
        let image = build.read(&dockerfile::text(&build.root)?)?;
        let digest = image.write_both(&self.output)?;
        println!(
            "{} for linux/{}, {digest}, is {}.tar",
            build.tag,
            build.architecture,
            self.output.display()
        );
        Ok(())
    }
}

/// A name as containerd, Podman and the kubelet take it, who ask for it in full.
fn complete(name: &str) -> String {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}
