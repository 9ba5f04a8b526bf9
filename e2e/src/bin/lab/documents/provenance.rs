//! What an image was built from, by whom and how, as an in-toto statement with SLSA's provenance as its predicate.

use std::path::PathBuf;

use anyhow::ensure;
use serde_json::{Value, json};

/// How a builder gets from the source to the image: what `make image` does. docs/releasing.md describes the parameters.
const BUILD_TYPE: &str = "https://pod-reloader.cs.sap.com/buildtypes/make-image/v1";
/// For a build of which it is not known where it ran.
const UNKNOWN_BUILDER: &str = "https://pod-reloader.cs.sap.com/builders/unknown";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The images, by name and digest; several times for an index with its images.
    #[arg(long = "subject", required = true, value_parser = pair, value_name = "NAME=SHA256")]
    subjects: Vec<(String, String)>,
    /// The architectures that were built; several times if there are several.
    #[arg(long = "architecture", required = true)]
    architectures: Vec<String>,
    /// Where the source is published.
    #[arg(long, default_value = "")]
    source: String,
    /// The commit; with `-dirty` at its end if the files differed from it.
    #[arg(long, default_value = "")]
    revision: String,
    /// Files that decide what is built, with their digests, such as Cargo.lock.
    #[arg(long = "file", value_parser = pair, value_name = "NAME=SHA256")]
    files: Vec<(String, String)>,
    /// Images that it was built in or on, with their digests.
    #[arg(long = "base", value_parser = pair, value_name = "NAME=SHA256")]
    bases: Vec<(String, String)>,
    /// Tools that decide what is built, with their versions.
    #[arg(long = "tool", value_parser = pair, value_name = "NAME=VERSION")]
    tools: Vec<(String, String)>,
    /// What else came of the build, with its digest: bills of materials.
    #[arg(long = "byproduct", value_parser = pair, value_name = "NAME=SHA256")]
    byproducts: Vec<(String, String)>,
    /// The date of everything in the image, in seconds since 1970.
    #[arg(long)]
    epoch: u64,
    /// Where to write the predicate alone, too, for `cosign attest`.
    #[arg(long)]
    predicate: Option<PathBuf>,
    /// Who built it: an address that names a service or a workflow.
    #[arg(long, default_value = "")]
    builder: String,
    /// The run of the builder, if it has a name.
    #[arg(long, default_value = "")]
    invocation: String,
}

fn pair(text: &str) -> Result<(String, String), String> {
    // The last one: names of images may have one, too.
    match text.rsplit_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.into(), value.into())),
        _ => Err("it takes NAME=VALUE".into()),
    }
}

impl Args {
    /// The whole statement.
    pub(crate) fn statement(&self) -> anyhow::Result<Value> {
        for (name, digest) in
            [&self.subjects, &self.files, &self.bases, &self.byproducts].into_iter().flatten()
        {
            let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
            ensure!(is_digest, "{name}: '{digest}' is no SHA-256");
        }
        let subjects: Vec<_> = self.subjects.iter().map(|one| descriptor("name", one)).collect();
        let predicate = json!({"buildDefinition": self.definition(), "runDetails": self.run()});
        if let Some(file) = &self.predicate {
            super::write(file, &predicate)?;
        }
        Ok(json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects,
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": predicate,
        }))
    }

    fn definition(&self) -> Value {
        let mut materials = vec![self.commit()];
        materials.extend(self.files.iter().map(|file| descriptor("name", file)));
        materials.extend(self.bases.iter().map(|base| descriptor("uri", base)));
        let tools: serde_json::Map<_, _> =
            self.tools.iter().map(|(name, version)| (name.clone(), json!(version))).collect();
        json!({
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "source": self.source_uri(),
                "architectures": self.architectures,
            },
            "internalParameters": {"SOURCE_DATE_EPOCH": self.epoch, "tools": tools},
            "resolvedDependencies": materials,
        })
    }

    fn run(&self) -> Value {
        let builder = if self.builder.is_empty() { UNKNOWN_BUILDER } else { &self.builder };
        let byproducts: Vec<_> = self.byproducts.iter().map(|one| descriptor("name", one)).collect();
        let mut run = json!({"builder": {"id": builder}, "byproducts": byproducts});
        // No times: another build of the same source must give the same bytes.
        if !self.invocation.is_empty() {
            run["metadata"] = json!({"invocationId": self.invocation});
        }
        run
    }

    fn source_uri(&self) -> String {
        if self.source.is_empty() {
            return "git+file:///src".to_owned();
        }
        format!("git+{}", self.source.trim_start_matches("git+"))
    }

    /// The commit, whose digest is only given for what was built of it and nothing else.
    fn commit(&self) -> Value {
        let uri = self.source_uri();
        match self.revision.strip_suffix("-dirty") {
            Some(revision) => {
                json!({"uri": uri, "annotations": {"changedSince": revision}})
            }
            None if self.revision.is_empty() => json!({"uri": uri}),
            None => {
                let revision = &self.revision;
                json!({"uri": format!("{uri}@{revision}"), "digest": {"gitCommit": revision}})
            }
        }
    }
}

