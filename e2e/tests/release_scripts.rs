//! The scripts behind `make build`, `make publish` and `make advisories`: what they refuse, and what they say then.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy knows #[test] functions only, not what they share"
)]

mod support;

use std::{fs, process::Command};

use support::{fails, output, run, workspace};
use tempfile::TempDir;

fn script(name: &str) -> Command {
    Command::new(workspace().join("e2e/image").join(name))
}

#[test]
fn an_architecture_that_cannot_be_built_is_named_with_what_is_missing() {
    let text = fails(script("binary.sh").args(["--check", "riscv64"]));
    assert!(text.contains("there is no build for the architecture 'riscv64'"), "{text}");

    // A toolchain that has no standard library for anything.
    let directory = TempDir::new().unwrap();
    let rustc = directory.path().join("rustc");
    fs::write(&rustc, "#!/bin/sh\necho /nonexistent\n").unwrap();
    run(Command::new("chmod").arg("+x").arg(&rustc));
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let text = fails(script("binary.sh").args(["--check", "arm64"]).env("PATH", &path));
    assert!(text.contains("rustup target add aarch64-unknown-linux-gnu"), "{text}");
    let text = fails(script("build.sh").env("ARCHITECTURES", "arm64").env("PATH", &path));
    assert!(text.contains("the image for arm64 cannot be built here"), "{text}");
    let text = fails(script("build.sh").env("ARCHITECTURES", "all").env("PATH", path));
    assert!(text.contains("no image can be built here"), "{text}");
}

#[test]
fn an_image_to_build_in_without_a_digest_is_refused() {
    let directory = TempDir::new().unwrap();
    let scripts = directory.path().join("e2e/image");
    fs::create_dir_all(&scripts).unwrap();
    for file in ["base.sh", "common.sh"] {
        fs::copy(workspace().join("e2e/image").join(file), scripts.join(file)).unwrap();
    }
    let dockerfile = fs::read_to_string(workspace().join("Dockerfile")).unwrap();
    let check = |text: &str| {
        fs::write(directory.path().join("Dockerfile"), text).unwrap();
        output(Command::new(scripts.join("base.sh")).arg("--check"))
    };
    assert_eq!(check(&dockerfile), (true, String::new()));

    let at = dockerfile.find("@sha256:").unwrap();
    let loose = dockerfile[..at].to_owned() + &dockerfile[at + "@sha256:".len() + 64..];
    let (succeeded, text) = check(&loose);
    assert!(!succeeded && text.contains("run make pin-base"), "{text}");
    let (succeeded, text) = check(&dockerfile.replace("FROM scratch", "FROM debian:12"));
    assert!(!succeeded && text.contains("takes debian:12 without a digest"), "{text}");
}

/// An advisory as the advisory database has them.
const ADVISORY: &str = r#"```toml
[advisory]
id = "RUSTSEC-2025-9999"
package = "tokio"
date = "2025-01-01"
url = "https://example.com/advisory"
categories = ["denial-of-service"]

