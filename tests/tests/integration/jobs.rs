//! 9.4 on the real API server, with Kubernetes' own controllers of `batch/v1`, which have no node to run pods on.

use anyhow::{Context, ensure};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use pod_reloader_e2e::{Space, TIMEOUT, World, eventually};
use serde_json::{Value, json};

const ON_CHANGE: &str = "pod-reloader.cs.sap.com/on-change";
const OBSERVED: &str = "pod-reloader.cs.sap.com/observed-config";
const RECREATES: &str = "pod-reloader.cs.sap.com/recreates";

/// What reads the `ConfigMap`.
fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "batch"}},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "example.com/batch:1",
                "envFrom": [{"configMapRef": {"name": "settings"}}]}],
        },
    })
}

fn metadata(name: &str, on_change: &str) -> Value {
    json!({"name": name, "annotations": {"pod-reloader.cs.sap.com/auto": "true", ON_CHANGE: on_change}})
}

struct Batch {
    space: Space,
    cron_jobs: Api<CronJob>,
    jobs: Api<Job>,
}

impl Batch {
    async fn new() -> anyhow::Result<Self> {
        let space = World::shared().await?.space().await?;
        space.configmap("settings", "one").await?;
        let (client, name) = (space.client.clone(), space.name.clone());
        let cron_jobs = Api::namespaced(client.clone(), &name);
        Ok(Self { space, cron_jobs, jobs: Api::namespaced(client, &name) })
    }

    async fn cron_job(&self, on_change: &str) -> anyhow::Result<()> {
        let cron_job = json!({
            "metadata": metadata("nightly", on_change),
            // Not within this test's time.
            "spec": {"schedule": "0 0 29 2 *", "jobTemplate": {
                "metadata": {"labels": {"of": "nightly"}, "annotations": {"note": "a < b"}},
                "spec": {"backoffLimit": 1, "template": template()},
            }},
        });
        self.cron_jobs.create(&PostParams::default(), &serde_json::from_value(cron_job)?).await?;
        eventually("the CronJob to be recorded", TIMEOUT, || async {
            let annotations = self.cron_jobs.get("nightly").await?.annotations().clone();
            ensure!(annotations.contains_key(OBSERVED), "{annotations:?}");
            Ok(())
        })
        .await
    }

    async fn job(&self, name: &str, spec: Value) -> anyhow::Result<Job> {
        let mut job = json!({"metadata": metadata(name, "recreate"), "spec": {"template": template()}});
        job["metadata"]["labels"] = json!({"app": name});
        for (member, value) in spec.as_object().into_iter().flatten() {
            job["spec"][member] = value.clone();
        }
        self.jobs.create(&PostParams::default(), &serde_json::from_value(job)?).await?;
        eventually(format!("{name} to be recorded"), TIMEOUT, || async {
            let job = self.jobs.get(name).await?;
            ensure!(job.annotations().contains_key(OBSERVED), "{:?}", job.annotations());
            Ok(job)
        })
        .await
    }

    async fn all(&self) -> anyhow::Result<Vec<Job>> {
        Ok(self.jobs.list(&ListParams::default()).await?.items)
    }

    async fn are(&self, expected: usize) -> anyhow::Result<Vec<Job>> {
        eventually(format!("{expected} Jobs"), TIMEOUT, || async {
            let all = self.all().await?;
            ensure!(all.len() == expected, "{:?}", all.iter().map(ResourceExt::name_any).collect::<Vec<_>>());
            Ok(all)
        })
        .await
    }

    /// The Job of that name, once it is another one than that.
    async fn is_made_anew(&self, name: &str, before: &Job) -> anyhow::Result<Job> {
        eventually(format!("{name} to be made anew"), TIMEOUT, || async {
            let job = self.jobs.get_opt(name).await?.context("it is not there")?;
            ensure!(job.uid() != before.uid(), "it is still the same: {:?}", job.metadata);
            ensure!(
                self.all().await?.iter().all(|job| !job.annotations().contains_key(RECREATES)),
                "a stand-in"
            );
            Ok(job)
        })
        .await
    }
}

