//! A release of SAP's chart is upgraded to this one, with the values that it has.

use anyhow::{Context, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use pod_reloader_core::dialect::sap::version_hash;
use pod_reloader_core::lookup::{ConfigVersion, Found, Lookup};
use pod_reloader_core::name::ConfigRef;
use pod_reloader_e2e::objects::{self, KindRef, apps};
use pod_reloader_e2e::world::release::{self, NAME};
use pod_reloader_e2e::{Helm, Release, TIMEOUT, User, chart, eventually};
use serde_json::json;

const NAMESPACE: &str = "operators";
const APP: &str = "app";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;

#[tokio::test]
async fn a_release_of_saps_is_upgraded_in_place_by_helm_3() -> anyhow::Result<()> {
    takeover("helm3").await
}

#[tokio::test]
async fn a_release_of_saps_is_upgraded_in_place_by_helm_4() -> anyhow::Result<()> {
    takeover("helm").await
}

async fn takeover(helm: &str) -> anyhow::Result<()> {
    let Some(world) = release::world().await? else { return Ok(()) };
    let space = world.space().await?;
    let settings = space.configmap("settings", "one").await?;
    let mut workload = objects::listing(APP, "settings");
    let live = Lookup::Found(Found::version(ConfigVersion::new(
        settings.uid().context("a uid")?,
        settings.resource_version().context("a version")?,
    )));
    let object = ConfigRef::configmap(space.name.as_str(), "settings");
    let saps = version_hash(&space.name, [&object], &[(object.clone(), live)].into());
    let saps = saps.context("all is known")?.as_str().to_owned();
    workload.data["spec"]["template"]["metadata"]["annotations"] = json!({objects::CONFIG_HASH: saps});
    space.create(&workload).await?;

    // SAP's users have it from Helm 3, most of them.
    let kubeconfig = world.plane.kubeconfig(User::Admin);
    let before = Helm::new("helm3", &kubeconfig, world.directory())?;
    let predecessor = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/install/predecessor");
    let values = format!("--values={predecessor}/saps-values.yaml");
    let ca = format!("--set=caBundle={}", world.authority.pem());
    before.upgrade(NAME, predecessor, NAMESPACE, &["--create-namespace", &values, &ca]).await?;
    let client = world.admin().await?;
    let fullname = format!("{NAME}-pod-reloader");
    let deployments = Api::<Deployment>::namespaced(client.clone(), NAMESPACE);
    let uid = deployments.get(&fullname).await?.uid();

    let helm = Helm::new(helm, &kubeconfig, world.directory())?;
    let quick = "--set=settleWindow=300ms";
    let notes = helm.upgrade(NAME, chart::folder(), NAMESPACE, &[&values, quick]).await?;
    assert!(notes.contains("SAP's image"), "{notes}");
    let deployment = deployments.get(&fullname).await?;
    assert_eq!(deployment.uid(), uid, "it was replaced");
    let pod = deployment.spec.and_then(|spec| spec.template.spec).context("no pods")?;
    let image = pod.containers[0].image.clone().unwrap_or_default();
    assert!(image.starts_with("pod-reloader:"), "{image}");
    assert_eq!(pod.image_pull_secrets.unwrap_or_default()[0].name, "registry");

    let mut release = Release::installed(&world, NAMESPACE).await?;
    let replica = release.start_replica(&world, "replica").await?;
    release.route_to(&world, &[&replica]).await?;
    let configurations = Api::<MutatingWebhookConfiguration>::all(client.clone());
    let webhooks = configurations.get(&fullname).await?.webhooks.unwrap_or_default();
    let names = webhooks.iter().map(|webhook| webhook.name.trim_end_matches(".pod-reloader.cs.sap.com"));
    let entries = ["pod-reloader.cs.sap.com", "auto-true", "auto-configmaps", "auto-secrets"];
    assert_eq!(names.collect::<Vec<_>>(), entries, "SAP's entry is still there, or one is missing");
    for webhook in &webhooks {
        let conditions = webhook.match_conditions.iter().flatten().map(|condition| condition.name.as_str());
        let expected = ["opted-in", "not-ignored", "not-being-deleted", "not-own-patch", "not-nodes"];
        assert_eq!(conditions.collect::<Vec<_>>(), expected, "{}", webhook.name);
    }
    let secrets = Api::<Secret>::namespaced(client, NAMESPACE);
    assert!(secrets.get_opt(&format!("{fullname}-tls")).await?.is_none(), "SAP's certificate is still there");

    // Nothing restarts; SAP's hash is kept, and what it stands for recorded.
    eventually("observed-config", TIMEOUT, || async {
        ensure!(objects::observed(&space.get(DEPLOYMENT, APP).await?).is_some(), "none");
        Ok(())
    })
    .await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 0, || async { Ok(()) }).await?;
    assert_eq!(space.hash(DEPLOYMENT, APP).await?, saps);
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            space.configmap("settings", "two").await?;
            Ok(())
        })
        .await?;

    // And back, if need be.
    helm.run(["rollback", NAME, "1", "--namespace", NAMESPACE]).await?;
    let webhooks = configurations.get(&fullname).await?.webhooks.unwrap_or_default();
    assert_eq!(
        webhooks.iter().map(|webhook| webhook.name.as_str()).collect::<Vec<_>>(),
        ["mutate.apps.k8s.io"]
    );
    assert_eq!(deployments.get(&fullname).await?.uid(), uid);
    Ok(())
}
