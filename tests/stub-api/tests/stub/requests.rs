//! Single requests.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use pod_reloader_stub_api::{Author, LogEntry, OPERATOR_USER, Refusal, RequestKind, StubApi, objects};
use serde_json::json;

use crate::{code, deployments, maps, put_map, version};

#[tokio::test(start_paused = true)]
async fn objects_come_whole_and_as_metadata() {
    let stub = StubApi::new(1);
    put_map(&stub, "a", "1");
    let api = maps(&stub.client());
    let whole = api.get("a").await.unwrap();
    assert_eq!(whole.data.unwrap()["key"], "1");
    let meta = api.get_metadata("a").await.unwrap();
    assert_eq!(meta.metadata.uid, whole.metadata.uid);
    assert!(meta.metadata.generation.is_none());
    assert!(api.get_opt("b").await.unwrap().is_none());
    let kinds: Vec<_> = stub.log().iter().map(LogEntry::kind).collect();
    assert_eq!(kinds, [RequestKind::GetContent, RequestKind::GetMetadata, RequestKind::GetContent]);
}

#[tokio::test(start_paused = true)]
async fn a_list_in_pages_is_that_of_one_version() {
    let stub = StubApi::new(1);
    for index in 0..25 {
        put_map(&stub, &format!("m{index:02}"), "1");
    }
    let api = maps(&stub.client());
    let mut seen = vec![];
    let mut params = ListParams::default().limit(10);
    let mut versions = vec![];
    loop {
        let page = api.list_metadata(&params).await.unwrap();
        seen.extend(page.items.iter().map(|item| item.metadata.name.clone().unwrap()));
        versions.push(page.metadata.resource_version.clone().unwrap());
        // What changes between the pages is not seen.
        stub.delete("configmaps", "shop", "m20");
        put_map(&stub, &format!("m15{}", seen.len()), "1");
        match page.metadata.continue_ {
            Some(token) => params.continue_token = Some(token),
            None => break,
        }
    }
    assert_eq!(seen, (0..25).map(|index| format!("m{index:02}")).collect::<Vec<_>>());
    versions.dedup();
    assert_eq!(versions.len(), 1);

    let by_name = api.list(&ListParams::default().fields("metadata.name=m03")).await.unwrap();
    assert_eq!(by_name.items.len(), 1);
    let first = api.list(&ListParams::default().limit(10)).await.unwrap();
    stub.edit("configmaps", "shop", "m03", |map| map["data"]["key"] = json!("2"));
    stub.compact();
    let late = ListParams { continue_token: first.metadata.continue_, ..ListParams::default().limit(10) };
    assert_eq!(code(&api.list(&late).await.unwrap_err()), 410);
}

#[tokio::test(start_paused = true)]
async fn merge_patches_are_guarded_and_count_revisions() {
    let stub = StubApi::new(1);
    let before = stub.put(objects::listing("shop", "web", "a", ""));
    let api = deployments(&stub.client());
    let params = PatchParams { field_manager: Some("pod-reloader".into()), ..PatchParams::default() };
    let patch = |version: &str| {
        json!({
            "metadata": {"resourceVersion": version},
            "spec": {"template": {"metadata": {"annotations": {"hash": "1"}}}},
        })
    };
    let done = api.patch("web", &params, &Patch::Merge(patch(version(&before)))).await.unwrap();
    assert_eq!(done.metadata.generation, Some(2));
    assert_eq!(stub.revisions("deployments", "shop", "web"), 1);
    let templates = stub.templates("deployments", "shop", "web");
    let author = Author { user: OPERATOR_USER.into(), manager: "pod-reloader".into() };
    assert_eq!(templates.last().unwrap().author, author);

    // The same version again: a conflict; the same content: nothing moves.
    let error = api.patch("web", &params, &Patch::Merge(patch(version(&before)))).await.unwrap_err();
    assert_eq!(code(&error), 409);
    let same = patch(done.metadata.resource_version.as_deref().unwrap());
    let again = api.patch("web", &params, &Patch::Merge(same)).await.unwrap();
    assert_eq!(again.metadata.resource_version, done.metadata.resource_version);

    // An annotation moves a Deployment's generation, but makes no revision; a label does neither.
    let annotation = json!({"metadata": {"annotations": {"note": "1"}}});
    let noted = api.patch("web", &params, &Patch::Merge(annotation)).await.unwrap();
    assert_eq!(noted.metadata.generation, Some(3));
    let label = json!({"metadata": {"labels": {"note": "1"}}});
    let labelled = api.patch("web", &params, &Patch::Merge(label)).await.unwrap();
    assert_eq!(labelled.metadata.generation, Some(3));
    assert_eq!(stub.revisions("deployments", "shop", "web"), 1);
    assert_eq!(code(&api.patch("none", &params, &Patch::Merge(json!({}))).await.unwrap_err()), 404);
}

