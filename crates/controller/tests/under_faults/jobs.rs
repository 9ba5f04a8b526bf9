//! 9.4: `CronJob`s that start a Job, whatever happens to requests and to the operator.

use std::time::Duration;

use http::Method;
use pod_reloader_core::annotation::{OBSERVED_CONFIG, ON_CHANGE};
use pod_reloader_core::dialect::sap::CONFIGMAPS;
use pod_reloader_core::kind::{Kinds, batch};
use pod_reloader_k8s::scope::Scope;
use pod_reloader_stub_api::{Fault, FaultRule, LogEntry, RequestKind, StubApi, objects};
use serde_json::json;
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::{in_paused_time, paint, server};

pub(crate) const SOON: Duration = Duration::from_secs(5);
/// As long as it takes at most to try again whatever failed or hung.
pub(crate) const LATER: Duration = Duration::from_mins(3);

pub(crate) fn options(name: &'static str) -> Options {
    let scope = Scope { kinds: Kinds::default().and_jobs(), ..Scope::default() };
    Options { scope, ..Options::new(name) }
}

pub(crate) fn start(stub: &StubApi) -> Replica {
    Replica::start(stub, options("replica"))
}

fn cron_job(stub: &StubApi) {
    stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
    let annotations = [(CONFIGMAPS, "settings"), (ON_CHANGE, "start-job")];
    let mut nightly = objects::workload(batch::CRON_JOB, "shop", "nightly", &annotations);
    nightly["spec"].as_object_mut().unwrap().remove("selector");
    nightly["spec"]["schedule"] = json!("0 3 * * *");
    stub.put(nightly);
}

pub(crate) fn notes(stub: &StubApi) -> Vec<String> {
    let events = stub.list("events");
    events
        .iter()
        .map(|event| format!("{}: {}", event["reason"].as_str().unwrap(), event["note"].as_str().unwrap()))
        .collect()
}

fn observed(stub: &StubApi) -> Option<String> {
    let nightly = stub.get("cronjobs", "shop", "nightly").unwrap();
    nightly["metadata"]["annotations"][OBSERVED_CONFIG].as_str().map(str::to_owned)
}

#[test]
fn c9_4_each_change_starts_one_job_and_nothing_else_does() {
    in_paused_time(async {
        let stub = server(201);
        cron_job(&stub);
        let template = stub.get("cronjobs", "shop", "nightly").unwrap()["spec"].clone();
        let replica = start(&stub);
        sleep(SOON).await;
        assert!(observed(&stub).is_some() && stub.list("jobs").is_empty(), "opting in starts nothing");
        for (colour, expected) in [("blue", 1), ("red", 2), ("blue", 3), ("blue", 3)] {
            paint(&stub, "shop", colour);
            sleep(SOON).await;
            assert_eq!(stub.list("jobs").len(), expected, "{colour}\n{}", stub.transcript());
        }
        stub.edit("configmaps", "shop", "settings", |map| map["metadata"]["labels"] = json!({"a": "b"}));
        stub.edit("cronjobs", "shop", "nightly", |it| it["status"] = json!({"lastScheduleTime": "now"}));
        sleep(SOON).await;
        assert_eq!(stub.list("jobs").len(), 3);
        let nightly = stub.get("cronjobs", "shop", "nightly").unwrap();
        assert_eq!(nightly["spec"], template, "a CronJob's own template is never touched");
        let [first, ..] = &stub.list("jobs")[..] else { unreachable!() };
        assert_eq!(first["metadata"]["ownerReferences"][0]["uid"], nightly["metadata"]["uid"]);
        let started =
            format!("ConfigurationChanged: Job {} is started: ", first["metadata"]["name"].as_str().unwrap());
        assert!(notes(&stub).iter().any(|note| note.starts_with(&started)), "{:?}", notes(&stub));
        assert_eq!(notes(&stub).len(), 3, "{:?}", notes(&stub));

        assert!(replica.stop().await);
        paint(&stub, "shop", "green");
        let _replica = start(&stub);
        sleep(SOON).await;
        assert_eq!(stub.list("jobs").len(), 4, "what changed while nobody watched counts");
    });
}

