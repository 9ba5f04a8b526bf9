//! The example of the README of SAP's pod-reloader, as a user would live through it.

use super::{
    client::Client,
    environment::{Environment, Rollout},
    output::Output,
};

const NAME: &str = "my-deployment";

pub(super) async fn run(environment: &Environment, output: &mut Output) -> anyhow::Result<()> {
    let kubectl = &environment.kubectl;
    Output::step("1. A Deployment names its Secrets and its ConfigMap in two annotations");
    Output::run(kubectl, &["apply", "-f", "config.yaml"]).await?;
    Output::run(kubectl, &["apply", "-f", "deployment.yaml"]).await?;
    let mut now = environment.revisions(NAME, 1).await?;
    output.expect(
        now.config_hash.is_some(),
        &format!("its pods carry a hash of what they were started with ({})", short(&now)),
        "its pods should carry a config hash, but have none",
    );
    environment.settle().await?;
    now = unchanged(environment, output, &now, "being created makes one revision, not two").await?;
    let mut client = Client::start(environment, output).await?;

    Output::step("2. Somebody changes a password");
    if client.is_none() {
        Output::note(
            "(This cluster has no node: new pods stay pending, so the old ones are not taken away.)",
        );
    }
    let patch = r#"{"stringData":{"somekey":"second password"}}"#;
    Output::run(kubectl, &["patch", "secret", "my-secret", "-p", patch]).await?;
    environment.revisions(NAME, 2).await?;
    let event = environment.reload_event(NAME).await?;
    environment.settle().await?;
    now = one_more(environment, output, &now).await?;
    Output::run(
        kubectl,
        &["get", "replicasets", "-l", "app=my-app", "--sort-by=.metadata.creationTimestamp"],
    )
    .await?;
    Output::run(
        kubectl,
        &[
            "get",
            "events",
            "--field-selector",
            "reason=ConfigurationChanged,involvedObject.name=my-deployment",
        ],
    )
    .await?;
    output.expect(
        event.contains("my-secret") && !event.contains("second password"),
        "an Event says which Secret it was, and not what is in it",
        &format!("the Event should name my-secret and nothing of its content, but says: {event}"),
    );
    if let Some(client) = &mut client {
        client.sees(output, "second password", "first setting").await?;
    }

    Output::step("3. A deployment tool writes its manifest again, which knows nothing of the hash");
    Output::run(kubectl, &["replace", "--save-config", "-f", "deployment.yaml"]).await?;
    environment.settle().await?;
    now =
        unchanged(environment, output, &now, "the hash was put back before the write was stored: no restart")
            .await?;
    if let Some(client) = &client {
        client.sees_nothing(output).await?;
    }

    Output::step("4. A release changes the setting and the image together");
    let image = now.image.clone();
    Output::run(kubectl, &["apply", "-f", "next-release.yaml"]).await?;
    environment.revisions(NAME, 3).await?;
    environment.settle().await?;
    now = one_more(environment, output, &now).await?;
    output.expect(
        now.image != image,
        "both arrived in the same one",
        &format!("the image should be another, but is {}", now.image),
    );
    if let Some(client) = &mut client {
        client.sees(output, "second password", "second setting").await?;
    }

    Output::step("5. Nothing that a pod could see changes");
    Output::run(kubectl, &["label", "configmap", "my-configmap", "reviewed=yes"]).await?;
    environment.settle().await?;
    now = unchanged(environment, output, &now, "a label on the ConfigMap: no restart").await?;
    Output::run(kubectl, &["delete", "configmap", "my-configmap"]).await?;
    environment.settle().await?;
    now = unchanged(
        environment,
        output,
        &now,
        "the ConfigMap is deleted, the pods need it and run on: no restart",
    )
    .await?;
    let literal = "--from-literal=somekey=second setting";
    Output::run(kubectl, &["create", "configmap", "my-configmap", literal]).await?;
    environment.settle().await?;
    unchanged(environment, output, &now, "it is back with the same content: no restart").await?;
    if let Some(client) = &client {
        client.sees_nothing(output).await?;
    }
    Ok(())
}

/// Exactly one new revision with another hash.
async fn one_more(
    environment: &Environment,
    output: &mut Output,
    before: &Rollout,
) -> anyhow::Result<Rollout> {
    let after = environment.rollout(NAME).await?;
    let (old, new) = (before.revisions, after.revisions);
    output.expect(
        new == old + 1,
        &format!("one new revision ({old} -> {new})"),
        &format!("there should be one new revision after {old}, but there are {new} in all"),
    );
    output.expect(
        after.config_hash.is_some() && after.config_hash != before.config_hash,
        &format!("with the hash of the new configuration ({} -> {})", short(before), short(&after)),
        &format!("the hash should be another than {}, but is {}", short(before), short(&after)),
    );
    Ok(after)
}

/// Neither a new revision nor another hash.
async fn unchanged(
    environment: &Environment,
    output: &mut Output,
    before: &Rollout,
    what: &str,
) -> anyhow::Result<Rollout> {
    let after = environment.rollout(NAME).await?;
    output.expect(
        after == *before,
        &format!("{what} (still {})", before.revisions),
        &format!(
            "{what}: so it should be, but {} revisions became {}, and hash {} became {}",
            before.revisions,
            after.revisions,
            short(before),
            short(&after)
        ),
    );
    Ok(after)
}

fn short(rollout: &Rollout) -> String {
    match &rollout.config_hash {
        Some(hash) => format!("{}…", hash.get(..8).unwrap_or(hash)),
        None => "none".to_owned(),
    }
}
