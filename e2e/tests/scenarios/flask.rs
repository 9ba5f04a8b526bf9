//! docs/examples/flask.md: opting in a Deployment that runs.

use anyhow::ensure;
use pod_reloader_e2e::{Scenario, Testbed, eventually};

const VARIABLE: &str = "RANDOM_ENV_SECRET";
const FILE: &str = "/secrets/RANDOM_ENV_SECRET";

#[tokio::test]
async fn a_running_deployment_opts_in_by_an_annotation() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("flask").await? else { return Ok(()) };
    space.apply("flask/1-app.yaml").await?;
    space.rolled_out("deployment/app").await?;
    sees(&space, "foo").await?;
    let first = space.pods("app").await?;

    // Not opted in: the pods keep the variable that they started with, even when the kubelet has updated the file.
    space.set("secret/random-env-secret", VARIABLE, "bar").await?;
    let answer = space
        .get_until("app", "/", "the kubelet to update the volume", |answer| {
            answer["now"]["files"][FILE] == "bar"
        })
        .await?;
    ensure!(answer["now"]["env"][VARIABLE] == "foo", "{answer}");
    ensure!(space.pods("app").await? == first, "a pod was restarted");

    // Opting in is a change of what the hash covers: one rollout, by which the pods see the present value.
    let secrets = "pod-reloader.cs.sap.com/secrets=random-env-secret";
    space.kubectl(&["annotate", "deployment/app", secrets]).await?;
    sees(&space, "bar").await?;
    space.rolled_out("deployment/app").await?;
    let second = space.pods("app").await?;
    ensure!(second.iter().all(|pod| !first.contains(pod)), "{second:?}");

    space.set("secret/random-env-secret", VARIABLE, "foo-bar").await?;
    sees(&space, "foo-bar").await?;
    space.rolled_out("deployment/app").await?;
    space.settle().await?;
    ensure!(space.revisions("deployment/app").await? == 3);
    let third = space.pods("app").await?;
    ensure!(third.iter().all(|pod| !second.contains(pod)), "{third:?}");

    log_tells_the_story(&space).await
}

/// Waits until both pods that answer started with `value`, in the variable and in the file.
async fn sees(space: &Scenario, value: &str) -> anyhow::Result<()> {
    for pod in eventually(
        format!("two pods that see {value}"),
        pod_reloader_e2e::testbed::ROLLOUT_TIMEOUT,
        || async {
            let pods = space.pods("app").await?;
            ensure!(pods.len() == 2 && pods.iter().all(|pod| pod.ready), "{pods:?}");
            for pod in &pods {
                let answer = space.get_from_pod(&format!("{}:8080", pod.name), "/").await?;
                ensure!(answer["at_start"]["env"][VARIABLE] == value, "{answer}");
            }
            Ok(pods)
        },
    )
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
    let hash = space.config_hash("deployment/app").await?;
    let tells = |what: &str, hash: &str| ours.iter().any(|line| line.contains(what) && line.contains(hash));
    ensure!(tells("the webhook set the config hash", "\"app\""), "nothing tells of the opting in: {ours:#?}");
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