#[test]
fn c9_4_a_change_starts_one_job_whatever_happens_to_the_requests() {
    for fault in Fault::ALL {
        for skip in 0..3 {
            in_paused_time(async {
                let stub = server(202);
                cron_job(&stub);
                let _replica = start(&stub);
                sleep(SOON).await;
                let rule = FaultRule::new(fault).client("replica").matching(|request| {
                    request.path.contains("jobs")
                        && !matches!(
                            request.kind,
                            RequestKind::WatchStart | RequestKind::WatchStream | RequestKind::List
                        )
                });
                let rule = stub.fail(rule.skip(skip).times(1));
                paint(&stub, "shop", "blue");
                sleep(LATER).await;
                assert!(
                    stub.list("jobs").len() == 1,
                    "{fault:?} {skip}: {}\n{}",
                    stub.list("jobs").len(),
                    stub.transcript()
                );
                stub.heal(rule);
                paint(&stub, "shop", "green");
                sleep(LATER).await;
                assert_eq!(stub.list("jobs").len(), 2, "{fault:?} {skip}\n{}", stub.transcript());
            });
        }
    }
}

#[test]
fn c9_4_a_change_starts_one_job_although_the_operator_is_killed_at_any_request() {
    for kill_after in 0..6 {
        in_paused_time(async {
            let stub = server(203);
            cron_job(&stub);
            let replica = start(&stub);
            sleep(SOON).await;
            let is_one = |entry: &LogEntry| {
                entry.request.path.contains("jobs") && entry.request.kind != RequestKind::WatchStart
            };
            let before = stub.count(is_one);
            paint(&stub, "shop", "blue");
            let give_up = stub.elapsed() + SOON;
            while stub.count(is_one) < before + kill_after && stub.elapsed() < give_up {
                sleep(Duration::from_millis(1)).await;
            }
            drop(replica);
            let _replica = Replica::start(&stub, options("other"));
            sleep(LATER).await;
            assert_eq!(stub.list("jobs").len(), 1, "after {kill_after}\n{}", stub.transcript());
        });
    }
}

#[test]
fn c9_4_a_suspended_cron_job_starts_nothing_and_one_that_runs_alone_waits_for_its_end() {
    in_paused_time(async {
        let stub = server(204);
        cron_job(&stub);
        stub.edit("cronjobs", "shop", "nightly", |it| it["spec"]["suspend"] = json!(true));
        let _replica = start(&stub);
        sleep(SOON).await;
        paint(&stub, "shop", "blue");
        sleep(SOON).await;
        stub.edit("cronjobs", "shop", "nightly", |it| it["spec"]["suspend"] = json!(false));
        sleep(LATER).await;
        assert!(stub.list("jobs").is_empty(), "nor is it made up for");
        assert!(
            notes(&stub)[0].contains("No Job is started, since this CronJob is suspended"),
            "{:?}",
            notes(&stub)
        );

        stub.edit("cronjobs", "shop", "nightly", |it| it["spec"]["concurrencyPolicy"] = json!("Forbid"));
        // As its schedule started it.
        let nightly = stub.get("cronjobs", "shop", "nightly").unwrap();
        let mut running = objects::workload(batch::JOB, "shop", "nightly-1", &[]);
        running["metadata"]["ownerReferences"] = json!([{"kind": "CronJob", "name": "nightly", "uid": nightly["metadata"]["uid"], "controller": true}]);
        stub.put(running);
        paint(&stub, "shop", "green");
        sleep(LATER).await;
        assert_eq!(stub.list("jobs").len(), 1, "two would run at once");
        stub.edit("jobs", "shop", "nightly-1", |job| {
            job["status"] = json!({"conditions": [{"type": "Failed", "status": "True"}]});
        });
        stub.edit("cronjobs", "shop", "nightly", |it| it["status"] = json!({"active": []}));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(stub.list("jobs").len(), 2);
    });
}

