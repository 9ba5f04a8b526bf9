//! 4.1 to 4.5: the patches, applied.

use pod_reloader_e2e::objects::{self, CONFIG_HASH, OBSERVED_CONFIG, apps};
use pod_reloader_e2e::{Space, User, World};
use serde_json::{Value, json};

use pod_reloader_e2e::world::webhook::{Webhook, request};

fn hash(object: &Value) -> &Value {
    &object["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH]
}

fn observed(object: &Value) -> &Value {
    &object["metadata"]["annotations"][OBSERVED_CONFIG]
}

async fn setting() -> anyhow::Result<(Space, Webhook)> {
    let world = World::shared().await?;
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    Ok((space, Webhook::of(world, &world.replicas[0])?))
}

#[tokio::test]
async fn c4_1_only_our_annotations_are_touched_and_a_second_look_finds_nothing() -> anyhow::Result<()> {
    let (space, webhook) = setting().await?;
    let mut unusual = json!(objects::listing("app", "settings"));
    unusual["spec"]["template"]["metadata"] = json!(null);
    unusual["spec"]["someday"] = json!({"a": [1, 2.5, null]});
    let mut nameless = json!(objects::listing("app", "settings"));
    nameless["metadata"]["name"] = json!(null);
    nameless["metadata"]["generateName"] = json!("app-");
    nameless["spec"]["template"]["metadata"]["annotations"] =
        json!({"other/one": "x", CONFIG_HASH: "copied"});
    for object in [json!(objects::listing("app", "settings")), unusual, nameless] {
        let create = request("CREATE", &space.name, &object, None);
        let (patched, warnings) = webhook.mutate(&create).await?;
        assert_eq!(hash(&patched).as_str().map(str::len), Some(64), "{patched}");
        assert!(observed(&patched).is_string());
        assert!(warnings.is_empty(), "{warnings:?}");
        let mut without = patched.clone();
        for pointer in ["/metadata/annotations", "/spec/template/metadata/annotations"] {
            if let Some(annotations) = without.pointer_mut(pointer).and_then(Value::as_object_mut) {
                annotations.retain(|key, _| key != CONFIG_HASH && key != OBSERVED_CONFIG);
            }
        }
        let mut before = object.clone();
        if before["spec"]["template"]["metadata"].is_null() {
            before["spec"]["template"]["metadata"] = json!({});
        }
        let annotations = &mut before["spec"]["template"]["metadata"]["annotations"];
        let mut others = annotations.as_object().cloned().unwrap_or_default();
        others.remove(CONFIG_HASH);
        *annotations = json!(others);
        assert_eq!(without, before);

        let again = webhook.review(&request("CREATE", &space.name, &patched, None)).await?;
        assert_eq!(again["patch"], Value::Null);
        let mut dry_run = create.clone();
        dry_run["dryRun"] = json!(true);
        assert_eq!(webhook.mutate(&dry_run).await?.0, patched, "4.4");
    }
    Ok(())
}

#[tokio::test]
async fn c4_3_our_own_patches_pass_and_those_of_pretenders_do_not() -> anyhow::Result<()> {
    let (space, webhook) = setting().await?;
    let old = json!(space.create(&objects::listing("app", "settings")).await?);
    let mut new = old.clone();
    new["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH] = json!("a".repeat(64));
    for (user, manager, passes) in [
        (User::Operator.name(), "pod-reloader", true),
        (User::Operator.name(), "kubectl", false),
        ("somebody", "pod-reloader", false),
    ] {
        let mut update = request("UPDATE", &space.name, &new, Some(&old));
        update["userInfo"]["username"] = json!(user);
        update["options"]["fieldManager"] = json!(manager);
        let (patched, _) = webhook.mutate(&update).await?;
        let expected = if passes { &new } else { &old };
        assert_eq!(hash(&patched), hash(expected), "{user} {manager}");
    }
    Ok(())
}

#[tokio::test]
async fn c4_3_every_replica_reads_its_writes() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let (space, _) = setting().await?;
    let old = json!(space.create(&objects::listing("app", "settings")).await?);
    let mut new = old.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example.invalid/app:2");
    let mut seen = vec![];
    for value in ["two", "three", "one"] {
        space.configmap("settings", value).await?;
        let mut answers = vec![];
        for replica in &world.replicas {
            let webhook = Webhook::of(world, replica)?;
            let (patched, _) = webhook.mutate(&request("UPDATE", &space.name, &new, Some(&old))).await?;
            answers.push((hash(&patched).clone(), observed(&patched).clone()));
        }
        assert_eq!(answers[0], answers[1], "replicas agree");
        seen.push(answers[0].clone());
    }
    assert_ne!(seen[0], seen[1]);
    assert_eq!(&seen[2].0, hash(&old), "as it was");
    Ok(())
}

#[tokio::test]
async fn c4_2_annotations_that_would_grow_too_large_are_left_out() -> anyhow::Result<()> {
    let (space, webhook) = setting().await?;
    let mut big = objects::listing("app", "settings");
    big.metadata
        .annotations
        .get_or_insert_default()
        .insert("example.com/big".into(), "x".repeat(256 * 1024 - 100));
    let (patched, warnings) = webhook.mutate(&request("CREATE", &space.name, &json!(big), None)).await?;
    assert!(hash(&patched).is_string());
    assert!(observed(&patched).is_null());
    assert!(warnings[0].contains("256 KiB"), "{warnings:?}");
    // And the API server takes it.
    space.create(&big).await?;
    space.event_comes("app", "NoRoom").await?;
    let stored = space.get(apps::DEPLOYMENT, "app").await?;
    assert_eq!(objects::config_hash(&stored).as_deref(), hash(&patched).as_str());

    // One that goes beyond by itself is the API server's to refuse, not ours.
    let mut template = json!(objects::listing("app", "settings"));
    template["spec"]["template"]["metadata"]["annotations"] =
        json!({"example.com/big": "x".repeat(256 * 1024 - 30)});
    let (patched, warnings) = webhook.mutate(&request("CREATE", &space.name, &template, None)).await?;
    assert!(hash(&patched).is_null());
    assert!(warnings[0].contains("template"), "{warnings:?}");
    Ok(())
}

#[tokio::test]
async fn c1_2_bad_names_are_warned_of() -> anyhow::Result<()> {
    let (space, webhook) = setting().await?;
    let list = format!("settings,Bad_One,{},x y", "z".repeat(300));
    let object = json!(objects::listing("app", &list));
    let (patched, warnings) = webhook.mutate(&request("CREATE", &space.name, &object, None)).await?;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("Bad_One"), "{warnings:?}");
    assert!(hash(&patched).is_string());
    Ok(())
}

