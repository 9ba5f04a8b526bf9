//! docs/examples/argo-rollout.md: Argo Rollouts' own controller, and what it makes of a hash.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use pod_reloader_e2e::objects::{CONFIG_HASH, KindRef, apps};
use pod_reloader_e2e::process::Process;
use pod_reloader_e2e::{Mark, SeenPod, Space, TIMEOUT, User, eventually, paths, ports};
use serde_json::{Value, json};

use crate::setup::{Installed, definitions, hash, is_served, named};

const CONFIG: &str = include_str!("../../../docs/examples/argo-rollout/1-config.yaml");
const ROLLOUT: &str = include_str!("../../../docs/examples/argo-rollout/2-rollout.yaml");
const WORKLOAD_REF: &str = include_str!("../../../docs/examples/argo-rollout/3-workload-ref.yaml");

const ON_CHANGE: &str = "pod-reloader.cs.sap.com/on-change";

/// The label by which its `ReplicaSets` are told apart.
const POD_HASH: &str = "rollouts-pod-template-hash";

/// The controller, beside a release of the chart.
struct Argo {
    controller: Process,
    installed: Installed,
    space: Space,
    rollouts: KindRef,
}

impl Argo {
    /// `None`, with a word on it, where this machine cannot have it.
    async fn start() -> anyhow::Result<Option<Self>> {
        let program = match paths::tool("argo-rollouts") {
            Ok(program) => program,
            Err(error) => {
                println!("skipped: {error}");
                return Ok(None);
            }
        };
        let rollouts = named("rollouts");
        let Some(installed) = Installed::with(&[rollouts]).await? else { return Ok(None) };
        let kubectl = installed.world.kubectl();
        let names = ["analysisruns", "analysistemplates", "clusteranalysistemplates", "experiments"];
        for name in names.map(|name| format!("{name}.argoproj.io")) {
            let file = definitions().join(format!("{name}.yaml")).display().to_string();
            kubectl.run(["apply", "--server-side", "-f", &file]).await?;
            is_served(&installed.world, &name).await?;
        }
        let plane = &installed.world.plane;
        let [metrics, health] = ports::free()?;
        let args = [
            format!("--kubeconfig={}", plane.kubeconfig(User::Editor).display()),
            format!("--metricsPort={metrics}"),
            format!("--healthzPort={health}"),
            "--leader-elect=false".to_owned(),
        ];
        let env: [(&str, &str); 0] = [];
        let log = plane.directory().join("argo-rollouts.log");
        let controller = Process::spawn("argo-rollouts", &program, args, env, &log)?;
        let space = installed.world.space().await?;
        space.with_input(&["apply", "-f", "-"], CONFIG).await?;
        Ok(Some(Self { controller, installed, space, rollouts }))
    }

