//! Each fault does what it says.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::runtime::watcher;
use pod_reloader_stub_api::{Fault, FaultRule, Outcome, RequestKind, StubApi, objects};
use serde_json::json;
use tokio::time::timeout;

use crate::watches::Seen;
use crate::{SECOND, code, deployments, maps, put_map};

fn stub() -> StubApi {
    let stub = StubApi::new(7);
    put_map(&stub, "a", "1");
    stub.put(objects::listing("shop", "web", "a", ""));
    stub
}

#[tokio::test(start_paused = true)]
async fn requests_hang_break_and_fail() {
    let stub = stub();
    let api = maps(&stub.client());
    let once = |fault| FaultRule::new(fault).kind(RequestKind::GetContent).times(1);
    for (fault, expected) in
        [(Fault::HangBeforeHeaders, Outcome::GivenUp), (Fault::HangAfterHeaders, Outcome::Answered(200))]
    {
        stub.fail(once(fault));
        assert!(timeout(600 * SECOND, api.get("a")).await.is_err(), "{fault:?}");
        assert_eq!(stub.log().last().unwrap().outcome, expected);
    }
    for fault in [Fault::Reset, Fault::LostAnswer, Fault::Truncated, Fault::EndAtOnce] {
        let rule = stub.fail(once(fault));
        assert_eq!(code(&api.get("a").await.unwrap_err()), 0, "{fault:?}");
        assert_eq!(stub.hits(rule), 1);
    }
    for status in [403, 410, 429, 500, 503] {
        stub.fail(once(Fault::Status(status)));
        let error = api.get("a").await.unwrap_err();
        let kube::Error::Api(answer) = error else { panic!("{error}") };
        assert_eq!(answer.code, status);
        assert_eq!(answer.details.map_or(0, |details| details.retry_after_seconds), u32::from(status == 429));
    }
    stub.fail(once(Fault::LostAnswer500));
    assert_eq!(code(&api.get("a").await.unwrap_err()), 504);
    let began = stub.elapsed();
    stub.fail(once(Fault::Late(5 * SECOND)));
    api.get("a").await.unwrap();
    assert_eq!(stub.elapsed() - began, 5 * SECOND);
    api.get("a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lost_answers_and_late_ones_are_carried_out() {
    for (fault, at_once) in [
        (Fault::LostAnswer, true),
        (Fault::LostAnswer500, true),
        (Fault::HangAfterHeaders, true),
        (Fault::Late(20 * SECOND), true),
        (Fault::Delayed(20 * SECOND), false),
        (Fault::Reset, false),
        (Fault::HangBeforeHeaders, false),
    ] {
        let stub = stub();
        stub.fail(FaultRule::new(fault).kind(RequestKind::Patch));
        let api = deployments(&stub.client());
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {"hash": "1"}}}}});
        let patch = Patch::Merge(&patch);
        let params = PatchParams::default();
        let answer = timeout(10 * SECOND, api.patch("web", &params, &patch)).await;
        assert!(!matches!(answer, Ok(Ok(_))), "{fault:?}");
        assert_eq!(stub.revisions("deployments", "shop", "web"), usize::from(at_once), "{fault:?}");
        tokio::time::sleep(60 * SECOND).await;
        let in_the_end = at_once || matches!(fault, Fault::Delayed(_));
        assert_eq!(stub.revisions("deployments", "shop", "web"), usize::from(in_the_end), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rules_choose_their_requests() {
    let stub = stub();
    stub.put(objects::config_map("other", "a", &[]));
    let (api, client) = (maps(&stub.client()), stub.client_of("second"));
    let fails = async |api: &kube::Api<_>| api.get("a").await.is_err();
    let rule = FaultRule::new(Fault::Status(500));
    for other in [
        rule.clone().kind(RequestKind::GetMetadata),
        rule.clone().resource("secrets"),
        rule.clone().namespace("other"),
        rule.clone().name("b"),
        rule.clone().client("second"),
        rule.clone().matching(|request| request.path.ends_with("/b")),
        rule.clone().times(0),
        rule.clone().skip(1),
        rule.clone().from(SECOND),
        rule.clone().probability(0.0),
    ] {
        stub.fail(other);
    }
    assert!(!fails(&api).await);
    // The second one is no longer skipped.
    assert!(fails(&api).await);
    stub.heal_all();
    stub.fail(rule.clone().client("second"));
    assert!(!fails(&api).await);
    assert!(fails(&maps(&client)).await);
    let chosen =
        stub.fail(rule.resource("configmaps").namespace("shop").name("a").until(stub.elapsed() + SECOND));
    assert!(fails(&api).await);
    tokio::time::sleep(SECOND).await;
    assert!(!fails(&api).await);
    assert_eq!(stub.hits(chosen), 1);
    stub.heal_all();
    stub.fail(FaultRule::new(Fault::Reset).probability(0.3));
    let mut failures = 0;
    for _ in 0..1000 {
        failures += u32::from(fails(&api).await);
    }
    assert!((250..350).contains(&failures), "{failures}");
}

#[tokio::test(start_paused = true)]
async fn a_list_can_be_stale() {
    let stub = stub();
    put_map(&stub, "a", "2");
    put_map(&stub, "b", "1");
    stub.fail(FaultRule::new(Fault::StaleList(2)).times(1));
    let api = maps(&stub.client());
    let list = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.metadata.resource_version.unwrap(), (stub.resource_version() - 2).to_string());
    assert_eq!(list.items.len(), 1);
    assert_eq!(list.items[0].data.as_ref().unwrap()["key"], "1");
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 2);
}

