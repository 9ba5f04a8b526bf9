//! Reviews in, patches out, over a stub of the API server (section 4).

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{HASH, OBSERVED, OWN_USER, Webhook, deployment, reading, review};
use tokio::time::Instant;

/// A webhook and the object that a CREATE left.
async fn created(configmaps: &str, containers: &Value) -> (Webhook, Value) {
    let webhook = Webhook::new();
    for name in configmaps.split(',') {
        webhook.stub.put(&format!("configmaps/{name}"), "1");
    }
    let admitted = webhook.review(&review("CREATE", &deployment(configmaps, containers), None)).await;
    assert_eq!(admitted.hash().map(str::len), Some(64));
    webhook.stub.take_requests();
    (webhook, admitted.object)
}

fn with_image(object: &Value, image: &str) -> Value {
    let mut object = object.clone();
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    object
}

#[tokio::test(start_paused = true)]
async fn c4_3_a_create_gets_the_hash_of_what_is_there() {
    let webhook = Webhook::new();
    for name in ["a", "b", "c"] {
        webhook.stub.put(&format!("configmaps/{name}"), name);
    }
    let object = deployment("a, b,c", &reading(&["a"]));
    let admitted = webhook.review(&review("CREATE", &object, None)).await;
    assert_eq!((admitted.uid.as_str(), admitted.hash().map(str::len)), ("u-1", Some(64)));
    assert_eq!(admitted.warnings, [""; 0]);
    let mut requests = webhook.stub.take_requests();
    requests.sort();
    assert_eq!(requests, ["content configmaps/a", "content configmaps/b", "content configmaps/c"]);
    // What is remembered needs no content.
    let again = webhook.review(&review("CREATE", &object, None)).await;
    assert_eq!(again.hash(), admitted.hash());
    assert!(webhook.stub.take_requests().iter().all(|request| request.starts_with("metadata")));
    assert_eq!(webhook.budget.reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn c4_3_own_patches_pass_and_other_updates_are_restored_without_a_read() {
    let (webhook, old) = created("a", &reading(&["a"])).await;
    let mut own = old.clone();
    own["spec"]["template"]["metadata"]["annotations"][HASH] = json!("another");
    let mut request = review("UPDATE", &own, Some(&old));
    request["request"]["userInfo"]["username"] = json!(OWN_USER);
    request["request"]["options"]["fieldManager"] = json!("pod-reloader");
    assert!(!webhook.review(&request).await.is_patched);

    // The same from another user, and a sync that drops all that it does not know.
    let restored = webhook.review(&review("UPDATE", &own, Some(&old))).await;
    assert_eq!(restored.object, old);
    let mut bare = deployment("a", &reading(&["a"]));
    bare["metadata"]["labels"] = json!({"new": "label"});
    let restored = webhook.review(&review("UPDATE", &bare, Some(&old))).await;
    assert_eq!(restored.object["spec"], old["spec"]);
    assert_eq!(restored.object["metadata"]["annotations"], old["metadata"]["annotations"]);
    assert_eq!(webhook.stub.take_requests(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn c4_2_a_reference_that_cannot_be_read_in_time_leaves_the_update_as_it_was() {
    let (webhook, old) = created("a,b", &reading(&["a"])).await;
    webhook.stub.fail("configmaps/b", 500);
    let begin = Instant::now();
    let new = with_image(&old, "app:2");
    let admitted = webhook.review(&review("UPDATE", &new, Some(&old))).await;
    assert_eq!(admitted.object, new);
    assert_eq!(
        admitted.warnings,
        [
            "pod-reloader: 1 reference(s) could not be read (configmap b: server error 500); the config hash is left \
          to the reconciler"
        ]
    );
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(webhook.stub.take_requests().len() > 5, "it is tried again until the deadline");
}

#[tokio::test(start_paused = true)]
async fn c4_2_a_reference_that_must_not_be_read_does_not_hold_up_the_others() {
    let webhook = Webhook::new();
    webhook.stub.put("configmaps/a", "1");
    webhook.stub.fail("configmaps/b", 403);
    let begin = Instant::now();
    let admitted = webhook.review(&review("CREATE", &deployment("a,b", &reading(&["a"])), None)).await;
    assert_eq!(admitted.hash().map(str::len), Some(64));
    assert_eq!(
        admitted.warnings,
        ["pod-reloader: 1 reference(s) cannot be read and are not followed (configmap b: forbidden)"]
    );
    assert!(begin.elapsed() < Duration::from_secs(1), "it is asked for once");
}

#[tokio::test(start_paused = true)]
async fn c4_2_a_first_read_that_is_never_answered_costs_seconds_and_not_the_hash() {
    let webhook = Webhook::new();
    for name in ["a", "b", "c"] {
        webhook.stub.put(&format!("configmaps/{name}"), name);
    }
    webhook.stub.hang_first();
    let begin = Instant::now();
    let admitted = webhook.review(&review("CREATE", &deployment("a,b,c", &reading(&["a"])), None)).await;
    assert_eq!(admitted.hash().map(str::len), Some(64));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn c4_2_a_create_with_a_thousand_references_gets_its_hash_in_one_revision() {
    let names: Vec<_> = (0..1000).map(|i| format!("c{i}")).collect();
    let (webhook, old) = created(&names.join(","), &reading(&["c1"])).await;
    // One list answers what a thousand reads would, and content is read of what changed.
    webhook.stub.put("configmaps/c7", "2");
    let new = with_image(&old, "app:2");
    let admitted = webhook.review(&review("UPDATE", &new, Some(&old))).await;
    assert_ne!(admitted.hash(), old["spec"]["template"]["metadata"]["annotations"][HASH].as_str());
    let requests = webhook.stub.take_requests();
    assert_eq!(requests, ["list configmaps &limit=500", "content configmaps/c7"]);
    assert!(webhook.budget.peak() <= webhook.budget.total());

    let more = deployment(&format!("{},one-more", names.join(",")), &reading(&[]));
    let admitted = webhook.review(&review("CREATE", &more, None)).await;
    assert_eq!(
        admitted.warnings,
        ["pod-reloader: only 1000 references count for one workload; entries left out: 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn c4_3_what_the_template_requires_beside_the_lists_is_asked_for_without_content() {
    // `gone` is listed and named nowhere; `needed` is required and not listed.
    let containers = reading(&["a", "needed"]);
    for (is_there, status) in [(true, None), (false, None), (true, Some(500))] {
        let (webhook, old) = created("a,gone", &containers).await;
        if is_there {
            webhook.stub.put("configmaps/needed", "1");
        }
        if let Some(status) = status {
            webhook.stub.fail("configmaps", status);
        }
        webhook.stub.fail("configmaps/gone", 404);
        let new = with_image(&old, "app:2");
        let admitted = webhook.review(&review("UPDATE", &new, Some(&old))).await;
        let before: Value =
            serde_json::from_str(old["metadata"]["annotations"][OBSERVED].as_str().unwrap()).unwrap();
        // Pods that wait for what is missing have not started without the other one yet.
        let is_kept = admitted.observed() == before;
        assert_eq!(is_kept, !is_there && status.is_none(), "{is_there} {status:?}: {}", admitted.observed());
        let requests = webhook.stub.take_requests();
        assert!(requests.iter().any(|request| request.contains("metadata.name%3Dneeded")), "{requests:?}");
        assert!(!requests.iter().any(|request| request.contains("/needed")), "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c4_2_names_that_are_likely_wrong_are_warned_of() {
    let webhook = Webhook::new();
    webhook.stub.put("configmaps/a", "1");
    let mut object = deployment("a,tpyo,optional,one\ntwo", &reading(&["a", "optional"]));
    object["spec"]["template"]["spec"]["containers"][0]["envFrom"][1]["configMapRef"]["optional"] =
        json!(true);
    let admitted = webhook.review(&review("CREATE", &object, None)).await;
    assert_eq!(admitted.warnings.len(), 2, "{:?}", admitted.warnings);
    assert!(admitted.warnings[0].contains("configmap tpyo does not exist"), "{:?}", admitted.warnings);
    assert!(admitted.warnings[1].contains("names are separated by commas"), "{:?}", admitted.warnings);
}

#[tokio::test(start_paused = true)]
async fn c4_3_a_required_key_that_is_missing_is_known_from_a_read_and_from_memory() {
    let webhook = Webhook::new();
    webhook.stub.put("configmaps/a", "1");
    let needing = |key: &str| {
        let source = json!({"configMapKeyRef": {"name": "a", "key": key}});
        json!([{"name": "main", "image": "app:1", "env": [{"name": "A", "valueFrom": source}]}])
    };
    let mut observed = vec![];
    for key in ["other", "other", "key"] {
        let admitted = webhook.review(&review("CREATE", &deployment("a", &needing(key)), None)).await;
        observed.push(admitted.observed());
    }
    assert_eq!(observed[0], observed[1], "the second is from memory");
    assert_ne!(observed[1], observed[2], "no pod can have started without its key");
}

#[tokio::test(start_paused = true)]
async fn c4_4_a_dry_run_gets_the_same_answer_and_nothing_is_written() {
    let (webhook, old) = created("a,b", &reading(&["a"])).await;
    webhook.stub.put("configmaps/a", "2");
    let mut relabelled = deployment("a,b", &reading(&["a"]));
    relabelled["metadata"]["labels"] = json!({"new": "label"});
    for asked in [
        review("CREATE", &deployment("a,b,Not_A_Name", &reading(&["a"])), None),
        review("UPDATE", &with_image(&old, "app:2"), Some(&old)),
        review("UPDATE", &relabelled, Some(&old)),
    ] {
        let mut dry = asked.clone();
        dry["request"]["dryRun"] = json!(true);
        let (dry, real) = (webhook.review(&dry).await, webhook.review(&asked).await);
        assert!(real.is_patched);
        assert_eq!((dry.object, dry.warnings), (real.object, real.warnings));
    }
    assert_eq!(webhook.stub.writes(), 0);
}
