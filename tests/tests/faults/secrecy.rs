//! 5.8, 2.2: secret content appears nowhere.

use base64::Engine;
use pod_reloader_e2e::World;
use pod_reloader_e2e::objects::{self, apps};
use serde_json::json;

#[tokio::test]
async fn c5_8_secret_content_never_appears() -> anyhow::Result<()> {
    let world = World::own(&["--settle-window=500ms", "--zap-log-level=5"]).await?;
    let space = world.space().await?;
    let values = ["hunter2-first-password", "hunter2-second-password"];
    // With kubectl apply, so that the content stands in an annotation too.
    let apply = async |value: &str| {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database", "namespace": space.name},
            "stringData": {"password": value}
        });
        world.kubectl().run_with_input(["apply", "-f", "-"], &secret.to_string()).await
    };
    apply(values[0]).await?;
    let workload = objects::workload(apps::DEPLOYMENT, "app", json!({objects::SECRETS: "database,Bad_Name"}));
    space.create(&workload).await?;
    let before = space.hash(apps::DEPLOYMENT, "app").await?;
    apply(values[1]).await?;
    space.hash_changes(apps::DEPLOYMENT, "app", &before).await?;
    space.event_comes("app", "ConfigurationChanged").await?;

    let workload = json!(space.get(apps::DEPLOYMENT, "app").await?).to_string();
    let events = space.events("app", "ConfigurationChanged").await?.join("\n");
    let log = world.replicas[0].log_text()?;
    assert!(log.contains("secret/database"), "the log tells of the reload");
    let metrics = world.replicas[0].metrics().await?;
    for value in values {
        let encoded = base64::engine::general_purpose::STANDARD.encode(value);
        for (what, text) in
            [("workload", &workload), ("Events", &events), ("log", &log), ("metrics", &metrics)]
        {
            assert!(!text.contains(value) && !text.contains(&encoded), "{value} in the {what}");
        }
    }
    Ok(())
}
