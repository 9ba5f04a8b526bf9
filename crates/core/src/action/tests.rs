use serde_json::{Value, json};

use super::recreate::{Phase, Recreation, said_by};
use super::*;
use crate::annotation::{OBSERVED_CONFIG, ON_CHANGE, RECREATES, RECREATES_PHASE};
use crate::kind::{BUILT_IN, JOBS, PRESETS, batch};
use crate::workload::{Idle, Workload};

fn key(id: &str, bytes: u8) -> DigestKey {
    DigestKey::new(id, &[bytes; DigestKey::LEN]).unwrap()
}

fn plan(action: ActionRef, workload: &Value, before: &str, after: &str) -> Plan {
    let change = Change {
        key: &key("a", 1),
        now: "2026-11-27T20:00:01Z",
        before: Some(before),
        after: Some(after),
        why: "configmap/settings changed",
        keeps_labels: false,
    };
    action.plan(workload, &change)
}

fn cron_job() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "nightly", "namespace": "shop", "uid": "u-1", "labels": {"of": "the CronJob"}},
        "spec": {
            "schedule": "0 3 * * *", "concurrencyPolicy": "Allow", "suspend": false,
            "jobTemplate": {
                "metadata": {"labels": {"app": "report"}, "annotations": {"a": "b"}, "creationTimestamp": null},
                "spec": {"backoffLimit": 2, "future": {"field": [1]}, "template": {"spec": {"restartPolicy": "Never"}}},
            },
        },
    })
}

fn job() -> Value {
    let labels = json!({"app": "import", "job-name": "import", "controller-uid": "u-2",
        "batch.kubernetes.io/job-name": "import", "batch.kubernetes.io/controller-uid": "u-2"});
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": "import", "namespace": "shop", "uid": "u-2", "resourceVersion": "7", "generation": 1,
            "creationTimestamp": "2026-11-27T19:00:00Z", "managedFields": [{"manager": "kubectl"}],
            "labels": {"app": "import"},
            "annotations": {ON_CHANGE: "recreate", OBSERVED_CONFIG: "before"},
            "ownerReferences": [{"kind": "App", "name": "app", "uid": "u-3"}],
            "finalizers": ["foregroundDeletion", "example.com/wait"],
        },
        "spec": {
            "backoffLimit": 2, "suspend": false, "future": {"field": [1]},
            "activeDeadlineSeconds": 9, "ttlSecondsAfterFinished": 1, "parallelism": 2,
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u-2"}},
            "template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never"}},
        },
        "status": {"active": 1},
    })
}

