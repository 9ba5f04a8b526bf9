//! Section 3 and 4.3 as owners see them: what tools do to workloads, and changes that come together.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use pod_reloader_e2e::objects::{self, BUILT_IN, KindRef, apps};
use pod_reloader_e2e::{SETTLE_WINDOW, World, let_pass};
use serde_json::json;

const APP: &str = "app";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;

#[tokio::test]
async fn c3_19_a_bare_manifest_or_copied_annotations_change_nothing() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    let bare = objects::listing(APP, "settings");
    let created = space.create(&bare).await?;
    let hash = objects::config_hash(&created);
    let observed = objects::observed(&created);
    assert!(hash.is_some() && observed.is_some());

    let mut other_hash = bare.clone();
    other_hash.data["spec"]["template"]["metadata"]["annotations"] =
        json!({objects::CONFIG_HASH: "f".repeat(64)});
    let mut other_observed = bare.clone();
    other_observed
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(objects::OBSERVED_CONFIG.into(), "{}".into());
    for manifest in [&bare, &other_hash, &other_observed] {
        let replaced = space.replace(manifest).await?;
        assert_eq!(objects::config_hash(&replaced), hash);
        assert_eq!(objects::observed(&replaced), observed);
    }
    space.expect_new_revisions(DEPLOYMENT, APP, 0, || async { Ok(()) }).await?;
    space.expect_revisions(DEPLOYMENT, APP, 1).await?;

    // On a CREATE copied annotations do not count either.
    let mut copy = objects::listing("copy", "other");
    copy.metadata.annotations.get_or_insert_default().insert(
        objects::OBSERVED_CONFIG.into(),
        objects::annotation(&created, objects::OBSERVED_CONFIG).unwrap_or_default(),
    );
    copy.data["spec"]["template"]["metadata"]["annotations"] = json!({objects::CONFIG_HASH: hash});
    let created = space.create(&copy).await?;
    assert_ne!(objects::config_hash(&created), hash);
    assert!(objects::observed(&created).is_some_and(|observed| observed["configmaps"]["other"].is_null()));
    Ok(())
}

#[tokio::test]
async fn c3_other_writers_of_the_workload_cause_nothing() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            let kubectl = world.kubectl();
            kubectl.run(["scale", "deployment", APP, "-n", &space.name, "--replicas=2"]).await?;
            kubectl.run(["label", "deployment", APP, "-n", &space.name, "a=b"]).await?;
            let mut manifest = json!(objects::listing(APP, "settings"));
            manifest["metadata"]["labels"] = json!({"c": "d"});
            let params = PatchParams::apply("gitops").force();
            space.workloads(DEPLOYMENT).patch(APP, &params, &Patch::Apply(manifest)).await?;
            Ok(())
        })
        .await
}

#[tokio::test]
async fn c4_5_saps_trigger_is_accepted_and_removed() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    let patch = json!({"metadata": {"annotations": {objects::CONFIG_HASH: "0".repeat(64)}}});
    let patched = space.patch(DEPLOYMENT, APP, patch).await?;
    assert_eq!(objects::annotation(&patched, objects::CONFIG_HASH), None);
    space.expect_new_revisions(DEPLOYMENT, APP, 0, || async { Ok(()) }).await
}

#[tokio::test]
async fn c3_20_a_change_past_the_webhook_is_put_right() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    let before = space.create(&objects::listing(APP, "settings")).await?;
    // Writers of the status subresource can change annotations, and the webhook is not asked.
    let patch = json!({"metadata": {"annotations": {objects::OBSERVED_CONFIG: null}}});
    space.workloads(DEPLOYMENT).patch_status(APP, &PatchParams::default(), &Patch::Merge(patch)).await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 0, || async { Ok(()) }).await?;
    let after = space.get(DEPLOYMENT, APP).await?;
    assert_eq!(objects::observed(&after), objects::observed(&before));
    assert_eq!(objects::config_hash(&after), objects::config_hash(&before));
    Ok(())
}

