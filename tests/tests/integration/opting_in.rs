//! Section 7 on the real API server: opting in restarts nothing, and what a pod template uses is followed, wherever people
//! stand.

use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use pod_reloader_e2e::objects::{self, BUILT_IN, KindRef, apps};
use pod_reloader_e2e::{Space, TIMEOUT, World, eventually};
use serde_json::{Value, json};

const AUTO: &str = "pod-reloader.cs.sap.com/auto";
const IGNORE: &str = "pod-reloader.cs.sap.com/ignore";
const APP: &str = "app";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;

/// A workload that says nothing of us and reads one key of `settings`, and `login` whole.
fn bystander(kind: KindRef, name: &str) -> DynamicObject {
    let mut workload = objects::workload(kind, name, json!({}));
    let container = &mut workload.data["spec"]["template"]["spec"]["containers"][0];
    container["env"] = json!([
        {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "key"}}}]);
    container["envFrom"] = json!([{"secretRef": {"name": "login"}}]);
    workload
}

async fn space_with_config() -> anyhow::Result<Space> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    space.secret("login", "one").await?;
    Ok(space)
}

async fn annotate(space: &Space, object: &str, key: &str, value: Option<&str>) -> anyhow::Result<()> {
    let entry = value.map_or_else(|| format!("{key}-"), |value| format!("{key}={value}"));
    space.kubectl(&["annotate", "--overwrite", object, &entry]).await?;
    Ok(())
}

/// Waits until observed-config says that exactly these are followed.
async fn follows(space: &Space, kind: KindRef, name: &str, expected: &[&str]) -> anyhow::Result<()> {
    eventually(format!("{name} to follow {expected:?}"), TIMEOUT, || async {
        let observed = objects::observed(&space.get(kind, name).await?).unwrap_or_default();
        let names = |kind: &str| observed["followed"][kind].as_object().cloned().unwrap_or_default();
        let followed: Vec<_> = ["configmaps", "secrets"]
            .iter()
            .flat_map(|kind| names(kind).into_iter().map(|(name, _)| name))
            .collect();
        anyhow::ensure!(followed == expected, "{observed}");
        Ok(())
    })
    .await
}

async fn set_size(space: &Space, value: &str) -> anyhow::Result<()> {
    let patch: Value = json!({"data": {"size": value}});
    space.configmaps().patch("settings", &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

#[tokio::test]
async fn c7_1_kubectl_annotate_restarts_nothing_and_the_next_change_of_a_used_key_is_one_revision()
-> anyhow::Result<()> {
    let space = space_with_config().await?;
    for kind in BUILT_IN {
        let name = kind.kind.to_lowercase();
        space.create(&bystander(kind, &name)).await?;
        space.expect_revisions(kind, &name, 1).await?;
        annotate(&space, &format!("{}/{name}", kind.plural), AUTO, Some("true")).await?;
        follows(&space, kind, &name, &["settings", "login"]).await?;
    }
    let revisions = async |expected| {
        for kind in BUILT_IN {
            space.settle_with_controllers().await?;
            space.expect_revisions(kind, &kind.kind.to_lowercase(), expected).await?;
        }
        anyhow::Ok(())
    };
    revisions(1).await?;
    set_size(&space, "2").await?;
    revisions(1).await?;
    space.configmap("settings", "two").await?;
    revisions(2).await?;
    space.secret("login", "two").await?;
    revisions(3).await
}

#[tokio::test]
async fn c7_1_a_new_volume_and_its_hash_arrive_in_one_revision() -> anyhow::Result<()> {
    let space = space_with_config().await?;
    let mut app = bystander(DEPLOYMENT, APP);
    app.metadata.annotations = Some([(AUTO.to_owned(), "true".to_owned())].into());
    let created = space.create(&app).await?;
    let before = objects::config_hash(&created);
    assert!(before.is_some(), "a CREATE has its hash at once");
    space.configmap("files", "one").await?;
    let patch = json!({"spec": {"template": {"spec": {
        "volumes": [{"name": "files", "configMap": {"name": "files"}}],
        "containers": [{"name": "main", "volumeMounts": [{"name": "files", "mountPath": "/files"}]}]}}}});
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            let params = PatchParams::default();
            let patched = space.workloads(DEPLOYMENT).patch(APP, &params, &Patch::Strategic(patch)).await?;
            assert_ne!(objects::config_hash(&patched), before);
            Ok(())
        })
        .await?;
    follows(&space, DEPLOYMENT, APP, &["files", "settings", "login"]).await?;
    let change = || async { space.configmap("files", "two").await.map(drop) };
    space.expect_new_revisions(DEPLOYMENT, APP, 1, change).await
}

#[tokio::test]
async fn c7_3_moving_a_name_between_list_and_auto_restarts_nothing() -> anyhow::Result<()> {
    let space = space_with_config().await?;
    let mut app = bystander(DEPLOYMENT, APP);
    app.metadata.annotations = Some([(objects::CONFIGMAPS.to_owned(), "settings".to_owned())].into());
    space.create(&app).await?;
    for (annotations, followed) in [
        (json!({objects::CONFIGMAPS: null, AUTO: "configmaps"}), &["settings"][..]),
        (json!({objects::CONFIGMAPS: "settings", AUTO: "true"}), &["login"]),
        (json!({objects::CONFIGMAPS: null}), &["settings", "login"]),
    ] {
        let write = || async {
            space.patch(DEPLOYMENT, APP, json!({"metadata": {"annotations": annotations}})).await.map(drop)
        };
        space.expect_new_revisions(DEPLOYMENT, APP, 0, write).await?;
        follows(&space, DEPLOYMENT, APP, followed).await?;
    }
    let change = || async { space.configmap("settings", "two").await.map(drop) };
    space.expect_new_revisions(DEPLOYMENT, APP, 1, change).await
}

