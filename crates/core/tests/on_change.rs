//! 9.4, 9.5: what workloads of each kind ask for.

use pod_reloader_core::action::{NONE, RECREATE, RESTART_AT, ROLLOUT, START_JOB};
use pod_reloader_core::annotation::ON_CHANGE;
use pod_reloader_core::kind::{BUILT_IN, KindRef, argo, batch};
use pod_reloader_core::workload::{Idle, Workload};
use serde_json::{Value, json};

fn read(kind: KindRef, metadata: &Value, status: &Value) -> Workload {
    let json = json!({"metadata": metadata, "status": status,
        "spec": {"template": {"spec": {}}, "jobTemplate": {"spec": {"template": {"spec": {}}}}}});
    Workload::read(kind, &json.to_string()).expect("a workload").placed_in("shop")
}

#[test]
fn c9_4_cron_jobs_and_jobs_are_left_alone_unless_they_ask_and_have_something_left_to_do() {
    let listed = |on_change: Option<&str>| {
        let mut annotations = json!({"pod-reloader.cs.sap.com/configmaps": "settings"});
        if let Some(value) = on_change {
            annotations[ON_CHANGE] = json!(value);
        }
        json!({"annotations": annotations})
    };
    let decided = |condition: &str| json!({"conditions": [{"type": condition, "status": "True"}]});
    let ended = decided("Complete");
    let controlled = |mut metadata: Value| {
        metadata["ownerReferences"] = json!([{"kind": "CronJob"}, {"kind": "CronJob", "controller": true}]);
        metadata
    };
    let owned = |mut metadata: Value| {
        metadata["ownerReferences"] = json!([{"kind": "App", "controller": false}, {"kind": "App"}]);
        metadata
    };
    let running = json!({"active": 1, "conditions": [{"type": "Complete", "status": "False"}]});
    for (kind, metadata, status, idle, action) in [
        (batch::CRON_JOB, listed(None), &running, Some(Idle::Unasked), None),
        (batch::CRON_JOB, listed(Some("start-job")), &running, None, Some(START_JOB)),
        (batch::CRON_JOB, listed(Some(" start-job\n")), &running, None, Some(START_JOB)),
        (batch::CRON_JOB, controlled(listed(Some("start-job"))), &running, None, Some(START_JOB)),
        (batch::CRON_JOB, listed(Some("recreate")), &running, None, Some(NONE)),
        (batch::CRON_JOB, listed(Some("")), &running, None, Some(NONE)),
        (batch::JOB, listed(None), &running, Some(Idle::Unasked), None),
        (batch::JOB, listed(Some("recreate")), &running, None, Some(RECREATE)),
        (batch::JOB, owned(listed(Some("recreate"))), &running, None, Some(RECREATE)),
        (batch::JOB, listed(Some("recreate")), &ended, Some(Idle::Finished), None),
        (batch::JOB, listed(Some("recreate")), &decided("FailureTarget"), Some(Idle::Finished), None),
        (batch::JOB, listed(Some("recreate")), &decided("SuccessCriteriaMet"), Some(Idle::Finished), None),
        (batch::JOB, listed(Some("recreate")), &decided("Suspended"), None, Some(RECREATE)),
        (batch::JOB, controlled(listed(Some("recreate"))), &running, Some(Idle::Controlled), None),
        (batch::JOB, listed(Some("start-job")), &running, None, Some(NONE)),
        (BUILT_IN[0], listed(Some("none")), &running, None, Some(NONE)),
        (BUILT_IN[0], listed(Some("restart-at")), &ended, None, Some(ROLLOUT)),
        (BUILT_IN[0], controlled(listed(None)), &running, None, Some(ROLLOUT)),
        (argo::ROLLOUT, listed(Some("restart-at")), &running, None, Some(RESTART_AT)),
    ] {
        let workload = read(kind, &metadata, status);
        assert_eq!((workload.idle, workload.is_managed()), (idle, idle.is_none()), "{kind:?} {metadata}");
        if let Some(action) = action {
            assert_eq!(workload.action, action, "{kind:?} {metadata}");
        }
        let value = metadata["annotations"][ON_CHANGE].as_str();
        let is_wrong = value.is_some_and(|value| kind.actions.named(value.trim()).is_none());
        assert_eq!(workload.mistakes.len(), usize::from(is_wrong), "{kind:?} {metadata}");
    }
}

#[test]
fn c9_5_what_on_change_cannot_be_is_said_with_what_it_can() {
    let told = |kind, value: &str| {
        let metadata = json!({"annotations": {ON_CHANGE: value}});
        read(kind, &metadata, &json!({})).mistakes[0].to_string()
    };
    assert_eq!(
        told(batch::CRON_JOB, "recreate"),
        "on-change is \"recreate\": on a CronJob it can be \"start-job\" or \"none\", and is taken for \"none\""
    );
    assert_eq!(
        told(BUILT_IN[0], "restart"),
        "on-change is \"restart\": on a Deployment it can be \"rollout\" or \"none\", and is ignored"
    );
}
