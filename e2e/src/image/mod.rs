//! Container images made of a few files, without a registry or a container engine: those of the examples' applications,
//! of the tests, and, as the Dockerfile describes it ([`dockerfile`]), the operator's own.

pub mod dockerfile;
mod layout;

use std::{
    collections::BTreeMap,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use self::layout::Layout;
use crate::paths::find;

/// Debian's, which is static.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// An image, to be written as an archive that is both OCI's and Docker's. The same files give the same bytes.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    /// What Docker calls it.
    tag: String,
    architecture: String,
    files: Vec<File>,
    links: Vec<(String, String)>,
    layers: Vec<PathBuf>,
    has_tmp: bool,
    is_compressed: bool,
    /// The date of all files, in seconds since 1970.
    epoch: u64,
    /// The same for people.
    created: Option<String>,
    user: String,
    stop_signal: Option<String>,
    entrypoint: Vec<String>,
    env: Vec<String>,
    ports: Vec<String>,
    labels: BTreeMap<String, String>,
}

/// A file to put in.
#[derive(Debug, Clone)]
struct File {
    source: PathBuf,
    path: String,
    mode: u32,
}

impl Image {
    /// An image with no files but an empty `/tmp` that all users can write. `name` has to be complete:
    /// `localhost/web:1`.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let env = vec!["PATH=/bin".to_owned()];
        Self { has_tmp: true, env, ..Self::empty(&name, &name, architecture) }
    }

    /// An image with nothing at all.
    fn empty(name: &str, tag: &str, architecture: &str) -> Self {
        Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
            architecture: architecture.to_owned(),
            files: Vec::new(),
            links: Vec::new(),
            layers: Vec::new(),
            has_tmp: false,
            is_compressed: false,
            epoch: 0,
            created: None,
            user: String::new(),
            stop_signal: None,
            entrypoint: Vec::new(),
            env: Vec::new(),
            ports: Vec::new(),
            labels: BTreeMap::new(),
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
        self.files.push(File { source: source.to_owned(), path: path.into(), mode: 0o755 });
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
        let layout = scratch.path().join("layout");
        self.write_layout(&layout, scratch.path())?;
        pack(&layout, archive, self.epoch)
    }

    /// Writes it to the folder `output`, in OCI's image layout, and to the archive `output`.tar. Gives its digest.
    pub fn write_both(&self, output: &Path) -> anyhow::Result<String> {
        let parent = output.parent().context("a folder has a name")?;
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        // Beside the results, so that they can be moved into place when all is there.
        let scratch = tempfile::tempdir_in(parent).context("cannot make a temporary folder")?;
        let layout = scratch.path().join("layout");
        let digest = self.write_layout(&layout, scratch.path())?;
        let archive = scratch.path().join("archive.tar");
        pack(&layout, &archive, self.epoch)?;
        if output.exists() {
            std::fs::remove_dir_all(output).with_context(|| format!("cannot remove {}", output.display()))?;
        }
        let mut name = output.as_os_str().to_owned();
        name.push(".tar");
        std::fs::rename(&layout, output).context("cannot move the image to its place")?;
        std::fs::rename(&archive, name).context("cannot move the archive to its place")?;
        Ok(digest)
    }

    /// Gives the digest of its manifest.
    fn write_layout(&self, folder: &Path, scratch: &Path) -> anyhow::Result<String> {
        let layer = scratch.join("layer.tar");
        self.write_layer(&scratch.join("root"), &layer)?;
        let layout = Layout::new(folder)?;
        let (mut layers, mut contents) = (Vec::new(), Vec::new());
        for layer in self.layers.iter().chain([&layer]) {
            let (descriptor, content) = layout.put_layer(layer, self.is_compressed)?;
            layers.push(descriptor);
            contents.push(content);
        }
        let config =
            layout.put_json("application/vnd.oci.image.config.v1+json", &self.configuration(&contents))?;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let mut manifest =
            json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers });
        if !self.labels.is_empty() {
            manifest["annotations"] = json!(self.labels);
        }
        let mut manifest = layout.put_json(kind, &manifest)?;
        manifest["annotations"] = json!({ "io.containerd.image.name": self.name });
        if let Some((_, version)) = self.tag.rsplit_once(':') {
            manifest["annotations"]["org.opencontainers.image.ref.name"] = json!(version);
        }
        manifest["platform"] = json!({ "architecture": self.architecture, "os": "linux" });
        layout.put_docker_manifest(&self.tag, &config, &layers)?;
        let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
        layout.put_index(&[manifest])?;
        Ok(digest)
    }

    fn configuration(&self, layers: &[String]) -> Value {
        let ports: BTreeMap<_, _> =
            self.ports.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect();
        let mut run = json!({ "Entrypoint": self.entrypoint, "User": self.user, "WorkingDir": "/" });
        let optional = [
            ("Env", !self.env.is_empty(), json!(self.env)),
            ("ExposedPorts", !ports.is_empty(), json!(ports)),
            ("Labels", !self.labels.is_empty(), json!(self.labels)),
            ("StopSignal", self.stop_signal.is_some(), json!(self.stop_signal)),
        ];
        for (key, _, value) in optional.into_iter().filter(|(_, is_set, _)| *is_set) {
            run[key] = value;
        }
        let mut configuration = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": run,
            "rootfs": { "type": "layers", "diff_ids": layers },
        });
        if let Some(created) = &self.created {
            configuration["created"] = json!(created);
            configuration["history"] = json!([{ "created": created, "created_by": "Dockerfile" }]);
        }
        configuration
    }

    fn write_layer(&self, root: &Path, layer: &Path) -> anyhow::Result<()> {
        make_folder(root)?;
        if self.has_tmp {
            make_folder(&root.join("tmp"))?;
            set_mode(&root.join("tmp"), 0o1777)?;
        }
        for File { source, path, mode } in &self.files {
            let path = place(root, path)?;
            std::fs::copy(source, &path).with_context(|| format!("cannot copy {}", source.display()))?;
            set_mode(&path, *mode)?;
        }
        for (path, target) in &self.links {
            symlink(target, place(root, path)?).with_context(|| format!("cannot link {path}"))?;
        }
        pack(root, layer, self.epoch)
    }
}

/// Where `path` lies below `root`, whose folders are made.
fn place(root: &Path, path: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    let mut folder = root.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        make_folder(&folder)?;
    }
    Ok(root.join(path))
}

/// Makes a folder with the same mode whatever the umask is.
fn make_folder(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    std::fs::create_dir(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    set_mode(folder, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

/// Everything in `folder`, the same bytes each time, owned by root.
fn pack(folder: &Path, archive: &Path, epoch: u64) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let output = Command::new(find("tar")?)
        .args(["--create", "--format=ustar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .arg(format!("--mtime=@{epoch}"))
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(folder)
        .arg("--")
        .args(names)
        .output()
        .context("tar cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tar cannot pack {}: {}", folder.display(), said.trim());
    Ok(())
}
