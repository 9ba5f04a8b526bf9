//! Running the pinned tools, and reading what they print.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pod_reloader_e2e::paths;
use serde_json::Value;

/// Values to render with, and the name of the release.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub release: &'static str,
    /// A file in `values`; none for the defaults.
    pub values: Option<&'static str>,
}

/// What every check of rendered objects runs with.
pub const CASES: [Case; 8] = [
    Case { release: "pod-reloader", values: None },
    Case { release: "reloader", values: Some("saps") },
    Case { release: "reloader", values: Some("everything") },
    Case { release: "reloader", values: Some("own-certificate") },
    Case { release: "reloader", values: Some("one-namespace") },
    Case { release: "reloader", values: Some("namespaced") },
    Case { release: "reloader", values: Some("hardened") },
    // As long as Helm lets it be.
    Case { release: "a2345678901234567890123456789012345678901234567890123", values: Some("everything") },
];

pub const NAMESPACE: &str = "ops";

impl Case {
    /// Whether there is a webhook, and what goes with it.
    pub fn has_webhook(self) -> bool {
        self.values != Some("namespaced")
    }

    pub fn args(self) -> Vec<String> {
        let file = |name| root().join("tests/tests/chart/values").join(format!("{name}.yaml"));
        self.values.map_or_else(Vec::new, |name| vec!["--values".into(), file(name).display().to_string()])
    }
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

pub fn chart() -> PathBuf {
    root().join("charts/pod-reloader")
}

/// Both majors of Helm that are supported.
pub const HELMS: [&str; 2] = ["helm", "helm3"];

/// Runs it with nothing of the person's who runs the tests.
pub fn run(tool_name: &str, args: &[String]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(paths::tool(tool_name).unwrap())
        .args(args)
        .env_remove("KUBECONFIG")
        .env("HOME", home.path())
        .env("HELM_CACHE_HOME", home.path())
        .env("HELM_CONFIG_HOME", home.path())
        .env("HELM_DATA_HOME", home.path())
        .output()
        .unwrap()
}

/// What it printed, or what it complained of.
pub fn outcome(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stdout) + &text(&output.stderr))
    }
}

pub fn template(helm: &str, release: &str, args: &[String]) -> Result<String, String> {
    let mut all: Vec<String> =
        ["template", release, "--namespace", NAMESPACE].into_iter().map(Into::into).collect();
    all.push(chart().display().to_string());
    all.extend_from_slice(args);
    outcome(&run(helm, &all))
}

/// The objects of a case, as the newest Helm renders them.
pub fn render(case: Case) -> Vec<Value> {
    let text = template("helm", case.release, &case.args()).unwrap();
    parse(&text).unwrap_or_else(|error| panic!("{case:?}: {error}"))
}

/// The parser refuses a key that is there twice, which Helm lets pass.
pub fn parse(yaml: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).map_err(|error| error.to_string())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

#[test]
fn a_key_that_is_there_twice_is_noticed() {
    assert!(parse("a: 1\nb: 2\na: 3\n").is_err());
    assert_eq!(parse("---\na: 1\n---\n# nothing\n---\nb: 2\n").unwrap().len(), 2);
}
