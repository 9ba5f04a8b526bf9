//! The image that the last stage of a Dockerfile describes, so that what is in the operator's image is said once.
//!
//! That stage may copy files with a mode, and say labels, ports, user and entrypoint; anything else is an error.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};

use super::{File, Image};

/// What a Dockerfile does not say.
#[derive(Debug)]
pub struct Build {
    /// The image's complete name: `registry.example.com/team/web:1`.
    pub name: String,
    /// What Docker calls it: `web:1`.
    pub tag: String,
    /// As images call it: `amd64`.
    pub architecture: String,
    /// Where the files lie that are not built.
    pub root: PathBuf,
    /// The files of earlier stages, by their paths there.
    pub built: BTreeMap<String, PathBuf>,
    /// Arguments. One that is empty leaves out the labels that have nothing else to say.
    pub arguments: BTreeMap<String, String>,
    /// Labels beside the Dockerfile's; empty ones are left out.
    pub labels: BTreeMap<String, String>,
    /// The date of everything, in seconds since 1970.
    pub epoch: u64,
    /// The same for people.
    pub created: String,
}

impl Build {
    /// Reads the last stage.
    ///
    /// # Errors
    /// If something is there that means nothing here.
    pub fn read(&self, dockerfile: &str) -> anyhow::Result<Image> {
        let mut image = Image {
            is_compressed: true,
            epoch: self.epoch,
            created: Some(self.created.clone()),
            ..Image::empty(&self.name, &self.tag, &self.architecture)
        };
        for line in last_stage(dockerfile) {
            self.add(&mut image, &line).with_context(|| format!("Dockerfile: {line}"))?;
        }
        image.labels.extend(self.labels.clone());
        image.labels.retain(|_, value| !value.is_empty());
        Ok(image)
    }

    fn add(&self, image: &mut Image, line: &str) -> anyhow::Result<()> {
        let (instruction, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        match instruction {
            "FROM" => ensure!(rest == "scratch", "the last stage has to start from scratch"),
            "ARG" => self.check(rest)?,
            "COPY" => image.files.push(self.file(rest)?),
            "LABEL" => image.labels.extend(self.read_labels(rest)?),
            "EXPOSE" => image.ports = rest.split_whitespace().map(ToOwned::to_owned).collect(),
            "USER" => rest.clone_into(&mut image.user),
            "ENTRYPOINT" => {
                image.entrypoint = serde_json::from_str(rest).context("it has to be a list in JSON")?;
            }
            _ => bail!("it means nothing here"),
        }
        Ok(())
    }

    /// A default has to be what is built.
    fn check(&self, argument: &str) -> anyhow::Result<()> {
        if let Some((name, default)) = argument.split_once('=')
            && let Some(value) = self.arguments.get(name)
        {
            ensure!(value == default, "but {name} is {value}");
        }
        Ok(())
    }

    /// `[--from=build] --chmod=MODE SOURCE PATH`
    fn file(&self, rest: &str) -> anyhow::Result<File> {
        let (is_built, rest) = match rest.strip_prefix("--from=build ") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let words: Vec<_> = rest.split_whitespace().collect();
        let [mode, source, path] = words[..] else { bail!("it cannot be read") };
        let mode = mode.strip_prefix("--chmod=").context("it needs a mode")?;
        let mode = u32::from_str_radix(mode, 8).context("the mode is not a number")?;
        ensure!(path.starts_with('/') && !path.ends_with('/'), "it has to name the file that is made");
        let source = if is_built {
            self.built.get(source).with_context(|| format!("nothing is known of {source}"))?.clone()
        } else {
            ensure!(!source.starts_with('-'), "it cannot be read");
            self.root.join(source)
        };
        Ok(File { source, path: path.to_owned(), mode })
    }

    /// `key="value" key="value"`
    fn read_labels(&self, rest: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let (mut labels, mut rest) = (BTreeMap::new(), rest);
        while !rest.is_empty() {
            let (key, after) = rest.split_once("=\"").context("it cannot be read")?;
            let (value, after) = after.split_once('"').context("a quotation mark is missing")?;
            let mut value = value.to_owned();
            for (name, argument) in &self.arguments {
                value = value.replace(&format!("${{{name}}}"), argument);
            }
            ensure!(!value.contains("${"), "an argument is missing");
            labels.insert(key.to_owned(), value);
            rest = after.trim_start();
        }
        Ok(labels)
    }
}

/// One instruction a line, without comments.
fn last_stage(dockerfile: &str) -> Vec<String> {
    let (mut stage, mut line) = (Vec::<String>::new(), String::new());
    for part in dockerfile.lines().map(str::trim).filter(|part| !part.starts_with('#')) {
        if let Some(part) = part.strip_suffix('\\') {
            line += part;
            continue;
        }
        line += part;
        if line.starts_with("FROM ") {
            stage.clear();
        }
        if !line.is_empty() {
            stage.push(std::mem::take(&mut line));
        }
    }
    stage
}

/// The Dockerfile at the top of the repository.
pub fn text(root: &Path) -> anyhow::Result<String> {
    let path = root.join("Dockerfile");
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build() -> Build {
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        Build {
            name: "docker.io/library/web:1".to_owned(),
            tag: "web:1".to_owned(),
            architecture: "arm64".to_owned(),
            root: "/source".into(),
            built: BTreeMap::from([("/web".to_owned(), PathBuf::from("/elsewhere/web"))]),
            arguments: BTreeMap::from([("VERSION", "1"), ("REVISION", "")])
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            labels: one("source", "https://git.example.com"),
            epoch: 1,
            created: "1970-01-01T00:00:01Z".to_owned(),
        }
    }

    const DOCKERFILE: &str = r#"
FROM rust AS build
RUN make
FROM scratch
# A comment.
ARG VERSION=1
COPY --from=build --chmod=755 /web /bin/web
COPY --chmod=644 LICENSE /LICENSE
LABEL title="a web" \
      version="v${VERSION}" \
      revision="${REVISION}"
EXPOSE 80 443
USER 1:1
ENTRYPOINT ["/bin/web"]
"#;

    #[test]
    fn the_last_stage_is_read() {
        let image = build().read(DOCKERFILE).unwrap();
        let files: Vec<_> =
            image.files.iter().map(|file| (file.source.to_str().unwrap(), &*file.path, file.mode)).collect();
        assert_eq!(files, [("/elsewhere/web", "/bin/web", 0o755), ("/source/LICENSE", "/LICENSE", 0o644)]);
        let labels: Vec<_> = image.labels.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(labels, [("source", "https://git.example.com"), ("title", "a web"), ("version", "v1")]);
        assert_eq!(
            (image.ports, image.user, image.entrypoint),
            (vec!["80".into(), "443".into()], "1:1".into(), vec!["/bin/web".into()])
        );
    }

    #[test]
    fn what_means_nothing_is_an_error() {
        for (good, bad, said) in [
            ("FROM scratch", "FROM debian:12", "from scratch"),
            ("ARG VERSION=1", "ARG VERSION=2", "VERSION is 1"),
            ("--chmod=644 LICENSE", "LICENSE", "it cannot be read"),
            ("/web /bin/web", "/other /bin/web", "nothing is known of /other"),
            ("USER 1:1", "WORKDIR /", "it means nothing here"),
            ("${REVISION}", "${OTHER}", "an argument is missing"),
        ] {
            let error = build().read(&DOCKERFILE.replace(good, bad)).unwrap_err();
            assert!(format!("{error:#}").contains(said), "{error:#}");
        }
    }
}
