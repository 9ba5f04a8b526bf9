//! Running the pinned tools, and reading what they print.

use pod_reloader_core::kind::JOBS;
use pod_reloader_e2e::objects::{KindRef, Kinds, PRESETS};
use pod_reloader_e2e::{Helm, chart, paths};
use serde_json::Value;

/// Values to render with, and the name of the release.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub release: &'static str,
    /// A file in `values`; none for the defaults.
    pub values: Option<&'static str>,
}

/// What every check of rendered objects runs with.
pub const CASES: [Case; 9] = [
    Case { release: "pod-reloader", values: None },
    Case { release: "reloader", values: Some("saps") },
    Case { release: "reloader", values: Some("everything") },
    Case { release: "reloader", values: Some("own-certificate") },
    Case { release: "reloader", values: Some("one-namespace") },
    Case { release: "reloader", values: Some("namespaced") },
    Case { release: "reloader", values: Some("hardened") },
    Case { release: "reloader", values: Some("workloads") },
    // As long as Helm lets it be.
    Case { release: "a2345678901234567890123456789012345678901234567890123", values: Some("everything") },
];

pub const NAMESPACE: &str = "ops";

impl Case {
    /// Whether there is a webhook, and what goes with it.
    pub fn has_webhook(self) -> bool {
        self.values != Some("namespaced")
    }

    /// Whether `CronJob`s and Jobs are looked at.
    pub fn has_jobs(self) -> bool {
        self.values != Some("hardened")
    }

    /// The kinds that are not rolled out, as far as it is for them.
    pub fn jobs(self) -> Vec<KindRef> {
        if self.has_jobs() { JOBS.to_vec() } else { vec![] }
    }

    /// The kinds of workload that are rolled out, and that it is for.
    pub fn kinds(self) -> Vec<KindRef> {
        let own = [
            "example.com/v1/servers:Server=spec.pods.template",
            "example.com/v1/databases:Database=annotations:spec.podAnnotations",
            "example.com/v2beta1/gadgets:Gadget=annotations:podAnnotations",
        ];
        let wanted = PRESETS.iter().map(|preset| preset.name).chain(own).map(|text| text.parse().unwrap());
        let wanted: Vec<_> = wanted.filter(|_| self.values == Some("workloads")).collect();
        Kinds::with(&wanted).unwrap().iter().collect()
    }

    pub fn args(self) -> Vec<String> {
        let file = |name| paths::root().join("tests/tests/chart/values").join(format!("{name}.yaml"));
        self.values.map_or_else(Vec::new, |name| vec!["--values".into(), file(name).display().to_string()])
    }
}

/// Both majors of Helm that are supported.
pub const HELMS: [&str; 2] = ["helm", "helm3"];

/// What a future of the kit gives, or what is wrong.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future).map_err(|error| format!("{error:#}"))
}

/// What the tool printed, or what it complained of.
pub fn run(tool: &str, args: &[String]) -> Result<String, String> {
    let helm = Helm::offline(tool).unwrap();
    block_on(helm.run(args))
}

pub fn template(helm: &str, release: &str, args: &[String]) -> Result<String, String> {
    let helm = Helm::offline(helm).unwrap();
    block_on(helm.template(release, chart::folder(), NAMESPACE, args))
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
