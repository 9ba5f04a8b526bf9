//! 9.4: Jobs that are made anew, whatever happens to requests, to the operator, and to the Jobs themselves meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use pod_reloader_core::annotation::{ON_CHANGE, RECREATES};
use pod_reloader_core::dialect::sap::CONFIGMAPS;
use pod_reloader_core::kind::batch;
use pod_reloader_stub_api::{Fault, FaultRule, LogEntry, RequestInfo, RequestKind, StubApi, objects};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::jobs::{LATER, SOON, notes, options, start};
use crate::support::replica::Replica;
use crate::support::{in_paused_time, paint, server};

/// A Job whose pods are there, for which its deletion has to wait.
pub(crate) fn job(stub: &StubApi, on_change: &str) {
    stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
    let annotations = [(CONFIGMAPS, "settings"), (ON_CHANGE, on_change)];
    let mut import = objects::workload(batch::JOB, "shop", "import", &annotations);
    import["spec"].as_object_mut().unwrap().remove("selector");
    import["metadata"]["finalizers"] = json!(["example.com/pods"]);
    stub.put(import);
}

pub(crate) fn import(stub: &StubApi) -> Option<Arc<Value>> {
    stub.get("jobs", "shop", "import")
}

pub(crate) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap()
}

/// The pods are gone.
pub(crate) fn end_deletion(stub: &StubApi) {
    stub.edit("jobs", "shop", "import", |job| {
        assert!(job["metadata"]["deletionTimestamp"].is_string(), "nobody deleted it");
        job["metadata"]["finalizers"] = json!([]);
    });
    assert!(stub.delete("jobs", "shop", "import"));
}

pub(crate) fn stand_ins(stub: &StubApi) -> Vec<Arc<Value>> {
    let is_one = |job: &Arc<Value>| job["metadata"]["annotations"][RECREATES].is_string();
    stub.list("jobs").into_iter().filter(is_one).collect()
}

fn is_write_of_a_job(entry: &LogEntry) -> bool {
    let is_write = matches!(entry.request.method, Method::POST | Method::DELETE);
    is_write && entry.request.path.contains("/namespaces/shop/jobs")
}

/// Jobs of that name that there have been.
fn made(stub: &StubApi, is_meant: impl Fn(&Value) -> bool) -> usize {
    let mut uids = BTreeSet::new();
    for write in stub.writes().iter().filter(|write| write.resource == "jobs" && is_meant(&write.object)) {
        uids.insert(uid(&write.object).to_owned());
    }
    uids.len()
}

fn is_import(job: &Value) -> bool {
    job["metadata"]["name"] == "import"
}

#[test]
fn c9_4_a_job_that_runs_is_made_anew_once_its_pods_are_gone() {
    in_paused_time(async {
        let stub = server(205);
        job(&stub, "recreate");
        let _replica = start(&stub);
        sleep(SOON).await;
        let first = import(&stub).unwrap();
        paint(&stub, "shop", "blue");
        sleep(LATER).await;
        let deleted = import(&stub).unwrap();
        assert!(uid(&deleted) == uid(&first) && deleted["metadata"]["deletionTimestamp"].is_string());
        assert_eq!(stand_ins(&stub).len(), 1, "{}", stub.transcript());
        end_deletion(&stub);
        sleep(Duration::from_secs(1)).await;
        let second = import(&stub).unwrap();
        assert_ne!(uid(&second), uid(&first));
        assert!(stand_ins(&stub).is_empty());
        assert_eq!(second["spec"], first["spec"]);
        assert_eq!(second["metadata"]["finalizers"], first["metadata"]["finalizers"]);
        let asked = |job: &Value| job["metadata"]["annotations"][ON_CHANGE].clone();
        assert_eq!(asked(&second), asked(&first));
        sleep(LATER).await;
        assert_eq!(uid(&import(&stub).unwrap()), uid(&second), "once for a change");
        assert_eq!(
            notes(&stub),
            ["ConfigurationChanged: The Job was deleted and made anew: configmap/settings changed"]
        );
        paint(&stub, "shop", "green");
        sleep(SOON).await;
        end_deletion(&stub);
        sleep(SOON).await;
        assert_eq!((made(&stub, is_import), stand_ins(&stub).len()), (3, 0));
    });
}

