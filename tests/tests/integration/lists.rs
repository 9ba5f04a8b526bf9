//! Sections 1 and 3: the lists of references, opting in and out, and what is none of our business.

use kube::api::{DynamicObject, PostParams};
use pod_reloader_e2e::objects::{self, BUILT_IN, apps};
use pod_reloader_e2e::{Space, TIMEOUT, User, World};
use serde_json::json;

use crate::shared::{
    APP, DEPLOYMENT, annotate, list_patch, listing, name_of, operator_requests, operator_writes, standing,
};

#[tokio::test]
async fn c3_17_a_reference_is_added_and_removed() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("a", "one").await?;
    space.configmap("b", "one").await?;
    for kind in BUILT_IN {
        let name = name_of(kind);
        space.create(&listing(kind, "a")).await?;
        space
            .expect_new_revisions(kind, &name, 1, || async {
                space.patch(kind, &name, list_patch(Some("a,b"))).await.map(drop)
            })
            .await?;
        let both = space.hash(kind, &name).await?;
        space
            .expect_new_revisions(kind, &name, 1, || async {
                space.patch(kind, &name, list_patch(Some("b"))).await.map(drop)
            })
            .await?;
        assert_ne!(space.hash(kind, &name).await?, both);
        // What is no longer listed no longer counts; what is listed does.
        space
            .expect_new_revisions(kind, &name, 0, || async {
                space.configmap("a", &format!("{name} changed")).await.map(drop)
            })
            .await?;
        space
            .expect_new_revisions(kind, &name, 1, || async {
                space.configmap("b", &format!("{name} changed")).await.map(drop)
            })
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn c1_2_blanks_order_and_repetition_make_no_difference() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let space = world.space().await?;
    space.configmap("a", "one").await?;
    space.configmap("b", "one").await?;
    space.create(&objects::listing(APP, "a,b")).await?;
    space.expect_revisions(DEPLOYMENT, APP, 1).await?;
    let before = standing(&space, DEPLOYMENT, APP).await?;
    let mark = world.audit().mark().await?;
    for list in ["b,a", " a , b ", "a,,b,", "a,b,a\n", "\tb,a"] {
        space.patch(DEPLOYMENT, APP, list_patch(Some(list))).await?;
        assert_eq!(standing(&space, DEPLOYMENT, APP).await?, before, "{list:?}");
    }
    space.patch(DEPLOYMENT, APP, annotate(objects::SECRETS, Some(" , ,"))).await?;
    space.settle().await?;
    space.expect_revisions(DEPLOYMENT, APP, 1).await?;
    assert_eq!(standing(&space, DEPLOYMENT, APP).await?, before);
    assert_eq!(operator_writes(&space, mark, APP).await?, Vec::<String>::new());
    // The same reference as one of another workload that lists it tidily.
    space.create(&objects::listing("untidy", " b ,, a,b")).await?;
    assert_eq!(Some(space.hash(DEPLOYMENT, "untidy").await?), before.hash);
    Ok(())
}

/// Creates a Deployment and gives the warnings that came along.
async fn create_with_warnings(space: &Space, workload: &DynamicObject) -> anyhow::Result<Vec<String>> {
    let path = format!("/apis/apps/v1/namespaces/{}/deployments", space.name);
    let request =
        kube::core::Request::new(path).create(&PostParams::default(), serde_json::to_vec(workload)?)?;
    let response = space.client.send(request.map(kube::client::Body::from)).await?;
    anyhow::ensure!(response.status().is_success(), "{}", response.status());
    let headers = response.headers().get_all(http::header::WARNING);
    Ok(headers.iter().map(|header| String::from_utf8_lossy(header.as_bytes()).into_owned()).collect())
}

