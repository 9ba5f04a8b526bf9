//! docs/examples/flask.md: opting in a Deployment that runs.

use anyhow::{Context as _, ensure};
use pod_reloader_e2e::{
    Scenario, Testbed, eventually,
    objects::{self, apps},
    testbed::ROLLOUT_TIMEOUT,
};
use serde_json::Value;

const APP: &str = "deployment/app";
const SECRET: &str = "secret/random-env-secret";
const VARIABLE: &str = "RANDOM_ENV_SECRET";
const FILE: &str = "/secrets/RANDOM_ENV_SECRET";

#[tokio::test]
async fn c7_1_a_running_deployment_opts_in_unnoticed_and_the_next_change_of_its_key_is_one_rollout()
-> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("flask").await? else { return Ok(()) };
    space.apply("flask/1-app.yaml").await?;
    space.rolled_out(APP).await?;
    sees(&space, "foo").await?;
    let first = space.pods("app").await?;
    let template = pod_template(&space).await?;

    // Not opted in: the pods keep the variable that they started with, even when the kubelet has updated the file.
    space.set(SECRET, VARIABLE, "bar").await?;
    let answer = space
        .get_until("app", "/", "the kubelet to update the volume", |answer| {
            answer["now"]["files"][FILE] == "bar"
        })
        .await?;
    ensure!(answer["now"]["env"][VARIABLE] == "foo", "{answer}");
    ensure!(space.pods("app").await? == first, "a pod was restarted");

    opt_in(&space).await?;
    space.settle().await?;
    ensure!(pod_template(&space).await? == template, "opting in has changed the pod template");
    ensure!(space.revisions(APP).await? == 1);
    ensure!(space.pods("app").await? == first, "opting in has restarted a pod");

    space.set(SECRET, VARIABLE, "foo-bar").await?;
    sees(&space, "foo-bar").await?;
    space.rolled_out(APP).await?;
    space.settle().await?;
    ensure!(space.revisions(APP).await? == 2);
    let second = space.pods("app").await?;
    ensure!(second.iter().all(|pod| !first.contains(pod)), "{second:?}");

    // A key that nothing here reads.
    space.set(SECRET, "ANOTHER", "value").await?;
    space.settle().await?;
    ensure!(space.revisions(APP).await? == 2);
    ensure!(space.pods("app").await? == second, "a key that the pods do not read has restarted them");

    log_tells_the_story(&space).await
}

#[tokio::test]
async fn c3_25_pods_that_missed_a_change_see_it_by_a_restart_of_the_owners_which_brings_the_hash()
-> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("flask-restart").await? else { return Ok(()) };
    space.apply("flask/1-app.yaml").await?;
    space.rolled_out(APP).await?;
    space.set(SECRET, VARIABLE, "bar").await?;
    opt_in(&space).await?;
    space.settle().await?;
    sees(&space, "foo").await?;

    space.kubectl(&["rollout", "restart", APP]).await?;
    ensure!(!space.config_hash(APP).await?.is_empty(), "the restart has brought no hash");
    space.rolled_out(APP).await?;
    sees(&space, "bar").await?;
    space.settle().await?;
    ensure!(space.revisions(APP).await? == 2);
    Ok(())
}

/// As the page does it, until the operator has recorded what there is.
async fn opt_in(space: &Scenario) -> anyhow::Result<()> {
    space.kubectl(&["annotate", APP, "pod-reloader.cs.sap.com/auto=true"]).await?;
    eventually("the configuration to be recorded", ROLLOUT_TIMEOUT, || async {
        let app = space.get(apps::DEPLOYMENT, "app").await?;
        let observed = objects::observed(&app).context("nothing is recorded")?;
        ensure!(observed["followed"]["secrets"]["random-env-secret"].is_object(), "{observed}");
        Ok(())
    })
    .await
}

/// All that a rollout depends on.
async fn pod_template(space: &Scenario) -> anyhow::Result<Value> {
    let app = space.get(apps::DEPLOYMENT, "app").await?;
    Ok(app.data["spec"]["template"].clone())
}

/// Waits until both pods that answer started with `value`, in the variable and in the file.
async fn sees(space: &Scenario, value: &str) -> anyhow::Result<()> {
    for pod in eventually(format!("two pods that see {value}"), ROLLOUT_TIMEOUT, || async {
        let pods = space.pods("app").await?;
        ensure!(pods.len() == 2 && pods.iter().all(|pod| pod.ready), "{pods:?}");
        for pod in &pods {
            let answer = space.get_from_pod(&format!("{}:8080", pod.name), "/").await?;
            ensure!(answer["at_start"]["env"][VARIABLE] == value, "{answer}");
        }
        Ok(pods)
    })
    .await?
    {
        let answer = space.get_from_pod(&format!("{}:8080", pod.name), "/").await?;
        ensure!(answer["at_start"]["files"][FILE] == value, "{answer}");
    }
    Ok(())
}

/// What an operator of the cluster reads afterwards: which workload, why, and no values.
async fn log_tells_the_story(space: &Scenario) -> anyhow::Result<()> {
    let logs = space.bed.installation().logs().await?;
    let ours: Vec<_> = logs.lines().filter(|line| line.contains(&space.name)).collect();
    let hash = space.config_hash(APP).await?;
    let tells = |what: &str, more: &str| ours.iter().any(|line| line.contains(what) && line.contains(more));
    ensure!(
        tells("recorded the observed configuration", &format!("deployment/{}/app", space.name)),
        "nothing tells of the opting in: {ours:#?}"
    );
    ensure!(
        tells("reloaded: secret/random-env-secret changed", &hash),
        "nothing tells of the reload: {ours:#?}"
    );
    for value in ["foo-bar", "Zm9vLWJhcg"] {
        ensure!(!logs.contains(value), "the log has the Secret's content");
    }
    println!("{}", ours.join("\n"));
    Ok(())
}