/// Its pods are gone a while after it was deleted.
pub(crate) async fn until_made_anew(stub: &StubApi, what: &str) {
    let first = uid(&import(stub).unwrap()).to_owned();
    let give_up = stub.elapsed() + LATER;
    while stub.elapsed() < give_up {
        sleep(Duration::from_millis(500)).await;
        match import(stub) {
            Some(job) if uid(&job) == first && job["metadata"]["deletionTimestamp"].is_string() => {
                end_deletion(stub);
            }
            _ => {}
        }
    }
    let second = import(stub).unwrap_or_else(|| panic!("{what}: it is lost\n{}", stub.transcript()));
    assert_ne!(uid(&second), first, "{what}: it was not made anew\n{}", stub.transcript());
    assert!(stand_ins(stub).is_empty(), "{what}: a stand-in is left\n{}", stub.transcript());
    assert_eq!(made(stub, is_import), 2, "{what}\n{}", stub.transcript());
}

#[test]
fn c9_4_no_job_is_lost_or_made_twice_whatever_happens_to_the_requests() {
    for fault in Fault::ALL {
        for skip in 0..5 {
            in_paused_time(async {
                let stub = server(206);
                job(&stub, "recreate");
                let _replica = start(&stub);
                sleep(SOON).await;
                let rule = FaultRule::new(fault).client("replica").matching(|request| {
                    request.path.contains("jobs")
                        && !matches!(
                            request.kind,
                            RequestKind::WatchStart | RequestKind::WatchStream | RequestKind::List
                        )
                });
                stub.fail(rule.skip(skip).times(1));
                paint(&stub, "shop", "blue");
                until_made_anew(&stub, &format!("{fault:?} {skip}")).await;
            });
        }
    }
}

#[test]
fn c9_4_no_job_is_lost_or_made_twice_although_the_operator_is_killed_at_any_request() {
    for kill_after in 0..12 {
        in_paused_time(async {
            let stub = server(207);
            job(&stub, "recreate");
            let replica = start(&stub);
            sleep(SOON).await;
            let is_one = |entry: &LogEntry| {
                entry.request.path.contains("jobs") && entry.request.kind != RequestKind::WatchStart
            };
            let before = stub.count(is_one);
            paint(&stub, "shop", "blue");
            let give_up = stub.elapsed() + SOON;
            while stub.count(is_one) < before + kill_after && stub.elapsed() < give_up {
                if import(&stub).is_some_and(|job| job["metadata"]["deletionTimestamp"].is_string()) {
                    break;
                }
                sleep(Duration::from_millis(1)).await;
            }
            drop(replica);
            let _replica = Replica::start(&stub, options("other"));
            until_made_anew(&stub, &format!("killed after {kill_after}")).await;
        });
    }
}

#[test]
fn c9_4_it_is_killed_while_the_job_is_nowhere() {
    for kill_after in 0..4 {
        in_paused_time(async {
            let stub = server(208);
            job(&stub, "recreate");
            let replica = start(&stub);
            sleep(SOON).await;
            paint(&stub, "shop", "blue");
            sleep(SOON).await;
            let before = stub.count(is_write_of_a_job);
            let first = uid(&import(&stub).unwrap()).to_owned();
            end_deletion(&stub);
            let give_up = stub.elapsed() + SOON;
            while stub.count(is_write_of_a_job) < before + kill_after && stub.elapsed() < give_up {
                sleep(Duration::from_millis(1)).await;
            }
            drop(replica);
            let _replica = Replica::start(&stub, options("other"));
            sleep(LATER).await;
            let second = import(&stub).expect("it is lost");
            assert_ne!(uid(&second), first);
            assert_eq!(
                (made(&stub, is_import), stand_ins(&stub).len()),
                (2, 0),
                "{kill_after}\n{}",
                stub.transcript()
            );
        });
    }
}

