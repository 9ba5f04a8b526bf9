//! The table of section 3: what happens to referenced objects.

use anyhow::{Context, ensure};
use kube::api::{Patch, PatchParams};
use pod_reloader_e2e::eventually;
use pod_reloader_tests::objects::{self, Kind};
use pod_reloader_tests::{PATIENCE, Space};
use serde_json::json;

const APP: &str = "app";
const DEPLOYMENT: Kind = Kind::Deployment;

/// What the workload's observed-config says of the `ConfigMap`.
async fn record(space: &Space<'_>, configmap: &str) -> anyhow::Result<serde_json::Value> {
    let workload = space.get(DEPLOYMENT, APP).await?;
    let observed = objects::observed(&workload).context("no observed-config")?;
    Ok(observed["configmaps"][configmap].clone())
}

#[tokio::test]
async fn c3_metadata_of_a_referenced_object_changes_nothing_happens() -> anyhow::Result<()> {
    let space = Space::new().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            let patch = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["example.com/x"]}});
            space.configmaps().patch("settings", &PatchParams::default(), &Patch::Merge(patch)).await?;
            let patch = json!({"metadata": {"finalizers": null}});
            space.configmaps().patch("settings", &PatchParams::default(), &Patch::Merge(patch)).await?;
            Ok(())
        })
        .await
}

#[tokio::test]
async fn c3_a_required_object_goes_and_comes_back() -> anyhow::Result<()> {
    let space = Space::new().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::env_from(objects::listing(APP, "settings"), "settings", false)).await?;
    let before = record(&space, "settings").await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 0, || space.delete_configmap("settings")).await?;
    assert_eq!(record(&space, "settings").await?, before, "the last digest is kept");
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            space.configmap("settings", "one").await.map(drop)
        })
        .await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 0, || space.delete_configmap("settings")).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            space.configmap("settings", "two").await.map(drop)
        })
        .await
}

#[tokio::test]
async fn c3_an_object_that_the_template_does_not_name_goes_and_comes_back() -> anyhow::Result<()> {
    let space = Space::new().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 0, || space.delete_configmap("settings")).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            space.configmap("settings", "one").await.map(drop)
        })
        .await
}

#[tokio::test]
async fn c3_an_optional_object_goes_and_comes_back() -> anyhow::Result<()> {
    let space = Space::new().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::env_from(objects::listing(APP, "settings"), "settings", true)).await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 1, || space.delete_configmap("settings")).await?;
    assert_eq!(record(&space, "settings").await?, serde_json::Value::Null, "recorded as absent");
    // The pods run without it, so its return is other configuration. The first revision fits again, and Kubernetes
    // takes that one.
    let without = space.hash(DEPLOYMENT, APP).await?;
    space.configmap("settings", "one").await?;
    space.hash_changes(DEPLOYMENT, APP, &without).await?;
    space.expect_revisions(DEPLOYMENT, APP, 2).await
}

#[tokio::test]
async fn c3_a_required_object_appears_for_the_first_time() -> anyhow::Result<()> {
    let space = Space::new().await?;
    space.create(&objects::env_from(objects::listing(APP, "settings"), "settings", false)).await?;
    let hash = space.hash(DEPLOYMENT, APP).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            space.configmap("settings", "one").await.map(drop)
        })
        .await?;
    assert_eq!(space.hash(DEPLOYMENT, APP).await?, hash);
    eventually("the digest to be recorded", PATIENCE, || async {
        ensure!(record(&space, "settings").await?.is_string(), "not yet");
        Ok(())
    })
    .await?;
    // From here on it is an object like any other.
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            space.configmap("settings", "two").await.map(drop)
        })
        .await
}

#[tokio::test]
async fn c3_an_object_that_nothing_requires_appears_for_the_first_time() -> anyhow::Result<()> {
    let space = Space::new().await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            space.configmap("settings", "one").await.map(drop)
        })
        .await
}

