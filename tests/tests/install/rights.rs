//! The chart grants what the operator uses, and nothing else: read from the audit log.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use pod_reloader_core::annotation::ON_CHANGE;
use pod_reloader_e2e::objects::{self, BUILT_IN, CONFIGMAPS, OBSERVED_CONFIG, SECRETS};
use pod_reloader_e2e::world::release;
use pod_reloader_e2e::{Entry, Mark, Operator, Release, Space, TIMEOUT, World, eventually};
use serde_json::json;

const NAMESPACE: &str = "operators";
/// A server that does not stream lists, as some of those that are supported: only there is `list` asked for.
const LISTS_ONLY: &str = "--feature-gates=WatchList=false";
const KEY: &str = "pod-reloader-key";
const CERTIFICATES: &str = "reloader-pod-reloader-webhook-certificates";
const CAS: &str = "reloader-pod-reloader-webhook-ca";
const LEASE: &str = "pod-reloader.cs.sap.com-reloader-pod-reloader";

#[tokio::test]
async fn every_right_of_a_whole_cluster_is_used_and_none_is_missing() -> anyhow::Result<()> {
    let Some(world) = release::world_with(&[LISTS_ONLY]).await? else { return Ok(()) };
    let space = world.space().await?;
    let mut release = Release::install(&world, NAMESPACE, &["--set=settleWindow=300ms"]).await?;
    let _replicas = exercise(&world, &mut release, &space).await?;
    exercise_self_made_certificates(&world, &release).await?;

    let client = world.admin().await?;
    let own = Api::<Role>::namespaced(client.clone(), NAMESPACE).get(&release.fullname).await?;
    let cluster = Api::<ClusterRole>::all(client).get(&release.fullname).await?;
    let granted = grants(NAMESPACE, own.rules).chain(grants("", cluster.rules)).collect();
    compare(&world, &release, &granted).await
}

#[tokio::test]
async fn with_namespaces_and_a_certificate_of_ones_own_there_are_roles_alone() -> anyhow::Result<()> {
    let Some(world) = release::world_with(&[LISTS_ONLY]).await? else { return Ok(()) };
    let space = world.space().await?;
    let (secret, ca) = release::bring_certificate(&world, NAMESPACE).await?;
    let values = [
        "--set=settleWindow=300ms",
        // The harness asks in `default` whether the webhook answers.
        &format!("--set=namespaces={{default,{}}}", space.name),
        &format!("--set=webhook.existingSecret={secret}"),
        &format!("--set-file=webhook.caBundle={}", ca.display()),
    ];
    let mut release = Release::install(&world, NAMESPACE, &values).await?;
    exercise(&world, &mut release, &space).await?;

    let client = world.admin().await?;
    let by_release = ListParams::default().labels("app.kubernetes.io/instance=reloader");
    let cluster = Api::<ClusterRole>::all(client.clone()).list(&by_release).await?;
    assert!(cluster.items.is_empty(), "{cluster:?}");
    let roles = Api::<Role>::all(client).list(&by_release).await?;
    let found: BTreeSet<_> = roles.iter().filter_map(ResourceExt::namespace).collect();
    assert_eq!(found, BTreeSet::from(["default".into(), NAMESPACE.into(), space.name.clone()]));
    // Nothing happens in `default`; there the same is granted as in the other.
    let granted = roles
        .items
        .into_iter()
        .filter(|role| role.namespace().as_deref() != Some("default"))
        .flat_map(|role| grants(&role.namespace().unwrap_or_default(), role.rules).collect::<Vec<_>>())
        .collect();
    compare(&world, &release, &granted).await
}

