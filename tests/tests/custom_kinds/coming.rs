//! A kind whose definition comes later, goes, and comes back.

use anyhow::ensure;
use pod_reloader_e2e::objects::{apps, listing as deployment};
use pod_reloader_e2e::{TIMEOUT, eventually};

use crate::setup::{Installed, create, define, definition_name, hash, listing, named};

#[tokio::test]
async fn c9_2_a_kind_that_comes_goes_and_comes_back_is_picked_up_each_time() -> anyhow::Result<()> {
    let kind = named("databases");
    // None of the definitions is there: nothing waits for them.
    let Some(mut installed) = Installed::with(&[]).await? else { return Ok(()) };
    let space = installed.world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&deployment("app", "settings")).await?;
    let mut builtin = space.hash(apps::DEPLOYMENT, "app").await?;
    let quiet = async |installed: &Installed| {
        let (status, text) = installed.replica.readiness().await?;
        ensure!(status == 200, "{status}: {text}");
        let metrics = installed.replica.metrics().await?;
        let label = format!("kind=\"{}\"", kind.label());
        let failing = metrics.lines().find(|line| line.contains("watch_") && line.contains(&label));
        ensure!(failing.is_none(), "{failing:?}\n{}", installed.replica.log_text()?);
        anyhow::Ok(())
    };
    quiet(&installed).await?;

    for round in 0..2 {
        define(&installed.world, &[kind]).await?;
        // Whether the webhook is told of it at once or not: it has a hash within seconds.
        create(&space, kind, &listing(kind, "db", "settings")).await?;
        eventually("the first hash", TIMEOUT, || hash(&space, kind, "db")).await?;
        eventually("the kind to be watched", TIMEOUT, || async {
            let metrics = installed.replica.metrics().await?;
            let label = format!("pod_reloader_watch_failing{{kind=\"{}\"", kind.label());
            ensure!(metrics.contains(&label), "not watched");
            Ok(())
        })
        .await?;
        let before = hash(&space, kind, "db").await?;
        space.configmap("settings", &format!("round {round}")).await?;
        eventually("another hash", TIMEOUT, || async {
            ensure!(hash(&space, kind, "db").await? != before, "the same");
            Ok(())
        })
        .await?;
        builtin = space.hash_changes(apps::DEPLOYMENT, "app", &builtin).await?;

        let name = format!("crd/{}", definition_name(kind));
        installed.world.kubectl().run(["delete", &name, "--timeout=60s"]).await?;
        eventually("the kind to be forgotten", TIMEOUT, || quiet(&installed)).await?;
        space.configmap("settings", &format!("after round {round}")).await?;
        builtin = space.hash_changes(apps::DEPLOYMENT, "app", &builtin).await?;
    }
    installed.replica.ensure_running()?;
    let log = installed.replica.log_text()?;
    let told =
        |what: &str| log.lines().filter(|line| line.contains(what) && line.contains("databases")).count();
    ensure!(told("does not have this kind") == 3 && told("has this kind of workload now") == 2, "{log}");
    Ok(())
}