#[tokio::test]
async fn c3_content_changes_while_something_required_is_absent() -> anyhow::Result<()> {
    let space = Space::new().await?;
    // One that is listed, and one that only the template names.
    for (needed, lists) in [("needed", "settings,needed"), ("unlisted", "settings")] {
        let name = &format!("{APP}-{needed}");
        space.configmap("settings", "one").await?;
        space.configmap(needed, "one").await?;
        let workload = objects::env_from(objects::listing(name, lists), needed, false);
        space.create(&workload).await?;
        space
            .expect_new_revisions(DEPLOYMENT, name, 0, || async {
                space.delete_configmap(needed).await?;
                space.configmap("settings", "two").await.map(drop)
            })
            .await?;
        let notes = space.event_comes(name, "ReloadDeferred").await?;
        assert!(notes[0].contains(&format!("configmap/{needed}")), "{notes:?}");
        space
            .expect_new_revisions(DEPLOYMENT, name, 1, || async {
                let before = space.hash(DEPLOYMENT, name).await?;
                space.configmap(needed, "one").await?;
                space.hash_changes(DEPLOYMENT, name, &before).await.map(drop)
            })
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn c3_a_reference_is_added_and_removed() -> anyhow::Result<()> {
    let space = Space::new().await?;
    space.configmap("a", "one").await?;
    space.configmap("b", "one").await?;
    space.create(&objects::listing(APP, "a")).await?;
    let list = |names: &str| json!({"metadata": {"annotations": {objects::CONFIGMAPS: names}}});
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            space.patch(DEPLOYMENT, APP, list("a,b")).await.map(drop)
        })
        .await?;
    // The same references in other words.
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            space.patch(DEPLOYMENT, APP, list(" b ,, a,b")).await.map(drop)
        })
        .await?;
    let both = space.hash(DEPLOYMENT, APP).await?;
    space.patch(DEPLOYMENT, APP, list("b")).await?;
    space.quiesce().await?;
    assert_ne!(space.hash(DEPLOYMENT, APP).await?, both);
    space.expect_revisions(DEPLOYMENT, APP, 3).await
}

#[tokio::test]
async fn c3_opting_out_keeps_the_hash_until_a_full_replace() -> anyhow::Result<()> {
    let space = Space::new().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    let hash = space.hash(DEPLOYMENT, APP).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            let patch = json!({"metadata": {"annotations": {objects::CONFIGMAPS: null}}});
            space.patch(DEPLOYMENT, APP, patch).await.map(drop)
        })
        .await?;
    assert_eq!(space.hash(DEPLOYMENT, APP).await?, hash);
    let workload = space.get(DEPLOYMENT, APP).await?;
    assert_eq!(objects::annotation(&workload, objects::OBSERVED_CONFIG), None);
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            space.configmap("settings", "two").await.map(drop)
        })
        .await?;
    let replaced = space.replace(&objects::workload(DEPLOYMENT, APP, json!({}))).await?;
    assert_eq!(objects::config_hash(&replaced), None);
    Ok(())
}

#[tokio::test]
async fn c1_3_an_ignored_workload_is_left_alone() -> anyhow::Result<()> {
    let space = Space::new().await?;
    space.configmap("settings", "one").await?;
    for label in [objects::IGNORED, objects::DISABLED] {
        let name = label.rsplit('/').next().unwrap_or_default();
        space.create(&objects::listing(name, "settings")).await?;
        let before = space.get(DEPLOYMENT, name).await?;
        space.patch(DEPLOYMENT, name, Space::label(label, Some("true"))).await?;
        space
            .expect_new_revisions(DEPLOYMENT, name, 0, || async {
                space.configmap("settings", &format!("{name} two")).await.map(drop)
            })
            .await?;
        let after = space.get(DEPLOYMENT, name).await?;
        assert_eq!(objects::config_hash(&before), objects::config_hash(&after));
        assert_eq!(objects::observed(&before), objects::observed(&after));
        // Taking the label off is an ordinary write, and what changed meanwhile is reloaded.
        space
            .expect_new_revisions(DEPLOYMENT, name, 1, || async {
                space.patch(DEPLOYMENT, name, Space::label(label, None)).await.map(drop)
            })
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn c1_2_a_bad_name_is_reported_and_the_rest_counts() -> anyhow::Result<()> {
    let space = Space::new().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings,Not_A_Name")).await?;
    let notes = space.event_comes(APP, "InvalidReference").await?;
    assert!(notes[0].contains("Not_A_Name"), "{notes:?}");
    let kubectl = space.world.kubectl();
    let label = ["label", "deployment", APP, "-n", &space.name, "a=b"];
    kubectl.run(label).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            space.configmap("settings", "two").await.map(drop)
        })
        .await?;
    assert_eq!(space.events(APP, "InvalidReference").await?.len(), 1, "told once");
    Ok(())
}
