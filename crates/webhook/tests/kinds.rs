//! 1.1, 9.1: reviews of every kind of workload are answered alike.

mod support;

use pod_reloader_core::kind::{KindRef, Kinds, PRESETS, Shape, argo};
use serde_json::{Value, json};
use support::{HASH, Webhook, deployment, reading, review};

/// All kinds that have a template, and one that has not.
fn all() -> Kinds {
    let presets = PRESETS.iter().map(|preset| preset.name);
    let own = [
        "example.com/v1/servers:Server=spec.pods.template",
        "example.com/v1/gadgets=annotations:spec.extra.pods",
    ];
    let wanted: Vec<_> = presets.chain(own).map(|text| text.parse().expect("a kind")).collect();
    Kinds::with(&wanted).expect("kinds")
}

fn templated() -> Vec<KindRef> {
    all().iter().filter(|kind| kind.shape == Shape::PodTemplate).collect()
}

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
    for kind in templated() {
        let webhook = Webhook::of_kinds(&all());
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
    let webhook = Webhook::of_kinds(&all());
    for kind in templated() {
        for (field, value) in [("group", "example.org"), ("version", "v0"), ("kind", "Unknown")] {
            let mut review = review_of(kind, "CREATE", &workload(kind), None);
            review["request"]["kind"][field] = json!(value);
            let answer = webhook.review(&review).await;
            assert!(!answer.is_patched, "{kind:?} with {field} {value}");
            assert!(answer.warnings[0].contains("a kind it does not know"), "{:?}", answer.warnings);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c9_1_a_kind_that_was_not_asked_for_is_left_alone() {
    let webhook = Webhook::new();
    for kind in PRESETS.iter().flat_map(|preset| preset.kinds) {
        let answer = webhook.review(&review_of(*kind, "CREATE", &workload(*kind), None)).await;
        assert!(!answer.is_patched, "{kind:?}");
        assert!(answer.warnings[0].contains("a kind it does not know"), "{:?}", answer.warnings);
    }
}

#[tokio::test(start_paused = true)]
async fn c9_1_a_kind_with_a_map_alone_gets_a_hash_keeps_it_and_gets_another_one_with_another_spec() {
    let kinds = all();
    let entry = kinds.entries().last().unwrap();
    let webhook = Webhook::of_kinds(&kinds);
    webhook.stub.put("configmaps/a", "1");
    let bare = |size: i32| {
        let mut object = deployment("a", &json!([]));
        object["apiVersion"] = json!("example.com/v1");
        object["kind"] = json!("Gadget");
        object["spec"] = json!({"size": size});
        object
    };
    let review_of = |operation: &str, object: &Value, old: Option<&Value>| {
        let mut review = review(operation, object, old);
        review["request"]["kind"] = json!({"group": "example.com", "version": "v1", "kind": "Gadget"});
        review
    };
    // Its name is not known yet.
    let answer = webhook.review(&review_of("CREATE", &bare(1), None)).await;
    assert!(!answer.is_patched);

    let kind = entry.name("Gadget");
    let hash = |object: &Value| {
        let annotations = object.pointer(kind.annotations_pointer().as_str())?;
        annotations[HASH].as_str().map(str::to_owned)
    };
    let created = webhook.review(&review_of("CREATE", &bare(1), None)).await;
    let first = hash(&created.object);
    assert_eq!(first.as_deref().map(str::len), Some(64), "{}", created.object);

    // An owner that writes its bare object over and over.
    webhook.stub.put("configmaps/a", "2");
    for _ in 0..3 {
        let synced = webhook.review(&review_of("UPDATE", &bare(1), Some(&created.object))).await;
        assert_eq!((hash(&synced.object), &synced.warnings), (first.clone(), &vec![]));
    }
    let rolled_out = webhook.review(&review_of("UPDATE", &bare(2), Some(&created.object))).await;
    assert_ne!(hash(&rolled_out.object), first);
}

#[tokio::test(start_paused = true)]
async fn c9_2_one_whose_template_is_in_another_object_is_left_alone_with_a_hint() {
    let webhook = Webhook::of_kinds(&all());
    webhook.stub.put("configmaps/a", "1");
    let mut object = workload(argo::ROLLOUT);
    object["spec"] = json!({"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}});
    let mut without = object.clone();
    without["spec"] = json!({"replicas": 1});
    for (object, expected) in [
        (
            &object,
            "pod-reloader: annotate the workload that spec.workloadRef names, which has the pod template; \
                   it is left alone",
        ),
        (&without, "pod-reloader: it has no pod template (spec.template); it is left alone"),
    ] {
        for (operation, old) in [("CREATE", None), ("UPDATE", Some(object))] {
            let answer = webhook.review(&review_of(argo::ROLLOUT, operation, object, old)).await;
            assert!(!answer.is_patched, "{operation} {object}");
            assert_eq!(answer.warnings, [expected], "{operation} {object}");
        }
    }
    object["metadata"]["labels"] = json!({"pod-reloader.cs.sap.com/ignored": "true"});
    let answer = webhook.review(&review_of(argo::ROLLOUT, "CREATE", &object, None)).await;
    assert_eq!((answer.is_patched, answer.warnings.len()), (false, 0));
}