#[tokio::test]
async fn c1_5_a_workload_that_is_being_deleted_is_left_alone_over_the_api() -> anyhow::Result<()> {
    let (space, webhook) = setting().await?;
    let old = json!(objects::listing("app", "settings"));
    let mut new = old.clone();
    new["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let response = webhook.review(&request("UPDATE", &space.name, &new, Some(&old))).await?;
    assert_eq!(response["patch"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn c4_2_a_thousand_references_get_their_hash_at_once_and_more_are_warned_of() -> anyhow::Result<()> {
    let (space, webhook) = setting().await?;
    let names: Vec<String> = (0..1_000).map(|i| format!("settings-{i}")).collect();
    let long = objects::listing("app", &names.join(","));
    let (patched, _) = webhook.mutate(&request("CREATE", &space.name, &json!(long), None)).await?;
    assert!(hash(&patched).is_string());
    space.create(&long).await?;
    space.settle().await?;
    space.expect_revisions(apps::DEPLOYMENT, "app", 1).await?;

    let longer = objects::listing("more", &format!("{},one-more", names.join(",")));
    let (patched, warnings) = webhook.mutate(&request("CREATE", &space.name, &json!(longer), None)).await?;
    assert!(hash(&patched).is_string());
    assert!(warnings.iter().any(|warning| warning.contains("1000")), "{warnings:?}");
    Ok(())
}