#[tokio::test(start_paused = true)]
async fn json_patches_test_what_they_rely_on() {
    let stub = StubApi::new(1);
    stub.put(objects::listing("shop", "web", "a", ""));
    let api = deployments(&stub.client());
    let patch = |operations| Patch::Json::<()>(serde_json::from_value(operations).unwrap());
    let params = PatchParams::default();
    let guarded = json!([
        {"op": "test", "path": "/metadata/annotations/pod-reloader.cs.sap.com~1configmaps", "value": "a"},
        {"op": "test", "path": "/metadata/annotations/missing", "value": null},
        {"op": "test", "path": "/spec/template/metadata/annotations", "value": null},
        {"op": "add", "path": "/spec/template/metadata/annotations", "value": {"hash": "1"}},
    ]);
    api.patch("web", &params, &patch(guarded.clone())).await.unwrap();
    assert_eq!(stub.revisions("deployments", "shop", "web"), 1);
    let error = api.patch("web", &params, &patch(guarded)).await.unwrap_err();
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    assert_eq!(stub.revisions("deployments", "shop", "web"), 1);
}

#[tokio::test(start_paused = true)]
async fn creations_and_replacements_conflict_as_they_should() {
    let stub = StubApi::new(1);
    let client = stub.client();
    stub.put(objects::config_map("shop", "a", &[("key", "1")]));
    let api = maps(&client);
    let params = PostParams::default();
    let mut map = api.get("a").await.unwrap();
    let error =
        api.create(&params, &ConfigMap { metadata: named("a"), ..ConfigMap::default() }).await.unwrap_err();
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert!(status.is_already_exists());

    stub.edit("configmaps", "shop", "a", |map| map["data"]["key"] = json!("2"));
    assert_eq!(code(&api.replace("a", &params, &map).await.unwrap_err()), 409);
    map.metadata.resource_version = None;
    api.replace("a", &params, &map).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(stub.get("configmaps", "shop", "a").is_none());
    assert_eq!(code(&api.delete("a", &DeleteParams::default()).await.unwrap_err()), 404);

    let elsewhere: Api<ConfigMap> = Api::namespaced(client.clone(), "nowhere");
    let fresh = ConfigMap { metadata: named("a"), ..ConfigMap::default() };
    assert_eq!(code(&elsewhere.create(&params, &fresh).await.unwrap_err()), 404);
}