#[tokio::test]
async fn c1_2_a_bad_name_is_reported_and_the_rest_counts() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    let warnings = create_with_warnings(&space, &objects::listing(APP, "settings,Not_A_Name")).await?;
    // Two replicas are registered, each with an entry of its own, and may each say it.
    assert!(!warnings.is_empty() && warnings.iter().all(|text| text.contains("Not_A_Name")), "{warnings:?}");
    let notes = space.event_comes(APP, "InvalidReference").await?;
    assert!(notes[0].contains("Not_A_Name"), "{notes:?}");
    let kubectl = world.kubectl();
    let label = ["label", "deployment", APP, "-n", &space.name, "a=b"];
    kubectl.run(label).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            space.configmap("settings", "two").await.map(drop)
        })
        .await?;
    assert_eq!(space.events(APP, "InvalidReference").await?.len(), 1, "told once");

    // Taken off the list, it made no difference; put back, it is told anew.
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            space.patch(DEPLOYMENT, APP, list_patch(Some("settings"))).await.map(drop)
        })
        .await?;
    space.patch(DEPLOYMENT, APP, list_patch(Some("settings,Not_A_Name"))).await?;
    pod_reloader_e2e::eventually("a second warning", TIMEOUT, || async {
        anyhow::ensure!(space.events(APP, "InvalidReference").await?.len() == 2, "not yet");
        Ok(())
    })
    .await?;
    // One entry that is not blank opts in, even if nothing is left of the list.
    space.create(&objects::listing("only-bad", "Not_A_Name")).await?;
    space.hash(DEPLOYMENT, "only-bad").await?;
    space.event_comes("only-bad", "InvalidReference").await.map(drop)
}

#[tokio::test]
async fn c3_17_opting_in_on_a_running_workload_is_one_rollout() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    for kind in BUILT_IN {
        let name = name_of(kind);
        space.create(&objects::workload(kind, &name, json!({}))).await?;
        space.expect_revisions(kind, &name, 1).await?;
        let annotation = format!("{}=settings", objects::CONFIGMAPS);
        let kubectl = world.kubectl();
        kubectl.run(["annotate", &name, &name, "-n", &space.name, &annotation]).await?;
        space.hash(kind, &name).await?;
    }
    space.settle().await?;
    for kind in BUILT_IN {
        space.expect_revisions(kind, &name_of(kind), 2).await?;
        assert!(objects::observed(&space.get(kind, &name_of(kind)).await?).is_some());
    }
    Ok(())
}

#[tokio::test]
async fn c3_18_opting_out_keeps_the_hash_until_a_full_replace() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    for kind in BUILT_IN {
        let name = name_of(kind);
        space.create(&listing(kind, "settings")).await?;
        let hash = space.hash(kind, &name).await?;
        // Blank is as good as gone.
        let list = if kind == DEPLOYMENT { None } else { Some(" , ") };
        space
            .expect_new_revisions(kind, &name, 0, || async {
                space.patch(kind, &name, list_patch(list)).await.map(drop)
            })
            .await?;
        let after = standing(&space, kind, &name).await?;
        assert_eq!((after.hash, after.observed), (Some(hash), None));
        space
            .expect_new_revisions(kind, &name, 0, || async {
                space.configmap("settings", &format!("{name} two")).await.map(drop)
            })
            .await?;
        let replaced = space.replace(&objects::workload(kind, &name, json!({}))).await?;
        assert_eq!(objects::config_hash(&replaced), None);
        space.settle().await?;
        assert_eq!(objects::config_hash(&space.get(kind, &name).await?), None, "it is not ours any more");
    }
    Ok(())
}

#[tokio::test]
async fn c3_18_opting_in_again_reloads_only_if_something_changed() -> anyhow::Result<()> {
    let space = World::shared().await?.space().await?;
    space.configmap("settings", "one").await?;
    space.create(&objects::listing(APP, "settings")).await?;
    let before = standing(&space, DEPLOYMENT, APP).await?;
    space
        .expect_new_revisions(DEPLOYMENT, APP, 0, || async {
            space.patch(DEPLOYMENT, APP, list_patch(None)).await?;
            space.patch(DEPLOYMENT, APP, list_patch(Some("settings"))).await.map(drop)
        })
        .await?;
    assert_eq!(standing(&space, DEPLOYMENT, APP).await?, before);
    space
        .expect_new_revisions(DEPLOYMENT, APP, 1, || async {
            space.patch(DEPLOYMENT, APP, list_patch(None)).await?;
            space.configmap("settings", "two").await?;
            space.patch(DEPLOYMENT, APP, list_patch(Some("settings"))).await?;
            assert_ne!(standing(&space, DEPLOYMENT, APP).await?.hash, before.hash, "by the same write");
            Ok(())
        })
        .await
}