fn descriptor(key: &str, (name, digest): &(String, String)) -> Value {
    json!({key: name, "digest": {"sha256": digest.to_ascii_lowercase()}})
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    const IMAGE: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    const LOCK: &str = "2222222222222222222222222222222222222222222222222222222222222222";

    fn statement(more: &[&str]) -> anyhow::Result<Value> {
        let subject = format!("--subject=registry.example.com/team/pod-reloader={IMAGE}");
        let lock = format!("--file=Cargo.lock={LOCK}");
        let base = format!("--base=docker.io/library/rust:1.95-bookworm={LOCK}");
        let fixed =
            ["documents", &subject, &lock, &base, "--architecture=amd64", "--tool=rustc=1.95.0", "--epoch=7"];
        Cli::try_parse_from(fixed.iter().chain(more))?.args.statement()
    }

    #[test]
    fn it_names_the_image_what_it_was_built_from_and_who_built_it() {
        let statement = statement(&[
            "--source=https://git.example.com/team/pod-reloader",
            "--revision=0123abcd",
            "--builder=https://ci.example.com/workflow",
            "--invocation=https://ci.example.com/runs/7",
        ])
        .unwrap();
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
        let subject =
            json!([{"name": "registry.example.com/team/pod-reloader", "digest": {"sha256": IMAGE}}]);
        assert_eq!(statement["subject"], subject);
        let definition = &statement["predicate"]["buildDefinition"];
        assert_eq!(
            definition["resolvedDependencies"],
            json!([
                {
                    "uri": "git+https://git.example.com/team/pod-reloader@0123abcd",
                    "digest": {"gitCommit": "0123abcd"},
                },
                {"name": "Cargo.lock", "digest": {"sha256": LOCK}},
                {"uri": "docker.io/library/rust:1.95-bookworm", "digest": {"sha256": LOCK}},
            ])
        );
        assert_eq!(definition["internalParameters"]["tools"]["rustc"], "1.95.0");
        let run = &statement["predicate"]["runDetails"];
        assert_eq!(run["builder"]["id"], "https://ci.example.com/workflow");
        assert_eq!(run["metadata"]["invocationId"], "https://ci.example.com/runs/7");
    }

    #[test]
    fn a_changed_tree_is_not_given_out_as_its_commit() {
        let statement = statement(&["--revision=0123abcd-dirty"]).unwrap();
        let commit = &statement["predicate"]["buildDefinition"]["resolvedDependencies"][0];
        assert_eq!(commit, &json!({"uri": "git+file:///src", "annotations": {"changedSince": "0123abcd"}}));
        assert_eq!(statement["predicate"]["runDetails"]["builder"]["id"], UNKNOWN_BUILDER);
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        assert!(statement(&["--byproduct=sbom=abc"]).unwrap_err().to_string().contains("no SHA-256"));
        assert!(statement(&["--file=Cargo.lock"]).is_err());
    }
}