#[test]
fn c9_4_what_its_owner_does_to_a_job_meanwhile_counts() {
    for what in ["deleted", "made anew", "finished", "opted out", "unasked"] {
        in_paused_time(async {
            let stub = server(209);
            job(&stub, "recreate");
            let _replica = start(&stub);
            sleep(SOON).await;
            let first = uid(&import(&stub).unwrap()).to_owned();
            // The stand-in is there, and nothing has been done about it yet.
            let refused = FaultRule::new(Fault::Status(500))
                .resource("jobs")
                .matching(|it| it.method == Method::DELETE);
            let refused = stub.fail(refused.client("replica"));
            paint(&stub, "shop", "blue");
            sleep(SOON).await;
            assert_eq!(stand_ins(&stub).len(), 1, "{what}\n{}", stub.transcript());
            let edit = |edit: &dyn Fn(&mut Value)| drop(stub.edit("jobs", "shop", "import", |job| edit(job)));
            match what {
                "deleted" | "made anew" => {
                    edit(&|job| job["metadata"]["finalizers"] = json!([]));
                    assert!(stub.delete("jobs", "shop", "import"));
                    if what == "made anew" {
                        job(&stub, "recreate");
                    }
                }
                "finished" => edit(&|job| {
                    job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
                }),
                "opted out" => edit(&|job| {
                    job["metadata"]["labels"] = json!({"pod-reloader.cs.sap.com/ignored": "true"});
                }),
                _ => edit(&|job| {
                    drop(job["metadata"]["annotations"].as_object_mut().unwrap().remove(ON_CHANGE));
                }),
            }
            let left = import(&stub).map(|job| uid(&job).to_owned());
            stub.heal(refused);
            sleep(LATER).await;
            assert!(stand_ins(&stub).is_empty(), "{what}\n{}", stub.transcript());
            let now = import(&stub);
            if what == "deleted" {
                // This process tried to delete it before: it cannot tell whose deletion it was.
                assert!(now.is_none_or(|job| uid(&job) != first), "{what}");
            } else {
                let now = now.unwrap();
                assert!(now["metadata"]["deletionTimestamp"].is_null(), "{what}\n{}", stub.transcript());
                assert_eq!(Some(uid(&now).to_owned()), left, "{what}\n{}", stub.transcript());
            }
        });
    }
}

#[test]
fn c9_4_a_job_that_was_deleted_by_its_owner_does_not_come_back() {
    in_paused_time(async {
        let stub = server(210);
        job(&stub, "recreate");
        let _replica = start(&stub);
        sleep(SOON).await;
        stub.edit("jobs", "shop", "import", |job| job["metadata"]["finalizers"] = json!([]));
        sleep(SOON).await;
        // The stand-in is made, but the operator cannot look at the Job.
        let refused = FaultRule::new(Fault::Status(500))
            .client("replica")
            .matching(|request| request.method == Method::GET && request.path.ends_with("/jobs/import"));
        paint(&stub, "shop", "blue");
        while stand_ins(&stub).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        let refused = stub.fail(refused);
        assert!(stub.delete("jobs", "shop", "import"));
        sleep(SOON).await;
        stub.heal(refused);
        sleep(LATER).await;
        assert!(import(&stub).is_none() && stand_ins(&stub).is_empty(), "{}", stub.transcript());
    });
}

