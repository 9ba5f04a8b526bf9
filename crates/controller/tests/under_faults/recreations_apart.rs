//! 9.4: Jobs that are made anew where several leaders, owners, policies and namespaces have a hand in it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use pod_reloader_core::annotation::{OBSERVED_CONFIG, ON_CHANGE};
use pod_reloader_core::dialect::sap::CONFIGMAPS;
use pod_reloader_core::kind::batch;
use pod_reloader_core::selector::Selector;
use pod_reloader_stub_api::{Fault, FaultRule, RuleId, StubApi, objects};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::jobs::{LATER, SOON, notes, options, start};
use crate::recreations::{end_deletion, import, job, stand_ins, uid, until_made_anew};
use crate::support::replica::Replica;
use crate::support::{in_paused_time, paint, server};

/// Jobs of that namespace, by name.
fn uids(stub: &StubApi, namespace: &str) -> BTreeMap<String, String> {
    let jobs = stub.list("jobs").into_iter().filter(|job| job["metadata"]["namespace"] == namespace);
    jobs.map(|job| (job["metadata"]["name"].as_str().unwrap().to_owned(), uid(&job).to_owned())).collect()
}

fn put_jobs(stub: &StubApi, namespace: &str, count: usize) {
    stub.put(objects::config_map(namespace, "settings", &[("colour", "red")]));
    for i in 0..count {
        let annotations = [(CONFIGMAPS, "settings"), (ON_CHANGE, "recreate")];
        let mut job = objects::workload(batch::JOB, namespace, &format!("import-{i}"), &annotations);
        job["spec"].as_object_mut().unwrap().remove("selector");
        stub.put(job);
    }
}

fn is_deletion(request: &pod_reloader_stub_api::RequestInfo) -> bool {
    request.method == Method::DELETE
}

/// As a policy that lets the operator not delete the Job.
fn refuse_deletion(stub: &StubApi) -> RuleId {
    let refused = FaultRule::new(Fault::Status(403)).client("replica").name("import");
    stub.fail(refused.matching(is_deletion))
}

#[test]
fn c9_4_two_leaders_at_once_lose_no_job() {
    for seed in 0..5 {
        in_paused_time(async {
            let stub = server(230 + seed);
            stub.set_latency(Duration::from_millis(1), Duration::from_millis(300));
            put_jobs(&stub, "shop", 12);
            let _replicas = [Replica::start(&stub, options("one")), Replica::start(&stub, options("other"))];
            sleep(Duration::from_secs(30)).await;
            let before = uids(&stub, "shop");
            paint(&stub, "shop", "blue");
            sleep(LATER).await;
            let after = uids(&stub, "shop");
            assert_eq!(
                after.keys().collect::<Vec<_>>(),
                before.keys().collect::<Vec<_>>(),
                "{}",
                stub.transcript()
            );
            assert!(after.iter().all(|(name, uid)| before[name] != *uid), "{before:?} {after:?}");
        });
    }
}

#[test]
fn c9_4_a_deletion_that_was_refused_leaves_the_job_to_its_owner() {
    in_paused_time(async {
        let stub = server(240);
        job(&stub, "recreate");
        let _replica = start(&stub);
        sleep(SOON).await;
        let refused = refuse_deletion(&stub);
        paint(&stub, "shop", "blue");
        sleep(LATER).await;
        let told = notes(&stub).iter().filter(|note| note.starts_with("PatchRefused")).count();
        assert_eq!(told, 1, "{:?}", notes(&stub));
        stub.edit("jobs", "shop", "import", |job| job["metadata"]["finalizers"] = json!([]));
        assert!(stub.delete("jobs", "shop", "import"));
        stub.heal(refused);
        sleep(LATER).await;
        assert!(import(&stub).is_none() && stand_ins(&stub).is_empty(), "{}", stub.transcript());
    });
}

