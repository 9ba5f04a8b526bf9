//! A folder in OCI's image layout, which is an archive of `docker save` as well.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::paths::find;

pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> anyhow::Result<Self> {
        for folder in [root.to_owned(), root.join("blobs"), root.join("blobs/sha256")] {
            super::make_folder(&folder)?;
        }
        let layout = Self { root: root.to_owned() };
        layout.put_file("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
        Ok(layout)
    }

    /// Stores a layer. Gives its descriptor, and the digest of what is in it.
    pub(super) fn put_layer(&self, layer: &Path, compress: bool) -> anyhow::Result<(Value, String)> {
        let content = std::fs::read(layer).with_context(|| format!("cannot read {}", layer.display()))?;
        let digest = digest(&content)?;
        let kind = "application/vnd.oci.image.layer.v1.tar";
        let descriptor = if compress {
            self.put(&format!("{kind}+gzip"), &gzip(layer)?)?
        } else {
            self.put(kind, &content)?
        };
        Ok((descriptor, digest))
    }

    pub(super) fn put_json(&self, kind: &str, content: &Value) -> anyhow::Result<Value> {
        self.put(kind, content.to_string().as_bytes())
    }

    pub(super) fn put_index(&self, manifests: &[Value]) -> anyhow::Result<()> {
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests });
        self.put_file("index.json", &index)
    }

    /// The same once more for those who know Docker's archives only.
    pub(super) fn put_docker_manifest(
        &self,
        tag: &str,
        config: &Value,
        layers: &[Value],
    ) -> anyhow::Result<()> {
        let path = |descriptor: &Value| {
            descriptor["digest"].as_str().unwrap_or_default().replace("sha256:", "blobs/sha256/")
        };
        let layers: Vec<_> = layers.iter().map(path).collect();
        let manifest = json!([{ "Config": path(config), "RepoTags": [tag], "Layers": layers }]);
        self.put_file("manifest.json", &manifest)
    }

    /// Stores a blob, and describes it.
    fn put(&self, kind: &str, content: &[u8]) -> anyhow::Result<Value> {
        let digest = digest(content)?;
        self.write(&digest.replace("sha256:", "blobs/sha256/"), content)?;
        Ok(json!({ "mediaType": kind, "digest": digest, "size": content.len() }))
    }

    fn put_file(&self, name: &str, content: &Value) -> anyhow::Result<()> {
        self.write(name, content.to_string().as_bytes())
    }

    /// With the same mode whatever the umask is: the archive has it.
    fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.root.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        super::set_mode(&path, 0o644)
    }
}

/// As descriptors have it: `sha256:...`.
fn digest(content: &[u8]) -> anyhow::Result<String> {
    let mut digest = "sha256:".to_owned();
    for byte in Sha256::digest(content) {
        write!(digest, "{byte:02x}").context("cannot write a digest")?;
    }
    Ok(digest)
}

fn gzip(file: &Path) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(find("gzip")?)
        .args(["-9", "--no-name", "--stdout"])
        .arg(file)
        .output()
        .context("gzip cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "gzip cannot pack {}: {}", file.display(), said.trim());
    Ok(output.stdout)
}
