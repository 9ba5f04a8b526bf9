//! docs/examples/sap-readme.md: env, volumes and subPath mounts, in all three kinds of workload.

use anyhow::ensure;
use pod_reloader_e2e::Testbed;

#[tokio::test]
async fn the_service_answers_all_along_while_a_deployment_is_reloaded() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("readme").await? else { return Ok(()) };
    space.apply("sap-readme/1-config.yaml").await?;
    space.apply("sap-readme/2-deployment.yaml").await?;
    space.rolled_out("deployment/app").await?;
    space.apply("load.yaml").await?;
    space.rolled_out("deployment/load").await?;
    let first = space.pods("app").await?;
    ensure!(first.len() == 3, "{first:?}");
    let before = space
        .get_until("load", "/", "the client under load to have met all three", |counts| {
            counts["instances"].as_object().is_some_and(|instances| instances.len() == 3)
        })
        .await?;

    space.set("secret/my-secret", "somekey", "second password").await?;
    let seen = |answer: &serde_json::Value| answer["at_start"]["env"]["KEY_FROM_SECRET"] == "second password";
    space.get_until("app", "/", "a pod with the new password", seen).await?;
    space.rolled_out("deployment/app").await?;
    space.settle().await?;

    ensure!(space.revisions("deployment/app").await? == 2, "not one new revision");
    let second = space.pods("app").await?;
    ensure!(second.len() == 3 && second.iter().all(|pod| !first.contains(pod) && pod.ready), "{second:?}");
    let events = space.reload_events("deployment/app").await?;
    ensure!(events == ["Reload triggered: secret/my-secret changed"], "{events:?}");
    let counts = space
        .get_until("load", "/", "the client under load to have met the three new ones", |counts| {
            counts["instances"].as_object().is_some_and(|instances| instances.len() == 6)
        })
        .await?;
    let requests = space.nothing_failed().await?;
    println!("{requests} requests before and during the reload, none failed");
    ensure!(counts["requests"].as_u64() > before["requests"].as_u64(), "{counts}");
    Ok(())
}

#[tokio::test]
async fn all_three_kinds_see_env_volume_and_sub_path() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("kinds").await? else { return Ok(()) };
    space.apply("sap-readme").await?;
    let opted_in = ["deployment/app", "statefulset/app-stateful", "daemonset/app-daemon"];
    for workload in opted_in.into_iter().chain(["deployment/app-plain"]) {
        space.rolled_out(workload).await?;
    }
    let untouched = space.pods("app-plain").await?;

    space.set("configmap/my-configmap", "settings.ini", "color = blue").await?;
    space.set("secret/my-other-secret", "certificate", "second certificate").await?;
    for workload in opted_in {
        let (_, service) = workload.split_once('/').unwrap();
        let what = format!("{workload} to see both changes");
        let seen = |answer: &serde_json::Value| {
            let files = &answer["at_start"]["files"];
            files["/etc/app/settings.ini"] == "color = blue"
                && files["/data/certificate"] == "second certificate"
        };
        space.get_until(service, "/", &what, seen).await?;
        space.rolled_out(workload).await?;
    }
    space.settle().await?;
    for workload in opted_in {
        let revisions = space.revisions(workload).await?;
        ensure!(revisions == 2, "{workload} has {revisions} revisions");
    }

    // Without pod-reloader: the kubelet updates the volume in a minute or two, and the subPath mount never.
    let answer = space
        .get_until("app-plain", "/", "the kubelet to update the volume", |answer| {
            answer["now"]["files"]["/data/certificate"] == "second certificate"
        })
        .await?;
    ensure!(answer["now"]["files"]["/etc/app/settings.ini"] == "color = red", "{answer}");
    ensure!(space.pods("app-plain").await? == untouched, "a workload that has not opted in was restarted");
    ensure!(space.revisions("deployment/app-plain").await? == 1);
    Ok(())
}
