//! The admission review under faults of its reads (4.2): answered in time, and with a hash if a second attempt goes well.

use std::time::Duration;

use pod_reloader_core::digest::DigestKey;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_stub_api::{Admission, Fault, FaultRule, RequestKind, StubApi, objects};
use serde_json::Value;

use crate::support::webhook::{Admitted, Webhook};
use crate::support::{in_paused_time, server};

/// `?timeout=10s`, less the margin for the way back.
const DEADLINE: Duration = Duration::from_millis(9_500);
/// A first attempt is given up after 1.5 s; backoff and the second come on top.
const SECOND_ATTEMPT: Duration = Duration::from_secs(4);

/// How many references the reviews have, and which read that takes.
const READS: [(RequestKind, usize); 4] = [
    (RequestKind::GetContent, 3),
    (RequestKind::GetMetadata, 1),
    (RequestKind::List, 3),
    (RequestKind::List, 40),
];

fn listing(references: usize, image: &str) -> Value {
    let names: Vec<_> = (0..references).map(|i| format!("c{i}")).collect();
    let mut web = objects::with_env_from(
        objects::listing("shop", "web", &names.join(","), ""),
        "ConfigMap",
        "c0",
        false,
    );
    web["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
    web
}

fn admission(old: Option<Value>, new: Value) -> Admission {
    Admission {
        resource: "deployments",
        old,
        new,
        user: "user:ann".into(),
        manager: "kubectl".into(),
        is_dry_run: false,
    }
}

/// A webhook that has seen these references, as far as that read needs it.
async fn webhook(stub: &StubApi, kind: RequestKind, references: usize) -> Webhook {
    for i in 0..references {
        stub.put(objects::config_map("shop", &format!("c{i}"), &[("key", "value")]));
    }
    let key = KeyReader::fixed(DigestKey::new("test", &[7; DigestKey::LEN]).unwrap());
    let webhook = Webhook::new(stub, "webhook", key);
    if kind != RequestKind::GetContent {
        let seen = webhook.admit(&admission(None, listing(references, "app:1"))).await;
        assert!(seen.hash().is_some());
    }
    webhook
}

/// Has the webhook find out that a list answers sooner than single reads of a handful.
async fn find_lists_quicker(stub: &StubApi, webhook: &Webhook, references: usize) {
    let lists = || stub.count_kind(RequestKind::List);
    let singles = || stub.count_kind(RequestKind::GetMetadata);
    for _ in 0..50 {
        let before = (lists(), singles());
        webhook.admit(&admission(None, listing(references, "app:1"))).await;
        if lists() > before.0 && singles() == before.1 {
            return;
        }
        // What was found out is measured again after a while.
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    panic!("no list was quicker:\n{}", stub.transcript());
}

fn faults(kind: RequestKind) -> impl Iterator<Item = Fault> {
    Fault::ALL.into_iter().filter(move |fault| fault.concerns(kind))
}

/// A CREATE and an UPDATE of the template, each with the fault so often.
async fn reviews(
    kind: RequestKind,
    references: usize,
    fault: Fault,
    times: Option<u64>,
) -> (Admitted, Admitted) {
    let stub = server(1);
    let webhook = webhook(&stub, kind, references).await;
    let old = webhook.admit(&admission(None, listing(references, "app:1"))).await.object;
    let mut answers = vec![];
    for old in [None, Some(old)] {
        if kind == RequestKind::GetContent {
            // What is remembered needs no content.
            for i in 0..references {
                let text = format!("{i} for the {}", if old.is_some() { "update" } else { "creation" });
                stub.put(objects::config_map("shop", &format!("c{i}"), &[("key", &text)]));
            }
        }
        if kind == RequestKind::List {
            find_lists_quicker(&stub, &webhook, references).await;
        }
        let rule = FaultRule::new(fault).kind(kind).client("webhook");
        let rule = stub.fail(if let Some(times) = times { rule.times(times) } else { rule });
        let mut new = listing(references, "app:2");
        if let Some(old) = &old {
            new["metadata"]["annotations"] = old["metadata"]["annotations"].clone();
            let annotations = &old["spec"]["template"]["metadata"]["annotations"];
            new["spec"]["template"]["metadata"]["annotations"] = annotations.clone();
        }
        answers.push(webhook.admit(&admission(old, new)).await);
        assert!(stub.hits(rule) > 0, "{fault:?} of {kind:?} never struck:\n{}", stub.transcript());
        stub.heal(rule);
        assert!(webhook.budget.peak() <= webhook.budget.total());
    }
    let update = answers.pop().unwrap();
    (answers.pop().unwrap(), update)
}

#[test]
fn c4_2_a_review_gets_its_hash_although_the_first_read_has_whatever_fault() {
    let mut broken = vec![];
    for (kind, references) in READS {
        for fault in faults(kind) {
            let (create, update) = in_paused_time(reviews(kind, references, fault, Some(1)));
            for (what, answer) in [("CREATE", &create), ("UPDATE", &update)] {
                // What a list refuses is read one by one.
                let is_left_out = fault == Fault::Status(403) && kind != RequestKind::List;
                let is_told = !is_left_out || answer.warnings.is_array();
                if answer.hash().is_none() || answer.took > SECOND_ATTEMPT || !is_told {
                    broken.push(format!(
                        "{fault:?} of {kind:?}, {what}: {:?} {:?} {}",
                        answer.hash(),
                        answer.took,
                        answer.warnings
                    ));
                }
            }
            // Both references' content is other than before, and the update shows it.
            if kind == RequestKind::GetContent
                && fault != Fault::Status(403)
                && create.hash() == update.hash()
            {
                broken.push(format!("{fault:?} of {kind:?}: the update keeps an old hash"));
            }
        }
    }
    assert!(broken.is_empty(), "{} reviews:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn c4_2_a_review_is_answered_in_time_whatever_fault_its_reads_have_for_ever() {
    let mut broken = vec![];
    for (kind, references) in READS {
        for fault in faults(kind) {
            let (create, update) = in_paused_time(reviews(kind, references, fault, None));
            for (what, answer) in [("CREATE", &create), ("UPDATE", &update)] {
                // An update keeps the hash that the old object had; a creation may go through without.
                let has_hash = answer.hash().is_some() || what == "CREATE";
                let is_told = answer.hash().is_some() || answer.warnings.is_array();
                if answer.took > DEADLINE || !has_hash || !is_told {
                    broken.push(format!(
                        "{fault:?} of {kind:?}, {what}: {:?} {:?} {}",
                        answer.hash(),
                        answer.took,
                        answer.warnings
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{} reviews:\n{}", broken.len(), broken.join("\n"));
}

/// Eight CREATEs in a row (4.2).
#[test]
fn c4_2_after_connections_hang_the_first_review_takes_seconds_and_the_others_nothing() {
    in_paused_time(async {
        let stub = server(1);
        let webhook = webhook(&stub, RequestKind::List, 3).await;
        stub.hang_open_connections();
        for i in 0..8 {
            let answer = webhook.admit(&admission(None, listing(3, "app:1"))).await;
            let limit = if i == 0 { SECOND_ATTEMPT } else { Duration::from_millis(200) };
            assert!(answer.hash().is_some() && answer.took <= limit, "{i}: {answer:?}");
        }
    });
}
