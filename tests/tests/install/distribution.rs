//! The chart from an OCI registry: installed, upgraded without changes, rolled back, uninstalled.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use pod_reloader_e2e::objects::{self, KindRef, apps};
use pod_reloader_e2e::world::release::{self, NAME};
use pod_reloader_e2e::{Helm, Registry, Release, Space, Tool, User, World, chart};

const NAMESPACE: &str = "operators";
const APP: &str = "app";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;

#[tokio::test]
async fn helm_4_installs_upgrades_rolls_back_and_uninstalls_from_oci() -> anyhow::Result<()> {
    lifecycle("helm").await
}

#[tokio::test]
async fn helm_3_installs_upgrades_rolls_back_and_uninstalls_from_oci() -> anyhow::Result<()> {
    lifecycle("helm3").await
}

async fn lifecycle(helm: &str) -> anyhow::Result<()> {
    let Some(world) = release::world().await? else { return Ok(()) };
    let registry = Registry::start(world.directory()).await?;
    let repository = format!("{}/charts", registry.address());
    publish(world.directory(), &repository).await?;
    let helm = Helm::new(helm, &world.plane.kubeconfig(User::Admin), world.directory())?;
    let chart = format!("oci://{repository}/pod-reloader");
    let quick = "--set=settleWindow=300ms";

    let first = ["--create-namespace", "--plain-http", quick];
    let notes = helm.upgrade(NAME, &chart, NAMESPACE, &first).await?;
    assert!(notes.contains("rollout status") && !notes.contains("has no registry"), "{notes}");
    let mut release = Release::installed(&world, NAMESPACE).await?;
    let mut replicas = vec![release.start_replica(&world, "replica-1").await?];
    release.route_to(&world, &[&replicas[0]]).await?;
    let image = kubectl_get(&world, "{.spec.template.spec.containers[0].image}").await?;
    assert_eq!(image, format!("{repository}/pod-reloader:{}", chart_app_version()?));

    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.settle().await?;
    space.expect_revisions(DEPLOYMENT, APP, 1).await?;

    // Two upgrades without a change: nothing is written but Helm's own records, certificates least of all.
    let before = Snapshot::take(&world, &space).await?;
    for _ in 0..2 {
        helm.upgrade(NAME, &chart, NAMESPACE, &["--plain-http", quick]).await?;
        assert_eq!(Snapshot::take(&world, &space).await?, before);
    }

    // One with a change, and back.
    helm.upgrade(NAME, &chart, NAMESPACE, &["--plain-http", "--set=settleWindow=7s"]).await?;
    let args = "{.spec.template.spec.containers[0].args}";
    assert!(kubectl_get(&world, args).await?.contains("--settle-window=7s"));
    helm.run(["rollback", NAME, "1", "--namespace", NAMESPACE]).await?;
    assert!(kubectl_get(&world, args).await?.contains("--settle-window=300ms"));
    release.route_to(&world, &[&replicas[0]]).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            space.configmap("settings", "two").await?;
            Ok(())
        })
        .await?;

    // Gone, but for what is documented; the workload runs on, and can be written.
    let generation = space.get(DEPLOYMENT, APP).await?.metadata.generation;
    replicas.clear();
    helm.run(["uninstall", NAME, "--namespace", NAMESPACE]).await?;
    assert_eq!(
        left_behind(&world).await?,
        [
            "ConfigMap kube-root-ca.crt",
            "Lease pod-reloader.cs.sap.com-reloader-pod-reloader",
            "Secret pod-reloader-key",
            "Secret reloader-pod-reloader-webhook-ca",
            "Secret reloader-pod-reloader-webhook-certificates",
            "ServiceAccount default",
        ]
    );
    assert_eq!(space.get(DEPLOYMENT, APP).await?.metadata.generation, generation);
    let scaled = serde_json::json!({"spec": {"replicas": 2}});
    space.patch(DEPLOYMENT, APP, scaled).await?;
    space.expect_revisions(DEPLOYMENT, APP, 2).await?;

    // A later installation knows everything again.
    helm.upgrade(NAME, &chart, NAMESPACE, &["--plain-http", quick]).await?;
    let mut release = Release::installed(&world, NAMESPACE).await?;
    let replica = release.start_replica(&world, "replica-2").await?;
    release.route_to(&world, &[&replica]).await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 0, || async { Ok(()) }).await
}

