//! Container images made of a few files, without a registry or a Docker engine.

use std::{
    fmt::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::preconditions::{BUSYBOX, find};

const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// An image, to be written as an archive that is both OCI's and Docker's.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    files: Vec<(PathBuf, String)>,
    links: Vec<(String, String)>,
    layers: Vec<PathBuf>,
    user: String,
    stop_signal: Option<String>,
    entrypoint: Vec<String>,
}

impl Image {
    /// An image with no files but an empty `/tmp` for everybody. `name` has to be complete: `localhost/web:1`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            files: Vec::new(),
            links: Vec::new(),
            layers: Vec::new(),
            user: String::new(),
            stop_signal: None,
            entrypoint: Vec::new(),
        }
    }

    /// Debian's static busybox under all its names, so with a shell, `httpd`, `wget` and so on. It starts `sh`.
    ///
    /// # Errors
    /// If busybox does not run.
    pub fn busybox(name: impl Into<String>) -> anyhow::Result<Self> {
        let output = Command::new(BUSYBOX).arg("--list").output().context("busybox cannot be started")?;
        ensure!(output.status.success(), "busybox does not say what it can do");
        let mut image = Self::new(name).file(Path::new(BUSYBOX), "bin/busybox").entrypoint(["/bin/sh"]);
        for applet in String::from_utf8_lossy(&output.stdout).lines().filter(|name| *name != "busybox") {
            image = image.link(format!("bin/{applet}"), "busybox");
        }
        Ok(image)
    }

    /// Puts the file `source` at `path`; it can be executed. There is nothing else to link to: programs must be static.
    #[must_use]
    pub fn file(mut self, source: &Path, path: impl Into<String>) -> Self {
        self.files.push((source.to_owned(), path.into()));
        self
    }

    /// Puts a symbolic link to `target` at `path`.
    #[must_use]
    pub fn link(mut self, path: impl Into<String>, target: impl Into<String>) -> Self {
        self.links.push((path.into(), target.into()));
        self
    }

    /// Puts what is in the tar archive `layer` below the files.
    #[must_use]
    pub fn layer(mut self, layer: PathBuf) -> Self {
        self.layers.push(layer);
        self
    }

    /// Who runs it: numbers of a user and a group, as in `999:999`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }

    /// The signal that asks a container to end, where it is not `SIGTERM`.
    #[must_use]
    pub fn stop_signal(mut self, signal: impl Into<String>) -> Self {
        self.stop_signal = Some(signal.into());
        self
    }

    /// What a container starts.
    #[must_use]
    pub fn entrypoint<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.entrypoint = args.into_iter().map(Into::into).collect();
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes it to the tar file `archive`, for [`crate::RealCluster::import_image`].
    pub fn write(&self, archive: &Path) -> anyhow::Result<()> {
        let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
        let layer = scratch.path().join("layer.tar");
        self.write_layer(&scratch.path().join("root"), &layer)?;
        let layout = Layout { root: scratch.path().join("layout") };
        std::fs::create_dir_all(layout.blobs()).context("cannot make a folder")?;

        let mut layers = Vec::new();
        for layer in self.layers.iter().chain([&layer]) {
            layers.push(layout.put_layer(layer)?);
        }
        let mut run = json!({ "Entrypoint": self.entrypoint, "Env": ["PATH=/bin"], "User": self.user });
        if let Some(signal) = &self.stop_signal {
            run["StopSignal"] = json!(signal);
        }
        let config = layout.put_json(
            "application/vnd.oci.image.config.v1+json",
            &json!({
                "architecture": ARCHITECTURE,
                "os": "linux",
                "config": run,
                // The layers are not compressed: their digests are the same inside and outside.
                "rootfs": {
                    "type": "layers",
                    "diff_ids": layers.iter().map(|layer| &layer["digest"]).collect::<Vec<_>>(),
                },
            }),
        )?;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers });
        let mut manifest = layout.put_json(kind, &manifest)?;
        manifest["annotations"] = json!({ "io.containerd.image.name": self.name });
        manifest["platform"] = json!({ "architecture": ARCHITECTURE, "os": "linux" });
        layout.put_file("index.json", &json!({ "schemaVersion": 2, "manifests": [manifest] }))?;
        layout.put_file("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
        // The same once more for those who know Docker's archives only.
        let path = |descriptor: &Value| {
            descriptor["digest"].as_str().unwrap_or_default().replace("sha256:", "blobs/sha256/")
        };
        layout.put_file(
            "manifest.json",
            &json!([{
                "Config": path(&config),
                "RepoTags": [self.name],
                "Layers": layers.iter().map(path).collect::<Vec<_>>(),
            }]),
        )?;
        tar(&layout.root, archive)
    }

    fn write_layer(&self, root: &Path, layer: &Path) -> anyhow::Result<()> {
        let place = |path: &str| {
            let path = root.join(path.trim_start_matches('/'));
            let folder = path.parent().unwrap_or(root).to_owned();
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
            anyhow::Ok(path)
        };
        let mode = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
                .with_context(|| format!("cannot set the mode of {}", path.display()))
        };
        let tmp = place("tmp")?;
        std::fs::create_dir(&tmp).context("cannot make /tmp")?;
        mode(&tmp, 0o1777)?;
        for (source, path) in &self.files {
            let path = place(path)?;
            std::fs::copy(source, &path).with_context(|| format!("cannot copy {}", source.display()))?;
            mode(&path, 0o755)?;
        }
        for (path, target) in &self.links {
            symlink(target, place(path)?).with_context(|| format!("cannot link {path}"))?;
        }
        tar(root, layer)
    }
}

/// The folder that becomes the archive.
struct Layout {
    root: PathBuf,
}

impl Layout {
    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn put_layer(&self, layer: &Path) -> anyhow::Result<Value> {
        let content = std::fs::read(layer).with_context(|| format!("cannot read {}", layer.display()))?;
        self.put("application/vnd.oci.image.layer.v1.tar", &content)
    }

    /// Stores a blob, and describes it.
    fn put(&self, kind: &str, content: &[u8]) -> anyhow::Result<Value> {
        let mut digest = String::new();
        for byte in Sha256::digest(content) {
            write!(digest, "{byte:02x}").context("cannot write a digest")?;
        }
        std::fs::write(self.blobs().join(&digest), content).context("cannot write a blob")?;
        Ok(json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": content.len() }))
    }

    fn put_json(&self, kind: &str, content: &Value) -> anyhow::Result<Value> {
        self.put(kind, content.to_string().as_bytes())
    }

    fn put_file(&self, name: &str, content: &Value) -> anyhow::Result<()> {
        std::fs::write(self.root.join(name), content.to_string())
            .with_context(|| format!("cannot write {name}"))
    }
}

/// Everything in `folder`, the same bytes each time, owned by root.
fn tar(folder: &Path, archive: &Path) -> anyhow::Result<()> {
    let output = Command::new(find("tar")?)
        .args(["--create", "--format=ustar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0"])
        .args(["--numeric-owner", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(folder)
        .arg(".")
        .output()
        .context("tar cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tar cannot pack {}: {}", folder.display(), said.trim());
    Ok(())
}