    /// Has all pods ready: there is no kubelet to say so.
    async fn pods_are_ready(&self) -> anyhow::Result<()> {
        let pods = Api::<Pod>::namespaced(self.space.client.clone(), &self.space.name);
        for pod in pods.list(&ListParams::default()).await? {
            if pod.metadata.deletion_timestamp.is_some() || SeenPod::of(&pod).ready {
                continue;
            }
            let ready =
                json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let status = json!({"status": {"phase": "Running", "conditions": [ready]}});
            // It may be gone by now.
            let _ =
                pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(status)).await;
        }
        Ok(())
    }

    /// The Rollout and its `ReplicaSets`, once the controller has brought it into that phase.
    async fn phase(&self, name: &str, phase: &str, sets: usize) -> anyhow::Result<Seen> {
        eventually(format!("{name} to be {phase} with {sets} ReplicaSets"), TIMEOUT, || async {
            self.pods_are_ready().await?;
            let seen = self.see(name).await?;
            let status = &seen.rollout.data["status"];
            let generation = seen.rollout.metadata.generation.unwrap_or_default().to_string();
            let observed = status["observedGeneration"].as_str();
            ensure!(observed == Some(generation.as_str()) && status["phase"] == phase, "{status}");
            ensure!(seen.sets.len() == sets, "{} ReplicaSets: {status}", seen.sets.len());
            let settled = |set: &ReplicaSet| {
                let wanted = set.spec.as_ref().and_then(|spec| spec.replicas);
                wanted == set.status.as_ref().and_then(|status| status.available_replicas).or(Some(0))
            };
            ensure!(seen.sets.iter().all(settled), "pods are under way: {status}");
            Ok(seen)
        })
        .await
        .with_context(|| self.controller.log_tail())
    }

    async fn see(&self, name: &str) -> anyhow::Result<Seen> {
        let rollout = self.space.get(self.rollouts, name).await?;
        let uid = rollout.uid().context("no uid")?;
        let sets = Api::<ReplicaSet>::namespaced(self.space.client.clone(), &self.space.name);
        let mut sets = sets.list(&ListParams::default()).await?.items;
        sets.retain(|set| set.owner_references().iter().any(|owner| owner.uid == uid));
        Ok(Seen { rollout, sets })
    }

    /// Gives the `ConfigMap` that value under that key, and waits until all that follows from it is done.
    async fn configure(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let patch = json!({"data": {key: value}});
        let configmaps = self.space.configmaps();
        configmaps.patch("settings", &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.space.settle().await
    }

    /// What `kubectl argo rollouts` does.
    async fn patch_status(&self, name: &str, status: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        self.space.workloads(self.rollouts).patch_status(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// How often the operator has written the Rollout since then.
    async fn writes(&self, since: Mark, name: &str) -> anyhow::Result<usize> {
        Ok(self.installed.writes(since, &self.space, self.rollouts, name).await?.len())
    }
}

/// A Rollout, and what the controller has made of it.
struct Seen {
    rollout: DynamicObject,
    sets: Vec<ReplicaSet>,
}

impl Seen {
    /// The `ReplicaSet` that the status names there.
    fn set(&self, member: &str) -> anyhow::Result<&ReplicaSet> {
        let hash = self.rollout.data["status"][member].as_str().context("no such ReplicaSet yet")?;
        let set = self.sets.iter().find(|set| set.labels().get(POD_HASH).is_some_and(|it| it == hash));
        set.with_context(|| format!("no {member} {hash}"))
    }

    fn stable(&self) -> anyhow::Result<&ReplicaSet> {
        self.set("stableRS")
    }

    /// The one of the template as it is.
    fn current(&self) -> anyhow::Result<&ReplicaSet> {
        self.set("currentPodHash")
    }
}

fn replicas(set: &ReplicaSet) -> Option<i32> {
    set.spec.as_ref().and_then(|spec| spec.replicas)
}

fn template(set: &ReplicaSet) -> Value {
    json!(set.spec.as_ref().and_then(|spec| spec.template.as_ref()))
}

fn hash_in(set: &ReplicaSet) -> Option<String> {
    let template = template(set);
    template["metadata"]["annotations"][CONFIG_HASH].as_str().map(str::to_owned)
}

#[tokio::test]
async fn c9_1_a_change_begins_one_canary_of_argo_rollouts_and_an_abort_or_undo_no_other() -> anyhow::Result<()>
{
    let Some(argo) = Argo::start().await? else { return Ok(()) };
    let start = argo.installed.world.audit().mark().await?;
    argo.space.with_input(&["apply", "-f", "-"], ROLLOUT).await?;
    let red = hash(&argo.space, argo.rollouts, "app").await?;
    let before = argo.phase("app", "Healthy", 1).await?;
    let stable = before.stable()?;
    ensure!(hash_in(stable).as_ref() == Some(&red), "made without the hash: {}", template(stable));

    argo.configure("NOTE", "of no container").await?;
    ensure!(argo.phase("app", "Healthy", 1).await?.current()?.uid() == stable.uid(), "another ReplicaSet");
    ensure!(argo.writes(start, "app").await? == 0, "something was written for a key that no container reads");

    argo.configure("COLOR", "green").await?;
    let paused = argo.phase("app", "Paused", 2).await?;
    let green = hash(&argo.space, argo.rollouts, "app").await?;
    ensure!(hash_in(paused.current()?).as_ref() == Some(&green) && green != red, "no canary of the new hash");
    is_untouched(stable, &paused)?;
    ensure!(
        replicas(paused.stable()?) == Some(2) && replicas(paused.current()?) == Some(2),
        "not half of each"
    );
    // However long the pause is, and whatever else changes.
    argo.configure("NOTE", "during the pause").await?;
    is_untouched(stable, &argo.phase("app", "Paused", 2).await?)?;
    ensure!(hash(&argo.space, argo.rollouts, "app").await? == green, "a second hash during the pause");
    ensure!(argo.writes(start, "app").await? == 1, "one patch for one change");

    goes_back(&argo, &before, &green).await?;
    ensure!(argo.writes(start, "app").await? == 1, "something was written for an abort or an undo");
    Ok(())
}

fn is_untouched(stable: &ReplicaSet, seen: &Seen) -> anyhow::Result<()> {
    let now = seen.stable()?;
    ensure!(now.uid() == stable.uid(), "another ReplicaSet is the stable one");
    ensure!(template(now) == template(stable), "its template is another: {}", template(now));
    Ok(())
}

/// An abort, then an undo to the stable template, with the hash of that time in it; then on with what is configured now.
async fn goes_back(argo: &Argo, before: &Seen, green: &str) -> anyhow::Result<()> {
    let stable = before.stable()?;
    argo.patch_status("app", json!({"abort": true})).await?;
    // The phase comes before the replicas.
    eventually("the stable one to have all replicas again", TIMEOUT, || async {
        let aborted = argo.phase("app", "Degraded", 2).await?;
        is_untouched(stable, &aborted)?;
        ensure!(replicas(aborted.stable()?) == Some(4), "{:?}", replicas(aborted.stable()?));
        Ok(())
    })
    .await?;
    argo.configure("NOTE", "after the abort").await?;
    is_untouched(stable, &argo.phase("app", "Degraded", 2).await?)?;

    let undo = json!({"spec": {"template": before.rollout.data["spec"]["template"]}});
    argo.space.patch(argo.rollouts, "app", undo).await?;
    argo.space.settle().await?;
    ensure!(hash(&argo.space, argo.rollouts, "app").await? == green, "the hash is of what is configured now");
    is_untouched(stable, &argo.phase("app", "Degraded", 2).await?)?;

    argo.patch_status("app", json!({"abort": false})).await?;
    argo.phase("app", "Paused", 2).await?;
    argo.patch_status("app", json!({"pauseConditions": null})).await?;
    let done = argo.phase("app", "Healthy", 2).await?;
    ensure!(hash_in(done.stable()?).as_deref() == Some(green), "not the canary");
    Ok(())
}

#[tokio::test]
async fn c9_1_argo_rollouts_makes_its_canary_from_the_hash_on_the_deployment_that_it_refers_to()
-> anyhow::Result<()> {
    let Some(argo) = Argo::start().await? else { return Ok(()) };
    let start = argo.installed.world.audit().mark().await?;
    argo.space.with_input(&["apply", "-f", "-"], WORKLOAD_REF).await?;
    let red = argo.space.hash(apps::DEPLOYMENT, "shop").await?;
    let before = argo.phase("shop", "Healthy", 1).await?;
    let stable = before.stable()?;
    ensure!(hash_in(stable).as_ref() == Some(&red), "made without the hash: {}", template(stable));

    argo.configure("COLOR", "green").await?;
    let green = argo.space.hash(apps::DEPLOYMENT, "shop").await?;
    let paused = argo.phase("shop", "Paused", 2).await?;
    ensure!(hash_in(paused.current()?).as_ref() == Some(&green) && green != red, "no canary of the new hash");
    is_untouched(stable, &paused)?;
    argo.space.settle().await?;
    ensure!(argo.see("shop").await?.sets.len() == 2, "a second canary");
    ensure!(argo.writes(start, "shop").await? == 0, "the Rollout itself was written");
    Ok(())
}

#[tokio::test]
async fn c9_5_argo_rollouts_restarts_pods_without_a_revision_where_the_rollout_says_so() -> anyhow::Result<()>
{
    let Some(argo) = Argo::start().await? else { return Ok(()) };
    let mut rollout: DynamicObject = serde_saphyr::from_str(ROLLOUT)?;
    rollout.metadata.annotations.get_or_insert_default().insert(ON_CHANGE.into(), "restart-at".into());
    argo.space.with_input(&["apply", "-f", "-"], &serde_json::to_string(&rollout)?).await?;
    let before = argo.phase("app", "Healthy", 1).await?;
    let stable = before.stable()?;
    let pods = Api::<Pod>::namespaced(argo.space.client.clone(), &argo.space.name);
    let uids = async || {
        let pods = pods.list(&ListParams::default()).await?.items;
        let living = pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        anyhow::Ok(living.filter_map(|pod| pod.uid()).collect::<BTreeSet<_>>())
    };
    let old = uids().await?;
    let start = argo.installed.world.audit().mark().await?;

    argo.configure("COLOR", "green").await?;
    eventually("every pod to be another", TIMEOUT, || async {
        argo.pods_are_ready().await?;
        let now = uids().await?;
        ensure!(now.len() == old.len() && now.is_disjoint(&old), "{old:?} {now:?}");
        Ok(())
    })
    .await
    .with_context(|| argo.controller.log_tail())?;
    let after = argo.phase("app", "Healthy", 1).await?;
    is_untouched(stable, &after)?;
    ensure!(
        after.rollout.data["spec"]["template"] == before.rollout.data["spec"]["template"],
        "another template"
    );
    ensure!(
        after.rollout.data["status"]["restartedAt"] == after.rollout.data["spec"]["restartAt"],
        "not done yet"
    );
    ensure!(argo.writes(start, "app").await? == 1, "one patch for one change");
    let again = uids().await?;
    argo.configure("NOTE", "of no container").await?;
    argo.phase("app", "Healthy", 1).await?;
    ensure!(uids().await? == again, "pods were restarted for a key that none reads");
    Ok(())
}
