//! The image that `e2e/image` makes from the Dockerfile. What needs the operator in it is skipped before `make image`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows #[test] functions only, not what they share"
)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// 11 MB, of a million bytes each.
const BUDGET: u64 = 11_000_000;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn sha256(file: &Path) -> String {
    run(Command::new("sha256sum").arg("-b").arg(file)).split(' ').next().unwrap().to_owned()
}

/// An image, unpacked from its tar.
struct Image {
    tar: PathBuf,
    layout: TempDir,
    rootfs: TempDir,
}

impl Image {
    fn open(tar: PathBuf) -> Self {
        let (layout, rootfs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        run(Command::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(&tar)
            .arg("--directory")
            .arg(layout.path()));
        let image = Self { tar, layout, rootfs };
        for layer in image.manifest()["layers"].as_array().unwrap() {
            let mut unpack = Command::new("tar");
            unpack.args(["--extract", "--gzip", "--preserve-permissions", "--no-same-owner", "--file"]);
            run(unpack.arg(image.blob(layer)).arg("--directory").arg(image.rootfs.path()));
        }
        fs::set_permissions(image.rootfs.path(), fs::Permissions::from_mode(0o755)).unwrap();
        image
    }

    /// Packs a file that stands for the operator's binary.
    fn pack(binary: &Path, directory: &Path) -> Self {
        let output = directory.join("image");
        let notices = directory.join("notices");
        fs::write(&notices, "stands for the licences").unwrap();
        let mut pack = Command::new(workspace().join("e2e/image/pack.sh"));
        pack.env("NOTICES", notices).env("LAB", env!("CARGO_BIN_EXE_lab")).env_remove("SOURCE_DATE_EPOCH");
        run(pack.arg(binary).arg("amd64").arg(&output));
        Self::open(directory.join("image.tar"))
    }

    /// What `make image` left, if anything.
    fn built() -> Option<Self> {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let tar = workspace().join(format!("target/image/pod-reloader-{VERSION}-linux-{architecture}.tar"));
        if !tar.exists() {
            println!("skipped: {} is missing (make image)", tar.display());
            return None;
        }
        Some(Self::open(tar))
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.layout.path().join(file)).unwrap()).unwrap()
    }

    /// The file that a descriptor is of, which must be as it says.
    fn blob(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let file = self.layout.path().join("blobs/sha256").join(digest);
        assert_eq!(sha256(&file), digest);
        assert_eq!(fs::metadata(&file).unwrap().len(), descriptor["size"].as_u64().unwrap());
        file
    }

    fn manifest(&self) -> Value {
        let index = self.json("index.json");
        assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
        serde_json::from_slice(&fs::read(self.blob(&index["manifests"][0])).unwrap()).unwrap()
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.blob(&self.manifest()["config"])).unwrap()).unwrap()
    }

    fn binary(&self) -> PathBuf {
        self.rootfs.path().join("pod-reloader")
    }

    /// Runs the entrypoint as the image's user on the image's files, with nothing else, and nothing writable.
    fn run_entrypoint(&self, arg: &str) -> String {
        let config = &self.config()["config"];
        let mut unshare = Command::new("unshare");
        unshare.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg("--mount");
        let mut become_user = vec![];
        if run(Command::new("id").arg("-u")).trim() == "0" {
            become_user.push(format!("--userspec={}", config["User"].as_str().unwrap()));
        } else {
            // To be another user takes root; this one will do.
            unshare.args(["--user", "--map-root-user"]);
        }
        let script = r#"mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; cd "$0"; exec chroot "$@""#;
        unshare.args(["sh", "-ec", script]).arg(self.rootfs.path()).args(become_user);
        run(unshare.args([".", config["Entrypoint"][0].as_str().unwrap(), arg]))
    }
}

/// A file that stands for the binary, and the image of it.
fn stand_in() -> (TempDir, Image) {
    let directory = TempDir::new().unwrap();
    let binary = directory.path().join("binary");
    fs::write(&binary, "not a binary").unwrap();
    let image = Image::pack(&binary, directory.path());
    (directory, image)
}

fn labels(config: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(config["config"]["Labels"].clone()).unwrap()
}

#[test]
fn the_same_binary_gives_the_same_image() {
    let (_first_directory, first) = stand_in();
    let directory = TempDir::new().unwrap();
    let binary = directory.path().join("elsewhere");
    fs::write(&binary, "not a binary").unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o700)).unwrap();
    run(Command::new("touch").arg("--date=2001-01-01").arg(&binary));
    let second = Image::pack(&binary, directory.path());
    assert_eq!(first.json("index.json"), second.json("index.json"));
    assert_eq!(sha256(&first.tar), sha256(&second.tar));
}