#[test]
fn c9_4_a_job_that_ended_and_went_while_nobody_watched_is_not_run_again() {
    in_paused_time(async {
        let stub = server(241);
        job(&stub, "recreate");
        let replica = start(&stub);
        sleep(SOON).await;
        paint(&stub, "shop", "blue");
        while stand_ins(&stub).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        drop(replica);
        stub.edit("jobs", "shop", "import", |job| job["metadata"]["finalizers"] = json!([]));
        assert!(stub.delete("jobs", "shop", "import"));
        let _replica = Replica::start(&stub, options("other"));
        sleep(LATER).await;
        assert!(import(&stub).is_none() && stand_ins(&stub).is_empty(), "{}", stub.transcript());
    });
}

#[test]
fn c9_4_a_job_that_was_made_anew_and_went_is_not_made_once_more() {
    in_paused_time(async {
        let stub = server(242);
        job(&stub, "recreate");
        let _replica = start(&stub);
        sleep(SOON).await;
        let first = uid(&import(&stub).unwrap()).to_owned();
        paint(&stub, "shop", "blue");
        sleep(SOON).await;
        // The stand-in cannot be deleted, and the Job is soon at its end.
        let refused = FaultRule::new(Fault::Status(403)).client("replica");
        stub.fail(refused.matching(is_deletion));
        end_deletion(&stub);
        sleep(SOON).await;
        assert_ne!(uid(&import(&stub).unwrap()), first, "{}", stub.transcript());
        stub.edit("jobs", "shop", "import", |job| job["metadata"]["finalizers"] = json!([]));
        assert!(stub.delete("jobs", "shop", "import"));
        sleep(LATER).await;
        assert!(import(&stub).is_none(), "{}", stub.transcript());
    });
}

#[test]
fn c9_4_what_is_edited_after_the_stand_in_was_made_is_in_the_job_that_is_made_anew() {
    in_paused_time(async {
        let stub = server(243);
        job(&stub, "recreate");
        let _replica = start(&stub);
        sleep(SOON).await;
        let refused = refuse_deletion(&stub);
        paint(&stub, "shop", "blue");
        sleep(SOON).await;
        assert_eq!(stand_ins(&stub).len(), 1);
        stub.edit("jobs", "shop", "import", |job| {
            job["metadata"]["labels"] = json!({"mine": "1"});
            job["spec"]["parallelism"] = json!(3);
        });
        stub.heal(refused);
        until_made_anew(&stub, "edited").await;
        let made = import(&stub).unwrap();
        assert_eq!(
            (&made["metadata"]["labels"], &made["spec"]["parallelism"]),
            (&json!({"mine": "1"}), &json!(3))
        );
    });
}

#[test]
fn c9_4_a_job_that_is_edited_once_it_is_to_be_deleted_is_made_anew_as_it_is_then() {
    in_paused_time(async {
        let stub = server(248);
        job(&stub, "recreate");
        let _replica = start(&stub);
        sleep(SOON).await;
        // The deletion comes so late that the owner is quicker.
        let late =
            FaultRule::new(Fault::Delayed(Duration::from_secs(5))).client("replica").name("import").skip(1);
        let late = stub.fail(late.times(1).matching(is_deletion));
        paint(&stub, "shop", "blue");
        while stub.hits(late) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(stand_ins(&stub).len(), 1);
        stub.edit("jobs", "shop", "import", |job| job["spec"]["parallelism"] = json!(3));
        until_made_anew(&stub, "edited").await;
        assert_eq!(import(&stub).unwrap()["spec"]["parallelism"], json!(3));
    });
}

#[test]
fn c9_4_a_stand_in_that_is_foreign_for_now_goes_on_with_its_key() {
    in_paused_time(async {
        let stub = server(249);
        job(&stub, "recreate");
        let replica = start(&stub);
        sleep(SOON).await;
        let first = uid(&import(&stub).unwrap()).to_owned();
        paint(&stub, "shop", "blue");
        sleep(SOON).await;
        drop(replica);
        // The key is lost for a while, and another one is made.
        let key = stub.get("secrets", "pod-reloader", "pod-reloader-key").unwrap();
        stub.delete("secrets", "pod-reloader", "pod-reloader-key");
        let replica = Replica::start(&stub, options("other"));
        sleep(SOON).await;
        end_deletion(&stub);
        sleep(LATER).await;
        assert!(import(&stub).is_none() && stand_ins(&stub).len() == 1, "{}", stub.transcript());
        drop(replica);
        stub.put((*key).clone());
        let _replica = Replica::start(&stub, options("third"));
        sleep(LATER).await;
        assert!(import(&stub).is_some_and(|job| uid(&job) != first), "{}", stub.transcript());
        assert!(stand_ins(&stub).is_empty());
    });
}

