//! docs/examples/operations.md, operator failures: what its absence, upgrades and rotations, and those of the node, do
//! to workloads.

use anyhow::{Context as _, ensure};
use pod_reloader_e2e::testbed::{ROLLOUT_TIMEOUT, Turn, under_writes};
use pod_reloader_e2e::{NodePart, Scenario, SeenPod, Testbed, eventually};

const SECRETS: &str = "pod-reloader.cs.sap.com/secrets=random-env-secret";

/// An application that has opted in, and its pods.
async fn application(turn: &Turn, name: &str) -> anyhow::Result<(Scenario, Vec<SeenPod>)> {
    let space = turn.space(name).await?;
    space.apply("flask/1-app.yaml").await?;
    space.kubectl(&["annotate", "deployment/app", SECRETS]).await?;
    space.rolled_out("deployment/app").await?;
    space.settle().await?;
    let pods = space.pods("app").await?;
    ensure!(pods.len() == 2 && pods.iter().all(|pod| pod.ready), "{pods:?}");
    Ok((space, pods))
}

/// Acts while a client writes the application, of which nothing may be lost and nothing restarted.
async fn harms_nobody(
    space: &Scenario,
    pods: &[SeenPod],
    act: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let ((), writes) = under_writes(space.client.clone(), &space.name, "app", act).await?;
    println!("{} writes, none refused", writes.stored);
    space.settle().await?;
    ensure!(space.pods("app").await? == pods, "the application was restarted");
    Ok(())
}

/// Changes the Secret and sees that this restarts all pods once.
async fn still_reloads(space: &Scenario, pods: &[SeenPod]) -> anyhow::Result<()> {
    let revisions = space.revisions("deployment/app").await?;
    let before = space.config_hash("deployment/app").await?;
    space.set("secret/random-env-secret", "RANDOM_ENV_SECRET", &format!("after {before}")).await?;
    space.hash_changes("deployment/app", &before).await?;
    space.rolled_out("deployment/app").await?;
    space.settle().await?;
    ensure!(space.revisions("deployment/app").await? == revisions + 1, "not one new revision");
    let now = space.pods("app").await?;
    ensure!(now.iter().all(|pod| !pods.contains(pod)), "{now:?}");
    Ok(())
}

#[tokio::test]
async fn c4_2_a_drain_of_the_operator_refuses_no_write() -> anyhow::Result<()> {
    let Some(turn) = Testbed::operation().await? else { return Ok(()) };
    let (space, pods) = application(&turn, "drain").await?;
    let operator = turn.bed.installation();
    harms_nobody(&space, &pods, async {
        // One after the other, the one that leads among them: as the nodes of a cluster are drained.
        for pod in operator.pods().await? {
            operator.kubectl(&["delete", "pod", &pod]).await?;
            operator.is_ready().await?;
        }
        Ok(())
    })
    .await?;
    still_reloads(&space, &pods).await
}

#[tokio::test]
async fn an_upgrade_of_the_operator_refuses_no_write() -> anyhow::Result<()> {
    let Some(turn) = Testbed::operation().await? else { return Ok(()) };
    let (space, pods) = application(&turn, "upgrade").await?;
    let operator = turn.bed.installation();
    let before = operator.pods().await?;
    harms_nobody(&space, &pods, async {
        operator.upgrade(&["--reuse-values", "--set=log.level=debug"]).await?;
        operator.helm(&["rollback", "pod-reloader", "--wait", "--timeout=180s"]).await?;
        operator.is_ready().await
    })
    .await?;
    let now = operator.pods().await?;
    ensure!(now.iter().all(|pod| !before.contains(pod)), "nothing was upgraded: {now:?}");
    still_reloads(&space, &pods).await
}

