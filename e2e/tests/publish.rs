//! What `make publish` leaves in a registry, read and verified with ordinary tools: crane, oras and cosign. The images
//! are packed from files that stand for the operator's binaries; what is in the real one is tested in `image.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows #[test] functions only, not what they share"
)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pod_reloader_e2e::Registry;
use serde_json::{Value, json};
use support::{fails, output, run, workspace};
use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];
const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
const SPDX: &str = "application/spdx+json";
const IN_TOTO: &str = "application/vnd.in-toto+json";
const SIGNATURE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

fn script(name: &str) -> Command {
    let mut command = Command::new(workspace().join("e2e/image").join(name));
    command.env("LAB", env!("CARGO_BIN_EXE_lab"));
    for variable in ["COSIGN_KEY", "COSIGN_KEYLESS", "SOURCE_DATE_EPOCH", "BUILDER_ID", "BUILDER_IMAGE"] {
        command.env_remove(variable);
    }
    command
}

/// Packs what stands for a binary as the image of an architecture, with what stands for its documents.
fn pack(directory: &Path, architecture: &str, content: &str) -> PathBuf {
    let layout = directory.join(format!("pod-reloader-{VERSION}-linux-{architecture}"));
    let binary = directory.join(format!("binary-{architecture}"));
    fs::write(&binary, content).unwrap();
    let notices = directory.join("notices");
    fs::write(&notices, "stands for the licences").unwrap();
    run(script("pack.sh").arg(&binary).arg(architecture).arg(&layout).env("NOTICES", &notices));
    for (suffix, format) in [("cdx", "CycloneDX"), ("spdx", "SPDX")] {
        let file = format!("{}.{suffix}.json", layout.display());
        fs::write(file, json!({"stands for": format, "architecture": architecture}).to_string()).unwrap();
    }
    layout
}

/// A layout of both architectures, as it is pushed.
fn index(directory: &Path, name: &str, content: &str) -> PathBuf {
    let layouts = ARCHITECTURES.map(|architecture| pack(directory, architecture, content));
    let layout = directory.join("index");
    let mut make = script("index.sh");
    make.arg(&layout).arg(name).args(layouts).env("BUILDER_ID", "https://ci.example.com/workflow");
    run(make.env("SOURCE_URL", "https://git.example.com/team/pod-reloader"));
    layout
}

struct Published {
    directory: TempDir,
    registry: Registry,
    layout: PathBuf,
}

impl Published {
    async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let registry = Registry::start(directory.path()).await.unwrap();
        let name = format!("{}/team/pod-reloader", registry.address());
        let layout = index(directory.path(), &name, "stands for a binary");
        let published = Self { directory, registry, layout };
        run(&mut published.script("push.sh"));
        published
    }

    fn script(&self, name: &str) -> Command {
        let mut command = script(name);
        command.arg(format!("{}/team", self.registry.address())).arg(&self.layout).env("PLAIN_HTTP", "1");
        command
    }

    fn repository(&self) -> String {
        format!("{}/team/pod-reloader", self.registry.address())
    }

    fn tag(&self) -> String {
        format!("{}:v{VERSION}", self.repository())
    }

    fn push_chart(&self) {
        let directory = self.directory.path();
        let mut package = Command::new(workspace().join("charts/package.sh"));
        package.env("REGISTRY", format!("{}/team", self.registry.address()));
        package.env("PUSH", "1").env("PLAIN_HTTP", "1").env("OUT", directory.join("chart"));
        run(package.env("HELM_CONFIG_HOME", directory.join("helm")));
    }

    /// Makes a key pair and gives the folder that has it.
    fn keys(&self, name: &str) -> PathBuf {
        let folder = self.directory.path().join(name);
        fs::create_dir(&folder).unwrap();
        let mut generate = Command::new(tool("cosign"));
        run(generate.arg("generate-key-pair").current_dir(&folder).env("COSIGN_PASSWORD", "secret"));
        folder
    }

    fn sign(&self, keys: &Path) -> String {
        let mut sign = self.script("sign.sh");
        let (succeeded, text) =
            output(sign.env("COSIGN_KEY", keys.join("cosign.key")).env("COSIGN_PASSWORD", "secret"));
        assert!(succeeded, "{text}");
        text
    }

    /// `cosign` with what it takes to verify offline, and without a public log.
    fn cosign(&self, args: &[&str], keys: &Path, reference: &str) -> Command {
        let mut command = Command::new(tool("cosign"));
        command.args(args).arg("--key").arg(keys.join("cosign.pub"));
        command.args(["--insecure-ignore-tlog=true", "--allow-http-registry", reference]);
        command.env("HOME", self.directory.path());
        command
    }

    /// The digest of the index, and of the image of each architecture.
    fn digests(&self) -> (String, Vec<String>) {
        let index = crane(&["digest", &self.tag()]).trim().to_owned();
        let images = ARCHITECTURES.map(|architecture| {
            let platform = format!("--platform=linux/{architecture}");
            crane(&["digest", &platform, &self.tag()]).trim().to_owned()
        });
        (index, images.to_vec())
    }

    /// The manifests whose subject is the given one, of a type.
    fn referrers(&self, digest: &str, kind: &str) -> Vec<Value> {
        let reference = format!("{}@{digest}", self.repository());
        let mut discover = Command::new(tool("oras"));
        discover.args(["discover", "--plain-http", "--format=json", "--artifact-type", kind, &reference]);
        let found: Value = serde_json::from_str(&run(&mut discover)).unwrap();
        let found = found["referrers"].as_array().cloned().unwrap_or_default();
        found
            .iter()
            .map(|one| {
                let reference = format!("{}@{}", self.repository(), one["digest"].as_str().unwrap());
                let manifest: Value = serde_json::from_str(&crane(&["manifest", &reference])).unwrap();
                assert_eq!(manifest["subject"]["digest"], digest);
                assert_eq!(manifest["artifactType"], kind);
                manifest
            })
            .collect()
    }

    /// The only document of a type that is attached, layer by layer.
    fn attached(&self, digest: &str, kind: &str) -> Vec<Value> {
        let manifests = self.referrers(digest, kind);
        assert_eq!(manifests.len(), 1, "{kind} of {digest}: {manifests:?}");
        let layers = manifests[0]["layers"].as_array().unwrap();
        layers
            .iter()
            .map(|layer| {
                let reference = format!("{}@{}", self.repository(), layer["digest"].as_str().unwrap());
                serde_json::from_str(&crane(&["blob", &reference])).unwrap()
            })
            .collect()
    }
}