#[test]
fn c9_4_a_job_whose_stand_in_somebody_deletes_is_made_anew_all_the_same() {
    in_paused_time(async {
        let stub = server(244);
        job(&stub, "recreate");
        let _replica = start(&stub);
        sleep(SOON).await;
        let refused = refuse_deletion(&stub);
        paint(&stub, "shop", "blue");
        sleep(SOON).await;
        let name = stand_ins(&stub)[0]["metadata"]["name"].as_str().unwrap().to_owned();
        stub.heal(refused);
        assert!(stub.delete("jobs", "shop", &name));
        until_made_anew(&stub, "its stand-in is gone").await;
    });
}

#[test]
fn c1_6_c9_4_a_job_that_is_deselected_under_its_deletion_is_not_lost() {
    in_paused_time(async {
        let stub = server(245);
        job(&stub, "recreate");
        stub.edit("jobs", "shop", "import", |job| job["metadata"]["labels"] = json!({"team": "shop"}));
        let mut options = options("replica");
        options.scope.object_selector = Selector::parse("team=shop").unwrap();
        let _replica = Replica::start(&stub, options);
        sleep(SOON).await;
        let first = uid(&import(&stub).unwrap()).to_owned();
        paint(&stub, "shop", "blue");
        sleep(SOON).await;
        stub.edit("jobs", "shop", "import", |job| job["metadata"]["labels"] = json!({"team": "other"}));
        sleep(SOON).await;
        end_deletion(&stub);
        sleep(LATER).await;
        assert!(import(&stub).is_some_and(|job| uid(&job) != first), "{}", stub.transcript());
    });
}

#[test]
fn c5_6_c9_4_a_namespace_whose_webhooks_hang_holds_up_no_other() {
    in_paused_time(async {
        let stub = server(246);
        put_jobs(&stub, "slow", 30);
        put_jobs(&stub, "shop", 3);
        let _replica = start(&stub);
        sleep(SOON).await;
        let hangs = FaultRule::new(Fault::HangBeforeHeaders).namespace("slow").resource("jobs");
        stub.fail(hangs.matching(|request| request.method == Method::POST && request.is_dry_run()));
        let before = uids(&stub, "shop");
        paint(&stub, "slow", "blue");
        sleep(SOON).await;
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(10)).await;
        let after = uids(&stub, "shop");
        assert!(
            after.len() == 3 && after.iter().all(|(name, uid)| before[name] != *uid),
            "{}",
            stub.transcript()
        );
    });
}

#[test]
fn c9_4_what_is_recorded_of_one_job_says_nothing_of_its_copy() {
    in_paused_time(async {
        let stub = server(247);
        job(&stub, "recreate");
        let _replica = start(&stub);
        sleep(SOON).await;
        let mut copy: Value = (*import(&stub).unwrap()).clone();
        stub.edit("jobs", "shop", "import", |job| job["metadata"]["annotations"][ON_CHANGE] = json!("none"));
        paint(&stub, "shop", "blue");
        sleep(SOON).await;
        for member in ["uid", "resourceVersion", "creationTimestamp"] {
            copy["metadata"].as_object_mut().unwrap().remove(member);
        }
        copy["metadata"]["name"] = json!("copy");
        let old = copy["metadata"]["annotations"][OBSERVED_CONFIG].clone();
        let before = uid(&stub.put(copy)).to_owned();
        sleep(LATER).await;
        let now = stub.get("jobs", "shop", "copy").unwrap();
        assert!(
            uid(&now) == before && now["metadata"]["deletionTimestamp"].is_null(),
            "{}",
            stub.transcript()
        );
        assert_ne!(now["metadata"]["annotations"][OBSERVED_CONFIG], old, "recorded anew");
        assert!(stand_ins(&stub).is_empty());
    });
}