/// The events of a watch that begins before two changes, with that fault of its stream.
async fn events_of(rule: FaultRule) -> (Vec<String>, Option<kube::Error>) {
    let stub = stub();
    let client = stub.client();
    let params = WatchParams::default().timeout(30).fields("metadata.name=a");
    let version = stub.resource_version().to_string();
    stub.fail(rule);
    let events = timeout(SECOND, maps(&client).watch(&params, &version)).await.expect("headers").unwrap();
    let mut events = events.boxed();
    put_map(&stub, "a", "2");
    put_map(&stub, "a", "3");
    let mut seen = vec![];
    loop {
        match timeout(60 * SECOND, events.try_next()).await {
            Err(_) => {
                seen.push("silence".to_owned());
                return (seen, None);
            }
            Ok(Err(error)) => return (seen, Some(error)),
            Ok(Ok(None)) => return (seen, None),
            Ok(Ok(Some(WatchEvent::Modified(map)))) => seen.push(map.data.unwrap()["key"].clone()),
            Ok(Ok(Some(WatchEvent::Bookmark(_)))) => seen.push("bookmark".into()),
            Ok(Ok(Some(WatchEvent::Error(status)))) => seen.push(status.code.to_string()),
            Ok(Ok(Some(other))) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn streams_fall_silent_break_end_and_repeat() {
    let of_stream = |fault| FaultRule::new(fault).kind(RequestKind::WatchStream);
    // The beginning is asked, too, and then each event.
    for (rule, expected, breaks) in [
        (of_stream(Fault::HangAfterHeaders), vec!["silence"], false),
        (of_stream(Fault::HangAfterHeaders).skip(2), vec!["2", "silence"], false),
        (of_stream(Fault::Reset).skip(2), vec!["2"], true),
        (of_stream(Fault::EndAtOnce), vec![], false),
        (of_stream(Fault::EndAtOnce).skip(3), vec!["2", "3"], false),
        (of_stream(Fault::Status(410)).skip(2), vec!["2", "410"], false),
        (of_stream(Fault::Truncated).skip(1), vec!["2"], false),
        (of_stream(Fault::Late(40 * SECOND)), vec!["2", "3"], false),
        (of_stream(Fault::StaleList(1)), vec!["2", "3", "bookmark"], false),
        (FaultRule::new(Fault::HangAfterHeaders).kind(RequestKind::WatchStart), vec!["silence"], false),
        (FaultRule::new(Fault::EndAtOnce).kind(RequestKind::WatchStart), vec![], false),
    ] {
        let name = format!("{rule:?}");
        let (seen, error) = events_of(rule).await;
        let is_late = name.starts_with("Late");
        let seen: Vec<_> =
            seen.iter().map(String::as_str).filter(|event| !is_late || *event != "bookmark").collect();
        assert_eq!(seen, expected, "{name}");
        assert_eq!(error.is_some(), breaks, "{name} {error:?}");
    }
    for kind in [RequestKind::WatchStart, RequestKind::WatchStream] {
        let (seen, _) = events_of(FaultRule::new(Fault::DuplicateEvents).kind(kind)).await;
        assert!(seen.len() > 4, "{seen:?}");
        assert!(seen.iter().filter(|event| *event == "2").count() >= 2, "{seen:?}");
        assert_eq!(seen.iter().rev().find(|event| *event != "bookmark").unwrap(), "3");
    }
}

#[tokio::test(start_paused = true)]
async fn open_connections_hang_and_new_ones_work() {
    let stub = stub();
    let connector = stub.connector();
    let old = kube::Client::new(connector(), "default");
    let seen = Seen::of(maps(&old), watcher::Config::default());
    tokio::time::sleep(SECOND).await;
    stub.hang_open_connections();
    put_map(&stub, "a", "2");
    assert!(timeout(600 * SECOND, maps(&old).get("a")).await.is_err());
    assert_eq!(seen.get("a").as_deref(), Some("1"));
    let new = kube::Client::new(connector(), "default");
    timeout(SECOND, maps(&new).get("a")).await.unwrap().unwrap();
    stub.break_open_connections();
    assert!(maps(&new).get("a").await.is_err());
    timeout(SECOND, maps(&stub.client()).get("a")).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_breaks_what_is_under_way_only() {
    let stub = stub();
    let client = stub.client();
    let seen = Seen::of(maps(&client), watcher::Config::default());
    stub.fail(FaultRule::new(Fault::HangBeforeHeaders).kind(RequestKind::GetMetadata));
    tokio::time::sleep(SECOND).await;
    let api = maps(&client);
    let (answer, ()) = tokio::join!(timeout(10 * SECOND, api.get_metadata("a")), async {
        tokio::time::sleep(SECOND).await;
        stub.restart();
    });
    assert!(answer.unwrap().is_err());
    put_map(&stub, "a", "2");
    api.get("a").await.unwrap();
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(seen.get("a").as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_comes_through_every_fault_of_its_requests() {
    for kind in [RequestKind::List, RequestKind::WatchStart, RequestKind::WatchStream] {
        for fault in Fault::ALL.into_iter().filter(|fault| fault.concerns(kind)) {
            // kube's watcher has no deadline for headers and lists: those are for the operator to mend.
            if matches!(fault, Fault::HangBeforeHeaders | Fault::HangAfterHeaders)
                && kind == RequestKind::List
                || fault == Fault::HangBeforeHeaders && kind == RequestKind::WatchStart
            {
                continue;
            }
            let stub = stub();
            stub.fail(FaultRule::new(fault).kind(kind).times(3));
            let seen = Seen::of(maps(&stub.client()), watcher::Config::default().timeout(20));
            for index in 0..10 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                put_map(&stub, "a", &format!("v{index}"));
            }
            tokio::time::sleep(200 * SECOND).await;
            assert_eq!(seen.get("a").as_deref(), Some("v9"), "{kind:?} {fault:?}\n{}", stub.transcript());
        }
    }
}
