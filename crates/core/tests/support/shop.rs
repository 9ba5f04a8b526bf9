//! A workload that reads key "k" of `ConfigMap` "conf", and all of Secret "login".
#![allow(dead_code)] // each test binary uses its part

use Outcome::{Nothing, Reloaded};
use pod_reloader_core::decide::Cause::Changed;
use pod_reloader_core::dialect::sap::SECRETS;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::reference::Origin;
use serde_json::{Value, json};

use super::support::manifest::Manifest;
use super::support::{cm, secret};
use super::town::{Outcome, Town};

/// A container that reads key "k" of `ConfigMap` "conf", and all of Secret "login".
pub fn container() -> Value {
    json!({"name": "main", "env": [{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "k"}}}],
           "envFrom": [{"secretRef": {"name": "login"}}]})
}

pub fn plain() -> Manifest {
    Manifest::new().at("/spec/template/spec", json!({"containers": [container()]}))
}

/// The objects are there, and the workload runs, unmanaged or with what it is given.
pub fn running(manifest: Manifest) -> Town {
    let mut town = Town::new(manifest);
    put(&mut town, "1", "1");
    town.put(&secret("login"), &[("user", "u")]);
    town
}

pub fn put(town: &mut Town, k: &str, other: &str) {
    town.put(&cm("conf"), &[("k", k), ("other", other)]);
}

pub fn changed(name: &ConfigRef) -> Outcome {
    Reloaded(vec![Changed(name.clone())])
}

/// What is recorded as followed.
pub fn followed(town: &Town) -> Vec<String> {
    let records = town.records().into_iter();
    records.filter(|(_, it)| it.origin == Origin::Followed).map(|(name, _)| name.to_string()).collect()
}

/// Lists another object, so that the workload is managed all the while.
pub fn managed_anyway() -> Town {
    let mut town = running(plain().annotated(SECRETS, "login"));
    town.create();
    assert_eq!(town.reconcile(), Nothing);
    town
}

/// What "conf" holds does not count now, and is not made up for later.
#[track_caller]
pub fn expect_not_followed(town: &mut Town, k: &str) {
    assert_eq!(followed(town), [""; 0]);
    put(town, k, "1");
    assert_eq!(town.reconcile(), Nothing);
}

#[track_caller]
pub fn expect_followed(town: &mut Town, k: &str) {
    assert_eq!(followed(town), ["configmap/conf"]);
    put(town, k, "1");
    assert_eq!(town.reconcile(), changed(&cm("conf")));
    assert_eq!(town.reconcile(), Nothing);
}
