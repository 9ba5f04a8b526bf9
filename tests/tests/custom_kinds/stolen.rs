//! What a stolen token of the operator's account is good for, where custom resources are among the kinds.

use anyhow::ensure;
use http::Method;
use pod_reloader_e2e::objects::{CONFIG_HASH, CONFIGMAPS, KindRef, OBSERVED_CONFIG, Shape};
use pod_reloader_e2e::{TIMEOUT, User, World, eventually, policy};
use serde_json::{Value, json};

use crate::setup::{
    change_beside_template, create, custom, define, has_smallest_definition, listing, path, values,
};

const MERGE: &str = "application/merge-patch+json";

/// A merge patch with that at the end of a path.
fn at(path: &[&str], value: Value) -> Value {
    path.iter().rev().fold(value, |inner, member| json!({ *member: inner }))
}

fn in_annotations(kind: KindRef, annotations: Value) -> Value {
    at(&[kind.template, kind.to_annotations()].concat(), annotations)
}

/// What may not be.
fn attempts(kind: KindRef) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("an annotation of the pods", in_annotations(kind, json!({"a": "b"}))),
        ("another annotation of the pods", in_annotations(kind, json!({"theirs": "changed"}))),
        ("no annotation of the pods", in_annotations(kind, json!({"theirs": null}))),
        ("no map", in_annotations(kind, json!(null))),
        ("no hash", in_annotations(kind, json!({CONFIG_HASH: "short"}))),
        ("beside the template", json!({"spec": change_beside_template(kind)})),
        ("a label", json!({"metadata": {"labels": {"a": "b"}}})),
        ("the lists", json!({"metadata": {"annotations": {CONFIGMAPS: "other"}}})),
        ("an owner", json!({"metadata": {"finalizers": ["example.com/theirs"]}})),
    ];
    if has_smallest_definition(kind) {
        // The others' drop what they do not know.
        all.push(("beside the spec", json!({"extra": {"a": "b"}})));
    }
    if kind.shape == Shape::PodTemplate {
        let image = json!({"containers": [{"name": "main", "image": "example.invalid/evil:1"}]});
        all.push(("an image", at(&[kind.template, &["spec"]].concat(), image)));
        all.push((
            "a label of the pods",
            at(&[kind.template, &["metadata", "labels"]].concat(), json!({"a": "b"})),
        ));
    }
    all
}

#[tokio::test]
async fn c5_5_c9_1_of_custom_resources_the_operators_account_can_change_its_own_annotations_alone()
-> anyhow::Result<()> {
    let world = World::without_operator().await?;
    let kinds = custom();
    define(&world, &kinds).await?;
    let user = format!("--user={}", User::Operator.name());
    world
        .kubectl()
        .run(["create", "clusterrolebinding", "all", "--clusterrole=cluster-admin", &user])
        .await?;
    let operator = world.plane.client(User::Operator).await?;
    let policies = policy::render(&[&values()]).await?;
    world.kubectl().run_with_input(["apply", "--validate=strict", "-f", "-"], &policies).await?;
    policy::is_in_force(&world.kubectl(), &operator).await?;

    let space = world.space().await?;
    let hash = "0123456789abcdef".repeat(4);
    let mut missed = vec![];
    for kind in kinds {
        let mut object = listing(kind, "app", "settings");
        let map = [kind.template, kind.to_annotations()].concat();
        *map.iter().fold(&mut object, |parent, member| &mut parent[*member]) = json!({"theirs": "as it is"});
        create(&space, kind, &object).await?;
        // One that has nothing yet on the way to the hash.
        let mut bare = listing(kind, "bare", "settings");
        if kind.shape == Shape::Annotations {
            bare["spec"] = json!({});
        }
        create(&space, kind, &bare).await?;
        let send = async |name: &str, body: &Value| {
            let path = format!("{}?dryRun=All", path(&space, kind, &format!("/{name}")));
            policy::send(&operator, Method::PATCH, &path, MERGE, body).await
        };
        // The policies are taken up one by one.
        eventually(format!("the policy on {kind:?} to be in force"), TIMEOUT, || async {
            let (_, said) = send("app", &json!({"metadata": {"labels": {"a": "b"}}})).await?;
            ensure!(said.contains(policy::SENTENCE), "{said}");
            Ok(())
        })
        .await?;
        for (what, body) in attempts(kind) {
            let (status, said) = send("app", &body).await?;
            if status.as_u16() != 403 || !said.contains(policy::SENTENCE) {
                missed.push(format!("{kind:?}, {what}: {status}: {said:.300}"));
            }
        }
        for name in ["app", "bare"] {
            let mut body = in_annotations(kind, json!({CONFIG_HASH: hash}));
            body["metadata"]["annotations"][OBSERVED_CONFIG] = json!("o");
            let (status, said) = send(name, &body).await?;
            if !status.is_success() {
                missed.push(format!("{kind:?} {name} should be allowed: {status}: {said:.500}"));
            }
        }
    }
    ensure!(missed.is_empty(), "{} missed:\n{}", missed.len(), missed.join("\n"));
    Ok(())
}
