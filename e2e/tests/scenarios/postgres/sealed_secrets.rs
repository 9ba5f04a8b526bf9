//! A controller that owns the Secret and writes it all the time.

use anyhow::{Context as _, ensure};
use pod_reloader_e2e::{Testbed, eventually, testbed::ROLLOUT_TIMEOUT};

use super::shop::{API, SECRET, Shop, WRITES, is_rewritten, make_sealed_secrets};

#[tokio::test]
async fn a_controller_that_rewrites_its_secret_all_the_time_causes_nothing() -> anyhow::Result<()> {
    let Some(shop) = Shop::open("sealed-secrets").await? else { return Ok(()) };
    let space = &shop.space;
    let before = shop.snapshot().await?;
    ensure!(before.api.revisions == 1, "{before:#?}");

    space.kubectl(&["label", SECRET, "team=shop"]).await?;
    is_rewritten(space, WRITES).await?;
    shop.nothing_happened_since(&before, "the same content written anew").await?;

    // What it owns goes with its owner. Running pods have what they need; new ones could not start.
    space.kubectl(&["delete", "sealedsecret/database"]).await?;
    eventually("the Secret to go with its owner", ROLLOUT_TIMEOUT, || async {
        let left = space.kubectl(&["get", SECRET, "--ignore-not-found", "--output=name"]).await?;
        ensure!(left.is_empty(), "{left} is there");
        Ok(())
    })
    .await?;
    shop.nothing_happened_since(&before, "the Secret deleted").await?;
    space.apply("postgres/3-database.yaml").await?;
    is_rewritten(space, WRITES).await?;
    shop.nothing_happened_since(&before, "the Secret made again as it was").await?;

    let events = space.reload_events(API).await?;
    ensure!(events.is_empty(), "{events:?}");
    Ok(())
}

#[tokio::test]
async fn the_sealer_writes_secrets_of_its_namespace_and_reads_none() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("sealed-secrets-rbac").await? else { return Ok(()) };
    make_sealed_secrets(&space).await?;
    space.apply_text(SEALED).await?;
    is_rewritten(&space, 2).await?;
    let value = space.field(SECRET, ".data.password").await?;
    ensure!(value == "Zmlyc3QtcGFzc3dvcmQ=", "{value} is not first-password");

    let account = format!("--as=system:serviceaccount:{}:sealed-secrets", space.name);
    for refused in [
        ["get", SECRET, "--output=yaml"].as_slice(),
        &["get", "secrets"],
        &["delete", SECRET],
        &["create", "secret", "generic", "other", "--namespace=default"],
    ] {
        let outcome = space.kubectl(&[refused, &[&account]].concat()).await;
        let error = outcome.err().with_context(|| format!("the controller may {}", refused.join(" ")))?;
        ensure!(format!("{error:#}").contains("orbidden"), "{error:#}");
    }

    // It can do no more than it was given.
    space.kubectl(&["delete", "rolebinding/sealed-secrets"]).await?;
    eventually("the controller to say what it lacks", ROLLOUT_TIMEOUT, || async {
        let logs = space.kubectl(&["logs", "deployment/sealed-secrets", "--tail=1"]).await?;
        ensure!(logs.contains("forbidden"), "{logs}");
        Ok(())
    })
    .await?;
    space.apply("postgres/2-sealed-secrets-controller.yaml").await?;
    is_rewritten(&space, 1).await
}

const SEALED: &str = "
apiVersion: seal.example.com/v1
kind: SealedSecret
metadata:
  name: database
spec:
  encryptedData:
    password: ZHJvd3NzYXAtdHNyaWY=
";