#[tokio::test]
async fn c3_1_config_and_workload_together_make_exactly_one() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "start").await?;
    for kind in BUILT_IN {
        let name = kind.kind.to_lowercase();
        let annotations = json!({objects::CONFIGMAPS: "settings"});
        space.create(&objects::workload(kind, &name, annotations)).await?;
    }
    for round in 1..=8 {
        // Config first, as Helm does it.
        space.configmap("settings", &format!("round {round}")).await?;
        for kind in BUILT_IN {
            let name = kind.kind.to_lowercase();
            let image = json!({"spec": {"template": {"spec": {"containers": [
                {"name": "main", "image": format!("example.invalid/app:round-{round}")}]}}}});
            let params = PatchParams::default();
            space.workloads(kind).patch(&name, &params, &Patch::Strategic(image)).await?;
        }
        for kind in BUILT_IN {
            // The controller must see every version, or it makes fewer revisions than there were templates.
            space.revisions(kind, &kind.kind.to_lowercase()).await?;
        }
    }
    space.settle().await?;
    for kind in BUILT_IN {
        space.expect_revisions(kind, &kind.kind.to_lowercase(), 9).await?;
    }
    Ok(())
}

#[tokio::test]
async fn c3_1_many_changes_settle_into_one() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "start").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            for step in 0..10 {
                space.configmap("settings", &format!("step {step}")).await?;
            }
            Ok(())
        })
        .await
}

#[tokio::test]
async fn c3_2_a_change_and_its_reversal_cause_nothing_over_the_api() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "start").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            space.configmap("settings", "other").await?;
            space.configmap("settings", "start").await?;
            space.delete_configmap("settings").await?;
            space.configmap("settings", "start").await.map(drop)
        })
        .await
}

#[tokio::test]
async fn c3_1_a_steady_stream_of_changes_is_cut_off() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "start").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    let before = space.hash(DEPLOYMENT, APP).await?;
    // Never quiet for a window, for longer than five of them.
    let mut step = 0;
    while space.hash(DEPLOYMENT, APP).await? == before {
        assert!(step < 100, "no reload in all that time");
        step += 1;
        space.configmap("settings", &format!("step {step}")).await?;
        let_pass(SETTLE_WINDOW / 4).await;
    }
    assert!(Duration::from_millis(250) * step >= SETTLE_WINDOW * 3, "only {step} changes were waited for");
    Ok(())
}

#[tokio::test]
async fn c3_23_rollout_undo_makes_one_rollout_with_the_current_hash() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    for kind in BUILT_IN {
        let name = kind.kind.to_lowercase();
        let annotations = json!({objects::CONFIGMAPS: "settings"});
        let first = objects::workload(kind, &name, annotations);
        space.create(&first).await?;
        space.expect_revisions(kind, &name, 1).await?;
        space.replace(&objects::image(first, "example.invalid/app:2")).await?;
        space.expect_revisions(kind, &name, 2).await?;
    }
    space.configmap("settings", "two").await?;
    space.settle().await?;
    for kind in BUILT_IN {
        let name = kind.kind.to_lowercase();
        space.expect_revisions(kind, &name, 3).await?;
        let current = space.hash(kind, &name).await?;
        let target = format!("{name}/{name}");
        let kubectl = world.kubectl();
        kubectl.run(["rollout", "undo", &target, "-n", &space.name, "--to-revision=1"]).await?;
        let undone = space.get(kind, &name).await?;
        assert_eq!(
            undone.data["spec"]["template"]["spec"]["containers"][0]["image"],
            "example.invalid/app:1"
        );
        assert_eq!(objects::config_hash(&undone).as_deref(), Some(current.as_str()), "{}", kind.kind);
        space.expect_new_revisions(kind, &name, 0, || async { Ok(()) }).await?;
        space.expect_revisions(kind, &name, 4).await?;

        // The revision before differs from it in the hash alone: nothing to roll out.
        let generation = undone.metadata.generation;
        kubectl.run(["rollout", "undo", &target, "-n", &space.name, "--to-revision=1"]).await.ok();
        space.expect_revisions(kind, &name, 4).await?;
        assert!(space.get(kind, &name).await?.metadata.generation >= generation);
    }
    Ok(())
}
