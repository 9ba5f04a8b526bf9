//! One decision (4.3): the webhook and the reconciler decide from the same, also of what no list names.

use std::time::Duration;

use http::Request;
use pod_reloader_core::digest::DigestKey;
use pod_reloader_k8s::key::KeyReader;
use pod_reloader_stub_api::{RequestKind, StubApi, objects};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::replica::{Options, Replica};
use crate::support::webhook::Webhook;
use crate::support::{in_paused_time, revisions, server};

/// The owner writes another image, through the webhook.
async fn roll_out(stub: &StubApi) {
    let web = stub.get("deployments", "shop", "web").unwrap();
    let mut containers = web["spec"]["template"]["spec"]["containers"].clone();
    containers[0]["image"] = json!("example.com/app:2");
    let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    let request = Request::patch("/apis/apps/v1/namespaces/shop/deployments/web?fieldManager=kubectl")
        .header("content-type", "application/merge-patch+json")
        .body(patch.to_string().into_bytes());
    stub.client_of("user:ann").request::<Value>(request.unwrap()).await.unwrap();
}

fn observed(stub: &StubApi) -> Value {
    let web = stub.get("deployments", "shop", "web").unwrap();
    let text = web["metadata"]["annotations"]["pod-reloader.cs.sap.com/observed-config"].as_str().unwrap();
    serde_json::from_str(text).unwrap()
}

/// `gone` is listed and named nowhere, `needed` is required and not listed. Pods of a rollout that wait for `needed`
/// have not started without `gone` yet, so its return is nothing new to them.
#[test]
fn c4_3_what_no_list_names_counts_for_the_webhook_as_for_the_reconciler() {
    for is_needed_there in [false, true] {
        in_paused_time(async {
            let stub = server(1);
            let key = KeyReader::fixed(DigestKey::new("test", &[7; DigestKey::LEN]).unwrap());
            Webhook::new(&stub, "webhook", key.clone()).install(&stub);
            for name in ["settings", "gone", "needed"] {
                stub.put(objects::config_map("shop", name, &[("key", "value")]));
            }
            let web = objects::listing("shop", "web", "gone,settings", "");
            stub.put(objects::with_env_from(web, "ConfigMap", "needed", false));
            let _replica = Replica::start(&stub, Options { fixed_key: Some(key), ..Options::new("replica") });
            sleep(Duration::from_secs(10)).await;
            let before = observed(&stub);

            stub.delete("configmaps", "shop", "gone");
            if !is_needed_there {
                stub.delete("configmaps", "shop", "needed");
            }
            sleep(Duration::from_secs(10)).await;
            let patches =
                || stub.count(|it| it.request.client == "replica" && it.kind() == RequestKind::Patch);
            let (revisions_before, patches_before) = (revisions(&stub, "shop"), patches());
            roll_out(&stub).await;
            let case = format!("needed is there: {is_needed_there}");
            assert_eq!(observed(&stub) == before, !is_needed_there, "{case}: {}", observed(&stub));
            sleep(Duration::from_mins(1)).await;
            assert_eq!(patches(), patches_before, "{case}: the reconciler finds it right");
            assert_eq!(revisions(&stub, "shop"), revisions_before + 1, "{case}");

            for name in ["gone", "needed"] {
                stub.put(objects::config_map("shop", name, &[("key", "value")]));
            }
            sleep(Duration::from_mins(1)).await;
            let reloads = usize::from(is_needed_there);
            assert_eq!(revisions(&stub, "shop"), revisions_before + 1 + reloads, "{case}");
        });
    }
}
