//! The stub against the real client and kube's watcher.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::unchecked_time_subtraction,
    reason = "in tests a panic is a failure"
)]

mod faults;
mod requests;
mod watches;

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use pod_reloader_stub_api::StubApi;
use serde_json::Value;

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "shop")
}

fn deployments(client: &Client) -> Api<Deployment> {
    Api::namespaced(client.clone(), "shop")
}

fn put_map(stub: &StubApi, name: &str, value: &str) {
    stub.put(pod_reloader_stub_api::objects::config_map("shop", name, &[("key", value)]));
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

const SECOND: Duration = Duration::from_secs(1);
