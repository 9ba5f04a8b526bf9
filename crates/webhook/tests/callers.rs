//! Anybody who reaches the port may send reviews (4.10): what that shows, and what it takes.

mod support;

use std::time::Duration;

use axum::body::Body;
use http::StatusCode;
use serde_json::json;
use support::{Admitted, OWN_USER, Webhook, deployment, reading, review};
use tokio::time::Instant;

/// As many reviews at once as an attacker likes, about the very namespace that a user works in.
#[tokio::test(start_paused = true)]
async fn c4_10_one_callers_reads_leave_room_for_those_of_others() {
    let webhook = Webhook::new();
    webhook.stub.put("configmaps/good", "1");
    webhook.stub.slow_down(Duration::from_millis(100));
    let probed: Vec<_> = (0..8).map(|i| format!("probed{i}")).collect();
    let flood = review("CREATE", &deployment(&probed.join(","), &reading(&[])), None).to_string();
    let mut flooding = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (webhook, flood) = (webhook.clone(), flood.clone());
        flooding.spawn(async move { webhook.send_from([10, 0, 0, 66], flood).await });
    }
    tokio::time::sleep(Duration::from_millis(350)).await;

    let begin = Instant::now();
    let object = deployment("good", &reading(&["good"]));
    let (status, body) = webhook.send(review("CREATE", &object, None).to_string()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(Admitted::parse(&body, object).hash().map(str::len), Some(64));
    assert!(begin.elapsed() < Duration::from_millis(350), "{:?}", begin.elapsed());
    let asked = webhook.stub.take_requests().len();
    assert!(asked < 100, "{asked} requests for one caller in 700 ms");

    // Those that wait in vain are left to the reconciler, in time.
    while let Some(answer) = flooding.join_next().await {
        assert_eq!(answer.unwrap().0, StatusCode::OK);
    }
    assert!(begin.elapsed() < Duration::from_secs(10));
}

/// All users share the API server's address: a tenant whose workloads list very much does not keep the others waiting.
#[tokio::test(start_paused = true)]
async fn c4_10_namespaces_take_turns_within_one_callers_reads() {
    let webhook = Webhook::new();
    webhook.stub.put("configmaps/good", "1");
    webhook.stub.slow_down(Duration::from_millis(100));
    let listed: Vec<_> = (0..8).map(|i| format!("listed{i}")).collect();
    let mut many = review("CREATE", &deployment(&listed.join(","), &reading(&[])), None);
    many["request"]["namespace"] = json!("crowded");
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (webhook, many) = (webhook.clone(), many.to_string());
        crowd.spawn(async move { webhook.send(many).await });
    }
    tokio::time::sleep(Duration::from_millis(350)).await;
    let begin = Instant::now();
    let admitted = webhook.review(&review("CREATE", &deployment("good", &reading(&["good"])), None)).await;
    assert_eq!(admitted.hash().map(str::len), Some(64));
    assert!(begin.elapsed() < Duration::from_millis(650), "{:?}", begin.elapsed());
    crowd.abort_all();
}

/// What is asked for on behalf of a caller is in the namespace that the API server would name, and among the names on
/// the lists; what the objects say of themselves leads nowhere else.
#[tokio::test(start_paused = true)]
async fn c4_10_a_review_leads_to_nothing_outside_its_namespace() {
    let webhook = Webhook::new();
    webhook.stub.put("configmaps/good", "1");
    let mut object = deployment("good, ../../ops/secrets/x, ops/x, x%2f..%2f", &reading(&["good"]));
    object["metadata"]["namespace"] = json!("ops");
    let admitted = webhook.review(&review("CREATE", &object, None)).await;
    // The stub asserts the namespace.
    assert_eq!(webhook.stub.take_requests(), ["content configmaps/good"]);
    assert!(admitted.hash().is_some());
}

/// Made-up names cost the API server one request, and not one each.
#[tokio::test(start_paused = true)]
async fn c4_10_hundreds_of_names_of_which_none_exists_cause_one_request() {
    let webhook = Webhook::new();
    let names: Vec<_> = (0..500).map(|i| format!("n{i}")).collect();
    webhook.review(&review("CREATE", &deployment(&names.join(","), &reading(&[])), None)).await;
    assert_eq!(webhook.stub.take_requests().len(), 1);
}

/// No caller is believed to be us for more than leaving a write alone: the answer shows nothing.
#[tokio::test(start_paused = true)]
async fn c4_10_whoever_claims_to_be_the_operator_is_told_nothing() {
    let webhook = Webhook::new();
    webhook.stub.put("configmaps/good", "1");
    let object = deployment("good,missing", &reading(&["good"]));
    let mut forged = review("UPDATE", &object, Some(&deployment("good", &reading(&[]))));
    forged["request"]["userInfo"]["username"] = json!(OWN_USER);
    forged["request"]["options"]["fieldManager"] = json!("pod-reloader");
    let admitted = webhook.review(&forged).await;
    assert!(!admitted.is_patched && admitted.warnings.is_empty());
    assert!(webhook.stub.take_requests().is_empty());
}

/// Whatever the API server says about why something cannot be read, callers get a few fixed words: its own may name
/// rights and users.
#[tokio::test(start_paused = true)]
async fn c4_10_why_something_cannot_be_read_is_told_in_fixed_words() {
    for (code, words) in [(403, "forbidden"), (401, "unauthorized"), (410, "error 410")] {
        let webhook = Webhook::new();
        webhook.stub.fail("configmaps/a", code);
        let admitted = webhook.review(&review("CREATE", &deployment("a", &reading(&["a"])), None)).await;
        let warning = admitted.warnings.first().map_or("", String::as_str);
        assert!(warning.contains(words) && warning.len() < 120, "{warning}");
    }
}

/// Three kilobytes of a request are not to become many lines, nor long ones.
#[tokio::test(start_paused = true)]
async fn c4_10_long_lists_are_answered_in_few_words() {
    let webhook = Webhook::new();
    let names: Vec<_> = (0..500).map(|i| format!("n{i}")).collect();
    for name in &names {
        webhook.stub.fail(&format!("configmaps/{name}"), 403);
    }
    webhook.stub.fail("configmaps", 403);
    let object = deployment(&names.join(","), &reading(&[]));
    let (status, body) = webhook.send(Body::from(review("CREATE", &object, None).to_string())).await;
    assert_eq!(status, StatusCode::OK);
    assert!(Admitted::parse(&body, object).warnings.len() < 10 && body.len() < 100_000, "{}", body.len());
}
