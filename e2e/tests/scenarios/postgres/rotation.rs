//! Another password, first in the database and then in the Secret.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use pod_reloader_e2e::{SeenPod, eventually, testbed::ROLLOUT_TIMEOUT};
use serde_json::{Value, json};

use super::shop::{API, Shop, WRITES, is_rewritten};

/// How long a request is under way, in milliseconds. Long enough for both pods to get SIGTERM meanwhile, and shorter
/// than the minute that they then have.
const SLOW: u64 = 40_000;

#[tokio::test]
async fn rotating_the_password_reloads_the_api_once_and_no_request_fails() -> anyhow::Result<()> {
    let Some(shop) = Shop::open("rotation").await? else { return Ok(()) };
    let space = &shop.space;
    space.apply("postgres/7-load.yaml").await?;
    space.rolled_out("deployment/load").await?;
    shop.sql("INSERT INTO items VALUES ('quince')").await?;
    let items = json!(["apple", "pear", "quince"]);
    space.get_until("frontend", "/", "the new item", |page| page["api"]["items"] == items).await?;
    let before = shop.snapshot().await?;
    let requests = |counts: &Value| counts["requests"].as_u64().unwrap_or_default();
    let counted = space.get_until("load", "/", "requests", |counts| requests(counts) > 20).await?;

    let [first, second] = &before.api.pods[..] else { anyhow::bail!("{before:#?}") };
    let rotation = async {
        shop.slow_requests_are_under_way().await?;
        shop.sql("ALTER ROLE shop PASSWORD 'second-password'").await?;
        shop.seal("second-password").await?;
        for pod in [first, second] {
            shop.was_asked_to_end(pod).await?;
        }
        Ok(Instant::now())
    };
    let (first_end, second_end, both_asked) =
        tokio::try_join!(shop.slow_request(first), shop.slow_request(second), rotation)?;
    ensure!(
        first_end > both_asked && second_end > both_asked,
        "the slow requests were over before the pods were asked to end: they show nothing"
    );

    let after = shop.snapshot().await?;
    is_rewritten(space, WRITES).await?;
    shop.nothing_happened_since(&after, "a second reload").await?;
    ensure!(after.api.revisions == before.api.revisions + 1, "{before:#?} became {after:#?}");
    ensure!(after.api.pods.iter().all(|pod| !before.api.pods.contains(pod)), "{after:#?}");
    let events = space.reload_events(API).await?;
    ensure!(events == ["Reload triggered: secret/database changed"], "{events:?}");
    ensure!(after.bystanders == before.bystanders, "{before:#?} became {after:#?}");

    // The data are there, and only the new password opens the door.
    let page = space.get_from_service("frontend", "/").await?;
    ensure!(page["api"]["items"] == items, "{page}");
    ensure!(shop.log_in("second-password").await.is_ok());
    let refused = shop.log_in("first-password").await.err().context("the old password still opens")?;
    ensure!(format!("{refused:#}").contains("password authentication failed"), "{refused:#}");

    the_secret_first(&shop).await?;

    // Also after the last of the old pods has gone.
    let total = requests(&counted) + 100;
    space.get_until("load", "/", "more requests", |counts| requests(counts) > total).await?;
    println!("{} requests, none failed", space.nothing_failed().await?);
    Ok(())
}

/// The other way round: new pods are not let in until the database has the new password, and that stops the rollout.
async fn the_secret_first(shop: &Shop) -> anyhow::Result<()> {
    let before = shop.snapshot().await?;
    shop.seal("third-password").await?;
    eventually("a new pod that is not let in", ROLLOUT_TIMEOUT, || async {
        let pods = shop.space.pods("api").await?;
        ensure!(before.api.pods.iter().all(|pod| pods.contains(pod)), "an old one is gone: {pods:#?}");
        ensure!(pods.iter().any(|pod| !pod.ready && pod.restarts > 0), "{pods:#?}");
        Ok(())
    })
    .await?;
    shop.sql("ALTER ROLE shop PASSWORD 'third-password'").await?;
    let after = shop.snapshot().await?;
    ensure!(after.api.revisions == before.api.revisions + 1, "{before:#?} became {after:#?}");
    ensure!(after.api.pods.iter().all(|pod| !before.api.pods.contains(pod)), "{after:#?}");
    ensure!(after.bystanders == before.bystanders, "{before:#?} became {after:#?}");
    Ok(())
}

impl Shop {
    /// A request to a pod that takes long, and when it was answered.
    async fn slow_request(&self, pod: &SeenPod) -> anyhow::Result<Instant> {
        let path = format!("/slow?ms={SLOW}");
        let answer = self.space.get_from_pod(&format!("{}:8080", pod.name), &path).await?;
        let end = Instant::now();
        ensure!(answer["slow"] == SLOW && answer["pod"] == pod.name.as_str(), "{answer}");
        Ok(end)
    }

    async fn slow_requests_are_under_way(&self) -> anyhow::Result<()> {
        eventually("both slow requests to reach the database", ROLLOUT_TIMEOUT, || async {
            let query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'";
            let count = self.sql(query).await?;
            ensure!(count == "2", "{count} of 2");
            Ok(())
        })
        .await
    }

    /// Waits until a pod has got its SIGTERM.
    async fn was_asked_to_end(&self, pod: &SeenPod) -> anyhow::Result<()> {
        eventually(format!("{} to be asked to end", pod.name), ROLLOUT_TIMEOUT, || async {
            let logs = self.space.kubectl(&["logs", &pod.name]).await?;
            ensure!(logs.contains("asked to end"), "{logs}");
            Ok(())
        })
        .await
    }

    /// A new connection through the network, where a password is asked for.
    async fn log_in(&self, password: &str) -> anyhow::Result<String> {
        let target = format!("host=127.0.0.1 user=shop dbname=postgres password={password}");
        self.psql(&["--no-password", "--dbname", &target, "--command", "SELECT 1"]).await
    }
}
