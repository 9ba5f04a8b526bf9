//! docs/examples/crashing.md: an application that runs with the right secret only.

use anyhow::ensure;
use pod_reloader_e2e::{Scenario, SeenPod, Testbed, eventually, testbed::ROLLOUT_TIMEOUT};

const OPTED_IN: [&str; 3] = ["app", "app-file", "app-argument"];

#[tokio::test]
async fn fixing_the_secret_heals_all_three_variants() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("crashing").await? else { return Ok(()) };
    space.apply("crashing").await?;
    // From the third restart on, the kubelet waits 40 seconds and more: a rollout takes a few.
    let broken = eventually("the third restart to fail", ROLLOUT_TIMEOUT, || async {
        let pods = space.pods("app-plain").await?;
        ensure!(pods.len() == 1 && pods[0].restarts >= 3 && pods[0].started == [None], "{pods:?}");
        Ok(pods)
    })
    .await?;
    let looping = space.pods("app-file-plain").await?;
    ensure!(looping.iter().all(|pod| pod.restarts == 0 && !pod.ready), "{looping:?}");
    let mut before = Vec::new();
    for app in OPTED_IN {
        let pods = space.pods(app).await?;
        ensure!(!pods.is_empty() && pods.iter().all(|pod| !pod.ready), "{pods:?}");
        before.extend(pods.into_iter().map(|pod| pod.name));
    }

    let hash = space.config_hash("deployment/app").await?;
    space.set("secret/pin", "PIN", "4321").await?;
    space.hash_changes("deployment/app", &hash).await?;
    space.rolled_out("deployment/app").await?;
    let twin = space.pods("app-plain").await?;
    ensure!(twin == broken, "nothing but the end of its back-off should heal it: {twin:?}");
    space.settle().await?;
    for app in OPTED_IN {
        let workload = format!("deployment/{app}");
        space.rolled_out(&workload).await?;
        let pods = space.pods(app).await?;
        ensure!(pods.iter().all(|pod| pod.ready && pod.restarts == 0), "{app}: {pods:?}");
        ensure!(pods.iter().all(|pod| !before.contains(&pod.name)), "{app} healed by itself: {pods:?}");
        ensure!(space.get_from_service(app, "/").await?["looks"] == 1, "{app} started with the wrong secret");
        ensure!(space.revisions(&workload).await? == 2, "{app} has not one new revision");
    }

    // Without pod-reloader both heal as well, late and in their old pods: the kubelet reads a variable at each start of
    // a container, and it updates a volume in a minute or two.
    let healed = becomes_ready(&space, "app-plain").await?;
    ensure!(healed.name == broken[0].name && healed.restarts > broken[0].restarts, "{healed:?}");
    let healed = becomes_ready(&space, "app-file-plain").await?;
    ensure!(healed.name == looping[0].name && healed.started == looping[0].started, "{healed:?}");
    let answer = space.get_from_service("app-file-plain", "/").await?;
    ensure!(answer["looks"].as_u64() > Some(1), "it was right from the start: {answer}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_secret_is_stopped_by_the_rollout() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("wrong").await? else { return Ok(()) };
    space.apply("crashing/1-secret.yaml").await?;
    space.set("secret/pin", "PIN", "4321").await?;
    space.apply("crashing/2-env.yaml").await?;
    space.rolled_out("deployment/app").await?;
    // Not before: pods may take long to start beside those of other tests.
    let deadline = r#"{"spec": {"progressDeadlineSeconds": 20}}"#;
    space.kubectl(&["patch", "deployment/app", "--patch", deadline]).await?;
    space.apply("load.yaml").await?;
    space.rolled_out("deployment/load").await?;
    let (first, hash) = (space.pods("app").await?, space.config_hash("deployment/app").await?);
    let two = |counts: &serde_json::Value| {
        counts["instances"].as_object().is_some_and(|instances| instances.len() == 2)
    };
    space.get_until("load", "/", "the client under load to have met both", two).await?;

    space.set("secret/pin", "PIN", "1111").await?;
    space.hash_changes("deployment/app", &hash).await?;
    eventually("a pod that fails with the wrong secret", ROLLOUT_TIMEOUT, || async {
        let pods = space.pods("app").await?;
        ensure!(pods.iter().any(|pod| pod.restarts > 0), "{pods:?}");
        Ok(())
    })
    .await?;
    let status = space.kubectl(&["rollout", "status", "deployment/app"]).await;
    let why = status.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(why.contains("exceeded its progress deadline"), "{why}");
    let pods = space.pods("app").await?;
    ensure!(pods.len() == 3 && first.iter().all(|pod| pods.contains(pod)), "{pods:?}");
    let during = space.nothing_failed().await?;
    // The hash says what is in the Secret, and undoing brings no Secret back.
    let wrong = space.config_hash("deployment/app").await?;
    space.kubectl(&["rollout", "undo", "deployment/app"]).await?;
    space.settle().await?;
    ensure!(space.config_hash("deployment/app").await? == wrong && space.pods("app").await?.len() == 3);

    space.set("secret/pin", "PIN", "4321").await?;
    eventually("the hash to return", ROLLOUT_TIMEOUT, || async {
        ensure!(space.config_hash("deployment/app").await? == hash);
        Ok(())
    })
    .await?;
    space.rolled_out("deployment/app").await?;
    space.settle().await?;
    // The hash is as it was, and so is the template: Kubernetes takes the earlier ReplicaSet, whose pods still run.
    let pods = space.pods("app").await?;
    ensure!(pods == first, "{pods:?} instead of {first:?}");
    ensure!(space.revisions("deployment/app").await? == 2);
    let revision = r".metadata.annotations.deployment\.kubernetes\.io/revision";
    ensure!(space.field("deployment/app", revision).await? == "3");
    let events = space.reload_events("deployment/app").await?;
    ensure!(events == ["Reload triggered: secret/pin changed"; 2], "{events:?}");
    let counts = space.get_from_service("load", "/").await?;
    ensure!(two(&counts), "a pod with the wrong secret answered: {counts}");
    let requests = space.nothing_failed().await?;
    ensure!(requests > during, "{counts}");
    println!("{requests} requests while the secret was right, wrong and right, none failed");
    Ok(())
}

/// The only pod of `app`, once it is ready.
async fn becomes_ready(space: &Scenario, app: &str) -> anyhow::Result<SeenPod> {
    eventually(format!("{app} to be ready"), ROLLOUT_TIMEOUT, || async {
        let mut pods = space.pods(app).await?;
        ensure!(pods.len() == 1 && pods[0].ready, "{pods:?}");
        Ok(pods.remove(0))
    })
    .await
}
