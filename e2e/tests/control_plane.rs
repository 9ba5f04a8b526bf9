//! The harness itself, on one control plane: restarts and the audit log.

#![allow(clippy::unwrap_used, reason = "clippy knows #[test] functions only, not what they share")]

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Namespace, Pod},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use pod_reloader_e2e::{Component, ControlPlane, Options, User, eventually};
use serde_json::json;
use tokio::sync::OnceCell;

const DEADLINE: Duration = Duration::from_secs(30);

/// Held for reading by what needs the API server, for writing by what stops it.
static API_SERVER: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

async fn control_plane() -> &'static ControlPlane {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    SHARED.get_or_try_init(|| ControlPlane::start(Options::default())).await.unwrap()
}

fn configmap(name: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name }, "data": { "key": "value" } })).unwrap()
}

async fn make_namespace(name: &str) {
    let client = control_plane().await.client(User::Admin).await.unwrap();
    let ns = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    Api::<Namespace>::all(client).create(&PostParams::default(), &ns).await.unwrap();
}

#[tokio::test]
async fn deployments_get_revisions_from_the_real_controllers() {
    let _running = API_SERVER.read().await;
    make_namespace("revisions").await;
    let client = control_plane().await.client(User::Editor).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "revisions");
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), "revisions");
    let pods: Api<Pod> = Api::namespaced(client, "revisions");
    let web = serde_json::from_value(json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "main", "image": "ubuntu" }] },
            },
        },
    }))
    .unwrap();
    deployments.create(&PostParams::default(), &web).await.unwrap();
    for revisions in 1..=2 {
        let made = eventually(format!("{revisions} ReplicaSets with pods"), DEADLINE, || async {
            let sets = sets.list(&ListParams::default()).await?.items.len();
            let pods = pods.list(&ListParams::default()).await?.items.len();
            anyhow::ensure!(sets == revisions && pods >= 2, "{sets} ReplicaSets, {pods} pods");
            Ok(())
        });
        made.await.unwrap();
        let patch = json!({ "spec": { "template": { "metadata": { "annotations": { "a": "b" } } } } });
        deployments.patch("web", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

#[tokio::test]
async fn the_audit_log_tells_who_wrote_what() {
    let _running = API_SERVER.read().await;
    make_namespace("audit").await;
    let control_plane = control_plane().await;
    let audit = control_plane.audit();
    let editor: Api<ConfigMap> = Api::namespaced(control_plane.client(User::Editor).await.unwrap(), "audit");
    editor.create(&PostParams::default(), &configmap("before")).await.unwrap();

    let mark = audit.mark().await.unwrap();
    editor.create(&PostParams::default(), &configmap("after")).await.unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    editor.create(&dry_run, &configmap("dry")).await.unwrap();
    editor.get("after").await.unwrap();
    editor.delete("gone", &DeleteParams::default()).await.unwrap_err();

    let here = |entry: &pod_reloader_e2e::Entry| entry.namespace == "audit" && entry.is_by(User::Editor);
    let mut entries = audit.since(mark).await.unwrap();
    entries.retain(here);
    let seen: Vec<_> =
        entries.iter().map(|entry| (entry.verb.as_str(), entry.name.as_str(), entry.code)).collect();
    assert_eq!(
        seen,
        [("create", "after", 201), ("create", "dry", 201), ("get", "after", 200), ("delete", "gone", 404)]
    );
    assert!(entries.iter().all(|entry| entry.is_about("configmaps") && entry.received <= entry.reached));

    let mut writes = audit.writes_by(User::Editor, mark).await.unwrap();
    writes.retain(here);
    let seen: Vec<_> =
        writes.iter().map(|entry| (entry.verb.as_str(), entry.name.as_str(), entry.succeeded())).collect();
    assert_eq!(seen, [("create", "after", true), ("delete", "gone", false)]);
}

#[tokio::test]
async fn the_operator_has_its_rights_and_no_others() {
    let _running = API_SERVER.read().await;
    let kubectl = control_plane().await.kubectl(User::Operator);
    for (namespace, verb, resource, expected) in [
        ("default", "get", "secrets", true),
        ("default", "create", "secrets", false),
        ("pod-reloader", "create", "secrets", true),
        ("pod-reloader", "delete", "secrets", false),
        ("default", "patch", "deployments.apps", true),
        ("default", "update", "deployments.apps", false),
        ("default", "patch", "replicasets.apps", false),
        ("default", "create", "events.events.k8s.io", true),
        ("default", "create", "events", false),
        ("default", "create", "leases.coordination.k8s.io", false),
        ("pod-reloader", "create", "leases.coordination.k8s.io", true),
        ("pod-reloader", "update", "leases.coordination.k8s.io/pod-reloader.cs.sap.com", true),
        ("pod-reloader", "update", "leases.coordination.k8s.io/theirs", false),
        ("pod-reloader", "update", "secrets/pod-reloader-key", true),
        ("pod-reloader", "update", "secrets/theirs", false),
    ] {
        let answer = kubectl.run(["auth", "can-i", verb, resource, "-n", namespace, "-q"]).await;
        assert_eq!(answer.is_ok(), expected, "{verb} {resource} in {namespace}: {answer:?}");
    }
}

#[tokio::test]
async fn the_api_server_comes_back_with_its_port_and_data() {
    let control_plane = control_plane().await;
    let _alone = API_SERVER.write().await;
    make_namespace("restart").await;
    let client = control_plane.client_without_retries(User::Admin).await.unwrap();
    let configmaps: Api<ConfigMap> = Api::namespaced(client, "restart");
    configmaps.create(&PostParams::default(), &configmap("kept")).await.unwrap();
    let mark = control_plane.audit().mark().await.unwrap();

    control_plane.stop_api_server().await.unwrap();
    configmaps.get("kept").await.unwrap_err();
    assert!(control_plane.start_api_server().await.is_ok());
    configmaps.get("kept").await.unwrap();
    // The log goes on in the same file.
    let entries = control_plane.audit().since(mark).await.unwrap();
    assert!(entries.iter().any(|entry| entry.name == "kept" && entry.verb == "get"));

    let error = control_plane.start_api_server().await.unwrap_err();
    assert!(error.to_string().contains("is running"), "{error}");

    control_plane.pause(Component::ApiServer).unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(300), configmaps.get("kept")).await;
    assert!(answer.is_err(), "a paused API server answered: {answer:?}");
    control_plane.resume(Component::ApiServer).unwrap();
    control_plane.api_server_ready().await.unwrap();
    configmaps.get("kept").await.unwrap();

    control_plane.kill_api_server().unwrap();
    control_plane.start_api_server().await.unwrap();
    configmaps.get("kept").await.unwrap();
}
