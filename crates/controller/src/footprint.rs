//! What workloads take of the heap, counted byte by byte: in the index, and while thousands of them wait.

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use futures::FutureExt;
use pod_reloader_core::annotation::{CONFIG_HASH, OBSERVED_CONFIG};
use pod_reloader_core::dialect::sap::{CONFIGMAPS, SECRETS};
use pod_reloader_core::digest::Digest;
use pod_reloader_core::kind::apps::DEPLOYMENT;
use pod_reloader_core::lookup::ConfigVersion;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::reference::WorkloadRef;
use pod_reloader_k8s::objects::WorkloadObject;
use serde_json::json;
use tokio::time::Instant;

use crate::gate::Gate;
use crate::index::{Applied, Index, Presence};
use crate::queue::Queue;

const WORKLOADS: usize = 1_000;
/// What one workload with three references, two of which are its own, may take in the index.
const MAX_BYTES: usize = 2_200;

/// How many wait at once.
const BURST: usize = 10_000;
/// What each of them may take beside its name, which the index has: an entry of the queue's, then one of the gate's.
const MAX_BYTES_WAITING: usize = 224;
/// What may be kept of all of them once they are through.
const MAX_LEFT: usize = 4 << 10;

const NAMESPACE: &str = "team-checkout";
const SHARED: &str = "settings";
const DIGEST: &str = "AAAAAAAAAAAAAAAAAAAAAA";

fn own(i: usize) -> [ConfigRef; 2] {
    [
        ConfigRef::configmap(NAMESPACE, format!("app-{i}-settings")),
        ConfigRef::secret(NAMESPACE, format!("app-{i}-login")),
    ]
}

/// A Deployment that lists and uses three objects, as it is once all is recorded.
fn deployment(i: usize) -> WorkloadObject {
    let [settings, login] = own(i).map(|object| object.name.clone());
    let hash = format!("{i:064}");
    let observed = json!({
        "version": 2, "key": "0123456789abcdef", "hash": hash,
        "configmaps": {SHARED: DIGEST, &*settings: DIGEST}, "secrets": {&*login: DIGEST}
    });
    let sources = json!([
        {"configMapRef": {"name": SHARED}}, {"configMapRef": {"name": settings}}, {"secretRef": {"name": login}}
    ]);
    let object = json!({
        "metadata": {
            "namespace": NAMESPACE, "name": format!("app-{i}"),
            "uid": format!("{i:036}"), "resourceVersion": format!("{i:010}"),
            "annotations": {
                CONFIGMAPS: format!("{SHARED},{settings}"), SECRETS: login,
                OBSERVED_CONFIG: observed.to_string()
            }
        },
        "spec": {"template": {
            "metadata": {"annotations": {CONFIG_HASH: hash}},
            "spec": {"containers": [{"envFrom": sources}]}
        }}
    });
    WorkloadObject::read(DEPLOYMENT, &object.to_string()).unwrap()
}

fn is_there(index: &mut Index, object: &ConfigRef, resource_version: usize) {
    let version = ConfigVersion::new(format!("{:036}", 1), format!("{resource_version:010}"));
    let presence = Presence::Version(version.into());
    index.apply_object(object, &presence, Instant::now());
    index.learn(object, presence, Digest::parse(DIGEST));
}

/// An index of workloads whose references are all there; each workload was seen that many times.
fn filled(times: usize) -> Index {
    let mut index = Index::new(Duration::ZERO, true, usize::MAX);
    for _ in 0..times {
        for i in 0..WORKLOADS {
            let object = deployment(i);
            let workload = object.reference(DEPLOYMENT).unwrap().into();
            let (applied, _) = index.apply_workload(&workload, object.workload, Instant::now());
            assert_eq!(applied, Applied::Managed);
        }
        (0..WORKLOADS).flat_map(own).for_each(|object| is_there(&mut index, &object, 1));
        is_there(&mut index, &ConfigRef::configmap(NAMESPACE, SHARED), 1);
    }
    index
}

fn kept(info: &AllocationInfo) -> usize {
    info.bytes_current.try_into().unwrap()
}

#[test]
fn c5_2_a_workload_takes_little_in_the_index_however_often_it_is_seen() {
    for times in [1, 2] {
        let mut index = None;
        let info = measure(|| index = Some(filled(times)));
        assert_eq!(index.unwrap().object_count(), 2 * WORKLOADS + 1);
        let bytes = kept(&info) / WORKLOADS;
        assert!(bytes <= MAX_BYTES, "{bytes} bytes for each, seen {times} times");
    }
}

#[test]
fn c5_2_what_left_the_index_takes_nothing() {
    let mut index = None;
    let info = measure(|| {
        let mut filled = filled(1);
        let all: Vec<_> = filled.workloads().cloned().collect();
        for workload in all {
            filled.delete_workload(&workload);
        }
        index = Some(filled);
    });
    assert_eq!(index.unwrap().object_count(), 0);
    assert!(kept(&info) <= MAX_LEFT, "{} bytes", kept(&info));
}

#[test]
fn c5_2_a_change_that_concerns_many_names_them_without_copies() {
    let mut index = filled(1);
    let shared = ConfigRef::configmap(NAMESPACE, SHARED);
    is_there(&mut index, &shared, 2);
    let mut affected = vec![];
    let info = measure(|| affected = index.compare_object(&shared, None, false));
    assert_eq!(affected.len(), WORKLOADS);
    // A list doubles while it grows.
    assert!(kept(&info) <= 2 * WORKLOADS * size_of::<usize>(), "{} bytes", kept(&info));
}

#[tokio::test(start_paused = true)]
async fn c5_2_while_ten_thousand_wait_they_take_little_and_then_nothing() {
    let workload =
        |i| WorkloadRef { kind: DEPLOYMENT, namespace: NAMESPACE.into(), name: format!("app-{i}") };
    let workloads: Vec<_> = (0..BURST).map(|i| Arc::new(workload(i))).collect();
    let (mut queue, mut gate) = (Queue::default(), Gate::new(16));
    let now = Instant::now();
    let info = measure(|| {
        for workload in &workloads {
            queue.schedule(workload, now);
        }
        for _ in 0..BURST {
            let (workload, _) = queue.next().now_or_never().expect("all are due");
            gate.wait(&workload, false, now);
        }
        while let Some(workload) = gate.admit(now) {
            gate.leave(&workload, now);
            queue.done(&workload, None);
        }
    });
    assert_eq!(queue.len(), 0);
    let most = usize::try_from(info.bytes_max).unwrap() / BURST;
    assert!(most <= MAX_BYTES_WAITING, "{most} bytes for each");
    assert!(kept(&info) <= MAX_LEFT, "{} bytes", kept(&info));
}