#[tokio::test]
async fn c1_3_an_ignored_workload_is_left_alone() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let space = world.space().await?;
    space.configmap("settings", "one").await?;
    for (kind, label) in [
        (apps::STATEFUL_SET, objects::IGNORED),
        (apps::DAEMON_SET, objects::DISABLED),
        (DEPLOYMENT, objects::IGNORED),
    ] {
        let name = &name_of(kind);
        space.create(&listing(kind, "settings")).await?;
        let before = standing(&space, kind, name).await?;
        // A manifest with the label and without our annotations: the write that sets the label keeps them.
        let mut manifest = listing(kind, "settings");
        manifest.metadata.labels = Some([(label.to_owned(), "true".to_owned())].into());
        space.replace(&manifest).await?;
        let mark = world.audit().mark().await?;
        space
            .expect_new_revisions(kind, name, 0, || async {
                space.configmap("settings", &format!("{name} two")).await.map(drop)
            })
            .await?;
        assert_eq!(standing(&space, kind, name).await?, before);
        assert_eq!(operator_writes(&space, mark, name).await?, Vec::<String>::new());
        // Any other value of the label is none.
        // Taking it off is an ordinary write, and what changed meanwhile is reloaded.
        space
            .expect_new_revisions(kind, name, 1, || async {
                space.patch(kind, name, Space::label(label, Some("false"))).await.map(drop)
            })
            .await?;
        space
            .expect_new_revisions(kind, name, 0, || async {
                space.patch(kind, name, Space::label(label, None)).await.map(drop)
            })
            .await?;
    }
    // One that comes with the label never gets a hash.
    let mut ignored = objects::listing("born-ignored", "settings");
    ignored.metadata.labels = Some([(objects::IGNORED.to_owned(), "true".to_owned())].into());
    space.create(&ignored).await?;
    space.configmap("settings", "three").await?;
    space.settle().await?;
    let standing = standing(&space, DEPLOYMENT, "born-ignored").await?;
    assert_eq!((standing.hash, standing.observed), (None, None));
    Ok(())
}

#[tokio::test]
async fn c1_4_what_did_not_opt_in_is_none_of_our_business() -> anyhow::Result<()> {
    let world = World::shared().await?;
    let space = world.space().await?;
    let mark = world.audit().mark().await?;
    space.configmap("private", "one").await?;
    space.secret("private-login", "one").await?;
    let stranger = objects::env_from(objects::workload(DEPLOYMENT, "stranger", json!({})), "private", false);
    let created = space.create(&stranger).await?;
    assert_eq!(objects::config_hash(&created), None);
    // A list without a name opts nobody in.
    let blank = json!({objects::CONFIGMAPS: " ,", objects::SECRETS: ""});
    space.create(&objects::workload(DEPLOYMENT, "blank", blank)).await?;
    set_and_scale(&space).await?;
    space.configmap("private", "two").await?;
    space.secret("private-login", "two").await?;
    space.settle().await?;
    for name in ["private", "private-login", "stranger", "blank"] {
        assert_eq!(operator_requests(&space, mark, name).await?, Vec::<String>::new());
    }
    // Nor was the webhook asked: the API server notes which one it called.
    let entries = world.audit().since(mark).await?;
    let is_strange = |name: &str| name == "stranger" || name == "blank";
    let calls = entries.iter().filter(|entry| {
        entry.namespace == space.name
            && is_strange(&entry.name)
            && !entry.is_by(User::Operator)
            && entry.annotations.keys().any(|key| key.contains("webhook"))
    });
    assert_eq!(calls.count(), 0);
    for name in ["stranger", "blank"] {
        space.expect_revisions(DEPLOYMENT, name, 1).await?;
        assert_eq!(objects::config_hash(&space.get(DEPLOYMENT, name).await?), None);
    }
    // The probe of this test: a workload that did opt in leaves both traces.
    let all = operator_requests(&space, mark, "sentinel").await?;
    assert!(all.iter().any(|request| request.starts_with("get ")), "{all:?}");
    let noted = |entry: &&pod_reloader_e2e::Entry| {
        entry.name == "sentinel" && entry.annotations.keys().any(|key| key.contains("webhook"))
    };
    assert!(entries.iter().filter(noted).count() > 0);
    Ok(())
}

async fn set_and_scale(space: &Space) -> anyhow::Result<()> {
    space.patch(DEPLOYMENT, "stranger", annotate("example.com/a", Some("b"))).await?;
    space.patch(DEPLOYMENT, "stranger", json!({"spec": {"replicas": 2}})).await.map(drop)
}
