//! The example of the README of SAP's pod-reloader, as a user would live through it.

use crate::{
    audience::Audience,
    narrator::Narrator,
    stage::{Rollout, Stage},
};

const NAME: &str = "my-deployment";

pub(crate) async fn tell(stage: &Stage, narrator: &mut Narrator) -> anyhow::Result<()> {
    let kubectl = &stage.kubectl;
    kubectl.run(["apply", "-f", "sentinel.yaml"]).await?;

    Narrator::chapter("1. A Deployment names its Secrets and its ConfigMap in two annotations");
    Narrator::run(kubectl, &["apply", "-f", "config.yaml"]).await?;
    Narrator::run(kubectl, &["apply", "-f", "deployment.yaml"]).await?;
    let mut now = stage.revisions(NAME, 1).await?;
    narrator.expect(
        now.config_hash.is_some(),
        &format!("its pods carry a hash of what they were started with ({})", short(&now)),
        "its pods should carry a config hash, but have none",
    );
    stage.let_things_settle().await?;
    now = unchanged(stage, narrator, &now, "being created makes one revision, not two").await?;
    let mut audience = Audience::of(stage, narrator).await?;

    Narrator::chapter("2. Somebody changes a password");
    if audience.is_none() {
        Narrator::note(
            "(This cluster has no node: new pods stay pending, so the old ones are not taken away.)",
        );
    }
    let patch = r#"{"stringData":{"somekey":"second password"}}"#;
    Narrator::run(kubectl, &["patch", "secret", "my-secret", "-p", patch]).await?;
    stage.revisions(NAME, 2).await?;
    let event = stage.reload_event(NAME).await?;
    stage.let_things_settle().await?;
    now = one_more(stage, narrator, &now).await?;
    Narrator::run(
        kubectl,
        &["get", "replicasets", "-l", "app=my-app", "--sort-by=.metadata.creationTimestamp"],
    )
    .await?;
    Narrator::run(
        kubectl,
        &[
            "get",
            "events",
            "--field-selector",
            "reason=ConfigurationChanged,involvedObject.name=my-deployment",
        ],
    )
    .await?;
    narrator.expect(
        event.contains("my-secret") && !event.contains("second password"),
        "an Event says which Secret it was, and not what is in it",
        &format!("the Event should name my-secret and nothing of its content, but says: {event}"),
    );
    if let Some(audience) = &mut audience {
        audience.sees(stage, narrator, "second password", "first setting").await?;
    }

    Narrator::chapter("3. A deployment tool writes its manifest again, which knows nothing of the hash");
    Narrator::run(kubectl, &["replace", "--save-config", "-f", "deployment.yaml"]).await?;
    stage.let_things_settle().await?;
    now = unchanged(stage, narrator, &now, "the hash was put back before the write was stored: no restart")
        .await?;
    if let Some(audience) = &audience {
        audience.sees_nothing(narrator).await?;
    }

    Narrator::chapter("4. A release changes the setting and the image together");
    let image = now.image.clone();
    Narrator::run(kubectl, &["apply", "-f", "next-release.yaml"]).await?;
    stage.revisions(NAME, 3).await?;
    stage.let_things_settle().await?;
    now = one_more(stage, narrator, &now).await?;
    narrator.expect(
        now.image != image,
        "both arrived in the same one",
        &format!("the image should be another, but is {}", now.image),
    );
    if let Some(audience) = &mut audience {
        audience.sees(stage, narrator, "second password", "second setting").await?;
    }

    Narrator::chapter("5. Nothing that a pod could see changes");
    Narrator::run(kubectl, &["label", "configmap", "my-configmap", "reviewed=yes"]).await?;
    stage.let_things_settle().await?;
    now = unchanged(stage, narrator, &now, "a label on the ConfigMap: no restart").await?;
    Narrator::run(kubectl, &["delete", "configmap", "my-configmap"]).await?;
    stage.let_things_settle().await?;
    now =
        unchanged(stage, narrator, &now, "the ConfigMap is deleted, the pods need it and run on: no restart")
            .await?;
    let literal = "--from-literal=somekey=second setting";
    Narrator::run(kubectl, &["create", "configmap", "my-configmap", literal]).await?;
    stage.let_things_settle().await?;
    unchanged(stage, narrator, &now, "it is back with the same content: no restart").await?;
    if let Some(audience) = &audience {
        audience.sees_nothing(narrator).await?;
    }
    Ok(())
}

/// Exactly one new revision with another hash.
async fn one_more(stage: &Stage, narrator: &mut Narrator, before: &Rollout) -> anyhow::Result<Rollout> {
    let after = stage.rollout(NAME).await?;
    let (old, new) = (before.revisions, after.revisions);
    narrator.expect(
        new == old + 1,
        &format!("one new revision ({old} -> {new})"),
        &format!("there should be one new revision after {old}, but there are {new} in all"),
    );
    narrator.expect(
        after.config_hash.is_some() && after.config_hash != before.config_hash,
        &format!("with the hash of the new configuration ({} -> {})", short(before), short(&after)),
        &format!("the hash should be another than {}, but is {}", short(before), short(&after)),
    );
    Ok(after)
}

/// Neither a new revision nor another hash.
async fn unchanged(
    stage: &Stage,
    narrator: &mut Narrator,
    before: &Rollout,
    what: &str,
) -> anyhow::Result<Rollout> {
    let after = stage.rollout(NAME).await?;
    narrator.expect(
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