#[tokio::test(start_paused = true)]
async fn the_operators_other_requests_are_answered() {
    let stub = StubApi::new(1);
    stub.put(objects::config_map("shop", "a", &[]));
    let client = stub.client();
    let events: Api<Event> = Api::namespaced(client.clone(), "shop");
    let mut event = Event { metadata: named("web.1"), note: Some("hello".into()), ..Event::default() };
    event.metadata.generate_name = Some("web.".into());
    events.create(&PostParams::default(), &event).await.unwrap();
    event.metadata.name = None;
    let made = events.create(&PostParams::default(), &event).await.unwrap();
    assert!(made.metadata.name.unwrap().starts_with("web."));
    assert_eq!(stub.list("events").len(), 2);

    let leases: Api<Lease> = Api::namespaced(client.clone(), "pod-reloader");
    let lease = Lease { metadata: named("pod-reloader"), ..Lease::default() };
    let stale = leases.create(&PostParams::default(), &lease).await.unwrap();
    let mut held = stale.clone();
    held.spec.get_or_insert_default().holder_identity = Some("me".into());
    leases.replace("pod-reloader", &PostParams::default(), &held).await.unwrap();
    assert_eq!(code(&leases.replace("pod-reloader", &PostParams::default(), &stale).await.unwrap_err()), 409);

    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    assert_eq!(review.status.unwrap().user_info.unwrap().username.as_deref(), Some(OPERATOR_USER));
    let namespaces: Api<Namespace> = Api::all(client);
    assert!(namespaces.get_metadata_opt("shop").await.unwrap().is_some());
    assert_eq!(stub.count_kind(RequestKind::Namespace), 1);
    assert_eq!(stub.count_kind(RequestKind::Lease), 3);
    assert_eq!(stub.count_kind(RequestKind::CreateEvent), 2);
}

#[tokio::test(start_paused = true)]
async fn a_hook_changes_and_refuses_writes_of_workloads() {
    let stub = StubApi::new(1);
    stub.put(objects::listing("shop", "web", "a", ""));
    stub.put(objects::config_map("shop", "a", &[]));
    stub.on_write(async |mut write| {
        assert_eq!((write.user.as_str(), write.manager.as_str()), ("ann", "kubectl"));
        if write.new["metadata"]["annotations"]["no"].is_string() {
            return Err(Refusal { code: 403, message: "policy says no".into() });
        }
        assert!(write.old.is_some());
        write.new["spec"]["template"]["metadata"]["annotations"]["hash"] = json!("1");
        Ok(write.new)
    });
    let client = stub.client_of("user:ann");
    let params = PatchParams { field_manager: Some("kubectl".into()), ..PatchParams::default() };
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let api = deployments(&client);
    api.patch("web", &params, &Patch::Merge(&label)).await.unwrap();
    assert_eq!(stub.revisions("deployments", "shop", "web"), 1);
    let no = json!({"metadata": {"annotations": {"no": "1"}}});
    assert_eq!(code(&api.patch("web", &params, &Patch::Merge(&no)).await.unwrap_err()), 403);
    maps(&client).patch("a", &params, &Patch::Merge(&label)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let stub = StubApi::new(1);
    let mut web = objects::listing("shop", "web", "a", "");
    web["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    stub.put(web);
    let api = deployments(&stub.client());
    api.delete("web", &DeleteParams::default()).await.unwrap();
    assert!(api.get("web").await.unwrap().metadata.deletion_timestamp.is_some());
    let patch = json!({"metadata": {"finalizers": null}});
    api.patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert!(api.get_opt("web").await.unwrap().is_none());
}

fn named(name: &str) -> kube::api::ObjectMeta {
    kube::api::ObjectMeta { name: Some(name.into()), ..kube::api::ObjectMeta::default() }
}

#[tokio::test(start_paused = true)]
async fn lists_select_by_labels_as_the_api_server_does() {
    let stub = StubApi::new(1);
    for (name, labels) in
        [("a", json!({"team": "shop"})), ("b", json!({"team": "stock", "old": ""})), ("c", json!(null))]
    {
        let mut map = objects::config_map("shop", name, &[]);
        map["metadata"]["labels"] = labels;
        stub.put(map);
    }
    for (selector, expected) in [
        ("team=shop", &["a"][..]),
        ("team!=shop", &["b", "c"]),
        ("team in (shop, stock)", &["a", "b"]),
        ("team in (shop,stock),!old", &["a"]),
        ("team notin (shop,other)", &["b", "c"]),
        ("team,old", &["b"]),
    ] {
        let list = maps(&stub.client()).list(&ListParams::default().labels(selector)).await.unwrap();
        let names: Vec<_> = list.items.into_iter().filter_map(|map| map.metadata.name).collect();
        assert_eq!(names, expected, "{selector}");
    }
}
