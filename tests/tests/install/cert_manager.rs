//! A real cert-manager issues the webhook's certificate, its CA injector keeps the caBundle, and both are renewed while
//! the webhook serves.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use pod_reloader_e2e::objects::{self, KindRef, apps};
use pod_reloader_e2e::process::Process;
use pod_reloader_e2e::world::release::{self, NAME};
use pod_reloader_e2e::{Helm, Operator, Release, TIMEOUT, User, World, chart, eventually};
use serde_json::json;

const NAMESPACE: &str = "operators";
const FULLNAME: &str = "reloader-pod-reloader";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;
const ENABLED: &str = "--set=webhook.certManager.enabled=true";

#[tokio::test]
async fn cert_manager_issues_and_renews_while_the_webhook_serves() -> anyhow::Result<()> {
    let Some(world) = release::world().await? else { return Ok(()) };
    let _cert_manager = start(&world).await?;
    let mut release = Release::install(&world, NAMESPACE, &[ENABLED]).await?;
    let replica = release.start_replica(&world, "replica").await?;
    release.route_to(&world, &[&replica]).await?;

    // Every write in between is answered, by the old certificate or the new one.
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing("app", "settings")).await?;
    let api = objects::api(world.plane.client_without_retries(User::Editor).await?, DEPLOYMENT, &space.name);
    let done = AtomicBool::new(false);
    let write = async {
        for turn in 0.. {
            if done.load(Ordering::Relaxed) {
                break;
            }
            let patch = Patch::Merge(json!({"metadata": {"labels": {"turn": turn.to_string()}}}));
            api.patch("app", &PatchParams::default(), &patch)
                .await
                .with_context(|| format!("write {turn}"))?;
        }
        anyhow::Ok(())
    };
    let renew = async {
        for renewal in 1..=2 {
            let before = reloads(&replica).await?;
            let old = certificate(&world).await?;
            if renewal == 1 {
                let secrets = Api::<Secret>::namespaced(world.admin().await?, NAMESPACE);
                let name = format!("{FULLNAME}-tls-managed");
                secrets.delete(&name, &DeleteParams::default()).await?;
            } else {
                ask_for_renewal(&world).await?;
            }
            eventually("another certificate", TIMEOUT, || async {
                ensure!(certificate(&world).await? != old, "the old one");
                Ok(())
            })
            .await?;
            eventually("it to be served", TIMEOUT, || async {
                ensure!(reloads(&replica).await? > before, "the old one");
                Ok(())
            })
            .await?;
        }
        done.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    tokio::try_join!(write, renew)?;
    world.webhook_answers().await
}

