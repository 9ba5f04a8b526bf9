//! Opting in by `auto`, by a namespace's label and by marks on objects (section 7), as reconciler and webhook do it together.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, PostParams};
use pod_reloader_core::annotation::OBSERVED_CONFIG;
use pod_reloader_core::dialect::own::{AUTO, IGNORE};
use pod_reloader_k8s::objects::Scope;
use pod_reloader_stub_api::{Fault, FaultRule, RequestInfo, StubApi, objects};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::support::replica::{Options, Replica};
use crate::support::webhook::{Webhook, hash_of};
use crate::support::{in_paused_time, paint, revisions, server};

/// Where namespaces can only be asked for, their labels are seen within half a minute.
pub(crate) const SOON: Duration = Duration::from_secs(35);

/// A Deployment that says nothing of us, reads one key of a `ConfigMap` and the whole of a Secret.
pub(crate) fn bystander(stub: &StubApi, namespace: &str) {
    stub.put(objects::config_map(namespace, "settings", &[("colour", "red"), ("size", "1")]));
    stub.put(objects::secret(namespace, "login", &[("password", "one")]));
    let mut web =
        objects::with_env_from(objects::deployment(namespace, "web", &[]), "Secret", "login", false);
    let key = json!({"configMapKeyRef": {"name": "settings", "key": "colour"}});
    web["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "COLOUR", "valueFrom": key}]);
    stub.put(web);
}

pub(crate) fn annotate(stub: &StubApi, resource: &str, name: &str, key: &str, value: Option<&str>) {
    set(stub, "annotations", resource, "shop", name, (key, value));
}

pub(crate) fn label_namespace(stub: &StubApi, name: &str, value: Option<&str>) {
    set(stub, "labels", "namespaces", "", name, (AUTO, value));
}

fn set(stub: &StubApi, map: &str, resource: &str, namespace: &str, name: &str, entry: (&str, Option<&str>)) {
    stub.edit(resource, namespace, name, |object| {
        let map = &mut object["metadata"][map];
        if map.is_null() {
            *map = json!({});
        }
        match entry {
            (key, Some(value)) => map[key] = json!(value),
            (key, None) => drop(map.as_object_mut().unwrap().remove(key)),
        }
    });
}

pub(crate) fn set_password(stub: &StubApi, password: &str) {
    stub.edit("secrets", "shop", "login", |login| {
        login["data"] = objects::secret("shop", "login", &[("password", password)])["data"].clone();
    });
}

pub(crate) fn observed(stub: &StubApi) -> Option<Value> {
    let web = stub.get("deployments", "shop", "web").unwrap();
    let text = web["metadata"]["annotations"][OBSERVED_CONFIG].as_str()?;
    Some(serde_json::from_str(text).unwrap())
}

/// What observed-config says is followed.
pub(crate) fn followed(stub: &StubApi) -> Vec<String> {
    let observed = observed(stub).unwrap_or_default();
    let names = |kind: &str| observed["followed"][kind].as_object().cloned().unwrap_or_default();
    ["configmaps", "secrets"].iter().flat_map(|kind| names(kind).into_iter().map(|(name, _)| name)).collect()
}

pub(crate) fn start(stub: &StubApi, scope: Scope) -> Replica {
    let replica = Replica::start(stub, Options { scope, ..Options::new("replica") });
    Webhook::of(&replica).install(stub);
    replica
}

pub(crate) fn patches(stub: &StubApi) -> usize {
    stub.count(|entry| entry.request.method == http::Method::PATCH)
}

fn is_list_of_one_namespace(request: &RequestInfo) -> bool {
    request.method == http::Method::GET && request.path.ends_with("/namespaces/shop/deployments")
}

/// Changes that count or not, one after the other, each with the revisions that there are then.
async fn expect(stub: &StubApi, what: &str, base: usize, changes: &[(&str, usize)]) {
    for (change, expected) in changes {
        match *change {
            "colour" => paint(stub, "shop", &format!("{what}-{expected}")),
            "size" => {
                drop(stub.edit("configmaps", "shop", "settings", |map| map["data"]["size"] = json!(what)));
            }
            "password" => set_password(stub, &format!("{what}-{expected}")),
            other => unreachable!("{other}"),
        }
        sleep(SOON).await;
        assert_eq!(revisions(stub, "shop"), base + expected, "{what}: {change}\n{}", stub.transcript());
    }
}

#[test]
fn c7_1_annotating_a_running_workload_restarts_nothing_and_the_next_change_of_a_used_key_does() {
    for value in ["true", "configmaps", "secrets"] {
        in_paused_time(async {
            let stub = server(71);
            bystander(&stub, "shop");
            let _replica = start(&stub, Scope::default());
            sleep(SOON).await;
            assert_eq!((observed(&stub), patches(&stub)), (None, 0), "it is none of ours");
            annotate(&stub, "deployments", "web", AUTO, Some(value));
            sleep(SOON).await;
            assert_eq!(revisions(&stub, "shop"), 0, "{value}\n{}", stub.transcript());
            let (colour, password) = (usize::from(value != "secrets"), usize::from(value != "configmaps"));
            assert_eq!(followed(&stub).len(), colour + password);
            let changes = [("size", 0), ("colour", colour), ("password", colour + password)];
            expect(&stub, value, 0, &changes).await;
        });
    }
}

#[test]
fn c7_4_a_label_of_the_namespace_opts_in_all_that_do_not_say_no_until_it_goes() {
    let names = ["shop".to_owned(), "other".to_owned()].into();
    for scope in [Scope::default(), Scope::of_namespaces(names)] {
        in_paused_time(async {
            let stub = server(72);
            bystander(&stub, "shop");
            bystander(&stub, "other");
            let says_no = objects::deployment("shop", "no", &[(AUTO, "false")]);
            stub.put(objects::with_env_from(says_no, "Secret", "login", false));
            let _replica = start(&stub, scope);
            sleep(SOON).await;
            label_namespace(&stub, "shop", Some("true"));
            sleep(SOON).await;
            assert_eq!((revisions(&stub, "shop"), followed(&stub).len()), (0, 2), "{}", stub.transcript());
            expect(&stub, "labelled", 0, &[("size", 0), ("colour", 1), ("password", 2)]).await;
            label_namespace(&stub, "shop", Some("secrets"));
            sleep(SOON).await;
            assert_eq!(followed(&stub), ["login"]);
            expect(&stub, "secrets", 2, &[("colour", 0), ("password", 1)]).await;
            label_namespace(&stub, "shop", None);
            sleep(SOON).await;
            assert_eq!(observed(&stub), None, "it is opted out\n{}", stub.transcript());
            expect(&stub, "left", 3, &[("colour", 0), ("password", 0)]).await;
            assert_eq!(stub.revisions("deployments", "shop", "no"), 0);
            assert_eq!(revisions(&stub, "other"), 0);
        });
    }
}

#[test]
fn c7_4_the_label_of_the_systems_namespace_does_not_count() {
    in_paused_time(async {
        let stub = server(73);
        bystander(&stub, "kube-system");
        label_namespace(&stub, "kube-system", Some("true"));
        let _replica = start(&stub, Scope::default());
        sleep(SOON).await;
        paint(&stub, "kube-system", "blue");
        sleep(SOON).await;
        assert_eq!(patches(&stub), 0, "{}", stub.transcript());
    });
}

#[test]
fn c7_4_a_mark_on_an_object_opts_in_whoever_reads_it_and_outlasts_its_object() {
    in_paused_time(async {
        let stub = server(74);
        bystander(&stub, "shop");
        let replica = start(&stub, Scope::default());
        sleep(SOON).await;
        annotate(&stub, "secrets", "login", AUTO, Some("true"));
        sleep(SOON).await;
        assert_eq!((revisions(&stub, "shop"), followed(&stub)), (0, vec!["login".to_owned()]));
        expect(&stub, "marked", 0, &[("colour", 0), ("password", 1)]).await;

        // Deleted and back, with the mark: as any other object that is required.
        let login = Value::clone(&stub.get("secrets", "shop", "login").unwrap());
        stub.delete("secrets", "shop", "login");
        sleep(SOON).await;
        assert_eq!((revisions(&stub, "shop"), followed(&stub).len()), (1, 1));
        stub.put(login.clone());
        sleep(SOON).await;
        assert_eq!(revisions(&stub, "shop"), 1, "it came back as it was");
        stub.delete("secrets", "shop", "login");
        assert!(replica.stop().await);
        let _replica = start(&stub, Scope::default());
        sleep(SOON).await;
        let mut other = login;
        other["data"] = objects::secret("shop", "login", &[("password", "other")])["data"].clone();
        stub.put(other);
        sleep(SOON).await;
        assert_eq!(revisions(&stub, "shop"), 2, "with other content\n{}", stub.transcript());

        annotate(&stub, "secrets", "login", AUTO, None);
        sleep(SOON).await;
        assert_eq!(observed(&stub), None, "{}", stub.transcript());
        expect(&stub, "unmarked", 2, &[("password", 0)]).await;
    });
}

#[test]
fn c7_5_an_object_that_is_to_be_ignored_reloads_only_those_who_list_it() {
    in_paused_time(async {
        let stub = server(75);
        bystander(&stub, "shop");
        let lists =
            objects::with_env_from(objects::listing("shop", "lists", "", "login"), "Secret", "login", false);
        stub.put(lists);
        annotate(&stub, "deployments", "web", AUTO, Some("true"));
        let _replica = start(&stub, Scope::default());
        sleep(SOON).await;
        annotate(&stub, "secrets", "login", IGNORE, Some("true"));
        sleep(SOON).await;
        assert_eq!(followed(&stub), ["settings"], "{}", stub.transcript());
        let before = stub.revisions("deployments", "shop", "lists");
        expect(&stub, "ignored", 0, &[("password", 0), ("colour", 1)]).await;
        assert_eq!(stub.revisions("deployments", "shop", "lists"), before + 1);
        annotate(&stub, "secrets", "login", IGNORE, None);
        sleep(SOON).await;
        assert_eq!(followed(&stub), ["settings", "login"]);
        expect(&stub, "heeded", 1, &[("password", 1)]).await;
    });
}

#[test]
fn c7_4_a_workload_that_is_created_where_the_namespace_opts_in_has_its_hash_at_once() {
    in_paused_time(async {
        let stub = server(76);
        bystander(&stub, "shop");
        label_namespace(&stub, "shop", Some("true"));
        let _replica = start(&stub, Scope::default());
        sleep(SOON).await;
        let new = objects::with_env_from(objects::deployment("shop", "new", &[]), "Secret", "login", false);
        let new: Deployment = serde_json::from_value(new).unwrap();
        Api::namespaced(stub.client(), "shop").create(&PostParams::default(), &new).await.unwrap();
        let made = stub.get("deployments", "shop", "new").unwrap();
        assert!(hash_of(&made).is_some(), "{made}");
        sleep(SOON).await;
        set_password(&stub, "two");
        sleep(SOON).await;
        assert_eq!(stub.revisions("deployments", "shop", "new"), 1, "{}", stub.transcript());
    });
}

#[test]
fn c7_4_a_start_lists_no_namespace_again_for_its_label_and_misses_no_change() {
    in_paused_time(async {
        let stub = server(77);
        for namespace in ["shop", "a", "b", "c"] {
            bystander(&stub, namespace);
            label_namespace(&stub, namespace, Some("true"));
        }
        let replica = start(&stub, Scope::default());
        sleep(SOON).await;
        assert!(replica.stop().await);
        set_password(&stub, "changed meanwhile");
        let _replica = start(&stub, Scope::default());
        sleep(SOON).await;
        assert_eq!(revisions(&stub, "shop"), 1, "{}", stub.transcript());
        let again = stub.count(|entry| is_list_of_one_namespace(&entry.request));
        assert_eq!(again, 0, "{}", stub.transcript());
    });
}

#[test]
fn c7_4_opting_in_survives_lists_that_fail_or_hang() {
    for fault in [Fault::Status(500), Fault::HangBeforeHeaders, Fault::HangAfterHeaders, Fault::StaleList(3)]
    {
        in_paused_time(async {
            let stub = server(78);
            bystander(&stub, "shop");
            let _replica = start(&stub, Scope::default());
            sleep(SOON).await;
            stub.fail(FaultRule::new(fault).times(2).matching(is_list_of_one_namespace));
            annotate(&stub, "secrets", "login", AUTO, Some("true"));
            sleep(Duration::from_mins(1)).await;
            assert_eq!(followed(&stub), ["login"], "{fault:?}\n{}", stub.transcript());
        });
    }
}

#[test]
fn c7_4_what_others_write_all_the_time_goes_on_following_what_its_surroundings_say() {
    for by_label in [true, false] {
        in_paused_time(async {
            let stub = server(79);
            bystander(&stub, "shop");
            let _replica = start(&stub, Scope::default());
            sleep(SOON).await;
            if by_label {
                label_namespace(&stub, "shop", Some("true"));
            } else {
                annotate(&stub, "secrets", "login", AUTO, Some("true"));
            }
            sleep(SOON).await;
            let expected = followed(&stub);
            assert!(!expected.is_empty());
            let writers = stub.clone();
            let _writer = AbortOnDropHandle::new(tokio::spawn(async move {
                for serial in 0.. {
                    writers.edit("deployments", "shop", "web", |web| web["spec"]["replicas"] = json!(serial));
                    sleep(Duration::from_millis(5)).await;
                }
            }));
            for made in 1..4 {
                set_password(&stub, &format!("busy-{made}"));
                sleep(SOON).await;
                assert_eq!((revisions(&stub, "shop"), followed(&stub)), (made, expected.clone()));
            }
        });
    }
}