/// What the API server makes of a Job that is created, as far as it matters here.
fn created(mut job: Value, uid: &str) -> Value {
    let name = job["metadata"]["name"].clone();
    job["metadata"]["uid"] = json!(uid);
    if job["spec"]["manualSelector"] != json!(true) {
        assert!(job["spec"].get("selector").is_none(), "the API server refuses one: {job}");
        job["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
        for (label, value) in [
            ("job-name", &name),
            ("controller-uid", &json!(uid)),
            ("batch.kubernetes.io/job-name", &name),
            ("batch.kubernetes.io/controller-uid", &json!(uid)),
        ] {
            let labels = &mut job["spec"]["template"]["metadata"]["labels"];
            assert!(labels.get(label).is_none_or(|it| it == value), "the API server refuses {label}: {job}");
            labels[label] = value.clone();
        }
    }
    job
}

#[test]
fn c9_5_each_action_has_a_name_of_its_own_and_kinds_name_theirs() {
    let all = [ROLLOUT, NONE, RESTART_AT, START_JOB, RECREATE];
    for (at, action) in all.iter().enumerate() {
        assert!(all[..at].iter().all(|other| other != action), "{action:?}");
    }
    let named =
        |kind: crate::kind::KindRef| kind.actions.asked.iter().map(|it| it.name()).collect::<Vec<_>>();
    assert_eq!(named(batch::CRON_JOB), ["start-job", "none"]);
    assert_eq!(named(batch::JOB), ["recreate", "none"]);
    let presets = PRESETS.iter().flat_map(|preset| preset.kinds.iter().copied());
    for kind in BUILT_IN.into_iter().chain(presets) {
        let expected = if kind.kind == "Rollout" {
            &["rollout", "restart-at", "none"][..]
        } else {
            &["rollout", "none"]
        };
        assert_eq!((named(kind), kind.actions.unasked), (expected.to_vec(), Some(ROLLOUT)), "{kind:?}");
        assert!(kind.is_reviewed());
    }
    for kind in JOBS {
        assert!(kind.actions.unasked.is_none() && !kind.is_reviewed(), "{kind:?}");
    }
}

#[test]
fn c9_4_a_job_is_started_as_kubectl_would_and_once_for_a_change() {
    let first = plan(START_JOB, &cron_job(), "before", "after");
    let job = first.job.clone().unwrap();
    let name = job["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("nightly-") && name.len() == "nightly-".len() + 10, "{name}");
    assert_eq!(first.done, format!("Job {name} is started"));
    assert!(first.restarts && first.patch == Some(json!({})));
    let expected = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": name, "namespace": "shop", "labels": {"app": "report"},
            "annotations": {"a": "b", "cronjob.kubernetes.io/instantiate": "manual"},
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "u-1", "controller": true}
            ],
        },
        "spec": cron_job()["spec"]["jobTemplate"]["spec"],
    });
    assert_eq!(job, expected);
    assert_eq!(plan(START_JOB, &cron_job(), "before", "after"), first, "the same change");
    let mut other = cron_job();
    other["metadata"]["uid"] = json!("u-9");
    for (workload, before, after) in [
        (cron_job(), "after", "before"),
        (cron_job(), "other", "after"),
        (cron_job(), "befor", "eafter"),
        (other, "before", "after"),
    ] {
        let other = plan(START_JOB, &workload, before, after).job.unwrap();
        assert_ne!(other["metadata"]["name"], job["metadata"]["name"]);
    }
}

#[test]
fn c9_4_names_of_jobs_stay_within_what_labels_can_hold() {
    for name in ["a".repeat(52), "a".repeat(63), format!("{}.b", "a".repeat(51)), "ä".repeat(60)] {
        let mut cron_job = cron_job();
        cron_job["metadata"]["name"] = json!(name);
        let job = plan(START_JOB, &cron_job, "before", "after").job.unwrap();
        let made = job["metadata"]["name"].as_str().unwrap();
        assert!(made.len() <= 63 && !made.contains(".-") && !made.contains("--"), "{made}");
    }
}

#[test]
fn c9_4_a_cron_job_that_is_suspended_starts_nothing_and_one_that_runs_alone_waits() {
    let mut suspended = cron_job();
    suspended["spec"]["suspend"] = json!(true);
    suspended["spec"]["concurrencyPolicy"] = json!("Forbid");
    let plan_of = |cron_job: &Value| plan(START_JOB, cron_job, "before", "after");
    let nothing = plan_of(&suspended);
    assert_eq!((nothing.job, nothing.restarts, nothing.patch), (None, false, Some(json!({}))));
    assert!(nothing.done.contains("suspended"), "{}", nothing.done);
    let alone = |policy: &str| {
        let mut cron_job = cron_job();
        cron_job["spec"]["concurrencyPolicy"] = json!(policy);
        plan_of(&cron_job).is_alone
    };
    assert_eq!(["Allow", "Forbid", "Replace"].map(alone), [false, true, true]);
}