fn crane(args: &[&str]) -> String {
    run(Command::new(tool("crane")).args(args))
}

fn tool(name: &str) -> PathBuf {
    let tool = workspace().join("e2e/bin").join(name);
    assert!(tool.exists(), "{} is missing: run e2e/tools/build.sh {name}", tool.display());
    tool
}

#[tokio::test]
async fn one_tag_has_the_images_of_both_architectures() {
    let published = Published::new().await;
    let index: Value = serde_json::from_str(&crane(&["manifest", &published.tag()])).unwrap();
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(index["annotations"]["org.opencontainers.image.version"], VERSION);
    let platforms: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|one| one["platform"].clone()).collect();
    assert_eq!(
        platforms,
        ARCHITECTURES.map(|architecture| json!({"os": "linux", "architecture": architecture}))
    );
    for architecture in ARCHITECTURES {
        let platform = format!("--platform=linux/{architecture}");
        let config: Value = serde_json::from_str(&crane(&["config", &platform, &published.tag()])).unwrap();
        assert_eq!(config["architecture"], architecture);
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");
        crane(&["validate", "--remote", &published.tag()]);
    }
}

#[tokio::test]
async fn bills_of_materials_and_provenance_are_attached_to_index_and_images() {
    let published = Published::new().await;
    let (index, images) = published.digests();
    for (architecture, digest) in ARCHITECTURES.iter().zip(&images) {
        for (kind, format) in [(CYCLONEDX, "CycloneDX"), (SPDX, "SPDX")] {
            let expected = json!({"stands for": format, "architecture": architecture});
            assert_eq!(published.attached(digest, kind), [expected]);
        }
        let [statement] = &published.attached(digest, IN_TOTO)[..] else { panic!("more than one statement") };
        assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
        let subject = json!([{
            "name": published.repository(),
            "digest": {"sha256": digest.trim_start_matches("sha256:")},
        }]);
        assert_eq!(statement["subject"], subject);
        let predicate = &statement["predicate"];
        assert_eq!(predicate["runDetails"]["builder"]["id"], "https://ci.example.com/workflow");
        let parameters = &predicate["buildDefinition"]["externalParameters"];
        assert_eq!(
            parameters,
            &json!({
                "source": "git+https://git.example.com/team/pod-reloader",
                "architectures": [architecture],
            })
        );
    }
    // For those who ask for the tag.
    for kind in [CYCLONEDX, SPDX] {
        assert_eq!(published.attached(&index, kind).len(), 2);
    }
    let statement = &published.attached(&index, IN_TOTO)[0];
    let subjects: Vec<_> = statement["subject"].as_array().unwrap().iter().collect();
    assert_eq!(subjects.len(), 3);
    assert_eq!(subjects[2]["digest"]["sha256"], index.trim_start_matches("sha256:"));
}