[versions]
patched = []
```

# An advisory that does not exist

It is made up for a test.
"#;

#[test]
fn an_advisory_blocks_what_is_published_and_is_a_warning_elsewhere() {
    if !Command::new("cargo-deny").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: cargo-deny is missing (make deny)");
        return;
    }
    let directory = TempDir::new().unwrap();
    let clone = directory.path().join("clone");
    let copy = directory.path().join("copy");
    fs::create_dir_all(clone.join("crates/tokio")).unwrap();
    fs::create_dir(&copy).unwrap();
    let git = |args: &[&str]| run(Command::new("git").arg("-C").arg(&clone).args(args));
    let commit = || {
        git(&["add", "--all"]);
        git(&["-c", "user.name=test", "-c", "user.email=", "commit", "--quiet", "--message", "test"]);
    };
    let advisories = workspace().join("e2e/advisories");
    let check = |on: &str| {
        run(Command::new(advisories.join("update.sh")).arg(&clone).arg(&copy));
        let mut check = Command::new(advisories.join("check.sh"));
        output(check.env("ADVISORY_COPY", &copy).env("ADVISORIES", on))
    };

    git(&["init", "--quiet"]);
    fs::write(clone.join("LICENSE.txt"), "").unwrap();
    fs::write(clone.join("crates/tokio/RUSTSEC-2025-9999.md"), ADVISORY).unwrap();
    commit();
    let (succeeded, text) = check("");
    assert!(!succeeded && text.contains("RUSTSEC-2025-9999"), "{text}");
    assert!(text.contains("security advisories as of 20"), "{text}");
    let (succeeded, text) = check("warn");
    assert!(succeeded && text.contains("RUSTSEC-2025-9999"), "{text}");

    fs::write(clone.join("crates/tokio/RUSTSEC-2025-9999.md"), ADVISORY.replace("[]", r#"[">=0.0.1"]"#))
        .unwrap();
    commit();
    let (succeeded, text) = check("");
    assert!(succeeded && !text.contains("RUSTSEC-2025-9999"), "{text}");
}

#[test]
fn archives_to_download_have_manifests_that_name_their_digests() {
    let directory = TempDir::new().unwrap();
    let root = directory.path();
    let scripts = root.join("e2e/image");
    fs::create_dir_all(&scripts).unwrap();
    for file in ["archives.sh", "common.sh"] {
        fs::copy(workspace().join("e2e/image").join(file), scripts.join(file)).unwrap();
    }
    for file in ["LICENSE", "Cargo.toml"] {
        fs::copy(workspace().join(file), root.join(file)).unwrap();
    }
    // What is packed is not what this is about.
    fs::write(scripts.join("notices.sh"), "#!/bin/sh\necho notices for $1\n").unwrap();
    run(Command::new("chmod").arg("+x").arg(scripts.join("notices.sh")));
    fs::create_dir_all(root.join("target/image")).unwrap();
    for cpu in ["x86_64", "aarch64"] {
        let release = root.join(format!("target/{cpu}-unknown-linux-gnu/release"));
        fs::create_dir_all(&release).unwrap();
        fs::write(release.join("pod-reloader"), format!("a binary for {cpu}")).unwrap();
    }
    let pack = |downloads: &str| {
        let mut pack = Command::new(scripts.join("archives.sh"));
        pack.env_remove("CARGO_TARGET_DIR").env_remove("HOMEPAGE");
        output(pack.env("SOURCE_DATE_EPOCH", "1700000000").env("DOWNLOADS", downloads))
    };
    let at = "https://git.example.com/team/pod-reloader/releases/download/v1";
    assert!(pack(at).1.contains("nothing was built yet: make image"));
    fs::write(root.join("target/image/architectures"), "amd64\narm64\n").unwrap();
    assert!(pack("").1.contains("where will the archives be?"));
    assert!(pack("ftp://x").1.contains("must be an address"));
    let (succeeded, text) = pack(at);
    assert!(succeeded, "{text}");

    let archives = root.join("target/archives");
    run(Command::new("sha256sum").args(["--check", "checksums.txt"]).current_dir(&archives));
    let checksums = fs::read_to_string(archives.join("checksums.txt")).unwrap();
    let krew = fs::read_to_string(archives.join("krew/pod-reloader.yaml")).unwrap();
    let homebrew = fs::read_to_string(archives.join("homebrew/pod-reloader.rb")).unwrap();
    assert_eq!(checksums.lines().count(), 2);
    for line in checksums.lines() {
        let (digest, name) = line.split_once("  ").unwrap();
        for manifest in [&krew, &homebrew] {
            assert!(manifest.contains(digest) && manifest.contains(&format!("{at}/{name}")), "{manifest}");
        }
        let mut list = Command::new("tar");
        let (_, files) = output(list.args(["--list", "--gzip", "--file", name]).current_dir(&archives));
        assert_eq!(files, "LICENSE\nTHIRD-PARTY.txt\npod-reloader\n");
    }
    assert!(krew.contains("homepage: https://git.example.com/team/pod-reloader\n"), "{krew}");
    // The same once more, byte for byte.
    assert!(pack(at).0);
    assert_eq!(fs::read_to_string(archives.join("checksums.txt")).unwrap(), checksums);
}
