//! What the tests have in common: the applications, and how they were before something was done.

use std::{fmt::Debug, time::Duration};

use anyhow::{Context as _, ensure};
use pod_reloader_e2e::{
    Scenario, SeenPod, Testbed, eventually,
    testbed::{ROLLOUT_TIMEOUT, postgres_image},
};
use serde_json::json;

pub(super) const API: &str = "deployment/api";
pub(super) const SECRET: &str = "secret/database";

/// A Secret that is written every second is never quiet. pod-reloader waits for that, but not longer than five settle
/// windows, ten seconds (3.1): what so many writes have not caused, no write will.
pub(super) const WRITES: usize = 12;

/// Those that have not opted in, by the label of their pods.
const BYSTANDERS: [(&str, &str); 3] = [
    ("postgres", "statefulset/postgres"),
    ("sealed-secrets", "deployment/sealed-secrets"),
    ("frontend", "deployment/frontend"),
];

/// A namespace with the applications in it.
pub(super) struct Shop {
    pub(super) space: Scenario,
}

/// Pods and revisions at some time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) api: State,
    pub(super) bystanders: Vec<State>,
}

/// The pods of a workload, and how many revisions it has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) pods: Vec<SeenPod>,
    pub(super) revisions: usize,
}

impl Shop {
    /// Applies the examples, in the order of the page. `None` if they cannot run here.
    pub(super) async fn open(name: &str) -> anyhow::Result<Option<Self>> {
        if let Err(why) = postgres_image() {
            println!("skipped: there is no image of PostgreSQL ({why})");
            return Ok(None);
        }
        let Some(space) = Testbed::scenario(name).await? else { return Ok(None) };
        let shop = Self { space };
        let space = &shop.space;
        make_sealed_secrets(space).await?;
        space.apply("postgres/3-database.yaml").await?;
        space.rolled_out("statefulset/postgres").await?;
        for (step, workload) in
            [("4-migration", None), ("5-api", Some(API)), ("6-frontend", Some("deployment/frontend"))]
        {
            space.apply(&format!("postgres/{step}.yaml")).await?;
            if let Some(workload) = workload {
                space.rolled_out(workload).await?;
            } else {
                space.kubectl(&["wait", "--for=condition=Complete", "--timeout=180s", "job/migrate"]).await?;
            }
        }
        Ok(Some(shop))
    }

    /// How things are, once the rollouts are over.
    pub(super) async fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let mut bystanders = Vec::new();
        for (app, workload) in BYSTANDERS {
            bystanders.push(self.state(app, workload).await?);
        }
        Ok(Snapshot { api: self.state("api", API).await?, bystanders })
    }

    async fn state(&self, app: &str, workload: &str) -> anyhow::Result<State> {
        self.space.rolled_out(workload).await?;
        // Pods that an update has left behind may not have got SIGTERM yet.
        let replicas: usize = self.space.field(workload, ".spec.replicas").await?.parse()?;
        let pods = eventually(format!("{replicas} pods of {app}"), ROLLOUT_TIMEOUT, || async {
            let pods = self.space.pods(app).await?;
            ensure!(pods.len() == replicas && pods.iter().all(|pod| pod.ready), "{pods:?}");
            Ok(pods)
        })
        .await?;
        Ok(State { pods, revisions: self.space.revisions(workload).await? })
    }

    /// An error if anything was reloaded or restarted since `before`, once all has had its consequences.
    pub(super) async fn nothing_happened_since(&self, before: &Snapshot, what: &str) -> anyhow::Result<()> {
        self.space.settle().await?;
        let now = self.snapshot().await?;
        ensure!(now == *before, "{what}: {before:#?} became {now:#?}");
        Ok(())
    }

    /// Runs SQL in the database's pod, and gives what came out.
    pub(super) async fn sql(&self, command: &str) -> anyhow::Result<String> {
        self.psql(&["--command", command]).await
    }

    /// Runs `psql` in the database's pod.
    pub(super) async fn psql(&self, args: &[&str]) -> anyhow::Result<String> {
        let psql = ["exec", "statefulset/postgres", "--", "psql", "--tuples-only", "--no-align", "--quiet"];
        let output = self.space.kubectl(&[&psql, args].concat()).await.context("psql")?;
        Ok(output.trim().to_owned())
    }

    /// Seals another password. The database does not learn of it.
    pub(super) async fn seal(&self, password: &str) -> anyhow::Result<()> {
        let patch = json!({"spec": {"encryptedData": {"password": sealed(password)}}}).to_string();
        self.space.kubectl(&["patch", "sealedsecret/database", "--type=merge", "--patch", &patch]).await?;
        Ok(())
    }
}

/// The kind `SealedSecret` and its controller.
pub(super) async fn make_sealed_secrets(space: &Scenario) -> anyhow::Result<()> {
    // The kind belongs to the whole cluster, and other tests apply it at the same time: one of them makes it, the others
    // are told that somebody else has, and try again.
    let deadline = Duration::from_secs(30);
    eventually("the kind SealedSecret", deadline, || space.apply("postgres/1-sealed-secrets.yaml")).await?;
    let kind = "customresourcedefinition/sealedsecrets.seal.example.com";
    space.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", kind]).await?;
    space.apply("postgres/2-sealed-secrets-controller.yaml").await?;
    space.rolled_out("deployment/sealed-secrets").await
}

/// Waits until the Secret was written so many times more.
pub(super) async fn is_rewritten(space: &Scenario, times: usize) -> anyhow::Result<()> {
    let mut last = String::new();
    // The first poll only gives what to compare with.
    for time in 0..=times {
        last = eventually(format!("write {time} of {SECRET}"), ROLLOUT_TIMEOUT, || async {
            let path = r".metadata.annotations.seal\.example\.com/written";
            let written = space.field(SECRET, path).await?;
            ensure!(!written.is_empty() && written != last, "written at {written}");
            Ok(written)
        })
        .await?;
    }
    Ok(())
}

/// Base64 of the value written backwards, as the page makes it with `rev` and `base64`.
fn sealed(value: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(value.chars().rev().collect::<String>())
}
