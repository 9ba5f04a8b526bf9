//! Label selectors, `ConfigMaps` only and no webhook, on a real API server with exactly the rights that they take.

use std::process::Stdio;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use pod_reloader_e2e::objects::{self, apps};
use pod_reloader_e2e::{Operator, Space, TIMEOUT, User, World, eventually};
use serde_json::{Value, json};

const TEAM: &str = "example.com/team";

fn workload_rules() -> Value {
    json!([
        {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets"],
         "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
        {"apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": ["get", "list", "watch", "patch"]},
    ])
}

fn own_rules() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["pod-reloader-key"],
         "verbs": ["get", "list", "watch", "update"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
         "verbs": ["create", "get", "list", "watch", "update", "patch"]},
    ])
}

/// Gives the guest these rights in a namespace, or everywhere.
async fn grant(world: &World, namespace: Option<&str>, rules: Value) -> anyhow::Result<()> {
    let (role, binding) = match namespace {
        Some(_) => ("Role", "RoleBinding"),
        None => ("ClusterRole", "ClusterRoleBinding"),
    };
    let group = "rbac.authorization.k8s.io";
    let metadata = json!({"name": "selecting", "namespace": namespace});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": format!("{group}/v1"), "kind": role, "metadata": metadata, "rules": rules},
        {"apiVersion": format!("{group}/v1"), "kind": binding, "metadata": metadata,
         "roleRef": {"apiGroup": group, "kind": role, "name": "selecting"},
         "subjects": [{"apiGroup": group, "kind": "User", "name": User::Guest.name()}]},
    ]});
    world.kubectl().run_with_input(["apply", "-f", "-"], &list.to_string()).await?;
    Ok(())
}

async fn label(space: &Space, team: Option<&str>) -> anyhow::Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"labels": {TEAM: team}}}));
    Api::<Namespace>::all(space.client.clone()).patch(&space.name, &PatchParams::default(), &patch).await?;
    Ok(())
}

fn of_tier(name: &str, tier: &str) -> kube::api::DynamicObject {
    let mut workload = objects::listing(name, "settings");
    workload.metadata.labels = Some([("tier".to_owned(), tier.to_owned())].into());
    workload
}

async fn has_hash(space: &Space, name: &str) -> anyhow::Result<bool> {
    Ok(objects::config_hash(&space.get(apps::DEPLOYMENT, name).await?).is_some())
}

/// Waits until the workload's hash is another.
async fn gets_hash(space: &Space, name: &str, before: Option<&str>) -> anyhow::Result<String> {
    eventually(format!("another hash on {name} in {}", space.name), TIMEOUT, || async {
        let hash = space.hash(apps::DEPLOYMENT, name).await?;
        ensure!(Some(&*hash) != before, "still {hash}");
        Ok(hash)
    })
    .await
}

