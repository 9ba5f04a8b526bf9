//! 1.1, 9.1, 9.2: what is done for one kind of workload is done for all, and for those that may not be there while they
//! are.

use std::time::Duration;

use pod_reloader_core::annotation::CONFIG_HASH;
use pod_reloader_core::dialect::sap::CONFIGMAPS;
use pod_reloader_core::kind::{BUILT_IN, KindRef, Kinds, PRESETS, argo};
use pod_reloader_k8s::scope::Scope;
use pod_reloader_stub_api::objects::GADGET;
use pod_reloader_stub_api::{Fault, FaultRule, LogEntry, RequestKind, StubApi, objects};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::{in_paused_time, paint, revisions, server, shop};

fn put(stub: &StubApi, kind: KindRef) {
    stub.put(objects::workload(kind, "shop", "of-a-kind", &[(CONFIGMAPS, "settings")]));
}

/// By which the stub knows it from all others.
fn resource(kind: KindRef) -> String {
    format!("{}.{}", kind.plural, kind.group)
}

/// Those with these beside the built-in ones.
fn options(wanted: &[&str]) -> Options {
    let wanted: Vec<_> = wanted.iter().map(|text| text.parse().unwrap()).collect();
    let scope = Scope { kinds: Kinds::with(&wanted).unwrap(), ..Scope::default() };
    Options { scope, ..Options::new("replica") }
}

/// The hash that the workload's template carries.
fn hash(stub: &StubApi, kind: KindRef) -> Option<String> {
    let workload = stub.get(&resource(kind), "shop", "of-a-kind")?;
    let annotations = workload.pointer(kind.annotations_pointer().as_str())?;
    annotations[CONFIG_HASH].as_str().map(str::to_owned)
}

fn revisions_of(stub: &StubApi, kind: KindRef) -> usize {
    stub.revisions(&resource(kind), "shop", "of-a-kind")
}

#[test]
fn c1_1_c9_1_every_kind_is_watched_and_reloaded_once_for_each_change() {
    in_paused_time(async {
        let stub = server(101);
        shop(&stub, "shop", 0);
        let presets = PRESETS.iter().flat_map(|preset| preset.kinds.iter().copied());
        let kinds: Vec<_> = BUILT_IN.into_iter().chain(presets).chain([GADGET]).collect();
        for kind in &kinds {
            put(&stub, *kind);
        }
        // The name of one kind is to be found.
        let own = "example.com/v1/gadgets=annotations:spec.pods.annotations";
        let wanted: Vec<_> = PRESETS.iter().map(|preset| preset.name).chain([own]).collect();
        let replica = Replica::start(&stub, options(&wanted));
        sleep(Duration::from_secs(30)).await;
        let first: Vec<_> = kinds
            .iter()
            .map(|kind| {
                hash(&stub, *kind).unwrap_or_else(|| panic!("{kind:?} has no hash\n{}", stub.transcript()))
            })
            .collect();
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(30)).await;
        for (kind, first) in kinds.iter().copied().zip(first) {
            // Given a hash, and reloaded.
            assert_eq!(revisions_of(&stub, kind), 2, "{kind:?}\n{}", stub.transcript());
            assert_ne!(hash(&stub, kind), Some(first), "{kind:?}");
            let counted = format!("kind=\"{}\"", kind.label());
            assert!(replica.metrics().contains(&counted), "{kind:?}\n{}", replica.metrics());
        }
        let about: Vec<_> = stub.list("events").iter().map(|event| event["regarding"].clone()).collect();
        for kind in kinds {
            let is_of_kind = |it: &&Value| it["kind"] == kind.kind && it["apiVersion"] == kind.api_version();
            assert!(about.iter().any(|it| is_of_kind(&it)), "{kind:?}: {about:?}");
        }
    });
}

#[test]
fn c9_1_a_kind_that_was_not_asked_for_is_neither_read_nor_looked_for() {
    in_paused_time(async {
        let stub = server(102);
        shop(&stub, "shop", 1);
        put(&stub, argo::ROLLOUT);
        let _replica = Replica::start(&stub, Options::new("replica"));
        sleep(Duration::from_mins(2)).await;
        assert_eq!(hash(&stub, argo::ROLLOUT), None);
        assert_eq!(stub.count(|entry| entry.request.path.contains("argoproj.io")), 0);
    });
}

/// The histories of a kind that comes and goes: one whose name is known, and one whose name is not.
const COMES_AND_GOES: [(KindRef, &str); 2] =
    [(argo::ROLLOUT, "argo-rollouts"), (GADGET, "example.com/v1/gadgets=annotations:spec.pods.annotations")];

fn about(kind: KindRef) -> impl Fn(&LogEntry) -> bool {
    move |entry| entry.request.path.contains(kind.group)
}

/// What can be seen from outside of a kind that is not there.
fn is_quiet(replica: &Replica, kind: KindRef) {
    let metrics = replica.metrics();
    let of_kind = metrics
        .lines()
        .find(|line| line.contains(&format!("kind=\"{}\"", kind.label())) && line.starts_with("watch_"));
    assert_eq!(of_kind, None, "{metrics}");
    assert_eq!(replica.health.silent(), [""; 0]);
}