#[tokio::test]
async fn c4_7_a_rotation_of_the_certificates_refuses_no_write() -> anyhow::Result<()> {
    let Some(turn) = Testbed::operation().await? else { return Ok(()) };
    let (space, pods) = application(&turn, "certificates").await?;
    let operator = turn.bed.installation();
    let secret = "secret/pod-reloader-webhook-certificates";
    if operator.kubectl(&["get", secret]).await.is_err() {
        println!("skipped: this installation's certificates are not self-made");
        return Ok(());
    }
    let bundle = || async {
        let path = "jsonpath={.webhooks[0].clientConfig.caBundle}";
        operator.kubectl(&["get", "mutatingwebhookconfiguration/pod-reloader", "--output", path]).await
    };
    let served = async |name: &str| anyhow::Ok(expiry(&operator.metrics(name).await?)?.to_owned());
    let old_bundle = bundle().await?;
    let names = operator.pods().await?;
    let mut old = vec![];
    for name in &names {
        old.push(served(name).await?);
    }
    harms_nobody(&space, &pods, async {
        operator.kubectl(&["annotate", secret, "pod-reloader.cs.sap.com/renew=now"]).await?;
        eventually(
            "both replicas to serve another certificate, and the bundle to have another CA",
            ROLLOUT_TIMEOUT,
            || async {
                ensure!(bundle().await? != old_bundle, "still the old bundle");
                for (name, old) in names.iter().zip(&old) {
                    ensure!(served(name).await? != *old, "{name} still serves the old certificate");
                }
                Ok(())
            },
        )
        .await
    })
    .await?;
    still_reloads(&space, &pods).await
}

/// The line that says when the certificate that is served expires.
fn expiry(metrics: &str) -> anyhow::Result<&str> {
    let name = "pod_reloader_certificate_expiry_timestamp_seconds";
    metrics.lines().find(|line| line.starts_with(name)).context("no metric with the expiry")
}

#[tokio::test]
async fn c5_7_without_the_operator_only_opted_in_workloads_wait_and_nothing_is_missed() -> anyhow::Result<()>
{
    let Some(turn) = Testbed::operation().await? else { return Ok(()) };
    let (space, pods) = application(&turn, "away").await?;
    space.apply("sap-readme/1-config.yaml").await?;
    space.apply("sap-readme/5-not-opted-in.yaml").await?;
    space.rolled_out("deployment/app-plain").await?;
    let operator = turn.bed.installation();
    let policy = "--output=jsonpath={.webhooks[0].failurePolicy}";
    if operator.kubectl(&["get", "mutatingwebhookconfiguration/pod-reloader", policy]).await? != "Fail" {
        println!("skipped: this installation lets writes through while the operator is away");
        return Ok(());
    }
    let replicas =
        operator.kubectl(&["get", "deployment/pod-reloader", "--output=jsonpath={.spec.replicas}"]).await?;
    let scale = async |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        operator.kubectl(&["scale", "deployment/pod-reloader", &replicas]).await
    };

    scale("0").await?;
    let outcome = without_the_operator(&turn, &space, &pods).await;
    // Whatever was seen: others need it.
    scale(&replicas).await?;
    operator.is_ready().await?;
    let replaced = outcome?;

    eventually("the change to be caught up with", ROLLOUT_TIMEOUT, || async {
        let answer = space.get_from_service("app", "/").await?;
        ensure!(answer["at_start"]["env"]["RANDOM_ENV_SECRET"] == "changed meanwhile", "{answer}");
        Ok(())
    })
    .await?;
    space.rolled_out("deployment/app").await?;
    space.settle().await?;
    ensure!(space.revisions("deployment/app").await? == 3, "not one reload");
    let now = space.pods("app").await?;
    ensure!(now.iter().all(|pod| !replaced.contains(pod)), "{now:?}");
    space.kubectl(&["label", "deployment/app", "written=again"]).await?;
    Ok(())
}