#[tokio::test]
async fn c1_6_selectors_bind_the_reconciler_as_the_api_server_understands_them() -> anyhow::Result<()> {
    let mut world = World::without_operator().await?;
    let (inside, outside) = (world.space().await?, world.space().await?);
    let mut rules = workload_rules();
    rules[3]["verbs"] = json!(["get", "list", "watch"]);
    grant(&world, None, rules).await?;
    grant(&world, Some("pod-reloader"), own_rules()).await?;
    let mark = world.audit().mark().await?;
    label(&inside, Some("shop")).await?;
    label(&outside, Some("another")).await?;
    for space in [&inside, &outside] {
        space.configmap("settings", "one").await?;
        for (name, tier) in [("app", "web"), ("db", "db")] {
            space.create(&of_tier(name, tier)).await?;
        }
        space.create(&objects::listing("none", "settings")).await?;
    }
    let mut options = world.replica_options(
        "selecting",
        &[
            "--settle-window=500ms",
            "--secrets=false",
            "--webhook-bind-address=0",
            "--namespace-selector=example.com/team in (shop, stock),kubernetes.io/metadata.name!=default",
            "--object-selector=tier notin (db),tier",
        ],
    )?;
    options.kubeconfig = world.plane.kubeconfig(User::Guest);
    world.replicas.push(Operator::spawn(&options).await?);

    let first = gets_hash(&inside, "app", None).await?;
    outside.configmap("settings", "two").await?;
    inside.configmap("settings", "two").await?;
    gets_hash(&inside, "app", Some(&first)).await?;
    for (space, name) in
        [(&inside, "db"), (&inside, "none"), (&outside, "app"), (&outside, "db"), (&outside, "none")]
    {
        ensure!(!has_hash(space, name).await?, "{name} in {} is not selected", space.name);
    }
    let entries = world.audit().since(mark).await?;
    let of_guest = || entries.iter().filter(|entry| entry.is_by(User::Guest));
    let in_outside: Vec<_> = of_guest().filter(|entry| entry.namespace == outside.name).collect();
    ensure!(in_outside.is_empty(), "{in_outside:?}");

    // A label that comes later, and one that goes.
    label(&outside, Some("stock")).await?;
    let before = gets_hash(&outside, "app", None).await?;
    ensure!(!has_hash(&outside, "db").await?);
    let tier = json!({"metadata": {"labels": {"tier": "api"}}});
    outside.patch(apps::DEPLOYMENT, "db", tier).await?;
    gets_hash(&outside, "db", None).await?;
    label(&outside, None).await?;
    let left = inside.hash(apps::DEPLOYMENT, "app").await?;
    inside.patch(apps::DEPLOYMENT, "app", json!({"metadata": {"labels": {"tier": null}}})).await?;
    inside.create(&of_tier("sentinel", "web")).await?;
    let sentinel = gets_hash(&inside, "sentinel", None).await?;
    outside.configmap("settings", "three").await?;
    inside.configmap("settings", "three").await?;
    gets_hash(&inside, "sentinel", Some(&sentinel)).await?;
    ensure!(outside.hash(apps::DEPLOYMENT, "app").await? == before, "its namespace is left alone");
    ensure!(inside.hash(apps::DEPLOYMENT, "app").await? == left, "it is left alone");

    let entries = world.audit().since(mark).await?;
    let refused: Vec<_> =
        entries.iter().filter(|entry| entry.is_by(User::Guest) && entry.code == 403).collect();
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn c4_12_without_a_webhook_roles_are_enough_and_everything_heals() -> anyhow::Result<()> {
    let mut world = World::without_operator().await?;
    let space = world.space().await?;
    let inside = &space.name;
    grant(&world, Some(inside), workload_rules()).await?;
    grant(&world, Some("pod-reloader"), own_rules()).await?;
    let mark = world.audit().mark().await?;
    let args = [
        format!("--namespaces={inside}"),
        format!("--namespace-selector=kubernetes.io/metadata.name={inside}"),
        "--object-selector=tier in (web,api)".into(),
        "--webhook-bind-address=0".into(),
        "--secrets=false".into(),
    ];
    let mut all: Vec<&str> = args.iter().map(String::as_str).collect();
    all.extend(["--leader-elect", "--settle-window=500ms"]);
    let mut options = world.replica_options("reconciler", &all)?;
    options.kubeconfig = world.plane.kubeconfig(User::Guest);
    world.replicas.push(Operator::spawn(&options).await?);
    let [_, _, webhook] = world.replicas[0].ports();
    ensure!(tokio::net::TcpStream::connect(("127.0.0.1", webhook)).await.is_err(), "nothing listens there");

    space.configmap("settings", "one").await?;
    space.create(&of_tier("app", "web")).await?;
    let first = gets_hash(&space, "app", None).await?;
    space.configmap("settings", "two").await?;
    let second = gets_hash(&space, "app", Some(&first)).await?;
    // A full replace drops the hash and what was recorded.
    space.replace(&of_tier("app", "web")).await?;
    eventually("the hash to be put back", TIMEOUT, || async {
        ensure!(space.hash(apps::DEPLOYMENT, "app").await? == second);
        Ok(())
    })
    .await?;

    let test = tokio::process::Command::new(pod_reloader_e2e::operator_binary()?)
        .arg("self-test")
        .args(&args)
        .arg("--settle-window=500ms")
        .env("KUBECONFIG", world.plane.kubeconfig(User::Admin))
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run the self test")?;
    let said = String::from_utf8_lossy(&test.stdout);
    ensure!(test.status.success(), "{said}\n{}", String::from_utf8_lossy(&test.stderr));
    ensure!(said.contains("the reconciler put a hash on it"), "{said}");

    let entries = world.audit().since(mark).await?;
    let of_guest: Vec<_> = entries.iter().filter(|entry| entry.is_by(User::Guest)).collect();
    for entry in of_guest {
        ensure!(entry.code != 403, "{entry:?}");
        ensure!(!entry.resource.starts_with("selfsubject"), "{entry:?}");
        let is_own = entry.namespace == "pod-reloader";
        ensure!(is_own || entry.resource != "secrets", "{entry:?}");
        ensure!(is_own || entry.namespace == *inside, "beyond a namespace: {entry:?}");
    }
    Ok(())
}
