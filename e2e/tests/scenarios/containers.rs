//! docs/examples/containers.md: containers of one pod that see different ConfigMaps and Secrets, in different ways.

use anyhow::{Context as _, ensure};
use pod_reloader_e2e::{Scenario, Testbed};
use serde_json::{Value, json};

const APP: &str = "deployment/app";

/// What to change, to what, and where the new value is to be seen.
const CHANGES: [(&str, &str, &str, &[&str]); 7] = [
    ("configmap/init-settings", "SCHEMA", "two", &["/prepare/env/SCHEMA"]),
    ("secret/init-token", "token", "token two", &["/prepare/files/~1token~1token"]),
    ("configmap/app-settings", "COLOR", "green", &["/app/env/APP_COLOR"]),
    ("secret/app-password", "password", "password two", &["/app/env/PASSWORD"]),
    ("configmap/proxy-settings", "routes", "route two", &["/proxy/files/~1proxy~1routes"]),
    ("secret/proxy-keys", "KEY", "key two", &["/proxy/env/KEY"]),
    (
        "configmap/shared",
        "REGION",
        "south",
        &["/prepare/env/REGION", "/app/env/REGION", "/proxy/files/~1proxy~1region"],
    ),
];

#[tokio::test]
async fn each_reference_of_each_container_makes_one_revision() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("containers").await? else { return Ok(()) };
    space.apply("containers").await?;
    space.rolled_out(APP).await?;
    let mut expected = json!({
        "prepare": {
            "env": {"REGION": "north", "SCHEMA": "one", "COLOR": null},
            "files": {"/token/token": "token one"},
        },
        "app": {
            "env": {"REGION": "north", "APP_COLOR": "red", "PASSWORD": "password one", "KEY": null},
            "files": {},
        },
        "proxy": {
            "env": {"KEY": "key one", "PASSWORD": null},
            "files": {"/proxy/routes": "route one", "/proxy/region": "north"},
        },
    });
    let mut pods = space.pods("app").await?;
    ensure!(seen(&space, &pods[0].name).await? == expected);

    let mut events = Vec::new();
    for (object, key, value, places) in CHANGES {
        let hash = space.config_hash(APP).await?;
        space.set(object, key, value).await?;
        space.hash_changes(APP, &hash).await?;
        space.rolled_out(APP).await?;
        for place in places {
            *expected.pointer_mut(place).context(place)? = json!(value);
        }
        let after = space.pods("app").await?;
        ensure!(after.len() == 1 && !pods.contains(&after[0]), "{object}: {after:?}");
        let seen = seen(&space, &after[0].name).await?;
        ensure!(seen == expected, "{object}: {seen:#} instead of {expected:#}");
        events.push(format!("Reload triggered: {object} changed"));
        let revisions = space.revisions(APP).await?;
        ensure!(revisions == 1 + events.len(), "{object}: {revisions} revisions");
        pods = after;
    }
    space.settle().await?;
    ensure!(space.revisions(APP).await? == 1 + CHANGES.len());
    ensure!(space.pods("app").await? == pods, "a pod was restarted once more");
    ensure!(space.reload_events(APP).await? == events);
    Ok(())
}

#[tokio::test]
async fn all_references_changed_at_once_make_one_revision() -> anyhow::Result<()> {
    let Some(space) = Testbed::scenario("together").await? else { return Ok(()) };
    space.apply("containers").await?;
    space.rolled_out(APP).await?;
    let hash = space.config_hash(APP).await?;
    // One request after the other, well within the settle window of each other.
    for (object, key, value, _) in CHANGES {
        space.set(object, key, value).await?;
    }
    space.hash_changes(APP, &hash).await?;
    space.rolled_out(APP).await?;
    space.settle().await?;
    ensure!(space.revisions(APP).await? == 2, "{} revisions", space.revisions(APP).await?);
    let pods = space.pods("app").await?;
    let seen = seen(&space, &pods[0].name).await?;
    for (object, _, value, places) in CHANGES {
        for place in places {
            ensure!(seen.pointer(place) == Some(&json!(value)), "{object}: {seen:#}");
        }
    }
    let events = space.reload_events(APP).await?;
    ensure!(events.len() == 1, "{events:?}");
    for (object, ..) in CHANGES {
        ensure!(events[0].contains(object), "{object} is not in {events:?}");
    }
    Ok(())
}

/// What each container of a pod saw at its start.
async fn seen(space: &Scenario, pod: &str) -> anyhow::Result<Value> {
    let app = space.get_from_pod(&format!("{pod}:8080"), "/").await?;
    let proxy = space.get_from_pod(&format!("{pod}:8081"), "/").await?;
    let mut app = app["at_start"].clone();
    let files = app["files"].as_object_mut().context("no files")?;
    let prepared = files.remove("/prepared/seen.json").context("the init container left nothing")?;
    let prepare: Value = serde_json::from_str(prepared.as_str().unwrap_or_default())?;
    Ok(json!({"prepare": prepare, "app": app, "proxy": proxy["at_start"]}))
}
