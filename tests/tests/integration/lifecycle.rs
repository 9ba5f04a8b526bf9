//! Installation, restart, takeover: what they restart, which is nothing. Each test has a control plane of its own.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use pod_reloader_core::dialect::sap::version_hash;
use pod_reloader_core::lookup::{ConfigVersion, Found, Lookup};
use pod_reloader_core::name::ConfigRef;
use pod_reloader_e2e::objects::{self, BUILT_IN, KindRef, apps};
use pod_reloader_e2e::{Space, TIMEOUT, User, World, eventually};
use serde_json::json;

const DEPLOYMENT: KindRef = apps::DEPLOYMENT;
const WINDOW: &str = "--settle-window=500ms";

/// What SAP's pod-reloader would put on a workload that lists this `ConfigMap`.
async fn saps_hash(space: &Space, name: &str) -> anyhow::Result<String> {
    let live = match space.configmaps().get_opt(name).await? {
        None => Lookup::Absent,
        Some(object) => Lookup::Found(Found::version(ConfigVersion::new(
            object.uid().context("a uid")?,
            object.resource_version().context("a version")?,
        ))),
    };
    let object = ConfigRef::configmap(space.name.as_str(), name);
    let hash = version_hash(&space.name, [&object], &[(object.clone(), live)].into());
    Ok(hash.context("all is known")?.as_str().to_owned())
}

fn with_hash(mut workload: kube::api::DynamicObject, hash: &str) -> kube::api::DynamicObject {
    workload.data["spec"]["template"]["metadata"]["annotations"] = json!({objects::CONFIG_HASH: hash});
    workload
}

async fn recorded(space: &Space, name: &str) -> anyhow::Result<serde_json::Value> {
    eventually(format!("observed-config on {name}"), TIMEOUT, || async {
        objects::observed(&space.get(DEPLOYMENT, name).await?).context("none")
    })
    .await
}

#[tokio::test]
async fn c2_5_taking_over_from_sap_restarts_nothing() -> anyhow::Result<()> {
    let mut world = World::without_operator().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    let saps = saps_hash(&space, "settings").await?;
    space.create(&with_hash(objects::listing("right", "settings"), &saps)).await?;
    space
        .create(&with_hash(objects::listing("missing", "nowhere"), &saps_hash(&space, "nowhere").await?))
        .await?;
    space.create(&with_hash(objects::listing("outdated", "settings"), &"0".repeat(64))).await?;
    world.start_replica("replica", &[WINDOW]).await?;
    world.register().await?;

    // Kept and recorded; what changed while nobody watched is reloaded.
    let saps = saps_hash(&space, "settings").await?;
    recorded(&space, "right").await?;
    recorded(&space, "missing").await?;
    recorded(&space, "outdated").await?;
    assert_eq!(space.hash(DEPLOYMENT, "right").await?, saps);
    space.expect_revisions(DEPLOYMENT, "right", 1).await?;
    space.expect_revisions(DEPLOYMENT, "missing", 1).await?;
    space.expect_revisions(DEPLOYMENT, "outdated", 2).await?;

    // The owner's own rollout takes the proper hash along.
    let image = objects::image(objects::listing("right", "settings"), "example.invalid/app:2");
    space.replace(&image).await?;
    assert_ne!(space.hash(DEPLOYMENT, "right").await?, saps);
    space.expect_new_revisions(DEPLOYMENT, "right", 0, || async { Ok(()) }).await?;
    space.expect_revisions(DEPLOYMENT, "right", 2).await
}

#[tokio::test]
async fn c5_4_a_restart_writes_nothing_and_what_changed_meanwhile_is_reloaded() -> anyhow::Result<()> {
    let mut world = World::own(&[WINDOW, "--leader-elect"]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.configmap("other", "one").await?;
    for i in 0..5 {
        space.create(&objects::listing(&format!("app-{i}"), "settings")).await?;
    }
    space.create(&objects::listing("other", "other")).await?;
    space.settle().await?;
    let status = world.replicas[0].terminate(TIMEOUT).await?;
    ensure!(status.success(), "exit status {status}");
    world.replicas.clear();

    let mark = world.audit().mark().await?;
    world.start_replica("second", &[WINDOW, "--leader-elect"]).await?;
    world.register().await?;
    space.settle().await?;
    let writes = world.audit().writes_by(User::Operator, mark).await?;
    let writes: Vec<_> = writes
        .iter()
        .filter(|write| write.resource != "leases" && write.name != "sentinel" && write.resource != "events")
        .map(|write| &write.uri)
        .collect();
    assert!(writes.is_empty(), "{writes:?}");
    let sentinels = |notes: Vec<String>| notes.len();
    assert_eq!(sentinels(space.events("app-0", "ConfigurationChanged").await?), 0);

    // Away without a goodbye.
    world.replicas[0].kill()?;
    world.replicas.clear();
    space.configmap("other", "two").await?;
    world.start_replica("third", &[WINDOW]).await?;
    world.register().await?;
    space.event_comes("other", "ConfigurationChanged").await?;
    space.settle().await?;
    space.expect_revisions(DEPLOYMENT, "other", 2).await?;
    space.expect_revisions(DEPLOYMENT, "app-0", 1).await
}

#[tokio::test]
async fn c4_3_the_reconcilers_own_patches_are_not_reviewed_and_those_of_others_are() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing("app", "settings")).await?;
    space.settle().await?;
    let mark = world.audit().mark().await?;
    space.configmap("settings", "two").await?;
    space.event_comes("app", "ConfigurationChanged").await?;
    space.patch(DEPLOYMENT, "app", Space::label("touched", Some("yes"))).await?;
    let entries = world.audit().since(mark).await?;
    let patches: Vec<_> = entries
        .iter()
        .filter(|entry| entry.namespace == space.name && entry.name == "app" && entry.verb == "patch")
        .map(|entry| {
            // The server notes each webhook that it has called.
            let is_reviewed = entry.annotations.keys().any(|key| key.starts_with("mutation.webhook."));
            (entry.is_by(User::Operator), is_reviewed)
        })
        .collect();
    assert_eq!(patches, [(true, false), (false, true)]);
    Ok(())
}