#[test]
fn c9_4_a_stand_in_has_all_that_a_job_is_made_of_again() {
    let plan = plan(RECREATE, &job(), "before", "after");
    assert!(plan.restarts && plan.patch.is_none(), "the Job is about to go: nothing is recorded on it");
    let stand_in = plan.job.unwrap();
    assert_eq!((&stand_in["spec"]["suspend"], &stand_in["spec"]["parallelism"]), (&json!(true), &json!(0)));
    for member in ["activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        assert!(stand_in["spec"].get(member).is_none(), "it could end by {member}");
    }
    let metadata = stand_in["metadata"].as_object().unwrap();
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["annotations", "name", "namespace"], "as few as can be");
    let stand_in = created(stand_in, "u-4");
    let read = Workload::read(batch::JOB, &stand_in.to_string()).unwrap();
    assert_eq!(read.idle, Some(Idle::StandIn));

    let recreation = Recreation::of(&stand_in, &key("a", 1)).unwrap();
    assert_eq!((recreation.name.as_str(), recreation.uid.as_str()), ("import", "u-2"));
    assert_eq!((recreation.said.clone(), &*recreation.why), (said_by(&job()), "configmap/settings changed"));
    assert_eq!(Phase::of(&stand_in), Phase::Begun);
    let successor = recreation.successor(&stand_in);
    let mut expected = job();
    let metadata = expected["metadata"].as_object_mut().unwrap();
    for member in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"] {
        metadata.remove(member);
    }
    // What is recorded names the object that it is on.
    metadata["annotations"].as_object_mut().unwrap().remove(OBSERVED_CONFIG);
    metadata["finalizers"] = json!(["example.com/wait"]);
    expected["spec"]["template"]["metadata"]["labels"] = json!({"app": "import"});
    expected["spec"].as_object_mut().unwrap().remove("selector");
    expected.as_object_mut().unwrap().remove("status");
    assert_eq!(successor, expected);
    created(successor, "u-5");
}

#[test]
fn c9_4_a_selector_of_the_users_own_stays() {
    let mut job = job();
    job["spec"]["manualSelector"] = json!(true);
    job["spec"]["selector"] = json!({"matchLabels": {"job-name": "mine"}});
    job["spec"]["template"]["metadata"]["labels"] = json!({"job-name": "mine"});
    job["spec"].as_object_mut().unwrap().remove("suspend");
    let stand_in = plan(RECREATE, &job, "before", "after").job.unwrap();
    created(stand_in.clone(), "u-4");
    assert!(stand_in["spec"].get("selector").is_none(), "it would be the pods' of the Job");
    let mut stand_in = stand_in;
    stand_in["metadata"]["uid"] = json!("u-4");
    stand_in["spec"]["template"]["metadata"]["labels"]["controller-uid"] = json!("u-4");
    let successor = Recreation::of(&stand_in, &key("a", 1)).unwrap().successor(&stand_in);
    assert_eq!(successor["spec"], job["spec"]);
}

#[test]
fn c9_4_what_users_say_about_a_job_is_told_from_what_is_recorded_and_what_happens_to_it() {
    let said = said_by(&job());
    for (what, edit, is_same) in [
        ("recorded", json!({"metadata": {"annotations": {OBSERVED_CONFIG: "after"}}}), true),
        ("written", json!({"metadata": {"resourceVersion": "8", "managedFields": []}}), true),
        ("it runs", json!({"status": {"active": 2}}), true),
        (
            "being deleted",
            json!({"metadata": {"finalizers": ["foregroundDeletion", "example.com/wait", "orphan"]}}),
            true,
        ),
        ("parallelism", json!({"spec": {"parallelism": 3}}), false),
        ("suspended", json!({"spec": {"suspend": true}}), false),
        ("a label", json!({"metadata": {"labels": {"mine": "1"}}}), false),
        ("a word", json!({"metadata": {"annotations": {ON_CHANGE: "none"}}}), false),
    ] {
        let mut edited = job();
        json_patch::merge(&mut edited, &edit);
        assert_eq!(said_by(&edited) == said, is_same, "{what}");
        let name = |job: &Value| {
            let stand_in = plan(RECREATE, job, "before", "after").job.unwrap();
            stand_in["metadata"]["name"].clone()
        };
        assert_eq!(name(&edited), name(&job()), "{what}: there is one stand-in at a time");
    }
}

