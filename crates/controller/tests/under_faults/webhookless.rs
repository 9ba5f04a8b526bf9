//! `--webhook-bind-address=0` (4.12): the reconciler alone sets hashes and puts them back.

use std::time::Duration;

use pod_reloader_stub_api::{StubApi, objects};
use serde_json::json;
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::webhook::hash_of;
use crate::support::{in_paused_time, paint, revisions, server, shop};

fn hash(stub: &StubApi) -> Option<String> {
    let web = stub.get("deployments", "shop", "web")?;
    hash_of(&web).map(str::to_owned)
}

/// The owner's write, which replaces everything.
fn replace(stub: &StubApi, image: &str) {
    let web = objects::listing("shop", "web", "settings", "");
    let mut web = objects::with_env_from(web, "ConfigMap", "settings", false);
    web["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    stub.put(web);
}

#[test]
fn c4_12_without_a_webhook_every_hash_is_set_moved_and_put_back_by_the_reconciler() {
    in_paused_time(async {
        let stub = server(12);
        shop(&stub, "shop", 0);
        let _replica = Replica::start(&stub, Options::new("replica"));
        sleep(Duration::from_secs(30)).await;
        replace(&stub, "app:1");
        sleep(Duration::from_secs(5)).await;
        let first = hash(&stub).expect("a workload that was created without a hash gets one");
        assert_eq!(revisions(&stub, "shop"), 1);

        paint(&stub, "shop", "blue");
        sleep(Duration::from_secs(5)).await;
        let second = hash(&stub).unwrap();
        assert!(second != first && revisions(&stub, "shop") == 2, "a reload");

        // A rollout that keeps the hash, and one along with other configuration.
        stub.edit("deployments", "shop", "web", |web| {
            web["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:2");
        });
        sleep(Duration::from_secs(5)).await;
        assert_eq!((hash(&stub), revisions(&stub, "shop")), (Some(second.clone()), 3));

        // A full replace drops the hash: it is put back, which is a revision more.
        replace(&stub, "app:3");
        sleep(Duration::from_secs(5)).await;
        assert_eq!((hash(&stub), revisions(&stub, "shop")), (Some(second.clone()), 5));

        // A hash that a user makes up does not stay.
        stub.edit("deployments", "shop", "web", |web| {
            web["spec"]["template"]["metadata"]["annotations"]["pod-reloader.cs.sap.com/config-hash"] =
                json!("x");
        });
        sleep(Duration::from_secs(5)).await;
        assert_eq!(hash(&stub), Some(second));
        let before = stub.writes().len();
        sleep(Duration::from_mins(10)).await;
        assert_eq!(stub.writes().len(), before, "then there is peace");
    });
}