#[tokio::test]
async fn c7_4_a_label_on_the_namespace_follows_for_all_and_new_workloads_have_their_hash()
-> anyhow::Result<()> {
    let world = World::shared().await?;
    let space = space_with_config().await?;
    space.create(&bystander(DEPLOYMENT, APP)).await?;
    let mut says_no = bystander(DEPLOYMENT, "no");
    says_no.metadata.annotations = Some([(AUTO.to_owned(), "false".to_owned())].into());
    space.create(&says_no).await?;
    let label = |value: &str| format!("{AUTO}{value}");
    world.kubectl().run(["label", "namespace", &space.name, &label("=true")]).await?;
    follows(&space, DEPLOYMENT, APP, &["settings", "login"]).await?;
    let change = || async { space.configmap("settings", "two").await.map(drop) };
    space.expect_new_revisions(DEPLOYMENT, APP, 1, change).await?;
    space.expect_revisions(DEPLOYMENT, "no", 1).await?;
    // The API server reads labels from its cache.
    eventually("a new workload to have its hash", TIMEOUT, || async {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let created = space.workloads(DEPLOYMENT).create(&dry_run, &bystander(DEPLOYMENT, "new")).await?;
        anyhow::ensure!(objects::config_hash(&created).is_some(), "{}", json!(created));
        Ok(())
    })
    .await?;
    // A bare replace cannot strip it.
    let replace = || async { space.replace(&bystander(DEPLOYMENT, APP)).await.map(drop) };
    space.expect_new_revisions(DEPLOYMENT, APP, 0, replace).await?;

    world.kubectl().run(["label", "namespace", &space.name, &label("-")]).await?;
    follows(&space, DEPLOYMENT, APP, &[]).await?;
    let change = || async { space.configmap("settings", "three").await.map(drop) };
    space.expect_new_revisions(DEPLOYMENT, APP, 0, change).await
}

#[tokio::test]
async fn c7_4_a_mark_on_a_secret_follows_it_without_touching_the_workload() -> anyhow::Result<()> {
    let space = space_with_config().await?;
    space.create(&bystander(DEPLOYMENT, APP)).await?;
    annotate(&space, "secret/login", AUTO, Some("true")).await?;
    follows(&space, DEPLOYMENT, APP, &["login"]).await?;
    let change = |value| {
        let space = space.clone();
        move || async move { space.secret("login", value).await.map(drop) }
    };
    space.expect_new_revisions(DEPLOYMENT, APP, 1, change("two")).await?;
    let other = || async { space.configmap("settings", "two").await.map(drop) };
    space.expect_new_revisions(DEPLOYMENT, APP, 0, other).await?;
    // The webhook protects it from now on.
    let replace = || async { space.replace(&bystander(DEPLOYMENT, APP)).await.map(drop) };
    space.expect_new_revisions(DEPLOYMENT, APP, 0, replace).await?;

    annotate(&space, "secret/login", IGNORE, Some("true")).await?;
    follows(&space, DEPLOYMENT, APP, &[]).await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 0, change("three")).await?;
    annotate(&space, "secret/login", IGNORE, None).await?;
    follows(&space, DEPLOYMENT, APP, &["login"]).await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 1, change("four")).await?;
    annotate(&space, "secret/login", AUTO, None).await?;
    follows(&space, DEPLOYMENT, APP, &[]).await?;
    space.expect_new_revisions(DEPLOYMENT, APP, 0, change("five")).await
}

#[tokio::test]
async fn c7_1_other_values_of_auto_are_warned_of_and_as_if_absent() -> anyhow::Result<()> {
    let space = space_with_config().await?;
    space.create(&bystander(DEPLOYMENT, APP)).await?;
    let write = || async { annotate(&space, "deployment/app", AUTO, Some("yes")).await };
    space.expect_new_revisions(DEPLOYMENT, APP, 0, write).await?;
    assert!(objects::observed(&space.get(DEPLOYMENT, APP).await?).is_none());
    let change = || async { space.configmap("settings", "two").await.map(drop) };
    space.expect_new_revisions(DEPLOYMENT, APP, 0, change).await
}

#[tokio::test]
async fn c7_1_auto_on_the_template_counts_where_the_workload_has_none() -> anyhow::Result<()> {
    let space = space_with_config().await?;
    let mut app = bystander(DEPLOYMENT, APP);
    app.data["spec"]["template"]["metadata"]["annotations"] = json!({AUTO: "true"});
    let created = space.create(&app).await?;
    assert!(objects::config_hash(&created).is_some(), "{}", json!(created));
    app.metadata.name = Some("no".to_owned());
    app.metadata.annotations = Some([(AUTO.to_owned(), "false".to_owned())].into());
    assert_eq!(objects::config_hash(&space.create(&app).await?), None);
    Ok(())
}
