//! Watches, by kube's watcher and by hand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use pod_reloader_stub_api::{Random, RequestKind, StubApi, objects};
use serde_json::json;

use crate::{SECOND, code, maps, put_map};

/// What a watcher has seen: each object's last value, and how many events.
#[derive(Clone, Default)]
pub(crate) struct Seen(pub(crate) Arc<Mutex<(BTreeMap<String, String>, usize)>>);

impl Seen {
    pub(crate) fn of(api: Api<ConfigMap>, config: watcher::Config) -> Self {
        let seen = Self::default();
        let state = seen.0.clone();
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, config).default_backoff());
            let mut fresh = BTreeMap::new();
            while let Some(event) = events.next().await {
                let mut state = state.lock().unwrap();
                let entry = |map: ConfigMap| {
                    let value = map.data.and_then(|mut data| data.remove("key")).unwrap_or_default();
                    (map.metadata.name.unwrap(), value)
                };
                match event {
                    Ok(Event::Init) => fresh.clear(),
                    Ok(Event::InitApply(map)) => fresh.extend([entry(map)]),
                    Ok(Event::InitDone) => state.0 = std::mem::take(&mut fresh),
                    Ok(Event::Apply(map)) => {
                        state.0.extend([entry(map)]);
                        state.1 += 1;
                    }
                    Ok(Event::Delete(map)) => {
                        state.0.remove(&entry(map).0);
                        state.1 += 1;
                    }
                    Err(_) => {}
                }
            }
        });
        seen
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.0.lock().unwrap().0.get(name).cloned()
    }

    pub(crate) fn events(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

/// Returns when a watch has begun after those that there were.
async fn next_watch(stub: &StubApi) {
    let before = stub.count_kind(RequestKind::WatchStart);
    let begins = async {
        while stub.count_kind(RequestKind::WatchStart) == before {
            tokio::time::sleep(SECOND).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(10), begins).await.expect("a watch follows the one that ends");
}

#[tokio::test(start_paused = true)]
async fn a_watcher_sees_each_change_once_by_lists_and_by_streams() {
    for config in [watcher::Config::default().page_size(3), watcher::Config::default().streaming_lists()] {
        let stub = StubApi::new(1);
        for index in 0..10 {
            put_map(&stub, &format!("m{index}"), "1");
        }
        let seen = Seen::of(maps(&stub.client()), config);
        tokio::time::sleep(SECOND).await;
        assert_eq!(seen.0.lock().unwrap().0.len(), 10);
        for index in 0..500 {
            put_map(&stub, "m3", &format!("v{index}"));
        }
        stub.delete("configmaps", "shop", "m4");
        put_map(&stub, "m4", "back");
        stub.delete("configmaps", "shop", "m5");
        stub.put(objects::config_map("elsewhere", "m9", &[]));
        tokio::time::sleep(SECOND).await;
        assert_eq!(seen.events(), 503);
        assert_eq!(seen.get("m3").as_deref(), Some("v499"));
        assert_eq!((seen.get("m4").as_deref(), seen.get("m5")), (Some("back"), None));
        // Over several watches, and where one follows another: none comes twice, none is lost.
        for index in 0..100 {
            if index % 10 == 0 {
                next_watch(&stub).await;
            }
            put_map(&stub, "m3", &format!("w{index}"));
        }
        tokio::time::sleep(SECOND).await;
        assert_eq!(seen.events(), 603);
        assert!(stub.count_kind(RequestKind::WatchStart) > 5);
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_watches_carry_no_content() {
    let stub = StubApi::new(1);
    put_map(&stub, "a", "1");
    let client = stub.client();
    let mut events = std::pin::pin!(watcher(
        Api::<PartialObjectMeta<ConfigMap>>::all(client),
        watcher::Config::default().streaming_lists()
    ));
    let mut names = vec![];
    while names.len() < 2 {
        match events.try_next().await.unwrap().unwrap() {
            Event::InitApply(map) | Event::Apply(map) => {
                assert!(map.types.is_some_and(|types| types.kind == "PartialObjectMetadata"));
                names.push(map.metadata.name.unwrap());
            }
            Event::InitDone => put_map(&stub, "b", "1"),
            _ => {}
        }
    }
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn servers_without_streaming_lists_say_so() {
    let stub = StubApi::new(1);
    stub.set_watch_list(false);
    let params = WatchParams::default().initial_events();
    let Err(error) = maps(&stub.client()).watch(&params, "0").await else { panic!("it streams") };
    assert_eq!(code(&error), 422);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_version_is_gone_and_a_watcher_lists_anew() {
    for is_by_code in [false, true] {
        let stub = StubApi::new(1);
        stub.set_expired_by_code(is_by_code);
        put_map(&stub, "a", "1");
        let old = stub.resource_version();
        let api = maps(&stub.client());
        put_map(&stub, "a", "2");
        stub.compact();
        let events = api.watch(&WatchParams::default(), &old.to_string()).await;
        match events {
            Err(error) => assert!(is_by_code && code(&error) == 410),
            Ok(events) => {
                let events: Vec<_> = events.try_collect().await.unwrap();
                assert!(
                    matches!(&events[..], [WatchEvent::Error(status)] if status.code == 410),
                    "{events:?}"
                );
                assert!(!is_by_code);
            }
        }
        let seen = Seen::of(api, watcher::Config::default());
        tokio::time::sleep(SECOND).await;
        // The watcher's version is forgotten while it is not connected.
        stub.restart();
        put_map(&stub, "a", "3");
        stub.compact();
        tokio::time::sleep(600 * SECOND).await;
        // kube's watcher asks for the same version for ever if it is refused with a code.
        assert_eq!(seen.get("a").as_deref(), Some(if is_by_code { "2" } else { "3" }));
        assert_eq!(stub.count_kind(RequestKind::List), if is_by_code { 1 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn bookmarks_and_timeouts_come_when_they_should() {
    let stub = StubApi::new(1);
    put_map(&stub, "a", "1");
    let version = stub.resource_version();
    let began = stub.elapsed();
    let params = WatchParams::default().timeout(100).fields("metadata.name=a");
    let client = stub.client();
    let mut events = maps(&client).watch(&params, &version.to_string()).await.unwrap().boxed();
    let mut seen = vec![];
    put_map(&stub, "b", "1");
    while let Some(event) = events.try_next().await.unwrap() {
        let WatchEvent::Bookmark(bookmark) = event else { panic!("{event:?}") };
        assert_eq!(bookmark.metadata.resource_version, stub.resource_version().to_string());
        seen.push((stub.elapsed() - began).as_secs());
    }
    assert_eq!(seen, [60, 98]);
    assert_eq!((stub.elapsed() - began).as_secs(), 100);
    assert!(stub.log()[0].ended.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lag_delays_events_and_bookmarks_do_not_run_ahead() {
    let stub = StubApi::new(1);
    stub.set_watch_lag(3 * SECOND);
    stub.set_bookmark_period(SECOND);
    put_map(&stub, "a", "1");
    tokio::time::sleep(10 * SECOND).await;
    let version = stub.resource_version();
    let client = stub.client();
    let mut events =
        maps(&client).watch(&WatchParams::default(), &version.to_string()).await.unwrap().boxed();
    let began = stub.elapsed();
    put_map(&stub, "a", "2");
    loop {
        match events.try_next().await.unwrap().unwrap() {
            WatchEvent::Bookmark(bookmark) => {
                assert_eq!(bookmark.metadata.resource_version, version.to_string());
            }
            WatchEvent::Modified(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((stub.elapsed() - began).as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn labels_that_come_and_go_look_like_objects_that_do() {
    let stub = StubApi::new(1);
    put_map(&stub, "a", "1");
    let version = stub.resource_version().to_string();
    let params = WatchParams::default().labels("shown=yes").timeout(5);
    let client = stub.client();
    let events = maps(&client).watch(&params, &version).await.unwrap();
    put_map(&stub, "a", "2");
    stub.edit("configmaps", "shop", "a", |map| map["metadata"]["labels"] = json!({"shown": "yes"}));
    stub.edit("configmaps", "shop", "a", |map| map["data"]["key"] = json!("3"));
    stub.edit("configmaps", "shop", "a", |map| map["metadata"]["labels"] = json!({"shown": "no"}));
    let events: Vec<_> = events.try_collect().await.unwrap();
    assert!(matches!(
        &events[..],
        [WatchEvent::Added(_), WatchEvent::Modified(_), WatchEvent::Deleted(_), WatchEvent::Bookmark(_)]
    ));
}

/// One seeded history; its transcript.
fn history(seed: u64) -> String {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let stub = StubApi::new(seed);
        let mut random = Random::new(seed);
        stub.set_latency(Duration::from_millis(1), Duration::from_millis(50));
        let watched = Seen::of(maps(&stub.client()), watcher::Config::default().page_size(2).timeout(20));
        for step in 0..20 {
            let name = format!("m{}", random.below(4));
            if random.chance(0.2) {
                stub.delete("configmaps", "shop", &name);
            } else {
                put_map(&stub, &name, &step.to_string());
            }
            tokio::time::sleep(Duration::from_millis(random.below(5_000))).await;
        }
        tokio::time::sleep(SECOND).await;
        let stored = stub.list("configmaps");
        let stored: BTreeMap<_, _> = stored
            .iter()
            .map(|map| {
                let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
                (text(&map["metadata"]["name"]), text(&map["data"]["key"]))
            })
            .collect();
        assert_eq!(watched.0.lock().unwrap().0, stored, "seed {seed}");
        stub.transcript()
    })
}

#[test]
fn a_seed_gives_the_same_history_every_time() {
    let transcripts: Vec<_> = (0..300).map(history).collect();
    assert_ne!(transcripts[1], transcripts[2]);
    for (seed, transcript) in (0..).zip(&transcripts).take(20) {
        assert_eq!(history(seed), *transcript);
    }
}
