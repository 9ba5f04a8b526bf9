//! 4.7: certificates that the operator makes itself.

use anyhow::{Context, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pod_reloader_e2e::{Operator, OperatorOptions, Registration, User, eventually};
use pod_reloader_tests::world::operator_binary;
use pod_reloader_tests::{PATIENCE, World};
use serde_json::json;

#[tokio::test]
async fn c4_7_replicas_share_self_made_certificates_and_keep_them_trusted() -> anyhow::Result<()> {
    let mut world = World::without_operator().await?;
    let options = |name: &str| -> anyhow::Result<OperatorOptions> {
        let kubeconfig = world.plane.kubeconfig(User::Operator);
        let options = OperatorOptions::new(&operator_binary()?, &kubeconfig, world.plane.directory());
        Ok(options.name(name).args([
            "--leader-elect",
            "--leader-election-namespace=pod-reloader",
            "--shutdown-delay=0",
        ]))
    };
    let (first, second) = (options("replica-1")?, options("replica-2")?);
    // At the same time, so that they have to agree.
    let (first, second) = tokio::try_join!(Operator::spawn(&first), Operator::spawn(&second))?;
    world.replicas = vec![first, second];
    world.apply(&Registration::new(world.replicas.iter().map(Operator::webhook_url))).await?;
    world.webhook_answers().await?;

    let secrets = Api::<Secret>::namespaced(world.admin().await?, "pod-reloader");
    let configurations = Api::<MutatingWebhookConfiguration>::all(world.admin().await?);
    let stored = || async {
        let secret = secrets.get("pod-reloader-webhook-certificates").await?;
        secret.data.and_then(|data| data.get("ca.crt").cloned()).context("no ca.crt")
    };
    let published_by_all = || async {
        let bundle = stored().await?;
        let configuration = configurations.get("pod-reloader").await?;
        for webhook in configuration.webhooks.unwrap_or_default() {
            ensure!(webhook.client_config.ca_bundle.as_ref() == Some(&bundle), "{} differs", webhook.name);
        }
        Ok(bundle)
    };
    let bundle = eventually("the CA to be published", PATIENCE, published_by_all).await?;

    // Somebody edits the configuration.
    let edit = Patch::Json::<()>(serde_json::from_value(json!([
        {"op": "replace", "path": "/webhooks/1/clientConfig/caBundle", "value": stored().await?},
        {"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}
    ]))?);
    configurations.patch("pod-reloader", &PatchParams::default(), &edit).await?;
    eventually("the CA to be put back", PATIENCE, published_by_all).await?;
    world.webhook_answers().await?;

    // Somebody deletes the Secret: the same comes back, and nobody is left untrusted.
    secrets.delete("pod-reloader-webhook-certificates", &DeleteParams::default()).await?;
    let restored = eventually("the certificates to be stored again", PATIENCE, published_by_all).await?;
    assert_eq!(restored, bundle);
    world.webhook_answers().await?;

    // Somebody asks for a renewal: a new certificate at once, of the same CA, and the next CA beside it.
    let stored = || async { anyhow::Ok(secrets.get("pod-reloader-webhook-certificates").await?) };
    let part = |secret: &Secret, key: &str| secret.data.as_ref().and_then(|data| data.get(key)).cloned();
    let before = stored().await?;
    let ask =
        Patch::Merge(json!({"metadata": {"annotations": {RENEW: "now", "example.com/other": "stays"}}}));
    secrets.patch("pod-reloader-webhook-certificates", &PatchParams::default(), &ask).await?;
    let after = eventually("the request to be gone", PATIENCE, || async {
        let secret = stored().await?;
        ensure!(
            !secret.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(RENEW)),
            "still there"
        );
        Ok(secret)
    })
    .await?;
    assert_ne!(part(&after, "tls.crt"), part(&before, "tls.crt"));
    assert_eq!(part(&after, "ca-signing.crt"), part(&before, "ca-signing.crt"));
    assert!(part(&after, "ca-next.crt").is_some());
    assert!(after.metadata.annotations.is_some_and(|all| all.contains_key("example.com/other")));
    let renewed = eventually("both CAs to be published", PATIENCE, published_by_all).await?;
    assert!(renewed.0.len() > bundle.0.len() && renewed.0.starts_with(&bundle.0), "{renewed:?}");
    world.webhook_answers().await
}

/// Asks for new certificates, on the Secret.
const RENEW: &str = "pod-reloader.cs.sap.com/renew";