#[tokio::test]
async fn c9_4_a_change_starts_the_job_that_kubectl_would_start_and_another_change_another()
-> anyhow::Result<()> {
    let batch = Batch::new().await?;
    batch.cron_job("start-job").await?;
    let before = batch.cron_jobs.get("nightly").await?;
    batch.space.settle().await?;
    batch.are(0).await?;

    batch.space.configmap("settings", "two").await?;
    let [started] = &batch.are(1).await?[..] else { unreachable!() };
    let kubectls = ["create", "job", "other", "--from=cronjob/nightly", "--dry-run=server", "-o", "json"];
    let kubectls: Job = serde_json::from_str(&batch.space.kubectl(&kubectls).await?)?;
    assert_eq!(started.labels(), kubectls.labels());
    assert_eq!(started.annotations(), kubectls.annotations());
    assert_eq!(started.owner_references(), kubectls.owner_references());
    let spec = |job: &Job| {
        let mut spec = json!(job.spec);
        // Made of the Job's own uid and name.
        spec["selector"] = Value::Null;
        spec["template"]["metadata"]["labels"] = Value::Null;
        spec
    };
    assert_eq!(spec(started), spec(&kubectls));

    batch.space.configmap("settings", "two").await?;
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    batch.space.configmaps().patch("settings", &PatchParams::default(), &Patch::Merge(labelled)).await?;
    batch.space.settle().await?;
    batch.are(1).await?;
    batch.space.configmap("settings", "one").await?;
    batch.are(2).await?;
    batch.space.configmap("settings", "two").await?;
    batch.are(3).await?;
    let after = batch.cron_jobs.get("nightly").await?;
    assert_eq!(json!(after.spec), json!(before.spec), "the CronJob's own template is never touched");
    eventually("an Event for each Job", TIMEOUT, || async {
        let notes = batch.space.events("nightly", "ConfigurationChanged").await?;
        ensure!(notes.len() == 3 && notes.iter().all(|note| note.contains("is started")), "{notes:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn c9_4_a_suspended_cron_job_and_one_that_does_not_ask_start_nothing() -> anyhow::Result<()> {
    let batch = Batch::new().await?;
    batch.cron_job("start-job").await?;
    let patch = async |patch: Value| {
        batch.cron_jobs.patch("nightly", &PatchParams::default(), &Patch::Merge(patch)).await
    };
    patch(json!({"spec": {"suspend": true}})).await?;
    batch.space.configmap("settings", "two").await?;
    batch.space.event_comes("nightly", "ConfigurationChanged").await?;
    patch(json!({"spec": {"suspend": false}})).await?;
    batch.space.settle().await?;
    batch.are(0).await?;

    patch(json!({"metadata": {"annotations": {ON_CHANGE: null}}})).await?;
    eventually("the record to go", TIMEOUT, || async {
        let annotations = batch.cron_jobs.get("nightly").await?.annotations().clone();
        ensure!(!annotations.contains_key(OBSERVED), "{annotations:?}");
        Ok(())
    })
    .await?;
    batch.space.configmap("settings", "three").await?;
    batch.space.settle().await?;
    patch(json!({"metadata": {"annotations": {ON_CHANGE: "start-job"}}})).await?;
    batch.space.settle().await?;
    batch.are(0).await?;
    Ok(())
}

#[tokio::test]
async fn c9_4_a_job_is_made_anew_with_all_that_it_had_after_its_pods_are_gone() -> anyhow::Result<()> {
    let batch = Batch::new().await?;
    let first = batch.job("import", json!({"backoffLimit": 3, "completions": 2, "parallelism": 2})).await?;
    for value in ["two", "three"] {
        let before = batch.jobs.get("import").await?;
        batch.space.configmap("settings", value).await?;
        let now = batch.is_made_anew("import", &before).await?;
        assert_eq!(now.labels(), first.labels());
        let words = |job: &Job| {
            let mut annotations = job.annotations().clone();
            annotations.remove(OBSERVED);
            annotations
        };
        assert_eq!(words(&now), words(&first));
        assert_ne!(now.annotations().get(OBSERVED), before.annotations().get(OBSERVED));
        let spec = |job: &Job| {
            let mut spec = json!(job.spec);
            spec["selector"] = Value::Null;
            spec["template"]["metadata"]["labels"] =
                json!({"app": spec["template"]["metadata"]["labels"]["app"]});
            spec
        };
        assert_eq!(spec(&now), spec(&first));
    }
    batch.space.settle().await?;
    batch.are(1).await?;
    let pods =
        Api::<k8s_openapi::api::core::v1::Pod>::namespaced(batch.space.client.clone(), &batch.space.name);
    let uid = batch.jobs.get("import").await?.uid().context("a uid")?;
    eventually("the pods of the last Job alone", TIMEOUT, || async {
        let pods = pods.list(&ListParams::default()).await?;
        let owners: Vec<_> =
            pods.iter().flat_map(|pod| pod.owner_references().to_vec()).map(|it| it.uid).collect();
        ensure!(owners.len() == 2 && owners.iter().all(|owner| *owner == uid), "{owners:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn c9_4_a_job_that_has_ended_and_one_that_another_object_made_are_left_alone() -> anyhow::Result<()> {
    let batch = Batch::new().await?;
    let ended = batch.job("ended", json!({"activeDeadlineSeconds": 1})).await?;
    eventually("the Job to fail", TIMEOUT, || async {
        let status = batch.jobs.get("ended").await?.status.unwrap_or_default();
        let has_failed =
            status.conditions.iter().flatten().any(|it| it.type_ == "Failed" && it.status == "True");
        ensure!(has_failed, "{:?}", status.conditions);
        Ok(())
    })
    .await?;
    let mut owned = serde_json::to_value(&ended)?;
    let by_settings = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "settings", "controller": true,
        "uid": batch.space.configmaps().get("settings").await?.uid()});
    owned["metadata"] = metadata("owned", "recreate");
    owned["metadata"]["ownerReferences"] = json!([by_settings]);
    owned["spec"] = json!({"template": template()});
    let owned = batch.jobs.create(&PostParams::default(), &serde_json::from_value(owned)?).await?;
    batch.space.configmap("settings", "two").await?;
    batch.space.settle().await?;
    for before in [&ended, &owned] {
        let now = batch.jobs.get(&before.name_any()).await?;
        assert_eq!(now.uid(), before.uid());
        assert_eq!(now.annotations().get(OBSERVED), before.annotations().get(OBSERVED));
    }
    batch.are(2).await?;
    Ok(())
}

#[tokio::test]
async fn c9_4_a_job_that_its_owner_deletes_does_not_come_back() -> anyhow::Result<()> {
    let batch = Batch::new().await?;
    batch.job("import", json!({})).await?;
    batch.jobs.delete("import", &DeleteParams::foreground()).await?;
    batch.space.configmap("settings", "two").await?;
    batch.space.settle().await?;
    batch.are(0).await?;
    Ok(())
}
