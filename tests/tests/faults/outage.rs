//! 5.5, 5.7, 2.2, 1.5: the API server, a policy, the key, the namespace.

use anyhow::{Context, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pod_reloader_e2e::objects::{self, BUILT_IN, KindRef, apps};
use pod_reloader_e2e::{TIMEOUT, User, World, eventually};
use serde_json::json;

const APP: &str = "app";
const DEPLOYMENT: KindRef = apps::DEPLOYMENT;
const WINDOW: &str = "--settle-window=500ms";

#[tokio::test]
async fn c5_7_an_api_server_that_goes_and_comes_back_loses_no_change() -> anyhow::Result<()> {
    let world = World::own(&[WINDOW]).await?;
    let space = world.space().await?;
    space.configmap("settings", "start").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    space.settle().await?;
    for round in 0..2 {
        let before = space.hash(DEPLOYMENT, APP).await?;
        // Changed in the last moment, so that the watch may or may not have told of it.
        space.configmap("settings", &format!("round {round}")).await?;
        if round == 0 {
            world.plane.stop_api_server().await?;
        } else {
            world.plane.kill_api_server()?;
        }
        world.plane.start_api_server().await?;
        world.webhook_answers().await?;
        space.hash_changes(DEPLOYMENT, APP, &before).await?;
        // Lets the controller-manager see each version; it lost its watches too.
        space.expect_revisions(DEPLOYMENT, APP, round + 2).await?;
    }
    // And then there is peace: what asks again after an error makes a pause.
    let mark = world.audit().mark().await?;
    space.settle().await?;
    let entries = world.audit().since(mark).await?;
    let about_key =
        entries.iter().filter(|entry| entry.is_by(User::Operator) && entry.uri.contains("pod-reloader-key"));
    assert!(about_key.count() < 20, "the key's Secret is asked for again and again");
    space.expect_revisions(DEPLOYMENT, APP, 3).await
}

#[tokio::test]
async fn c5_5_a_policy_that_refuses_one_workload_holds_up_no_other() -> anyhow::Result<()> {
    let world = World::own(&[WINDOW]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing("free", "settings")).await?;
    space.create(&objects::listing("held", "settings")).await?;
    let policy = json!({
        "apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
             "metadata": {"name": "hold"},
             "spec": {
                 "failurePolicy": "Fail",
                 "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
                     "operations": ["UPDATE"], "resources": ["deployments"]}]},
                 "validations": [{"expression": format!("object.metadata.name != 'held' || request.userInfo.username != '{}'", User::Operator.name()),
                     "message": "hands off"}]}},
            {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
             "metadata": {"name": "hold"},
             "spec": {"policyName": "hold", "validationActions": ["Deny"]}}]
    });
    let kubectl = world.kubectl();
    kubectl.run_with_input(["apply", "-f", "-"], &policy.to_string()).await?;
    // It is in force when it refuses.
    let operator = objects::api(world.plane.client(User::Operator).await?, DEPLOYMENT, &space.name);
    eventually("the policy to be in force", TIMEOUT, || async {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        ensure!(operator.patch("held", &params, &patch).await.is_err(), "not yet");
        Ok(())
    })
    .await?;

    let (free, held) = (space.hash(DEPLOYMENT, "free").await?, space.hash(DEPLOYMENT, "held").await?);
    space.configmap("settings", "two").await?;
    let notes = space.event_comes("held", "PatchRefused").await?;
    assert!(notes[0].contains("hands off"), "{notes:?}");
    space.hash_changes(DEPLOYMENT, "free", &free).await?;
    assert_eq!(space.hash(DEPLOYMENT, "held").await?, held);

    kubectl.run(["delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "hold"]).await?;
    space.hash_changes(DEPLOYMENT, "held", &held).await?;
    space.expect_revisions(DEPLOYMENT, "held", 2).await
}

#[tokio::test]
async fn c2_2_the_key_is_restored_and_another_one_is_not_used_at_once() -> anyhow::Result<()> {
    let world = World::own(&[WINDOW]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    let secrets = Api::<Secret>::namespaced(world.admin().await?, "pod-reloader");
    let key = || async { anyhow::Ok(secrets.get("pod-reloader-key").await?.data.unwrap_or_default()) };
    let original = key().await?;

    secrets.delete("pod-reloader-key", &DeleteParams::default()).await?;
    eventually("the key to be restored", TIMEOUT, || async {
        ensure!(key().await? == original, "another key");
        Ok(())
    })
    .await?;
    let damage = Patch::Merge(json!({"data": {"key": null}}));
    secrets.patch("pod-reloader-key", &PatchParams::default(), &damage).await?;
    eventually("the key to be repaired", TIMEOUT, || async {
        ensure!(key().await? == original, "not yet");
        Ok(())
    })
    .await?;

    let other =
        Patch::Merge(json!({"data": {"id": ByteString(b"other".to_vec()), "key": ByteString(vec![7; 32])}}));
    secrets.patch("pod-reloader-key", &PatchParams::default(), &other).await?;
    eventually("readiness to go", TIMEOUT, || async {
        let (status, body) = world.replicas[0].readiness().await?;
        ensure!(status == 503 && body.contains("key"), "{status} {body}");
        Ok(())
    })
    .await?;
    // Nothing is decided: an update keeps what it had, a creation goes without.
    let hash = space.hash(DEPLOYMENT, APP).await?;
    let image = objects::image(objects::listing(APP, "settings"), "example.invalid/app:2");
    assert_eq!(objects::config_hash(&space.replace(&image).await?), Some(hash.clone()));
    let created = space.create(&objects::listing("new", "settings")).await?;
    assert_eq!(objects::config_hash(&created), None);

    // In the end the stored key is taken over, and nothing restarts for it.
    eventually("observed-config under the other key", TIMEOUT, || async {
        let observed = objects::observed(&space.get(DEPLOYMENT, APP).await?).context("none")?;
        ensure!(observed["key"] == "other", "{observed}");
        Ok(())
    })
    .await?;
    assert_eq!(space.hash(DEPLOYMENT, APP).await?, hash);
    let (status, _) = world.replicas[0].readiness().await?;
    assert_eq!(status, 200);
    space.expect_revisions(DEPLOYMENT, APP, 2).await
}

#[tokio::test]
async fn c1_5_a_workload_is_deleted_while_no_operator_runs() -> anyhow::Result<()> {
    let mut world = World::own(&[WINDOW]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    for kind in BUILT_IN {
        space.create(&objects::workload(kind, APP, json!({objects::CONFIGMAPS: "settings"}))).await?;
    }
    space.settle().await?;
    // The registration stays, with failure policy Fail.
    for mut replica in world.replicas.drain(..) {
        replica.kill()?;
    }
    let refused = space.patch(DEPLOYMENT, APP, json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert!(refused.is_err(), "the webhook is not asked at all");
    // In the foreground, the garbage collector takes its finalizer off by a write of its own.
    for kind in BUILT_IN {
        let what = format!("{}/{APP}", kind.kind.to_ascii_lowercase());
        let args = ["delete", &what, "--cascade=foreground", "--timeout=60s", "--namespace", &space.name];
        world.kubectl().run(args).await?;
        assert!(space.workloads(kind).get_opt(APP).await?.is_none(), "{what} is still there");
    }
    Ok(())
}

#[tokio::test]
async fn c1_5_a_namespace_that_is_being_deleted_is_left_alone() -> anyhow::Result<()> {
    let world = World::own(&[WINDOW]).await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    // It has to outlive its ConfigMap, whose end would reload it anywhere else.
    let mut workload = objects::env_from(objects::listing(APP, "settings"), "settings", true);
    workload.metadata.finalizers = Some(vec!["example.com/wait".into()]);
    space.create(&workload).await?;
    space.settle().await?;
    let mark = world.audit().mark().await?;
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(world.admin().await?);
    namespaces.delete(&space.name, &DeleteParams::default()).await?;
    eventually("the ConfigMap to be gone", TIMEOUT, || async {
        ensure!(space.configmaps().get_opt("settings").await?.is_none(), "still there");
        Ok(())
    })
    .await?;
    // Elsewhere life goes on.
    let elsewhere = world.space().await?;
    elsewhere.settle().await?;
    let writes = world.audit().writes_by(User::Operator, mark).await?;
    assert!(!writes.iter().any(|write| write.namespace == space.name), "{writes:?}");
    let patch = json!({"metadata": {"finalizers": null}});
    space.patch(DEPLOYMENT, APP, patch).await?;
    Ok(())
}
