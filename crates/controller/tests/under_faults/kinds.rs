//! 1.1: what is done for one kind of workload is done for all.

use std::time::Duration;

use pod_reloader_core::annotation::CONFIG_HASH;
use pod_reloader_core::dialect::sap::CONFIGMAPS;
use pod_reloader_core::kind::{BUILT_IN, KindRef};
use pod_reloader_stub_api::{StubApi, objects};
use serde_json::Value;
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::{in_paused_time, paint, server, shop};

fn put(stub: &StubApi, kind: KindRef) {
    stub.put(objects::workload(kind, "shop", "of-a-kind", &[(CONFIGMAPS, "settings")]));
}

/// The hash that the workload's template carries.
fn hash(stub: &StubApi, kind: KindRef) -> Option<String> {
    let workload = stub.get(kind.plural, "shop", "of-a-kind").unwrap();
    let annotations = kind.template_pointer(&["metadata", "annotations"]);
    workload.pointer(annotations.as_str())?[CONFIG_HASH].as_str().map(str::to_owned)
}

#[test]
fn c1_1_every_kind_is_watched_and_reloaded_once_for_each_change() {
    in_paused_time(async {
        let stub = server(101);
        shop(&stub, "shop", 0);
        for kind in BUILT_IN {
            put(&stub, kind);
        }
        let replica = Replica::start(&stub, Options::new("replica"));
        sleep(Duration::from_secs(30)).await;
        let first = BUILT_IN.map(|kind| hash(&stub, kind).unwrap_or_else(|| panic!("{kind:?} has no hash")));
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(30)).await;
        for (kind, first) in BUILT_IN.into_iter().zip(first) {
            // Given a hash, and reloaded.
            let revisions = stub.revisions(kind.plural, "shop", "of-a-kind");
            assert_eq!(revisions, 2, "{kind:?}\n{}", stub.transcript());
            assert_ne!(hash(&stub, kind), Some(first), "{kind:?}");
            let counted = format!("kind=\"{}\"", kind.kind);
            assert!(replica.metrics().contains(&counted), "{kind:?}\n{}", replica.metrics());
        }
        let about: Vec<_> = stub.list("events").iter().map(|event| event["regarding"].clone()).collect();
        for kind in BUILT_IN {
            let is_of_kind = |it: &&Value| it["kind"] == kind.kind && it["apiVersion"] == kind.api_version();
            assert!(about.iter().any(|it| is_of_kind(&it)), "{kind:?}: {about:?}");
        }
    });
}
