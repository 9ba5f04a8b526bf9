//! `--secrets=false` (5.9), and what is never read on behalf of a workload.

use std::time::Duration;

use pod_reloader_core::digest::DigestKey;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::objects::Scope;
use pod_reloader_stub_api::{Admission, RequestKind, StubApi, objects};
use serde_json::json;
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::webhook::Webhook;
use crate::support::{in_paused_time, paint, revisions, server, web};

fn without_secrets() -> Scope {
    Scope { secrets: false, ..Scope::default() }
}

fn start(stub: &StubApi, name: &'static str, scope: Scope) -> Replica {
    Replica::start(stub, Options { scope, ..Options::new(name) })
}

/// Deployments that list and require the `ConfigMap` and a Secret, and one that lists the Secret alone.
fn shop_with_secrets(stub: &StubApi, workloads: usize) {
    stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
    stub.put(objects::secret("shop", "password", &[("password", "one")]));
    for i in 0..workloads {
        let web = objects::listing("shop", &web(i), "settings", "password");
        let web = objects::with_env_from(web, "ConfigMap", "settings", false);
        stub.put(objects::with_env_from(web, "Secret", "password", false));
    }
    stub.put(objects::listing("shop", "only-secrets", "", "password"));
}

fn change_password(stub: &StubApi, password: &str) {
    stub.edit("secrets", "shop", "password", |secret| secret["stringData"] = json!({"password": password}));
    stub.put(objects::secret("shop", "password", &[("password", password)]));
}

fn requests_for_secrets(stub: &StubApi, client: &str) -> Vec<String> {
    let log = stub.log();
    let of_secrets = log.iter().filter(|it| it.request.resource == "secrets" && it.request.client == client);
    of_secrets.map(|entry| entry.request.path.clone()).collect()
}

fn events(stub: &StubApi, name: &str, reason: &str) -> usize {
    let events = stub.list("events");
    events.iter().filter(|it| it["regarding"]["name"] == name && it["reason"] == reason).count()
}

#[test]
fn c5_9_no_secret_is_watched_listed_or_read_and_configmaps_are_followed() {
    in_paused_time(async {
        let stub = server(4);
        shop_with_secrets(&stub, 20);
        let replica = start(&stub, "replica", without_secrets());
        sleep(Duration::from_secs(30)).await;
        assert_eq!(revisions(&stub, "shop"), 1);
        for password in ["two", "three"] {
            change_password(&stub, password);
            sleep(Duration::from_secs(30)).await;
        }
        assert_eq!(revisions(&stub, "shop"), 1);
        stub.delete("secrets", "shop", "password");
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(30)).await;
        assert_eq!(revisions(&stub, "shop"), 2, "what is not followed puts nothing off");
        assert_eq!(stub.revisions("deployments", "shop", "only-secrets"), 0, "there is nothing to do");
        assert_eq!(requests_for_secrets(&stub, "replica"), [""; 0]);
        assert_eq!(replica.health.silent(), [""; 0]);

        // Each is reported once, and nothing is tried again and again.
        for name in (0..20).map(web).chain(["only-secrets".into()]) {
            assert_eq!(events(&stub, &name, "SecretsNotFollowed"), 1, "{name}");
        }
        let requests = || stub.count(|it| !matches!(it.kind(), RequestKind::WatchStart | RequestKind::List));
        let before = requests();
        sleep(Duration::from_mins(20)).await;
        assert_eq!(requests(), before, "{}", stub.transcript());
    });
}

#[test]
fn c5_9_turning_it_off_and_on_again_restarts_nothing_and_tells_nothing_twice() {
    in_paused_time(async {
        let stub = server(4);
        shop_with_secrets(&stub, 3);
        let replica = start(&stub, "first", Scope::default());
        sleep(Duration::from_secs(30)).await;
        let made = || (0..3).map(|i| stub.revisions("deployments", "shop", &web(i))).sum::<usize>();
        assert_eq!((made(), stub.revisions("deployments", "shop", "only-secrets")), (3, 1));
        assert!(replica.stop().await);

        let mut before = stub.writes().len();
        let replica = start(&stub, "off", without_secrets());
        sleep(Duration::from_mins(5)).await;
        let of_operator = |after: usize| {
            let writes = stub.writes();
            writes[after..].iter().filter(|it| !matches!(it.resource, "events" | "leases")).count()
        };
        assert_eq!((made(), of_operator(before)), (3, 0), "it writes nothing");
        assert_eq!(events(&stub, "web", "SecretsNotFollowed"), 1);
        assert!(replica.stop().await);

        before = stub.writes().len();
        let replica = start(&stub, "on", Scope::default());
        sleep(Duration::from_mins(5)).await;
        assert_eq!((made(), of_operator(before)), (3, 0));
        change_password(&stub, "two");
        sleep(Duration::from_secs(10)).await;
        assert_eq!(made(), 6);
        assert!(replica.stop().await);

        // A reload while it is off leaves the set; from then on it is silent from the start, and on again, too.
        let replica = start(&stub, "off-again", without_secrets());
        sleep(Duration::from_secs(30)).await;
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(30)).await;
        assert_eq!(made(), 9);
        assert!(replica.stop().await);
        before = stub.writes().len();
        let replica = start(&stub, "off-once-more", without_secrets());
        sleep(Duration::from_mins(1)).await;
        let writes = stub.writes();
        let events = writes[before..].iter().filter(|it| it.object["regarding"]["name"] == "web").count();
        assert_eq!((events, of_operator(before), made()), (0, 0, 9));
        assert!(replica.stop().await);
        let _replica = start(&stub, "on-again", Scope::default());
        sleep(Duration::from_mins(1)).await;
        assert_eq!(made(), 9, "{}", stub.transcript());
        change_password(&stub, "three");
        sleep(Duration::from_secs(10)).await;
        assert_eq!(made(), 12);
    });
}