#[tokio::test]
async fn signatures_and_attestations_verify_with_the_public_key_and_no_other() {
    let published = Published::new().await;
    let (ours, other) = (published.keys("ours"), published.keys("other"));
    published.push_chart();
    let said = published.sign(&ours);
    assert!(said.contains("signed the chart"), "{said}");

    let (index, images) = published.digests();
    for digest in images.iter().chain([&index]) {
        let reference = format!("{}@{digest}", published.repository());
        run(&mut published.cosign(&["verify"], &ours, &reference));
        fails(&mut published.cosign(&["verify"], &other, &reference));
        for kind in ["cyclonedx", "spdxjson", "slsaprovenance1"] {
            let verify = ["verify-attestation", "--type", kind];
            run(&mut published.cosign(&verify, &ours, &reference));
            fails(&mut published.cosign(&verify, &other, &reference));
        }
        assert!(!published.referrers(digest, SIGNATURE).is_empty());
    }
    let chart = format!("{}:{VERSION}", published.repository());
    for reference in [published.tag(), chart] {
        run(&mut published.cosign(&["verify"], &ours, &reference));
        fails(&mut published.cosign(&["verify"], &other, &reference));
    }
}

#[tokio::test]
async fn an_image_that_was_put_in_the_place_of_the_signed_one_is_refused() {
    let published = Published::new().await;
    let keys = published.keys("keys");
    let said = published.sign(&keys);
    assert!(said.contains("the chart is not signed, since it is not there"), "{said}");
    let signed = published.digests().0;

    let elsewhere = TempDir::new().unwrap();
    let layout = pack(elsewhere.path(), "amd64", "another binary");
    crane(&["push", layout.to_str().unwrap(), &published.tag()]);
    let other = published.digests().0;
    assert_ne!(signed, other);
    fails(&mut published.cosign(&["verify"], &keys, &published.tag()));

    // Nor do the signatures of another image serve for it.
    let [from, to] = [&signed, &other].map(|digest| digest.replace(':', "-"));
    let [from, to] = [from, to].map(|tag| format!("{}:{tag}", published.repository()));
    crane(&["copy", &from, &to]);
    fails(&mut published.cosign(&["verify"], &keys, &published.tag()));
    // The one that was signed still is.
    let reference = format!("{}@{signed}", published.repository());
    run(&mut published.cosign(&["verify"], &keys, &reference));
}

#[tokio::test]
async fn a_layer_that_was_changed_in_the_registry_is_refused() {
    let published = Published::new().await;
    let image = &published.digests().1[0];
    let reference = format!("{}@{image}", published.repository());
    let manifest: Value = serde_json::from_str(&crane(&["manifest", &reference])).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let blob = published
        .directory
        .path()
        .join("registry/docker/registry/v2/blobs/sha256")
        .join(&layer[..2])
        .join(layer)
        .join("data");
    let mut bytes = fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blob, bytes).unwrap();
    let mut validate = Command::new(tool("crane"));
    fails(validate.args(["validate", "--remote", &reference]));
}

#[tokio::test]
async fn without_a_key_nothing_is_signed_and_that_is_said() {
    let published = Published::new().await;
    let (succeeded, text) = output(&mut published.script("sign.sh"));
    assert!(succeeded && text.contains("nothing is signed"), "{text}");
    let (index, images) = published.digests();
    for digest in images.iter().chain([&index]) {
        assert!(published.referrers(digest, SIGNATURE).is_empty());
    }
    let keys = published.keys("keys");
    let text = fails(&mut published.cosign(&["verify"], &keys, &published.tag()));
    assert!(text.contains("no signatures found"), "{text}");
    let missing = published.directory.path().join("missing.key");
    let text = fails(published.script("sign.sh").env("COSIGN_KEY", &missing));
    assert!(text.contains("cannot read the key"), "{text}");
}

#[test]
fn the_same_images_give_the_same_index_and_attachments() {
    let blobs = |directory: &Path| {
        let layout = index(directory, "registry.example.com/team/pod-reloader", "stands for a binary");
        let mut names: Vec<_> = fs::read_dir(layout.join("blobs/sha256"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let names = blobs(first.path());
    assert_eq!(names, blobs(second.path()));
    assert!(names.len() > 15, "{names:?}");
}
