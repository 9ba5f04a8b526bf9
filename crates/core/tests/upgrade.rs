//! Workloads as version 1.0.0 wrote them, with observed-config version 1, and the objects around them: an upgrade writes
//! nothing and restarts nothing (2.3). `fixtures/written_by_1.0.0.json` is what that version made.

mod support;

use pod_reloader_core::admission::Baseline;
use pod_reloader_core::config_hash::HashMode;
use pod_reloader_core::content::ContentSummary;
use pod_reloader_core::decide::{
    ConfigVersion, Context, Decision, FirstSeen, Found, Input, KnownDigest, Lookup, Lookups, Verdict,
};
use pod_reloader_core::digest::Digest;
use pod_reloader_core::kind::apps::DEPLOYMENT;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::Keys;
use pod_reloader_core::workload::Workload;
use serde_json::{Value, json};
use support::{NAMESPACE, decided, key};

fn fixtures() -> Vec<Value> {
    serde_json::from_str(include_str!("fixtures/written_by_1.0.0.json")).expect("fixtures")
}

fn look_up(fixture: &Value, object: &ConfigRef) -> Lookup {
    if object.kind == ConfigKind::Secret && fixture["secrets"] == false {
        return Lookup::Unfollowed;
    }
    let is_it = |it: &&Value| it["kind"] == object.kind.as_str() && it["metadata"]["name"] == *object.name;
    let objects = fixture["objects"].as_array().expect("objects");
    let Some(found) = objects.iter().find(is_it) else { return Lookup::Absent };
    let text = |name: &str| found["metadata"][name].as_str().expect("a text").to_owned();
    let summary = ContentSummary::read(found.to_string().as_bytes(), &Keys::All).expect("content");
    let digest = Digest::of(&key(), object, &summary.sum);
    Lookup::Found(Found {
        version: ConfigVersion::new(text("uid"), text("resourceVersion")),
        digests: vec![KnownDigest { key_id: key().shared_id(), keys: Keys::All, digest }],
        keys: Some(summary.keys),
    })
}

fn decide(fixture: &Value) -> (Workload, Decision) {
    let workload = Workload::read(DEPLOYMENT, &fixture["workload"].to_string()).expect("a workload");
    let objects = workload.references.objects().into_iter().chain(workload.template.uses.required());
    let known: Lookups = objects.map(|object| (object.clone(), look_up(fixture, object))).collect();
    let input = Input {
        mode: if fixture["mode"] == "version" { HashMode::Version } else { HashMode::Content },
        key: &key(),
        namespace: NAMESPACE,
        references: &workload.references,
        uses: &workload.template.uses,
        baseline: Baseline::of(&workload),
        first_seen: &FirstSeen::new(),
        tolerates_unknown: false,
        context: Context::Steady,
        moves_hash: true,
    };
    let decision = decided(&input, &known);
    (workload, decision)
}

#[test]
fn c2_3_what_version_1_0_0_wrote_is_left_as_it_is() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), 6);
    for fixture in fixtures {
        let is_version_1 =
            |text: &Value| text.as_str().is_some_and(|text| text.starts_with("{\"version\":1,"));
        let observed =
            &fixture["workload"]["metadata"]["annotations"]["pod-reloader.cs.sap.com/observed-config"];
        assert!(is_version_1(observed) || fixture["mode"] == "version", "{}", fixture["name"]);
        let (_, decision) = decide(&fixture);
        assert_eq!(decision.verdict, Verdict::Keep, "{}", fixture["name"]);
    }
}

#[test]
fn c2_3_version_1_becomes_version_2_with_the_next_write_that_is_due() {
    let mut fixture = fixtures().swap_remove(0);
    fixture["objects"][0]["data"]["a"] = json!("another");
    let (workload, decision) = decide(&fixture);
    let target = decision.verdict.target(NAMESPACE, Baseline::of(&workload));
    assert_ne!(target.hash, workload.template.config_hash, "{decision:?}");
    assert!(target.observed.expect("recorded").starts_with("{\"version\":2,"));
}
