//! 1.1: reviews of every kind of workload are answered alike.

mod support;

use pod_reloader_core::kind::{BUILT_IN, KindRef};
use serde_json::{Value, json};
use support::{HASH, Webhook, deployment, reading, review};

/// The pod template, which is where the kind says.
fn template(kind: KindRef, object: &mut Value) -> &mut Value {
    kind.template.iter().fold(object, |parent, member| &mut parent[*member])
}

fn workload(kind: KindRef) -> Value {
    let mut object = deployment("a", &json!([]));
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    object["spec"] = json!({});
    *template(kind, &mut object) = json!({"spec": {"containers": reading(&["a"])}});
    object
}

fn review_of(kind: KindRef, operation: &str, object: &Value, old: Option<&Value>) -> Value {
    let mut review = review(operation, object, old);
    review["request"]["kind"] = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    review
}

fn hash(kind: KindRef, object: &Value) -> Option<String> {
    let annotations = object.pointer(kind.template_pointer(&["metadata", "annotations"]).as_str())?;
    annotations[HASH].as_str().map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn c1_1_every_kind_gets_a_hash_keeps_it_and_gets_another_one_with_another_template() {
    for kind in BUILT_IN {
        let webhook = Webhook::new();
        webhook.stub.put("configmaps/a", "1");
        let created = webhook.review(&review_of(kind, "CREATE", &workload(kind), None)).await;
        let first = hash(kind, &created.object);
        assert_eq!(first.as_deref().map(str::len), Some(64), "{kind:?}");

        webhook.stub.put("configmaps/a", "2");
        let synced = review_of(kind, "UPDATE", &workload(kind), Some(&created.object));
        let synced = webhook.review(&synced).await;
        assert_eq!((hash(kind, &synced.object), &synced.warnings), (first.clone(), &vec![]), "{kind:?}");

        let mut object = workload(kind);
        template(kind, &mut object)["spec"]["containers"][0]["image"] = json!("app:2");
        let rolled_out = review_of(kind, "UPDATE", &object, Some(&created.object));
        let rolled_out = webhook.review(&rolled_out).await;
        assert_ne!(hash(kind, &rolled_out.object), first, "{kind:?}");
        assert_eq!(rolled_out.warnings, [""; 0], "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c1_1_a_kind_of_another_group_or_version_is_left_alone() {
    let webhook = Webhook::new();
    for kind in BUILT_IN {
        for (field, value) in [("group", "example.com"), ("version", "v0"), ("kind", "Unknown")] {
            let mut review = review_of(kind, "CREATE", &workload(kind), None);
            review["request"]["kind"][field] = json!(value);
            let answer = webhook.review(&review).await;
            assert!(!answer.is_patched, "{kind:?} with {field} {value}");
            assert!(answer.warnings[0].contains("a kind it does not know"), "{:?}", answer.warnings);
        }
    }
}