/// `make publish`, but for the image.
async fn publish(directory: &Path, repository: &str) -> anyhow::Result<()> {
    let root = chart::folder().join("../..");
    let script = root.join("charts/package.sh");
    let package = Tool::new(&script, &root)
        .env("REGISTRY", repository)
        .env("PUSH", "1")
        .env("PLAIN_HTTP", "1")
        .env("OUT", directory.join("chart"))
        // The person's own registries are none of its business.
        .env("HELM_CONFIG_HOME", directory.join("publisher"));
    package.run([""; 0]).await?;
    Ok(())
}

fn chart_app_version() -> anyhow::Result<String> {
    let chart = std::fs::read_to_string(chart::folder().join("Chart.yaml"))?;
    let line = chart.lines().find_map(|line| line.strip_prefix("appVersion: ")).context("no appVersion")?;
    Ok(line.trim_matches('"').to_owned())
}

async fn kubectl_get(world: &World, path: &str) -> anyhow::Result<String> {
    let name = format!("deployment/{NAME}-pod-reloader");
    world.kubectl().run(["-n", NAMESPACE, "get", &name, "-o", &format!("jsonpath={path}")]).await
}

/// The kinds of objects that the chart, the operator or Kubernetes make in a namespace.
const NAMESPACED: [(&str, &str, &str); 11] = [
    ("", "v1", "ConfigMap"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("", "v1", "Pod"),
    ("apps", "v1", "Deployment"),
    ("coordination.k8s.io", "v1", "Lease"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io", "v1", "Role"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding"),
];
const CLUSTER: [(&str, &str, &str); 3] = [
    ("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"),
];

fn api(client: &Client, (group, version, kind): (&str, &str, &str), is_cluster: bool) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    if is_cluster {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), NAMESPACE, &resource)
    }
}

/// What must not change while nothing changes: by object its generation, or its version where it has none.
#[derive(Debug, PartialEq)]
struct Snapshot {
    objects: BTreeMap<String, String>,
    certificates: Option<BTreeMap<String, k8s_openapi::ByteString>>,
    workload: Option<i64>,
}

impl Snapshot {
    async fn take(world: &World, space: &Space) -> anyhow::Result<Self> {
        let client = world.admin().await?;
        let mut objects = BTreeMap::new();
        let by_release = ListParams::default().labels(&format!("app.kubernetes.io/instance={NAME}"));
        let kinds = NAMESPACED.map(|kind| (kind, false)).into_iter().chain(CLUSTER.map(|kind| (kind, true)));
        for (kind, is_cluster) in kinds {
            for object in api(&client, kind, is_cluster).list(&by_release).await? {
                let generation =
                    object.metadata.generation.map(|generation| format!("generation {generation}"));
                let version = generation.or(object.resource_version()).unwrap_or_default();
                objects.insert(format!("{} {}", kind.2, object.name_any()), version);
            }
        }
        anyhow::ensure!(objects.len() > 8, "the release has only {objects:?}");
        let secrets = Api::<Secret>::namespaced(client, NAMESPACE);
        let certificates = secrets.get("reloader-pod-reloader-webhook-certificates").await?.data;
        let workload = space.get(DEPLOYMENT, APP).await?.metadata.generation;
        Ok(Self { objects, certificates, workload })
    }
}

/// What there is in the namespace, and of the release in the cluster, as `Kind name`.
async fn left_behind(world: &World) -> anyhow::Result<Vec<String>> {
    let client = world.admin().await?;
    let mut left = vec![];
    for kind in NAMESPACED {
        let objects = api(&client, kind, false).list(&ListParams::default()).await?;
        left.extend(objects.iter().map(|object| format!("{} {}", kind.2, object.name_any())));
    }
    let by_release = ListParams::default().labels(&format!("app.kubernetes.io/instance={NAME}"));
    for kind in CLUSTER {
        let objects = api(&client, kind, true).list(&by_release).await?;
        left.extend(objects.iter().map(|object| format!("{} {}", kind.2, object.name_any())));
    }
    left.sort();
    Ok(left)
}