#[test]
fn c9_2_a_kind_that_comes_goes_and_comes_back_is_picked_up_each_time_and_nothing_else_waits() {
    for (kind, wanted) in COMES_AND_GOES {
        in_paused_time(async {
            let stub = server(103);
            stub.set_served(&resource(kind), false);
            shop(&stub, "shop", 1);
            let replica = Replica::start(&stub, options(&[wanted]));
            // As fast as without it.
            sleep(Duration::from_secs(5)).await;
            assert_eq!(revisions(&stub, "shop"), 1, "{}", stub.transcript());
            let asked = stub.count(about(kind));
            sleep(Duration::from_mins(5)).await;
            let asked = stub.count(about(kind)) - asked;
            assert!((20..=45).contains(&asked), "{asked} requests in five minutes");
            is_quiet(&replica, kind);
            paint(&stub, "shop", "blue");
            sleep(Duration::from_secs(5)).await;
            assert_eq!(revisions(&stub, "shop"), 2, "those that are built in are reloaded meanwhile");

            let mut expected = 2;
            for colour in ["green", "white"] {
                stub.set_served(&resource(kind), true);
                put(&stub, kind);
                sleep(Duration::from_secs(30)).await;
                assert!(hash(&stub, kind).is_some(), "{kind:?} has no hash\n{}", stub.transcript());
                assert!(replica.metrics().contains("\nworkloads 2\n"), "{}", replica.metrics());
                paint(&stub, "shop", colour);
                sleep(Duration::from_secs(30)).await;
                assert_eq!(revisions_of(&stub, kind), 2, "given a hash, and reloaded");
                expected += 1;
                assert_eq!(revisions(&stub, "shop"), expected);

                stub.set_served(&resource(kind), false);
                sleep(Duration::from_mins(3)).await;
                assert!(replica.metrics().contains("\nworkloads 1\n"), "{}", replica.metrics());
                is_quiet(&replica, kind);
            }
            assert!(!replica.metrics().contains("watch_errors_total{"), "{}", replica.metrics());
            assert!(replica.stop().await);
        });
    }
}

#[test]
fn c9_2_what_cannot_be_looked_for_is_listed_all_the_same() {
    in_paused_time(async {
        let stub = server(104);
        shop(&stub, "shop", 1);
        let refused = FaultRule::new(Fault::Status(403)).kind(RequestKind::Other).client("replica");
        stub.fail(refused);
        stub.set_served(&resource(argo::ROLLOUT), false);
        let _replica = Replica::start(&stub, options(&["argo-rollouts"]));
        sleep(Duration::from_mins(1)).await;
        stub.set_served(&resource(argo::ROLLOUT), true);
        put(&stub, argo::ROLLOUT);
        sleep(Duration::from_secs(30)).await;
        assert!(hash(&stub, argo::ROLLOUT).is_some(), "{}", stub.transcript());
    });
}

#[test]
fn c9_2_a_kind_is_looked_for_once_for_all_namespaces() {
    in_paused_time(async {
        let stub = server(105);
        for namespace in ["shop", "other", "third"] {
            shop(&stub, namespace, 1);
        }
        stub.set_served(&resource(argo::ROLLOUT), false);
        let mut options = options(&["argo-rollouts"]);
        options.scope.namespaces = Some(["shop", "other", "third"].map(str::to_owned).into());
        let _replica = Replica::start(&stub, options);
        sleep(Duration::from_secs(30)).await;
        let asked = stub.count(about(argo::ROLLOUT));
        sleep(Duration::from_mins(5)).await;
        let asked = stub.count(about(argo::ROLLOUT)) - asked;
        assert!((20..=45).contains(&asked), "{asked} requests in five minutes");
        stub.set_served(&resource(argo::ROLLOUT), true);
        put(&stub, argo::ROLLOUT);
        sleep(Duration::from_secs(30)).await;
        assert!(hash(&stub, argo::ROLLOUT).is_some(), "{}", stub.transcript());
    });
}

#[test]
fn c9_1_a_rollout_whose_template_is_in_a_deployment_is_left_alone_and_the_deployment_reloaded() {
    in_paused_time(async {
        let stub = server(106);
        shop(&stub, "shop", 1);
        put(&stub, argo::ROLLOUT);
        stub.edit("rollouts", "shop", "of-a-kind", |rollout| {
            rollout["spec"] =
                json!({"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}});
        });
        let before = stub.get("rollouts", "shop", "of-a-kind").unwrap();
        let _replica = Replica::start(&stub, options(&["argo-rollouts"]));
        sleep(Duration::from_secs(30)).await;
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(30)).await;
        assert_eq!(stub.get("rollouts", "shop", "of-a-kind").unwrap(), before);
        assert_eq!(revisions(&stub, "shop"), 2);
    });
}
