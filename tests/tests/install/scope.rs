//! Installations of a part of the cluster: who may install them, and which may not be beside each other.

use anyhow::{Context, ensure};
use pod_reloader_e2e::objects::{self, BUILT_IN, CONFIG_HASH, CONFIGMAPS, SECRETS, apps};
use pod_reloader_e2e::{Helm, Mark, Release, TIMEOUT, User, World, chart, eventually};
use serde_json::json;

/// Every kind of the cluster that the chart has anywhere.
const OF_THE_CLUSTER: &str = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,\
                              validatingadmissionpolicies,validatingadmissionpolicybindings,flowschemas";

/// Has that user install or upgrade the chart.
async fn install(
    world: &World,
    user: User,
    name: &str,
    namespace: &str,
    values: &[&str],
) -> anyhow::Result<String> {
    let helm = Helm::new("helm", &world.plane.kubeconfig(user), world.directory())?;
    helm.upgrade(name, chart::folder(), namespace, values).await
}

async fn namespaces(world: &World, names: &[&str]) -> anyhow::Result<()> {
    for name in names {
        world.kubectl().run(["create", "namespace", name]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn whoever_has_rights_in_namespaces_alone_can_install_there() -> anyhow::Result<()> {
    let world = World::without_operator().await?;
    namespaces(&world, &["shop", "billing"]).await?;
    for namespace in ["shop", "billing"] {
        let user = format!("--user={}", User::Guest.name());
        let bind = ["-n", namespace, "create", "rolebinding", "all", "--clusterrole=cluster-admin", &user];
        world.kubectl().run(bind).await?;
    }
    let values = [
        "--set=webhook.enabled=false",
        "--set=namespaces={shop,billing}",
        "--set=networkPolicy.enabled=true",
    ];
    let notes = install(&world, User::Guest, "reloader", "shop", &values).await?;
    assert!(notes.contains("There is no webhook") && notes.contains("no rights in the cluster"), "{notes}");
    let ours = ["get", OF_THE_CLUSTER, "-l", "app.kubernetes.io/name=pod-reloader", "-o", "name"];
    let found = world.kubectl().run(ours).await?;
    assert_eq!(found.trim(), "");
    // And again, with what is there now.
    install(&world, User::Guest, "reloader", "shop", &values).await?;
    // With the webhook they cannot.
    let error = install(&world, User::Guest, "other", "billing", &["--set=namespaces={billing}"]).await;
    let error = format!("{:#}", error.err().context("it was installed")?);
    ensure!(error.contains("forbidden"), "{error}");
    Ok(())
}

/// The reconciler alone, with Roles alone: all three kinds get their hashes and are reloaded, and nothing is forbidden.
#[tokio::test]
async fn without_a_webhook_and_rights_in_the_cluster_workloads_are_reloaded() -> anyhow::Result<()> {
    let world = World::without_operator().await?;
    let space = world.space().await?;
    let namespaces = format!("--set=namespaces={{{}}}", space.name);
    let values = ["--set=webhook.enabled=false", "--set=settleWindow=300ms", &namespaces];
    let mut release = Release::install(&world, "operators", &values).await?;
    let replica = release.start_replica(&world, "replica").await?;
    space.configmap("settings", "one").await?;
    space.secret("password", "one").await?;
    for kind in BUILT_IN {
        let listed = json!({CONFIGMAPS: "settings", SECRETS: "password"});
        space.create(&objects::workload(kind, "app", listed)).await?;
        eventually("the first hash", TIMEOUT, || space.hash(kind, "app")).await?;
    }
    for kind in BUILT_IN {
        let before = space.hash(kind, "app").await?;
        if kind == apps::DEPLOYMENT {
            space.configmap("settings", "two").await?;
        } else {
            space.secret("password", kind.kind).await?;
        }
        space.hash_changes(kind, "app", &before).await?;
        space.settle().await?;
    }
    // A hash that is stripped comes back.
    let hash = space.hash(apps::DEPLOYMENT, "app").await?;
    let strip = json!({"spec": {"template": {"metadata": {"annotations": {CONFIG_HASH: null}}}}});
    space.patch(apps::DEPLOYMENT, "app", strip).await?;
    eventually("the hash to come back", TIMEOUT, || async {
        ensure!(space.hash(apps::DEPLOYMENT, "app").await? == hash, "another");
        Ok(())
    })
    .await?;
    let end = world.audit().mark().await?;
    let entries = world.audit().between(Mark::default(), end)?;
    let ours: Vec<_> = entries.iter().filter(|entry| entry.user == release.user()).collect();
    ensure!(ours.len() > 10, "the audit log knows {} requests", ours.len());
    let forbidden: Vec<_> = ours.iter().filter(|entry| matches!(entry.code, 401 | 403)).collect();
    ensure!(forbidden.is_empty(), "forbidden: {forbidden:#?}");
    drop(replica);
    Ok(())
}

#[tokio::test]
async fn a_second_release_over_the_same_namespaces_is_refused() -> anyhow::Result<()> {
    let world = World::without_operator().await?;
    namespaces(&world, &["shop", "billing", "ops", "elsewhere"]).await?;
    install(&world, User::Admin, "first", "ops", &["--set=namespaces={shop}"]).await?;
    for values in [
        &[][..],
        &["--set=namespaces={billing,shop}"],
        &["--set=namespaces={shop}", "--set=webhook.enabled=false"],
    ] {
        let error = install(&world, User::Admin, "second", "elsewhere", values).await;
        let error = format!("{:#}", error.err().with_context(|| format!("{values:?} was installed"))?);
        let sentence = "the release first in the namespace ops reloads workloads in shop already";
        ensure!(error.contains(sentence), "{values:?}: {error}");
    }
    // Each has its own, and is upgraded beside the other.
    install(&world, User::Admin, "second", "elsewhere", &["--set=namespaces={billing}"]).await?;
    install(&world, User::Admin, "second", "elsewhere", &["--set=namespaces={billing}"]).await?;
    install(&world, User::Admin, "first", "ops", &["--set=namespaces={shop}"]).await?;
    Ok(())
}

/// What the values for safety render, as the API server sees it.
#[tokio::test]
async fn the_api_server_takes_all_that_is_rendered() -> anyhow::Result<()> {
    let world = World::without_operator().await?;
    namespaces(&world, &["shop", "billing", "ops"]).await?;
    let helm = Helm::new("helm", &world.plane.kubeconfig(User::Admin), world.directory())?;
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/values");
    for file in ["hardened", "namespaced", "saps", "own-certificate"] {
        let values = format!("--values={files}/{file}.yaml");
        // Of kinds that the Prometheus operator brings along.
        let without = "--set=metrics.serviceMonitor.enabled=false,metrics.prometheusRule.enabled=false";
        let args = [&values, "--no-hooks", without];
        let rendered = helm.template("reloader", chart::folder(), "ops", &args).await?;
        let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        world.kubectl().run_with_input(apply, &rendered).await.context(file)?;
    }
    Ok(())
}