/// Has everything happen for which the operator asks the API server. One of the replicas given back still runs.
async fn exercise(world: &World, release: &mut Release, space: &Space) -> anyhow::Result<[Operator; 2]> {
    let mut first = release.start_replica(world, "replica-1").await?;
    let mut second = release.start_replica(world, "replica-2").await?;
    release.route_to(world, &[&second]).await?;

    // Admission reads both kinds; the reconciler reloads all three kinds of workload, and says so.
    space.configmap("settings", "one").await?;
    space.secret("password", "one").await?;
    for kind in BUILT_IN {
        let listed = json!({CONFIGMAPS: "settings", SECRETS: "password"});
        space.create(&objects::workload(kind, "app", listed)).await?;
    }
    for (value, changes) in [("two", true), ("three", false)] {
        let mut before = vec![];
        for kind in BUILT_IN {
            before.push(space.hash(kind, "app").await?);
        }
        if changes {
            space.configmap("settings", value).await?;
        } else {
            space.secret("password", value).await?;
        }
        for (kind, before) in BUILT_IN.into_iter().zip(before) {
            space.hash_changes(kind, "app", &before).await?;
        }
    }
    space.event_comes("app", "ConfigurationChanged").await?;

    // Objects that only the template names are looked up too.
    let mut waiting = objects::listing("waiting", "settings");
    waiting = objects::env_from(waiting, "absent", false);
    waiting.data["spec"]["template"]["spec"]["containers"][0]["env"] = json!([
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "key"}}}
    ]);
    space.create(&waiting).await?;
    space.configmap("settings", "four").await?;
    space.event_comes("waiting", "ReloadDeferred").await?;

    // A workload that changes under the reconciler's hands is read again.
    contend(world, space).await?;

    exercise_jobs(space).await?;

    // The key: deleted, and damaged.
    let secrets = Api::<Secret>::namespaced(world.admin().await?, NAMESPACE);
    let uid = secrets.get(KEY).await?.uid();
    secrets.delete(KEY, &DeleteParams::default()).await?;
    eventually("the key to be restored", TIMEOUT, || async {
        ensure!(secrets.get(KEY).await?.uid() != uid, "the old one");
        Ok(())
    })
    .await?;
    secrets.patch(KEY, &PatchParams::default(), &Patch::Merge(json!({"data": {"key": null}}))).await?;
    eventually("the key to be repaired", TIMEOUT, || async {
        let key = secrets.get(KEY).await?.data.unwrap_or_default();
        ensure!(key.contains_key("key"), "no key");
        Ok(())
    })
    .await?;

    // A failover, by release of the Lease.
    let leases = Api::<Lease>::namespaced(world.admin().await?, NAMESPACE);
    let holder = || async {
        let spec = leases.get(LEASE).await?.spec.context("a Lease without a spec")?;
        spec.holder_identity.filter(|holder| !holder.is_empty()).context("nobody leads")
    };
    let before = holder().await?;
    let leading =
        if first.metrics().await?.contains("pod_reloader_leader 1") { &mut first } else { &mut second };
    leading.terminate(Duration::from_mins(1)).await?;
    eventually("another leader", TIMEOUT, || async {
        ensure!(holder().await? != before, "still {before}");
        Ok(())
    })
    .await?;
    Ok([first, second])
}