#[tokio::test]
async fn any_issuer_and_a_certificate_of_ones_own_making_do_as_well() -> anyhow::Result<()> {
    let Some(world) = release::world().await? else { return Ok(()) };
    let _cert_manager = start(&world).await?;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../certs/examples");
    let kubectl = world.kubectl();
    kubectl.run(["create", "namespace", "cert-manager"]).await?;
    apply_example(&world, &examples.join("self-signed.yaml"), &[]).await?;

    let issuer = [
        ENABLED,
        "--set=webhook.certManager.issuerKind=ClusterIssuer",
        "--set=webhook.certManager.issuerName=cluster-ca",
    ];
    let mut release = Release::install(&world, NAMESPACE, &issuer).await?;
    let replica = release.start_replica(&world, "by-issuer").await?;
    release.route_to(&world, &[&replica]).await?;
    // The chart makes no CA of its own then.
    let secrets = Api::<Secret>::namespaced(world.admin().await?, NAMESPACE);
    assert!(secrets.get_opt(&format!("{FULLNAME}-ca")).await?.is_none());

    // The example of a Certificate, for where this release is.
    let places = [
        ("namespace: pod-reloader", "namespace: operators"),
        ("pod-reloader.pod-reloader.svc", "reloader-pod-reloader.operators.svc"),
    ];
    apply_example(&world, &examples.join("certificate.yaml"), &places).await?;
    let helm = Helm::new("helm", &world.plane.kubeconfig(User::Admin), world.directory())?;
    let own = [
        "--set=webhook.existingSecret=webhook-certificate",
        r"--set=webhook.annotations.cert-manager\.io/inject-ca-from=operators/webhook-certificate",
    ];
    helm.upgrade(NAME, chart::folder(), NAMESPACE, &own).await?;
    let mut release_of_own = Release::installed(&world, NAMESPACE).await?;
    let replica = release_of_own.start_replica(&world, "by-certificate").await?;
    release.route_to(&world, &[&replica]).await
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_replaced_while_the_webhook_serves() -> anyhow::Result<()> {
    let Some(world) = release::world().await? else { return Ok(()) };
    let (secret, ca) = release::bring_certificate(&world, NAMESPACE).await?;
    let values = [
        &format!("--set=webhook.existingSecret={secret}"),
        &format!("--set-file=webhook.caBundle={}", ca.display()),
    ];
    let values: Vec<_> = values.iter().map(|value| value.as_str()).collect();
    let mut release = Release::install(&world, NAMESPACE, &values).await?;
    let replica = release.start_replica(&world, "replica").await?;
    release.route_to(&world, &[&replica]).await?;
    let before = reloads(&replica).await?;
    release::bring_certificate(&world, NAMESPACE).await?;
    eventually("the new certificate to be taken", TIMEOUT, || async {
        ensure!(reloads(&replica).await? > before, "not yet");
        Ok(())
    })
    .await?;
    world.webhook_answers().await
}

/// Helm 4 applies on the server's side, where what somebody else has written is a conflict.
#[tokio::test]
async fn a_release_changes_over_to_a_certificate_of_ones_own_and_back() -> anyhow::Result<()> {
    let Some(world) = release::world().await? else { return Ok(()) };
    let mut self_made = Release::install(&world, NAMESPACE, &[]).await?;
    let first = self_made.start_replica(&world, "self-made").await?;
    self_made.route_to(&world, &[&first]).await?;
    let self_made_bundle =
        eventually("the operator to publish its CA and to own nothing", TIMEOUT, || async {
            let configuration = configuration(&world).await?;
            let fields = configuration.metadata.managed_fields.unwrap_or_default();
            ensure!(
                fields.iter().all(|entry| entry.manager.as_deref() != Some("pod-reloader")),
                "{fields:?}"
            );
            bundle(&configuration.data).context("no caBundle")
        })
        .await?;

    let (secret, ca) = release::bring_certificate(&world, NAMESPACE).await?;
    let values = [
        &format!("--set=webhook.existingSecret={secret}"),
        &format!("--set-file=webhook.caBundle={}", ca.display()),
    ];
    let values: Vec<_> = values.iter().map(|value| value.as_str()).collect();
    let mut own = Release::install(&world, NAMESPACE, &values).await?;
    let second = own.start_replica(&world, "own").await?;
    // The first one still runs, as during a rolling upgrade: it must not take its CA back there.
    drop(self_made);
    own.route_to(&world, &[&second]).await?;
    let own_bundle = bundle(&configuration(&world).await?.data).context("no caBundle")?;
    ensure!(own_bundle != self_made_bundle, "the old CA");

    let mut again = Release::install(&world, NAMESPACE, &["--reset-values"]).await?;
    let third = again.start_replica(&world, "self-made-again").await?;
    drop(own);
    again.route_to(&world, &[&third]).await?;
    eventually("the self-made CA to be trusted", TIMEOUT, || async {
        let bundle = bundle(&configuration(&world).await?.data).context("no caBundle")?;
        ensure!(bundle == self_made_bundle, "not {self_made_bundle} but {bundle}");
        Ok(())
    })
    .await
}

async fn configuration(world: &World) -> anyhow::Result<DynamicObject> {
    let kind = kube::core::GroupVersionKind::gvk(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
    );
    let api = Api::all_with(world.admin().await?, &kube::core::ApiResource::from_gvk(&kind));
    Ok(api.get(FULLNAME).await?)
}

fn bundle(configuration: &serde_json::Value) -> Option<String> {
    configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str().map(ToOwned::to_owned)
}

/// cert-manager's own controllers and CA injector, beside the control plane.
async fn start(world: &World) -> anyhow::Result<Process> {
    let bin = pod_reloader_e2e::paths::binaries();
    let crds = bin.join("cert-manager-crds.yaml");
    ensure!(crds.exists(), "{} is missing: run e2e/tools/build.sh", crds.display());
    let crds = crds.to_str().context("a path that is no UTF-8")?;
    world.kubectl().run(["apply", "--server-side", "-f", crds]).await?;
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "-f", crds];
    world.kubectl().run(wait).await?;
    let kubeconfig = format!("--kubeconfig={}", world.plane.kubeconfig(User::Admin).display());
    let log = world.plane.directory().join("cert-manager.log");
    Process::spawn("cert-manager", &bin.join("cert-manager"), [kubeconfig], [("NO_COLOR", "1")], &log)
}

async fn apply_example(world: &World, path: &Path, places: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut text = std::fs::read_to_string(path)?;
    for (from, to) in places {
        text = text.replace(from, to);
    }
    world.kubectl().run_with_input(["apply", "-f", "-"], &text).await?;
    Ok(())
}

async fn certificate(world: &World) -> anyhow::Result<Vec<u8>> {
    let secrets = Api::<Secret>::namespaced(world.admin().await?, NAMESPACE);
    let data = secrets.get(&format!("{FULLNAME}-tls-managed")).await?.data.unwrap_or_default();
    Ok(data.get("tls.crt").context("no tls.crt")?.0.clone())
}

/// What `cmctl renew` does.
async fn ask_for_renewal(world: &World) -> anyhow::Result<()> {
    use kube::core::{ApiResource, GroupVersionKind};
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"));
    let api = Api::<DynamicObject>::namespaced_with(world.admin().await?, NAMESPACE, &resource);
    let object = api.get(FULLNAME).await?;
    let mut conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.push(json!({
        "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "asked for",
        "lastTransitionTime": conditions.first().map(|condition| condition["lastTransitionTime"].clone()),
        "observedGeneration": object.metadata.generation,
    }));
    let patch = Patch::Merge(json!({"status": {"conditions": conditions}}));
    api.patch_status(FULLNAME, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// How many certificates the replica has taken up.
async fn reloads(replica: &Operator) -> anyhow::Result<u64> {
    let metrics = replica.metrics().await?;
    let name = r#"pod_reloader_certificate_reloads_total{result="success"} "#;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.with_context(|| format!("no {name} in {metrics}"))?.parse()?)
}
