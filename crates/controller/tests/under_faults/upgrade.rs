//! An upgrade from version 1.0.0, whose annotations are kept as fixtures: nothing is written, nothing restarts (2.3).

use std::time::Duration;

use pod_reloader_core::digest::DigestKey;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_k8s::objects::Scope;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::{in_paused_time, server};

const FIXTURES: &str = include_str!("../../../core/tests/fixtures/written_by_1.0.0.json");

#[test]
fn c2_3_an_upgrade_from_1_0_0_writes_nothing_and_a_change_is_one_reload_after_it() {
    let fixtures: Vec<Value> = serde_json::from_str(FIXTURES).unwrap();
    for fixture in fixtures.iter().filter(|fixture| fixture["mode"] == "content") {
        in_paused_time(async {
            let stub = server(21);
            for object in fixture["objects"].as_array().unwrap() {
                stub.put(object.clone());
            }
            stub.put(fixture["workload"].clone());
            let before = stub.writes().len();
            let revisions = || stub.revisions("deployments", "shop", "web");
            let key = DigestKey::new("k1", &[7; DigestKey::LEN]).unwrap();
            let scope = Scope { secrets: fixture["secrets"] == true, ..Scope::default() };
            let fixed_key = Some(KeyReader::fixed(key));
            let options = Options { scope, fixed_key, ..Options::new("replica") };
            let _replica = Replica::start(&stub, options);
            sleep(Duration::from_mins(5)).await;
            let is_of_workload = |it: &pod_reloader_stub_api::Write| it.resource == "deployments";
            let written = || stub.writes()[before..].iter().filter(|it| is_of_workload(it)).count();
            assert_eq!(written(), 0, "{}: {}", fixture["name"], stub.transcript());

            let settled = revisions();
            stub.edit("configmaps", "shop", "settings", |map| map["data"]["a"] = json!("another"));
            sleep(Duration::from_mins(5)).await;
            // While something is missing that the template requires, the reload waits for it.
            let waits = fixture["name"] == "a required key gone since";
            assert_eq!(revisions() - settled, usize::from(!waits), "{}", fixture["name"]);
            let web = stub.get("deployments", "shop", "web").unwrap();
            let observed = web["metadata"]["annotations"]["pod-reloader.cs.sap.com/observed-config"].clone();
            let version = if waits { "{\"version\":1," } else { "{\"version\":2," };
            assert!(observed.as_str().unwrap().starts_with(version), "{}: {observed}", fixture["name"]);
        });
    }
}
