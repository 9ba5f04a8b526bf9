//! `lab documents`: what goes with an image, for `e2e/image/build.sh`: what is in the binary, and what it was built
//! from. The same input gives the same bytes: there are no times but the given one, and no random identifiers.

mod cyclonedx;
mod provenance;
mod spdx;

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Writes documents that go with an image.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The bill of materials, in `CycloneDX` (PREFIX.cdx.json) and SPDX (PREFIX.spdx.json).
    Materials(Materials),
    /// Where the image comes from: an in-toto statement with SLSA's provenance as predicate, on stdout.
    Provenance(provenance::Args),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Materials {
    /// What cargo-cyclonedx wrote.
    #[arg(long)]
    from: PathBuf,
    /// The folder in which it ran, whose name is to be in no document.
    #[arg(long)]
    folder: String,
    /// The binary that the documents describe.
    #[arg(long)]
    binary: PathBuf,
    /// The C library in it.
    #[arg(long)]
    glibc: String,
    /// The version of Rust, for the standard library in it.
    #[arg(long)]
    rust: String,
    /// The date in the documents: `2026-01-31T00:00:00Z`.
    #[arg(long)]
    created: String,
    /// The beginning of the files' names.
    prefix: PathBuf,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Materials(args) => materials(args),
        Command::Provenance(args) => args.statement().and_then(|statement| print(&statement)),
    }
}

fn print(document: &Value) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{document:#}").context("cannot write to stdout")
}

fn materials(args: &Materials) -> anyhow::Result<()> {
    let text = read(&args.from)?;
    let linked = cyclonedx::Linked {
        binary: sha256_of(&args.binary)?,
        glibc: args.glibc.clone(),
        rust: args.rust.clone(),
    };
    let bill = cyclonedx::complete(&text, &args.folder, &linked)
        .with_context(|| format!("{} is not as expected", args.from.display()))?;
    write(&with_suffix(&args.prefix, ".cdx.json"), &bill)?;
    let name = args.prefix.file_name().context("the prefix has no name")?.to_string_lossy();
    write(&with_suffix(&args.prefix, ".spdx.json"), &spdx::convert(&bill, &name, &args.created)?)
}

fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn write(file: &Path, document: &Value) -> anyhow::Result<()> {
    fs::write(file, format!("{document:#}\n")).with_context(|| format!("cannot write {}", file.display()))
}

/// The SHA-256 of a file, in hexadecimal.
fn sha256_of(file: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(sha256(&bytes))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string does not fail
        text
    })
}
