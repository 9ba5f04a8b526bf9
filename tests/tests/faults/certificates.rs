//! 4.7: certificates that the operator makes itself.

use anyhow::{Context, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pod_reloader_e2e::{
    Operator, OperatorOptions, Registration, TIMEOUT, User, World, eventually, operator_binary,
};
use serde_json::json;

#[tokio::test]
async fn c4_7_replicas_share_self_made_certificates_and_keep_them_trusted() -> anyhow::Result<()> {
    let mut world = World::without_operator().await?;
    let (first, second) = (options(&world, "replica-1")?, options(&world, "replica-2")?);
    // At the same time, so that they have to agree.
    let (first, second) = tokio::try_join!(Operator::spawn(&first), Operator::spawn(&second))?;
    world.replicas = vec![first, second];
    world.apply(&Registration::new(world.replicas.iter().map(Operator::webhook_url))).await?;
    world.webhook_answers().await?;

    let secrets = Api::<Secret>::namespaced(world.admin().await?, "pod-reloader");
    let configurations = Api::<MutatingWebhookConfiguration>::all(world.admin().await?);
    let stored = || async {
        let secret = secrets.get(CERTIFICATES).await?;
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
    let bundle = eventually("the CA to be published", TIMEOUT, published_by_all).await?;

    // Somebody edits the configuration.
    let edit = Patch::Json::<()>(serde_json::from_value(json!([
        {"op": "replace", "path": "/webhooks/1/clientConfig/caBundle", "value": stored().await?},
        {"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}
    ]))?);
    configurations.patch("pod-reloader", &PatchParams::default(), &edit).await?;
    eventually("the CA to be put back", TIMEOUT, published_by_all).await?;
    world.webhook_answers().await?;

    // Somebody deletes a Secret: the same comes back, and nobody is left untrusted.
    for name in [CERTIFICATES, CAS] {
        secrets.delete(name, &DeleteParams::default()).await?;
        eventually("the Secret to be stored again", TIMEOUT, || async {
            anyhow::Ok(secrets.get(name).await?)
        })
        .await?;
        let restored = eventually("the certificates to be stored again", TIMEOUT, published_by_all).await?;
        assert_eq!(restored, bundle);
        world.webhook_answers().await?;
    }

    // Somebody asks for a renewal: a new certificate at once, of the same CA, and the next CA beside it.
    let stored = || async { anyhow::Ok(secrets.get(CERTIFICATES).await?) };
    let part = |secret: &Secret, key: &str| secret.data.as_ref().and_then(|data| data.get(key)).cloned();
    let cas = || async { anyhow::Ok(secrets.get(CAS).await?) };
    let (before, cas_before) = (stored().await?, cas().await?);
    let ask =
        Patch::Merge(json!({"metadata": {"annotations": {RENEW: "now", "example.com/other": "stays"}}}));
    secrets.patch(CERTIFICATES, &PatchParams::default(), &ask).await?;
    let after = eventually("the request to be gone", TIMEOUT, || async {
        let secret = stored().await?;
        ensure!(
            !secret.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(RENEW)),
            "still there"
        );
        Ok(secret)
    })
    .await?;
    assert_ne!(part(&after, "tls.crt"), part(&before, "tls.crt"));
    let cas_after = cas().await?;
    assert!(part(&cas_before, "ca-signing.key").is_some() && part(&before, "ca-signing.key").is_none());
    assert_eq!(part(&cas_after, "ca-signing.crt"), part(&cas_before, "ca-signing.crt"));
    assert!(part(&cas_after, "ca-next.crt").is_some());
    assert!(after.metadata.annotations.is_some_and(|all| all.contains_key("example.com/other")));
    let renewed = eventually("both CAs to be published", TIMEOUT, published_by_all).await?;
    assert!(renewed.0.len() > bundle.0.len() && renewed.0.starts_with(&bundle.0), "{renewed:?}");
    world.webhook_answers().await?;

    // The CA's key is known to somebody: a new CA at once, which signs as soon as it is published; and no trust in the old.
    for (value, last) in [("compromised", false), ("compromised-now", true)] {
        let before = cas().await?;
        let ask = Patch::Merge(json!({"metadata": {"annotations": {RENEW: value}}}));
        secrets.patch(CAS, &PatchParams::default(), &ask).await?;
        let leaf = stored().await?;
        eventually("a new CA to sign", TIMEOUT, || async {
            // All the time.
            world.webhook_answers().await?;
            let after = cas().await?;
            ensure!(part(&after, "ca-signing.crt") != part(&before, "ca-signing.crt"), "the old one");
            let bundle = published_by_all().await?;
            let old = part(&before, "ca-signing.crt").context("no CA")?;
            let trusts_old = bundle.0.windows(old.0.len()).any(|part| part == old.0);
            ensure!(trusts_old != last, "is the old one trusted? {trusts_old}");
            ensure!(part(&stored().await?, "tls.crt") != part(&leaf, "tls.crt"), "the old certificate");
            Ok(())
        })
        .await?;
        world.webhook_answers().await?;
    }
    Ok(())
}

/// What the release before stored, in one Secret, is taken over: the keys move, and the CA stays trusted.
#[tokio::test]
async fn c4_7_an_upgrade_moves_the_keys_of_the_cas() -> anyhow::Result<()> {
    let mut world = World::without_operator().await?;
    world.replicas = vec![Operator::spawn(&options(&world, "first")?).await?];
    world.apply(&Registration::new(world.replicas.iter().map(Operator::webhook_url))).await?;
    world.webhook_answers().await?;
    let secrets = Api::<Secret>::namespaced(world.admin().await?, "pod-reloader");
    let cas = eventually("the CAs", TIMEOUT, || async { anyhow::Ok(secrets.get(CAS).await?) }).await?;
    world.replicas[0].kill()?;
    world.replicas.clear();
    secrets.delete(CAS, &DeleteParams::default()).await?;
    let earlier = Patch::Merge(json!({"data": cas.data}));
    secrets.patch(CERTIFICATES, &PatchParams::default(), &earlier).await?;

    world.replicas = vec![Operator::spawn(&options(&world, "second")?).await?];
    world.apply(&Registration::new(world.replicas.iter().map(Operator::webhook_url))).await?;
    eventually("the keys to move", TIMEOUT * 2, || async {
        world.webhook_answers().await?;
        let data = secrets.get(CERTIFICATES).await?.data.unwrap_or_default();
        ensure!(!data.keys().any(|key| key.starts_with("ca-")), "still there");
        Ok(())
    })
    .await?;
    let moved = secrets.get(CAS).await?.data.unwrap_or_default();
    assert_eq!(Some(&moved["ca-signing.key"]), cas.data.as_ref().map(|data| &data["ca-signing.key"]));
    world.webhook_answers().await
}

/// A replica that makes its own certificates.
fn options(world: &World, name: &str) -> anyhow::Result<OperatorOptions> {
    let kubeconfig = world.plane.kubeconfig(User::Operator);
    let options = OperatorOptions::new(&operator_binary()?, &kubeconfig, world.plane.directory());
    Ok(options.name(name).args([
        "--leader-elect",
        "--leader-election-namespace=pod-reloader",
        "--shutdown-delay=0",
    ]))
}

const CERTIFICATES: &str = "pod-reloader-webhook-certificates";
const CAS: &str = "pod-reloader-webhook-ca";
/// Asks for new certificates, on the Secret.
const RENEW: &str = "pod-reloader.cs.sap.com/renew";
