//! `--namespaces`: Roles are enough, and nothing else is looked at.

use pod_reloader_e2e::objects::{self, apps};
use pod_reloader_e2e::{Operator, User, World};
use serde_json::json;

#[tokio::test]
async fn c6_with_namespaces_roles_are_enough() -> anyhow::Result<()> {
    let mut world = World::without_operator().await?;
    let (inside, outside) = (world.space().await?, world.space().await?);
    let role = |namespace: &str, rules: serde_json::Value| {
        [
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                   "metadata": {"name": "scoped", "namespace": namespace}, "rules": rules}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                   "metadata": {"name": "scoped", "namespace": namespace},
                   "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "scoped"},
                   "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": User::Guest.name()}]}),
        ]
    };
    let watched = json!([
        {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets"],
         "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
        {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": ["get", "list", "watch", "patch"]}
    ]);
    let own = json!([
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "get", "list", "watch", "update"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
         "verbs": ["create", "get", "list", "watch", "update", "patch"]}
    ]);
    let items: Vec<_> =
        [role(&inside.name, watched), role("pod-reloader", own)].into_iter().flatten().collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    world.kubectl().run_with_input(["apply", "-f", "-"], &list).await?;

    let mark = world.audit().mark().await?;
    let namespaces = format!("--namespaces={}", inside.name);
    let mut options =
        world.replica_options("scoped", &["--leader-elect", "--settle-window=500ms", &namespaces])?;
    options.kubeconfig = world.plane.kubeconfig(User::Guest);
    world.replicas.push(Operator::spawn(&options).await?);
    let urls = world.replicas.iter().map(Operator::webhook_url);
    world.apply(&pod_reloader_e2e::Registration::new(urls).ca_bundle(world.authority.pem())).await?;

    inside.settle().await?;
    outside.configmap("settings", "one").await?;
    let created = outside.create(&objects::listing("app", "settings")).await?;
    assert_eq!(objects::config_hash(&created), None, "not ours there");
    inside.configmap("settings", "one").await?;
    inside.create(&objects::listing("app", "settings")).await?;
    inside
        .expect_new_revisions(apps::DEPLOYMENT, "app", 1, || async {
            inside.configmap("settings", "two").await.map(drop)
        })
        .await?;

    let entries = world.audit().since(mark).await?;
    let refused: Vec<_> =
        entries.iter().filter(|entry| entry.is_by(User::Guest) && entry.code == 403).collect();
    assert!(refused.is_empty(), "{refused:?}");
    Ok(())
}