#[test]
fn c9_4_a_job_that_changes_under_its_deletion_is_looked_at_again() {
    in_paused_time(async {
        let stub = server(215);
        job(&stub, "recreate");
        let _replica = start(&stub);
        sleep(SOON).await;
        let late = FaultRule::new(Fault::Delayed(Duration::from_secs(5))).resource("jobs").name("import");
        let late = stub.fail(late.matching(|request| request.method == Method::DELETE));
        paint(&stub, "shop", "blue");
        while stub.hits(late) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        stub.edit("jobs", "shop", "import", |job| {
            job["metadata"]["labels"] = json!({"pod-reloader.cs.sap.com/ignored": "true"});
        });
        sleep(LATER).await;
        let now = import(&stub).unwrap();
        assert!(now["metadata"]["deletionTimestamp"].is_null(), "{}", stub.transcript());
        assert!(stand_ins(&stub).is_empty());
    });
}

#[test]
fn c9_4_a_job_that_could_not_be_made_again_is_not_deleted() {
    in_paused_time(async {
        let stub = server(216);
        job(&stub, "recreate");
        let _replica = start(&stub);
        sleep(SOON).await;
        // As a policy that came after the Job refuses it.
        let refused = FaultRule::new(Fault::Status(403)).resource("jobs").matching(RequestInfo::is_dry_run);
        let refused = stub.fail(refused);
        paint(&stub, "shop", "blue");
        sleep(LATER).await;
        assert!(import(&stub).unwrap()["metadata"]["deletionTimestamp"].is_null(), "{}", stub.transcript());
        let told = notes(&stub).iter().filter(|note| note.starts_with("PatchRefused")).count();
        assert_eq!(told, 1, "{:?}", notes(&stub));
        stub.heal(refused);
        until_made_anew(&stub, "once it may").await;
    });
}

#[test]
fn c9_4_finished_jobs_those_of_others_and_those_that_do_not_ask_are_left_alone() {
    in_paused_time(async {
        let stub = server(211);
        job(&stub, "recreate");
        let import = (*import(&stub).unwrap()).clone();
        for (name, edit) in [
            ("finished", json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}})),
            (
                "owned",
                json!({"metadata": {"ownerReferences": [{"kind": "CronJob", "controller": true, "uid": "u"}]}}),
            ),
            ("unasked", json!({"metadata": {"annotations": {ON_CHANGE: null}}})),
        ] {
            let mut other = import.clone();
            json_patch::merge(&mut other, &edit);
            other["metadata"]["name"] = json!(name);
            stub.put(other);
        }
        let mut silent = objects::workload(batch::CRON_JOB, "shop", "silent", &[(CONFIGMAPS, "settings")]);
        silent["spec"]["schedule"] = json!("0 3 * * *");
        stub.put(silent);
        stub.delete("jobs", "shop", "import");
        stub.edit("jobs", "shop", "import", |job| job["metadata"]["finalizers"] = json!([]));
        let _replica = start(&stub);
        sleep(SOON).await;
        let before = stub.resource_version();
        paint(&stub, "shop", "blue");
        sleep(LATER).await;
        let written: Vec<_> = stub.writes().into_iter().filter(|write| write.version > before).collect();
        assert!(written.iter().all(|write| write.resource == "configmaps"), "{written:?}");
    });
}

#[test]
fn c9_4_a_stand_in_that_somebody_else_wrote_is_left_alone() {
    in_paused_time(async {
        let stub = server(212);
        job(&stub, "recreate");
        let mut forged = objects::workload(batch::JOB, "shop", "forged", &[]);
        let uid = uid(&import(&stub).unwrap()).to_owned();
        let says = json!({"name": "import", "uid": uid, "metadata": {}, "spec": {}, "signature": "forged"});
        forged["metadata"]["annotations"] = json!({RECREATES: says.to_string()});
        forged["spec"]["suspend"] = json!(true);
        stub.put(forged);
        let _replica = start(&stub);
        sleep(LATER).await;
        assert!(import(&stub).unwrap()["metadata"]["deletionTimestamp"].is_null());
        assert_eq!(stub.count(is_write_of_a_job), 0, "{}", stub.transcript());
    });
}
