//! The table of section 3, row by row: what happens to referenced objects.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use pod_reloader_e2e::objects::{self, BUILT_IN};
use pod_reloader_e2e::{TIMEOUT, World, eventually};
use serde_json::{Value, json};

use crate::shared::{APP, DEPLOYMENT, listing, name_of, operator_writes, record, set_image, standing};

#[tokio::test]
async fn c3_3_content_of_a_referenced_object_changes_exactly_one() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    for kind in BUILT_IN {
        space.create(&listing(kind, "settings")).await?;
        space.expect_revisions(kind, &name_of(kind), 1).await?;
    }
    space.configmap("settings", "two").await?;
    space.settle().await?;
    for kind in BUILT_IN {
        space.expect_revisions(kind, &name_of(kind), 2).await?;
        let notes = space.event_comes(&name_of(kind), "ConfigurationChanged").await?;
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("configmap/settings"), "{notes:?}");
    }
    Ok(())
}

#[tokio::test]
async fn c3_3_content_is_data_binary_data_and_a_secrets_type() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    space.secret("login", "one").await?;
    let lists = json!({objects::CONFIGMAPS: "settings", objects::SECRETS: "login"});
    space.create(&objects::workload(DEPLOYMENT, APP, lists)).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            let binary = Patch::Merge(json!({"binaryData": {"blob": "AAEC"}}));
            space.configmaps().patch("settings", &PatchParams::default(), &binary).await?;
            Ok(())
        })
        .await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async { space.secret("login", "two").await.map(drop) })
        .await?;
    // The API server allows no change of a Secret's type, so it comes back with another.
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            space.secrets().delete("login", &DeleteParams::default()).await?;
            let other: Secret = serde_json::from_value(json!({
                "metadata": {"name": "login"}, "type": "example.com/other", "stringData": {"key": "two"}
            }))?;
            space.secrets().create(&PostParams::default(), &other).await?;
            Ok(())
        })
        .await?;
    let notes = space.events(APP, "ConfigurationChanged").await?;
    let of = |word: &str| notes.iter().filter(|note| note.contains(word)).count();
    assert_eq!((of("configmap/settings"), of("secret/login")), (1, 2), "{notes:?}");
    Ok(())
}

#[tokio::test]
async fn c3_7_metadata_of_a_referenced_object_changes_nothing_happens() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    let owner = space.configmap("owner", "x").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.expect_revisions(DEPLOYMENT, APP, 1).await?;
    let before = standing(&space, DEPLOYMENT, APP).await?;
    let mark = world.audit().mark().await?;
    for patch in [
        json!({"metadata": {"labels": {"a": "b"}}}),
        json!({"metadata": {"annotations": {"c": "d"}}}),
        json!({"metadata": {"finalizers": ["example.com/x"]}}),
        json!({"metadata": {"finalizers": null}}),
        json!({"metadata": {"ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}]}}),
        json!({"immutable": true}),
    ] {
        space.configmaps().patch("settings", &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    // Another manager of the same content, and the same content once more.
    let same = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "one"}});
    let params = PatchParams::apply("another").force();
    space.configmaps().patch("settings", &params, &Patch::Apply(same)).await?;
    space.configmap("settings", "one").await?;

    space.settle().await?;
    space.expect_revisions(DEPLOYMENT, APP, 1).await?;
    assert_eq!(standing(&space, DEPLOYMENT, APP).await?, before);
    assert_eq!(operator_writes(&space, mark, APP).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn c3_8_a_required_object_goes_and_comes_back() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::env_from(objects::listing(APP, "settings"), "settings", false)).await?;
    let before = record(&space, "settings").await?;
    assert!(before.is_string());
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
async fn c3_8_an_object_that_the_template_does_not_name_goes_and_comes_back() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
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
async fn c3_9_an_optional_object_goes_and_comes_back() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::env_from(objects::listing(APP, "settings"), "settings", true)).await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 1, || space.delete_configmap("settings")).await?;
    assert_eq!(record(&space, "settings").await?, Value::Null, "recorded as absent");
    // The pods run without it, so its return is other configuration. The first revision fits again, and Kubernetes
    // takes that one.
    let without = space.hash(DEPLOYMENT, APP).await?;
    space.configmap("settings", "one").await?;
    space.hash_changes(DEPLOYMENT, APP, &without).await?;
    space.settle().await?;
    space.expect_revisions(DEPLOYMENT, APP, 2).await?;
    assert_eq!(space.events(APP, "ConfigurationChanged").await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn c3_8_one_use_that_is_not_optional_makes_an_object_required() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    let mut workload = objects::env_from(objects::listing(APP, "settings"), "settings", true);
    workload.data["spec"]["template"]["spec"]["volumes"] = json!([
        {"name": "all", "projected": {"sources": [{"configMap": {"name": "settings"}}]}}]);
    space.create(&workload).await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 0, || space.delete_configmap("settings")).await
}

#[tokio::test]
async fn c3_12_a_required_object_appears_for_the_first_time() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.create(&objects::env_from(objects::listing(APP, "settings"), "settings", false)).await?;
    let hash = space.hash(DEPLOYMENT, APP).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            space.configmap("settings", "one").await.map(drop)
        })
        .await?;
    assert_eq!(space.hash(DEPLOYMENT, APP).await?, hash);
    eventually("the digest to be recorded", TIMEOUT, || async {
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
async fn c3_14_an_object_that_nothing_requires_appears_for_the_first_time() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    let unnamed = objects::listing("unnamed", "settings");
    let optional = objects::env_from(objects::listing("optional", "settings"), "settings", true);
    for workload in [&unnamed, &optional] {
        space.create(workload).await?;
    }
    for name in ["unnamed", "optional"] {
        space.expect_revisions(DEPLOYMENT, name, 1).await?;
    }
    space.configmap("settings", "one").await?;
    space.settle().await?;
    for name in ["unnamed", "optional"] {
        space.expect_revisions(DEPLOYMENT, name, 2).await?;
    }
    Ok(())
}

#[tokio::test]
async fn c3_4_content_changes_while_something_required_is_absent() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
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
        assert_eq!(space.events(name, "ReloadDeferred").await?.len(), 1, "told once");
    }
    let list = kube::Api::<k8s_openapi::api::core::v1::Event>::namespaced(space.client.clone(), &space.name)
        .list(&kube::api::ListParams::default())
        .await?;
    let types = list.iter().filter(|event| event.reason.as_deref() == Some("ReloadDeferred"));
    assert!(types.into_iter().all(|event| event.type_.as_deref() == Some("Warning")));
    Ok(())
}

#[tokio::test]
async fn c3_4_a_deferred_reload_goes_along_with_the_owners_rollout() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    space.configmap("needed", "one").await?;
    let lists = objects::listing(APP, "settings,needed");
    space.create(&objects::env_from(lists, "needed", false)).await?;
    space.delete_configmap("needed").await?;
    space.configmap("settings", "two").await?;
    space.event_comes(APP, "ReloadDeferred").await?;
    let deferred = space.hash(DEPLOYMENT, APP).await?;
    // The owner's new pods wait for it anyway; when it is back, nothing is left to do.
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            set_image(&space, DEPLOYMENT, APP, "2").await?;
            assert_ne!(space.hash(DEPLOYMENT, APP).await?, deferred);
            space.configmap("needed", "one").await.map(drop)
        })
        .await
}