/// Gives the application's pods, one of which was replaced meanwhile.
async fn without_the_operator(
    turn: &Turn,
    space: &Scenario,
    pods: &[SeenPod],
) -> anyhow::Result<Vec<SeenPod>> {
    eventually("the operator to be gone", ROLLOUT_TIMEOUT, || async {
        let left = turn.bed.installation().kubectl(&["get", "pods", "--output=name"]).await?;
        ensure!(!left.contains("pod-reloader-"), "{left}");
        Ok(())
    })
    .await?;
    let write = ["label", "deployment/app", "written=meanwhile", "--dry-run=server"];
    let answer = eventually("a write of an opted-in workload to be refused", ROLLOUT_TIMEOUT, || async {
        match space.kubectl(&write).await {
            Ok(_) => Err(anyhow::anyhow!("it was let through")),
            Err(error) => Ok(format!("{error:#}")),
        }
    })
    .await?;
    ensure!(answer.contains("failed calling webhook"), "{answer}");
    // Everything else goes on, the pods of opted-in workloads too.
    space.kubectl(&["label", "deployment/app-plain", "written=meanwhile"]).await?;
    space.kubectl(&["delete", "pod", &pods[0].name]).await?;
    space.set("secret/random-env-secret", "RANDOM_ENV_SECRET", "changed meanwhile").await?;
    let replaced = eventually("another pod in its place", ROLLOUT_TIMEOUT, || async {
        let now = space.pods("app").await?;
        ensure!(now.len() == 2 && now.iter().all(|pod| pod.ready && pod.name != pods[0].name), "{now:?}");
        Ok(now)
    })
    .await?;
    ensure!(space.revisions("deployment/app").await? == 2, "something reloaded");
    Ok(replaced)
}

#[tokio::test]
async fn a_restart_of_the_node_restarts_no_pod_and_loses_no_change() -> anyhow::Result<()> {
    let Some(turn) = Testbed::operation().await? else { return Ok(()) };
    let Some(cluster) = turn.bed.own_cluster() else {
        println!("skipped: the node of a given cluster is not for us to restart");
        return Ok(());
    };
    let (space, pods) = application(&turn, "node").await?;
    let operators = turn.bed.installation().pods().await?;
    cluster.kill(NodePart::Kubelet).await?;
    cluster.kill(NodePart::Containerd).await?;
    let before = space.config_hash("deployment/app").await?;
    // The operator keeps running, though no kubelet watches over its pods.
    space.set("secret/random-env-secret", "RANDOM_ENV_SECRET", "changed while the kubelet was away").await?;
    space.hash_changes("deployment/app", &before).await?;
    cluster.start_again(NodePart::Containerd).await?;
    cluster.start_again(NodePart::Kubelet).await?;
    space.rolled_out("deployment/app").await?;
    space.settle().await?;
    ensure!(space.revisions("deployment/app").await? == 3, "not one reload");
    let now = space.pods("app").await?;
    ensure!(now.len() == 2 && now.iter().all(|pod| !pods.contains(pod) && pod.restarts == 0), "{now:?}");
    ensure!(turn.bed.installation().pods().await? == operators, "the operator's pods were replaced");

    // Without a change in between, nothing restarts.
    cluster.restart(NodePart::Kubelet).await?;
    cluster.restart(NodePart::Containerd).await?;
    space.settle().await?;
    ensure!(space.pods("app").await? == now, "a restart of the node restarted a pod");
    still_reloads(&space, &now).await
}

#[tokio::test]
async fn c5_7_a_restart_of_the_api_server_loses_no_change() -> anyhow::Result<()> {
    let Some(turn) = Testbed::operation().await? else { return Ok(()) };
    let Some(cluster) = turn.bed.own_cluster() else {
        println!("skipped: the API server of a given cluster is not for us to restart");
        return Ok(());
    };
    let (space, pods) = application(&turn, "api-server").await?;
    cluster.control_plane().kill_api_server()?;
    cluster.control_plane().start_api_server().await?;
    space.settle().await?;
    ensure!(space.pods("app").await? == pods, "a pod was restarted");
    ensure!(space.revisions("deployment/app").await? == 2, "something reloaded");
    still_reloads(&space, &pods).await
}