#[test]
fn it_runs_as_a_user_that_kubernetes_sees_is_not_root() {
    let (_directory, image) = stand_in();
    let config = image.config();
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], json!(["/pod-reloader"]));
    assert_eq!(config["config"]["ExposedPorts"], json!({ "8080/tcp": {}, "8081/tcp": {}, "9443/tcp": {} }));
    assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!("amd64")));
}

#[test]
fn it_holds_the_binary_and_the_licences_and_nothing_else() {
    let (_directory, image) = stand_in();
    let manifest = image.manifest();
    let layer = image.blob(&manifest["layers"][0]);
    let listing = run(Command::new("tar")
        .args(["--list", "--verbose", "--numeric-owner", "--gzip", "--file"])
        .arg(layer));
    let entries: Vec<(&str, &str, &str)> = listing
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[0], words[1], words[5])
        })
        .collect();
    assert_eq!(
        entries,
        [
            ("drwxr-xr-x", "0/0", "licenses/"),
            ("-rw-r--r--", "0/0", "licenses/LICENSE"),
            ("-rw-r--r--", "0/0", "licenses/THIRD-PARTY.txt"),
            ("-rwxr-xr-x", "0/0", "pod-reloader"),
        ]
    );
    assert_eq!(
        fs::read(image.rootfs.path().join("licenses/LICENSE")).unwrap(),
        fs::read(workspace().join("LICENSE")).unwrap()
    );
}

#[test]
fn labels_and_annotations_say_what_it_is() {
    let (_directory, image) = stand_in();
    let labels = labels(&image.config());
    let label = |name: &str| labels[&format!("org.opencontainers.image.{name}")].as_str();
    assert_eq!(label("title"), "pod-reloader");
    assert_eq!(label("version"), VERSION);
    assert_eq!(label("licenses"), "Apache-2.0");
    assert!(label("created").ends_with('Z'), "{labels:?}");
    // A source archive has no history to name a revision of.
    if workspace().join(".git").exists() {
        let head = run(Command::new("git").arg("-C").arg(workspace()).args(["rev-parse", "HEAD"]));
        assert_eq!(label("revision").trim_end_matches("-dirty"), head.trim());
    }
    assert!(labels.values().all(|value| !value.is_empty() && !value.contains('$')), "{labels:?}");
    assert_eq!(image.manifest()["annotations"], json!(labels));
}

