//! `ConfigMaps` that are never changed: the next settings have another name.

use anyhow::{Context as _, ensure};

use super::shop::{API, Shop};

#[tokio::test]
async fn an_immutable_config_map_with_a_new_name_is_one_rollout_with_its_deployment() -> anyhow::Result<()> {
    let Some(shop) = Shop::open("immutable").await? else { return Ok(()) };
    let space = &shop.space;
    // The Secret it writes is on the same Deployment's list, which is to be quiet here.
    space.kubectl(&["scale", "deployment/sealed-secrets", "--replicas=0"]).await?;
    let before = shop.snapshot().await?;
    let answer = space.get_from_service("api", "/items").await?;
    ensure!(answer["items"] == serde_json::json!(["apple", "pear"]), "{answer}");

    // What the pods read stays the same.
    space.kubectl(&["patch", "configmap/api-config", "--patch", r#"{"immutable": true}"#]).await?;
    shop.is_refused("configmap/api-config").await?;
    shop.nothing_happened_since(&before, "a ConfigMap made immutable").await?;

    // Name and content come with the template, in the owner's own rollout.
    space.apply("postgres/8-immutable-config.yaml").await?;
    space.rolled_out(API).await?;
    space.settle().await?;
    let after = shop.snapshot().await?;
    ensure!(after.api.revisions == before.api.revisions + 1, "{before:#?} became {after:#?}");
    ensure!(after.api.pods.iter().all(|pod| !before.api.pods.contains(pod)), "{after:#?}");
    ensure!(after.bystanders == before.bystanders, "{before:#?} became {after:#?}");
    for pod in &after.api.pods {
        let answer = space.get_from_pod(&format!("{}:8080", pod.name), "/items").await?;
        ensure!(answer["items"] == serde_json::json!(["apple"]), "{answer}");
    }

    space.kubectl(&["delete", "configmap/api-config"]).await?;
    shop.nothing_happened_since(&after, "the old ConfigMap deleted").await?;
    shop.is_refused("configmap/api-config-v2").await?;
    shop.nothing_happened_since(&after, "an attempt to edit the new one").await?;
    // A user who wants to keep the name has to delete it first, and that would leave the running pods alone too.
    space.kubectl(&["delete", "configmap/api-config-v2"]).await?;
    shop.nothing_happened_since(&after, "the new one deleted").await?;
    space.apply("postgres/8-immutable-config.yaml").await?;
    shop.nothing_happened_since(&after, "the new one made again as it was").await?;

    let events = space.reload_events(API).await?;
    ensure!(events.is_empty(), "a reload of ours beside the owner's rollout: {events:?}");
    Ok(())
}

impl Shop {
    /// Tries to edit an immutable `ConfigMap`.
    async fn is_refused(&self, object: &str) -> anyhow::Result<()> {
        let outcome = self.space.set(object, "ITEMS_LIMIT", "5").await;
        let error = outcome.err().with_context(|| format!("{object} was edited"))?;
        ensure!(format!("{error:#}").contains("field is immutable when `immutable` is set"), "{error:#}");
        Ok(())
    }
}
