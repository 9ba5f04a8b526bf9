//! What the API server has of a kind that may not be there (9.2).

use std::time::Duration;

use kube::Client;
use pod_reloader_core::kind::{Entry, Kinds};
use tokio::time::sleep;

/// How often what has no name yet is asked for.
const LOOK: Duration = Duration::from_secs(10);

/// What the API server calls the kind; `None` while it does not have it.
///
/// # Errors
/// If it cannot be asked.
pub async fn kind_of(client: &Client, entry: &Entry) -> Result<Option<String>, kube::Error> {
    let api_version = format!("{}/{}", entry.group, entry.version);
    let resources = match client.list_api_group_resources(&api_version).await {
        Ok(resources) => resources.resources,
        Err(kube::Error::Api(error)) if error.code == 404 => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = resources.into_iter().find(|resource| resource.name == entry.plural);
    Ok(found.map(|resource| resource.kind))
}

/// Names the kinds that have no name yet, as soon as they are there; then it waits for ever.
pub async fn name_kinds(client: Client, kinds: Kinds) {
    loop {
        for entry in kinds.entries().filter(|entry| entry.kind().is_none()) {
            match kind_of(&client, entry).await {
                Ok(Some(name)) => {
                    let kind = entry.name(&name);
                    tracing::info!(
                        resource = entry.resource(),
                        kind = kind.kind,
                        "the kind of a resource is known"
                    );
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(resource = entry.resource(), %error, "cannot ask for the kind of a resource");
                }
            }
        }
        if kinds.entries().all(|entry| entry.kind().is_some()) {
            return std::future::pending().await;
        }
        // Replicas that were started together should not ask together.
        let spread = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
        sleep(LOOK.mul_f64(0.75 + spread / 2.0)).await;
    }
}