fn creation(namespace: &str, configmaps: &str, secrets: &str) -> Admission {
    let new = objects::listing(namespace, "new", configmaps, secrets);
    Admission {
        resource: "deployments",
        old: None,
        new: objects::with_env_from(new, "Secret", "password", false),
        user: "alice".into(),
        manager: "kubectl".into(),
        is_dry_run: false,
    }
}

fn key() -> KeyReader {
    KeyReader::fixed(DigestKey::new("test", &[7; DigestKey::LEN]).unwrap())
}

#[test]
fn c5_9_the_webhook_hashes_configmaps_alone_and_says_so() {
    in_paused_time(async {
        let stub = server(4);
        shop_with_secrets(&stub, 0);
        let webhook = Webhook::within(&stub, "webhook", key(), without_secrets());
        let mut hashes = vec![];
        for secrets in ["", "password", "password,gone", "a,b,c,d,e,f,g,h,i,j,k"] {
            let admitted = webhook.admit(&creation("shop", "settings", secrets)).await;
            hashes.push(admitted.hash().unwrap().to_owned());
            let count = secrets.split(',').filter(|name| !name.is_empty()).count();
            let warning = format!(
                "pod-reloader: Secrets are not followed here (--secrets=false); listed or used: {count}"
            );
            let expected = if count > 0 { json!([warning]) } else { json!(null) };
            assert_eq!(admitted.warnings, expected);
        }
        hashes.dedup();
        assert_eq!(hashes.len(), 1, "the list of Secrets makes no difference");
        assert_eq!(requests_for_secrets(&stub, "webhook"), [""; 0]);
        // And an absent ConfigMap does not have it ask whether required Secrets are there.
        let created = webhook.admit(&creation("shop", "settings,gone", "password")).await.object;
        let mut update = creation("shop", "settings,gone", "password");
        update.new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("example.com/app:2");
        webhook.admit(&Admission { old: Some(created), ..update }).await;
        assert_eq!(requests_for_secrets(&stub, "webhook"), [""; 0]);
    });
}

/// Whoever may write in the operator's namespace may still not have its digest key hashed.
#[test]
fn c5_10_the_operators_own_secrets_are_not_read_on_behalf_of_a_workload() {
    in_paused_time(async {
        let stub = server(4);
        stub.put(objects::config_map("pod-reloader", "settings", &[("colour", "red")]));
        stub.put(objects::listing("pod-reloader", "web", "settings", "pod-reloader-key"));
        stub.put(objects::secret("shop", "pod-reloader-key", &[("id", "x")]));
        stub.put(objects::listing("shop", "web", "", "pod-reloader-key"));
        let replica = Replica::start(&stub, Options::new("replica"));
        sleep(Duration::from_secs(30)).await;
        let reads = |client: &str| {
            let path = "/api/v1/namespaces/pod-reloader/secrets/pod-reloader-key";
            stub.count(|it| it.request.client == client && it.request.path == path)
        };
        assert_eq!(reads("replica"), 0, "{}", stub.transcript());
        assert_eq!(events(&stub, "web", "ReferenceUnreadable"), 1);
        let note = stub.list("events").iter().find_map(|it| Some(it["note"].as_str()?.to_owned()));
        assert!(note.is_some());
        // The others of its list are followed, and a Secret of that name elsewhere is one like any other.
        paint(&stub, "pod-reloader", "blue");
        stub.put(objects::secret("shop", "pod-reloader-key", &[("id", "y")]));
        sleep(Duration::from_secs(30)).await;
        assert_eq!((revisions(&stub, "pod-reloader"), revisions(&stub, "shop")), (2, 2));
        assert_eq!(reads("replica"), 0);

        let webhook = Webhook::new(&stub, "webhook", replica.key.clone());
        let admitted = webhook.admit(&creation("pod-reloader", "settings", "pod-reloader-key")).await;
        assert!(admitted.hash().is_some());
        assert!(admitted.warnings.to_string().contains("(secret pod-reloader-key: the operator's own)"));
        assert_eq!(reads("webhook"), 0);
    });
}