#[test]
fn c9_4_a_job_that_may_not_be_made_is_reported_once_and_made_when_it_may() {
    in_paused_time(async {
        let stub = server(213);
        cron_job(&stub);
        let _replica = start(&stub);
        sleep(SOON).await;
        let refused =
            FaultRule::new(Fault::Status(403)).resource("jobs").matching(|it| it.method == Method::POST);
        let refused = stub.fail(refused);
        paint(&stub, "shop", "blue");
        sleep(LATER).await;
        let notes = notes(&stub);
        assert!(
            notes.len() == 1
                && notes[0].starts_with("PatchRefused: the Job that on-change asks for cannot be made"),
            "{notes:?}"
        );
        stub.heal(refused);
        sleep(LATER).await;
        assert_eq!(stub.list("jobs").len(), 1);
    });
}

#[test]
fn c9_4_without_jobs_nothing_of_them_is_asked_for() {
    in_paused_time(async {
        let stub = server(214);
        cron_job(&stub);
        let _replica = Replica::start(&stub, Options::new("replica"));
        sleep(SOON).await;
        paint(&stub, "shop", "blue");
        sleep(LATER).await;
        assert_eq!(stub.count(|entry| entry.request.path.contains("batch")), 0);
    });
}

#[test]
fn c9_4_what_cannot_be_recorded_starts_nothing() {
    in_paused_time(async {
        let stub = server(217);
        cron_job(&stub);
        let _replica = start(&stub);
        sleep(SOON).await;
        // As a policy that refuses the record, and not the Job.
        let refused = FaultRule::new(Fault::Status(403)).resource("cronjobs");
        let refused = stub.fail(refused.matching(|request| request.method == Method::PATCH));
        paint(&stub, "shop", "blue");
        sleep(LATER).await;
        assert!(stub.list("jobs").is_empty(), "{}", stub.transcript());
        stub.heal(refused);
        sleep(LATER).await;
        assert_eq!(stub.list("jobs").len(), 1);
    });
}

#[test]
fn c9_4_a_change_is_recorded_although_its_own_job_runs_already() {
    for fault in [Fault::LostAnswer, Fault::LostAnswer500, Fault::HangAfterHeaders] {
        in_paused_time(async {
            let stub = server(219);
            cron_job(&stub);
            stub.edit("cronjobs", "shop", "nightly", |it| it["spec"]["concurrencyPolicy"] = json!("Forbid"));
            let _replica = start(&stub);
            sleep(SOON).await;
            let before = observed(&stub);
            let lost = FaultRule::new(fault).resource("jobs").times(1);
            stub.fail(lost.matching(|request| request.method == Method::POST));
            paint(&stub, "shop", "blue");
            sleep(LATER).await;
            assert!(observed(&stub) != before && stub.list("jobs").len() == 1, "{}", stub.transcript());
            assert!(
                notes(&stub).iter().all(|note| !note.starts_with("ReloadDeferred")),
                "{:?}",
                notes(&stub)
            );
        });
    }
}

#[test]
fn c9_4_a_job_that_was_started_for_a_change_counts_as_one_that_runs() {
    for policy in ["Forbid", "Replace", "Allow"] {
        in_paused_time(async {
            let stub = server(218);
            cron_job(&stub);
            stub.edit("cronjobs", "shop", "nightly", |it| it["spec"]["concurrencyPolicy"] = json!(policy));
            let _replica = start(&stub);
            sleep(SOON).await;
            for colour in ["blue", "green"] {
                paint(&stub, "shop", colour);
                sleep(LATER).await;
            }
            let expected = if policy == "Allow" { 2 } else { 1 };
            assert_eq!(stub.list("jobs").len(), expected, "{policy}\n{}", stub.transcript());
            let told = notes(&stub)
                .iter()
                .filter(|note| note.starts_with("ReloadDeferred: a Job is put off"))
                .count();
            assert_eq!(told, 2 - expected, "{:?}", notes(&stub));
            let name = stub.list("jobs")[0]["metadata"]["name"].as_str().unwrap().to_owned();
            stub.edit("jobs", "shop", &name, |job| {
                job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
            });
            sleep(LATER).await;
            assert_eq!(stub.list("jobs").len(), 2, "{policy}");
        });
    }
}