/// Older Docker reads `manifest.json`, all others the OCI layout.
#[test]
fn the_tar_is_an_archive_of_docker_save_as_well() {
    let (_directory, image) = stand_in();
    let manifest = image.manifest();
    let path =
        |descriptor: &Value| descriptor["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    assert_eq!(
        image.json("manifest.json"),
        json!([{
            "Config": path(&manifest["config"]),
            "RepoTags": [format!("pod-reloader:v{VERSION}")],
            "Layers": [path(&manifest["layers"][0])],
        }])
    );
    assert_eq!(
        image.json("index.json")["manifests"][0]["annotations"]["io.containerd.image.name"],
        format!("docker.io/library/pod-reloader:v{VERSION}")
    );
    let chart = fs::read_to_string(workspace().join("charts/pod-reloader/Chart.yaml")).unwrap();
    assert!(
        chart.contains(&format!("\nappVersion: v{VERSION}\n")),
        "the chart asks for another tag: {chart}"
    );
    assert_eq!(image.json("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));
}

#[test]
fn it_is_small() {
    let Some(image) = Image::built() else { return };
    let compressed: u64 = image.manifest()["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["size"].as_u64().unwrap())
        .sum();
    let binary = fs::metadata(image.binary()).unwrap().len();
    println!("{binary} bytes, {compressed} compressed");
    assert!(compressed < BUDGET, "{compressed} bytes compressed");
    assert!(binary < BUDGET, "a binary of {binary} bytes");
}

#[test]
fn it_needs_nothing_but_itself() {
    let Some(image) = Image::built() else { return };
    let headers =
        run(Command::new("readelf").args(["--program-headers", "--dynamic", "--wide"]).arg(image.binary()));
    assert!(!headers.contains("INTERP") && !headers.contains("NEEDED"), "{headers}");
    assert_eq!(image.run_entrypoint("--version"), format!("pod-reloader {VERSION}\n"));
}

#[test]
fn the_bill_of_materials_has_what_is_locked() {
    let Some(image) = Image::built() else { return };
    let bill: Value =
        serde_json::from_slice(&fs::read(image.tar.with_extension("cdx.json")).unwrap()).unwrap();
    assert_eq!(
        (&bill["bomFormat"], &bill["metadata"]["component"]["version"]),
        (&json!("CycloneDX"), &json!(VERSION))
    );
    let listed: BTreeMap<&str, &str> = bill["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|component| (component["name"].as_str().unwrap(), component["version"].as_str().unwrap()))
        .collect();
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    for name in ["kube", "rustls", "ring", "tokio", "k8s-openapi"] {
        let locked = format!("name = \"{name}\"\nversion = \"{}\"\n", listed[name]);
        assert!(lock.contains(&locked), "{name} {} is not in Cargo.lock", listed[name]);
    }
    assert!(listed.contains_key("glibc") && listed.contains_key("rust-std"));
    for name in ["proptest", "tempfile", "pod-reloader-e2e", "cc"] {
        assert!(!listed.contains_key(name), "{name} is not in the binary");
    }
}

/// What the bill of materials has, by name and version.
fn components(tar: &Path) -> Vec<(String, String)> {
    let bill: Value = serde_json::from_slice(&fs::read(tar.with_extension("cdx.json")).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let components = bill["components"].as_array().unwrap();
    components.iter().map(|one| (text(&one["name"]), text(&one["version"]))).collect()
}

#[test]
fn the_licences_of_all_that_is_in_the_binary_are_in_the_image() {
    let Some(image) = Image::built() else { return };
    let notices = fs::read_to_string(image.rootfs.path().join("licenses/THIRD-PARTY.txt")).unwrap();
    // The text of a licence has a heading with the packages that have it.
    let rule = "=".repeat(100);
    let sections: Vec<&str> = notices.split(&rule).collect();
    let headings: String =
        sections.iter().skip(1).step_by(2).map(|heading| heading.replace('\n', " ")).collect();
    for name in ["ring", "rustls", "kube-client", "tokio", "subtle", "serde"] {
        assert!(headings.contains(&format!("{name} ")), "no licence of {name}");
    }
    assert!(!notices.contains("proptest"), "proptest is not in the binary");
    for text in [
        "Permission is hereby granted, free of charge",
        "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION",
        "Copyright notices for The Rust Standard Library",
        "GNU LESSER GENERAL PUBLIC LICENSE",
        // In ring there is code of others.
        "Copyright 2015-2025 Brian Smith.",
        "the fiat-crypto authors",
    ] {
        assert!(notices.contains(text), "there is no '{text}'");
    }
}

/// The list that `cargo auditable` puts in, which is there in the stripped, static binary, too.
#[test]
fn the_binary_itself_lists_its_crates() {
    let Some(image) = Image::built() else { return };
    let tool = workspace().join("e2e/bin/rust-audit-info");
    let list: Value = serde_json::from_str(&run(Command::new(tool).arg(image.binary()))).unwrap();
    let listed: BTreeMap<&str, &str> = list["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| package["kind"].is_null() || package["kind"] == "runtime")
        .map(|package| (package["name"].as_str().unwrap(), package["version"].as_str().unwrap()))
        .collect();
    assert_eq!(listed["pod-reloader"], VERSION);
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    for (name, version) in &listed {
        let locked = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&locked), "{name} {version} is not in Cargo.lock");
    }
    // Nothing that runs is missing from it. (A bill of materials has crates that only derive macros use as well.)
    let bill = components(&image.tar);
    for name in ["kube", "rustls", "ring", "tokio", "k8s-openapi"] {
        assert!(bill.contains(&(name.to_owned(), listed[name].to_owned())), "{name}");
    }
}

#[test]
fn no_document_or_binary_names_the_folder_it_was_built_in() {
    let Some(image) = Image::built() else { return };
    let folder = workspace().canonicalize().unwrap();
    let folder = folder.to_str().unwrap().as_bytes();
    let home = std::env::var("HOME").unwrap();
    let registry = format!("{home}/.cargo/registry");
    for file in [image.binary(), image.tar.with_extension("cdx.json"), image.tar.with_extension("spdx.json")]
    {
        let bytes = fs::read(&file).unwrap();
        for path in [folder, registry.as_bytes()] {
            assert!(
                !bytes.windows(path.len()).any(|window| window == path),
                "{} has {}",
                file.display(),
                String::from_utf8_lossy(path)
            );
        }
    }
}

#[test]
fn both_bills_of_materials_name_the_same() {
    let Some(image) = Image::built() else { return };
    let document: Value =
        serde_json::from_slice(&fs::read(image.tar.with_extension("spdx.json")).unwrap()).unwrap();
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    let packages = document["packages"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages: Vec<_> =
        packages.iter().map(|one| (text(&one["name"]), text(&one["versionInfo"]))).collect();
    let mut components = components(&image.tar);
    components.insert(0, ("pod-reloader".to_owned(), VERSION.to_owned()));
    assert_eq!(packages, components);
    // They describe this binary and no other.
    assert_eq!(document["packages"][0]["checksums"][0]["checksumValue"], sha256(&image.binary()));
}