/// Has a `CronJob` start a Job, and a Job made anew (9.4).
async fn exercise_jobs(space: &Space) -> anyhow::Result<()> {
    let jobs = Api::<Job>::namespaced(space.client.clone(), &space.name);
    let cron_jobs = Api::<CronJob>::namespaced(space.client.clone(), &space.name);
    let metadata = |name: &str, on_change: &str| json!({"name": name, "annotations": {CONFIGMAPS: "settings", ON_CHANGE: on_change}});
    let spec = json!({"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "main", "image": "example.invalid/app:1"}]}}});
    let cron_job = json!({"metadata": metadata("nightly", "start-job"), "spec": {
        "schedule": "0 0 29 2 *", "jobTemplate": {"spec": spec}}});
    cron_jobs.create(&PostParams::default(), &serde_json::from_value(cron_job)?).await?;
    let job = json!({"metadata": metadata("import", "recreate"), "spec": spec});
    let first = jobs.create(&PostParams::default(), &serde_json::from_value(job)?).await?;
    eventually("both to be recorded", TIMEOUT, || async {
        ensure!(jobs.get("import").await?.annotations().contains_key(OBSERVED_CONFIG), "the Job");
        ensure!(cron_jobs.get("nightly").await?.annotations().contains_key(OBSERVED_CONFIG), "the CronJob");
        Ok(())
    })
    .await?;
    space.configmap("settings", "for Jobs").await?;
    eventually("a Job to be started and one to be made anew", TIMEOUT, || async {
        let all = jobs.list(&ListParams::default()).await?;
        let [anew, started] = &all.items[..] else {
            bail!("{:?}", all.iter().map(ResourceExt::name_any).collect::<Vec<_>>())
        };
        ensure!(anew.name_any() == "import" && anew.uid() != first.uid(), "{:?}", anew.metadata);
        ensure!(started.name_any().starts_with("nightly-"), "{:?}", started.metadata);
        Ok(())
    })
    .await
}

/// Writes every kind of workload again and again, until the reconciler has met a conflict with each.
async fn contend(world: &World, space: &Space) -> anyhow::Result<()> {
    let user = format!("system:serviceaccount:{NAMESPACE}:reloader-pod-reloader");
    let mark = world.audit().mark().await?;
    let mut round = 0;
    eventually("the reconciler to read each kind of workload again", TIMEOUT, || {
        round += 1;
        let user = &user;
        async move {
            space.configmap("settings", &format!("contended {round}")).await?;
            for turn in 0..20 {
                for kind in BUILT_IN {
                    let label = json!({"metadata": {"labels": {"turn": format!("{round}-{turn}")}}});
                    space.patch(kind, "app", label).await?;
                }
            }
            let entries = world.audit().since(mark).await?;
            for resource in ["deployments", "statefulsets", "daemonsets"] {
                let is_read =
                    |entry: &Entry| entry.user == *user && entry.verb == "get" && entry.resource == resource;
                ensure!(entries.iter().any(is_read), "no {resource} was read");
            }
            Ok(())
        }
    })
    .await
}

async fn exercise_self_made_certificates(world: &World, release: &Release) -> anyhow::Result<()> {
    let client = world.admin().await?;
    let configurations = Api::<MutatingWebhookConfiguration>::all(client.clone());
    let edit = Patch::Json::<()>(serde_json::from_value(json!([
        {"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}
    ]))?);
    configurations.patch(&release.fullname, &PatchParams::default(), &edit).await?;
    eventually("the CA to be put back", TIMEOUT, || async {
        let webhooks = configurations.get(&release.fullname).await?.webhooks.unwrap_or_default();
        ensure!(webhooks[0].client_config.ca_bundle.is_some(), "no caBundle");
        Ok(())
    })
    .await?;

    let secrets = Api::<Secret>::namespaced(client, NAMESPACE);
    let ask = Patch::Merge(json!({"metadata": {"annotations": {"pod-reloader.cs.sap.com/renew": "now"}}}));
    secrets.patch(CERTIFICATES, &PatchParams::default(), &ask).await?;
    eventually("new certificates", TIMEOUT, || async {
        let data = secrets.get(CAS).await?.data.unwrap_or_default();
        ensure!(data.contains_key("ca-next.crt"), "not yet");
        // The certificate follows the CAs.
        let annotations = secrets.get(CERTIFICATES).await?.metadata.annotations.unwrap_or_default();
        ensure!(annotations.is_empty(), "{annotations:?}");
        Ok(())
    })
    .await
}

/// One verb on one resource, in one namespace or everywhere (empty), perhaps of one object alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    namespace: String,
    group: String,
    resource: String,
    name: Option<String>,
    verb: String,
}

impl Grant {
    fn covers(&self, entry: &Entry) -> bool {
        (self.namespace.is_empty() || self.namespace == entry.namespace)
            && self.group == entry.group
            && self.resource == entry.resource
            && self.verb == entry.verb
            && entry.subresource.is_empty()
            && self.name.as_ref().is_none_or(|name| *name == entry.name)
    }
}

fn grants(namespace: &str, rules: Option<Vec<PolicyRule>>) -> impl Iterator<Item = Grant> + use<> {
    let namespace = namespace.to_owned();
    let mut all = vec![];
    for rule in rules.unwrap_or_default() {
        let names = match rule.resource_names.unwrap_or_default() {
            names if names.is_empty() => vec![None],
            names => names.into_iter().map(Some).collect(),
        };
        for group in rule.api_groups.unwrap_or_default() {
            for resource in rule.resources.clone().unwrap_or_default() {
                for name in &names {
                    all.extend(rule.verbs.iter().map(|verb| Grant {
                        namespace: namespace.clone(),
                        group: group.clone(),
                        resource: resource.clone(),
                        name: name.clone(),
                        verb: verb.clone(),
                    }));
                }
            }
        }
    }
    all.into_iter()
}

async fn compare(world: &World, release: &Release, granted: &BTreeSet<Grant>) -> anyhow::Result<()> {
    let end = world.audit().mark().await?;
    let entries = world.audit().between(Mark::default(), end)?;
    let ours: Vec<_> = entries.iter().filter(|entry| entry.user == release.user()).collect();
    assert!(ours.len() > 50, "the audit log knows {} requests", ours.len());
    let forbidden: Vec<_> = ours.iter().filter(|entry| matches!(entry.code, 401 | 403)).collect();
    assert!(forbidden.is_empty(), "forbidden: {forbidden:#?}");
    let unused: Vec<_> =
        granted.iter().filter(|grant| !ours.iter().any(|entry| grant.covers(entry))).collect();
    assert!(unused.is_empty(), "granted, but not used: {unused:#?}");
    Ok(())
}