#[tokio::test]
async fn c2_5_a_lost_key_restarts_nothing() -> anyhow::Result<()> {
    let mut world = World::own(&[WINDOW]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing("app", "settings")).await?;
    world.replicas[0].kill()?;
    world.replicas.clear();
    let secrets = Api::<Secret>::namespaced(world.admin().await?, "pod-reloader");
    secrets.delete("pod-reloader-key", &DeleteParams::default()).await?;
    world.start_replica("second", &[WINDOW]).await?;
    world.register().await?;

    let key = secrets.get("pod-reloader-key").await?.data.context("data")?;
    let id = String::from_utf8(key["id"].0.clone())?;
    eventually("observed-config under the new key", TIMEOUT, || async {
        let observed = recorded(&space, "app").await?;
        ensure!(observed["key"] == json!(id), "{observed}");
        Ok(())
    })
    .await?;
    space.event_comes("app", "KeyReplaced").await?;
    space.settle().await?;
    space.expect_revisions(DEPLOYMENT, "app", 1).await?;
    space
        .expect_new_revisions(DEPLOYMENT, "app", 1, || async {
            space.configmap("settings", "two").await.map(drop)
        })
        .await
}

#[tokio::test]
async fn c2_2_a_key_that_is_replaced_on_request_restarts_nothing_and_misses_nothing() -> anyhow::Result<()> {
    let world = World::own(&[WINDOW]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    for name in ["app", "other"] {
        space.create(&objects::listing(name, "settings")).await?;
    }
    let secrets = Api::<Secret>::namespaced(world.admin().await?, "pod-reloader");
    let id = || async {
        let data = secrets.get("pod-reloader-key").await?.data.unwrap_or_default();
        anyhow::Ok(String::from_utf8(data["id"].0.clone())?)
    };
    for revisions in [1, 2] {
        let before = id().await?;
        let ask = json!({"metadata": {"annotations": {"pod-reloader.cs.sap.com/renew": "now"}}});
        secrets.patch("pod-reloader-key", &PatchParams::default(), &Patch::Merge(ask)).await?;
        if revisions == 2 {
            space.configmap("settings", "two").await?;
        }
        for name in ["app", "other"] {
            eventually("observed-config under the new key", TIMEOUT, || async {
                let id = id().await?;
                ensure!(id != before, "the old key");
                let observed = recorded(&space, name).await?;
                ensure!(observed["key"] == json!(id), "{observed}");
                Ok(())
            })
            .await?;
        }
        space.settle().await?;
        for name in ["app", "other"] {
            space.expect_revisions(DEPLOYMENT, name, revisions).await?;
            assert_eq!(space.events(name, "KeyReplaced").await?, Vec::<String>::new());
        }
    }
    Ok(())
}

#[tokio::test]
async fn c2_4_mode_version_is_saps_own() -> anyhow::Result<()> {
    let mut world = World::own(&[WINDOW, "--hash=version"]).await?;
    let space = world.space().await?;
    for kind in BUILT_IN {
        // SAP's own end-to-end case: opt in by an update, then change the object.
        let name = kind.kind.to_lowercase();
        space.configmap(&name, "one").await?;
        space.create(&objects::workload(kind, &name, json!({}))).await?;
        // A controller that is slow makes one revision of several changes.
        space.expect_revisions(kind, &name, 1).await?;
        let annotations = json!({"metadata": {"annotations": {objects::CONFIGMAPS: name}}});
        let patched = space.patch(kind, &name, annotations).await?;
        assert_eq!(objects::config_hash(&patched), Some(saps_hash(&space, &name).await?));
        assert_eq!(objects::annotation(&patched, objects::OBSERVED_CONFIG), None);
        let before = space.hash(kind, &name).await?;
        space.expect_revisions(kind, &name, 2).await?;
        space.configmap(&name, "two").await?;
        let after = space.hash_changes(kind, &name, &before).await?;
        assert_eq!(after, saps_hash(&space, &name).await?);
        space.expect_revisions(kind, &name, 3).await?;
    }
    // SAP's rules: a label counts.
    let before = space.hash(DEPLOYMENT, "deployment").await?;
    let label = kube::api::Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    space.configmaps().patch("deployment", &kube::api::PatchParams::default(), &label).await?;
    space.hash_changes(DEPLOYMENT, "deployment", &before).await?;
    // Over to content hashing and back: nothing restarts.
    for (replica, args) in [("content", &[WINDOW][..]), ("version", &[WINDOW, "--hash=version"])] {
        world.replicas[0].terminate(TIMEOUT).await?;
        world.replicas.clear();
        world.start_replica(replica, args).await?;
        world.register().await?;
        space.settle().await?;
        space.expect_revisions(DEPLOYMENT, "deployment", 4).await?;
        recorded(&space, "deployment").await?;
    }
    Ok(())
}