#[test]
fn c9_4_phases_are_read_as_they_are_written() {
    for (phase, written) in [
        (Phase::Begun, String::new()),
        (Phase::Deleting, Phase::deleting("7")),
        (Phase::Made, Phase::MADE.into()),
    ] {
        let stand_in = json!({"metadata": {"annotations": {RECREATES_PHASE: written}}});
        assert_eq!(Phase::of(&stand_in), phase);
    }
    assert_eq!(Phase::of(&json!({"metadata": {}})), Phase::Begun);
}

#[test]
fn c9_4_the_version_in_which_objects_are_seen_gives_no_other_name() {
    let observed = |witness: &str| {
        let digest = format!("AAAAAAAAAAAAAAAAAAAAAA{witness}");
        json!({"version": 2, "key": "k", "hash": "u-1", "followed": {"configmaps": {"settings": digest}}})
            .to_string()
    };
    let name = |before: &str, after: &str| {
        let job = plan(START_JOB, &cron_job(), before, after).job.unwrap();
        job["metadata"]["name"].clone()
    };
    let (one, other) = (observed("@AAAAAAAAAAA"), observed("@BAAAAAAAAAA"));
    assert_eq!(name("before", &one), name("before", &other));
    assert_ne!(name(&one, "after"), name(&other, "after"), "it was another change");
}

#[test]
fn c9_4_nobody_without_the_key_can_have_a_job_made_anew() {
    let stand_in = plan(RECREATE, &job(), "before", "after").job.unwrap();
    assert!(Recreation::of(&stand_in, &key("b", 2)).is_none(), "another key");
    assert!(Recreation::of(&stand_in, &key("b", 2).with_former([key("a", 1)])).is_some(), "a former one");
    let annotation = stand_in["metadata"]["annotations"][RECREATES].as_str().unwrap();
    for (what, forged) in [
        ("another Job", annotation.replace("\"import\"", "\"export\"")),
        ("another uid", annotation.replace("u-2", "u-7")),
        ("another owner", annotation.replace("u-3", "u-7")),
        ("another change", annotation.replace("settings changed", "settings is gone")),
        ("no signature", "{\"name\":\"import\",\"uid\":\"u-2\",\"metadata\":{},\"spec\":{}}".to_owned()),
        ("no JSON", "import".to_owned()),
    ] {
        assert_ne!(forged, annotation, "{what}");
        let mut forged_one = stand_in.clone();
        forged_one["metadata"]["annotations"][RECREATES] = json!(forged);
        assert!(Recreation::of(&forged_one, &key("a", 1)).is_none(), "{what}");
    }
    for (member, other) in [("namespace", "bank"), ("name", "another")] {
        let mut moved = stand_in.clone();
        moved["metadata"][member] = json!(other);
        assert!(Recreation::of(&moved, &key("a", 1)).is_none(), "{member}");
    }
}

#[test]
fn c1_6_a_stand_in_has_the_labels_where_workloads_are_selected_by_them() {
    let change = Change {
        key: &key("a", 1),
        now: "",
        before: None,
        after: Some("after"),
        why: "",
        keeps_labels: true,
    };
    let stand_in = RECREATE.plan(&job(), &change).job.unwrap();
    assert_eq!(stand_in["metadata"]["labels"], json!({"app": "import"}));
}

#[test]
fn c9_5_restart_at_is_set_along_with_the_record_and_none_sets_nothing() {
    let restart = plan(RESTART_AT, &json!({}), "before", "after");
    assert_eq!(restart.patch, Some(json!({"spec": {"restartAt": "2026-11-27T20:00:01Z"}})));
    assert!(restart.job.is_none() && restart.restarts);
    let none = plan(NONE, &json!({}), "before", "after");
    assert_eq!((none.job, none.patch, none.restarts), (None, Some(json!({})), false));
}
