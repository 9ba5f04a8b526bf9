//! Reads that fail permanently, and reads that no workload needs.

use std::time::Duration;

use pod_reloader_stub_api::{Fault, FaultRule, RequestKind, StubApi, objects};
use serde_json::json;
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::{in_paused_time, paint, revisions, server};

fn events(stub: &StubApi, reason: &str) -> usize {
    stub.list("events").iter().filter(|event| event["reason"] == reason).count()
}

#[test]
fn c5_5_a_reference_that_can_never_be_read_does_not_hold_up_the_others_for_long() {
    for fault in [Fault::Status(500), Fault::HangBeforeHeaders] {
        in_paused_time(async {
            let stub = server(1);
            stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
            stub.put(objects::config_map("shop", "broken", &[("key", "value")]));
            stub.put(objects::listing("shop", "web", "broken,settings", ""));
            let _replica = Replica::start(&stub, Options::new("replica"));
            sleep(Duration::from_secs(10)).await;
            assert_eq!(revisions(&stub, "shop"), 1);

            let rule = stub.fail(FaultRule::new(fault).client("replica").name("broken"));
            paint(&stub, "shop", "blue");
            sleep(Duration::from_mins(3)).await;
            assert_eq!(revisions(&stub, "shop"), 2, "{fault:?}\n{}", stub.transcript());
            assert_eq!(events(&stub, "ReferenceUnreadable"), 1, "{fault:?}");
            stub.heal(rule);
            sleep(Duration::from_mins(10)).await;
            assert_eq!(revisions(&stub, "shop"), 2, "{fault:?}: it is as it was");
        });
    }
}

#[test]
fn c3_4_a_reload_that_waits_reads_nothing_until_something_changes() {
    in_paused_time(async {
        let stub = server(1);
        stub.put(objects::config_map("shop", "settings", &[("colour", "red")]));
        let web = objects::listing("shop", "web", "settings", "");
        stub.put(objects::with_env_from(web, "Secret", "credentials", false));
        let _replica = Replica::start(&stub, Options::new("replica"));
        sleep(Duration::from_secs(10)).await;
        assert_eq!(revisions(&stub, "shop"), 1);
        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(10)).await;
        assert_eq!((revisions(&stub, "shop"), events(&stub, "ReloadDeferred")), (1, 1));

        // Others write the workload all the time: its status, say.
        let requests = || {
            stub.count(|entry| {
                let is_stream = matches!(entry.kind(), RequestKind::List | RequestKind::WatchStart);
                entry.request.client == "replica" && !is_stream
            })
        };
        let before = requests();
        for serial in 0..50 {
            stub.edit("deployments", "shop", "web", |web| {
                web["metadata"]["labels"] = json!({"serial": serial.to_string()});
            });
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(requests() - before, 0, "{}", stub.transcript());
        stub.put(objects::secret("shop", "credentials", &[("password", "secret")]));
        sleep(Duration::from_secs(5)).await;
        assert_eq!((revisions(&stub, "shop"), events(&stub, "ReloadDeferred")), (2, 1));
    });
}
