//! 4.1, 4.2 and 5.5: patches, applied to objects.

mod support;

use pod_reloader_core::annotation::{CONFIG_HASH, HEADROOM_BYTES, MAX_TOTAL_BYTES, OBSERVED_CONFIG};
use pod_reloader_core::dialect::sap::CONFIGMAPS;
use pod_reloader_core::kind::apps::DEPLOYMENT;
use pod_reloader_core::patch::{NoRoom, Target};
use serde_json::{Value, json};
use support::manifest::Manifest;

fn target(hash: &str, observed: &str) -> Target {
    Target { hash: Some(hash.into()), observed: Some(observed.into()) }
}

fn admitted(manifest: &Manifest, target: &Target) -> Manifest {
    let mut patched = manifest.clone();
    json_patch::patch(&mut patched.0, &target.admission_patch(DEPLOYMENT, &manifest.read()))
        .expect("it applies");
    patched
}

fn reconciled(manifest: &Manifest, target: &Target) -> Manifest {
    let mut patched = manifest.clone();
    if let Some(patch) = target.merge_patch(DEPLOYMENT, &manifest.read()) {
        json_patch::merge(&mut patched.0, &patch);
    }
    patched
}

#[test]
fn c4_1_both_annotations_are_set_and_nothing_else_is_touched() {
    let manifest = Manifest::listing("a").template_annotated("other", "x").labelled("l", "v");
    let expected = manifest.clone().hash("h").observed("o");
    assert_eq!(admitted(&manifest, &target("h", "o")), expected);
    assert_eq!(reconciled(&manifest, &target("h", "o")), expected);
}

#[test]
fn c4_1_both_annotations_are_replaced_and_nothing_else_is_touched() {
    let manifest = Manifest::listing("a").hash("before").observed("before").template_annotated("other", "x");
    let expected = manifest.clone().hash("h").observed("o");
    assert_eq!(admitted(&manifest, &target("h", "o")), expected);
    assert_eq!(reconciled(&manifest, &target("h", "o")), expected);
}

#[test]
fn c4_1_maps_that_are_missing_or_null_are_added() {
    for manifest in [
        Manifest::new(),
        Manifest::new().without("/spec/template", "metadata"),
        Manifest::new().at("/spec/template/metadata", Value::Null),
        Manifest::new().at("/metadata", json!({"name": "web", "resourceVersion": "7", "annotations": null})),
        Manifest::new().at("/spec/template/metadata", json!({"annotations": null, "labels": {"app": "web"}})),
        Manifest::new().at("/spec/template/metadata", json!({"creationTimestamp": null, "annotations": {}})),
        Manifest::new().at("/metadata", json!({"annotations": {}, "resourceVersion": "7"})),
    ] {
        for patched in [admitted(&manifest, &target("h", "o")), reconciled(&manifest, &target("h", "o"))] {
            let mut bare = patched.clone();
            for metadata in ["/metadata", "/spec/template/metadata"] {
                let annotations = &patched.0.pointer(metadata).unwrap()["annotations"];
                assert_eq!(annotations.as_object().unwrap().len(), 1, "{manifest:?}");
                bare = bare.without(metadata, "annotations");
            }
            assert_eq!(patched.0["metadata"]["annotations"][OBSERVED_CONFIG], "o");
            assert_eq!(patched.0["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH], "h");
            assert_eq!(bare.0["spec"]["template"]["spec"], manifest.0["spec"]["template"]["spec"]);
            assert_eq!(bare.0["spec"]["replicas"], 1);
            let labels = manifest.0.pointer("/spec/template/metadata/labels");
            assert_eq!(bare.0.pointer("/spec/template/metadata/labels"), labels);
        }
    }
}

#[test]
fn c4_1_keys_are_escaped_so_that_a_slash_makes_no_path() {
    let patch = target("h", "o").admission_patch(DEPLOYMENT, &Manifest::listing("a").read());
    let patch = serde_json::to_value(&patch).unwrap();
    let paths: Vec<_> = patch.as_array().unwrap().iter().map(|operation| &operation["path"]).collect();
    assert_eq!(
        paths,
        [
            "/metadata/annotations/pod-reloader.cs.sap.com~1observed-config",
            "/spec/template/metadata/annotations",
            "/spec/template/metadata/annotations/pod-reloader.cs.sap.com~1config-hash",
        ]
    );
}

#[test]
fn c4_1_any_text_as_a_value_arrives_as_it_is() {
    let text = "{\"a\":\"~1/~0\\\"\u{e9}\u{1f600}\n\"}";
    let manifest = Manifest::listing("a").observed("before");
    let expected = manifest.clone().hash("h").observed(text);
    assert_eq!(admitted(&manifest, &target("h", text)), expected);
    assert_eq!(reconciled(&manifest, &target("h", text)), expected);
}

#[test]
fn c4_1_when_all_is_right_there_is_no_patch() {
    for (manifest, target) in [
        (Manifest::listing("a").hash("h").observed("o"), target("h", "o")),
        (Manifest::new(), Target::default()),
        (Manifest::new().without("/spec/template", "metadata"), Target::default()),
    ] {
        let workload = manifest.read();
        assert!(target.is_met_by(&workload));
        assert_eq!(target.admission_patch(DEPLOYMENT, &workload).0, []);
        assert_eq!(target.merge_patch(DEPLOYMENT, &workload), None);
    }
}

#[test]
fn c4_1_only_what_differs_is_in_the_patch() {
    let workload = Manifest::listing("a").hash("h").observed("before").read();
    assert_eq!(
        serde_json::to_value(target("h", "o").admission_patch(DEPLOYMENT, &workload)).unwrap(),
        json!([{
            "op": "replace",
            "path": "/metadata/annotations/pod-reloader.cs.sap.com~1observed-config",
            "value": "o"
        }])
    );
    assert_eq!(
        target("h", "o").merge_patch(DEPLOYMENT, &workload).unwrap(),
        json!({"metadata": {"resourceVersion": "7", "annotations": {OBSERVED_CONFIG: "o"}}})
    );
}

#[test]
fn c5_5_a_patch_is_guarded_by_the_resource_version_that_was_read() {
    for manifest in
        [Manifest::listing("a"), Manifest::listing("a").observed("o"), Manifest::listing("a").hash("h")]
    {
        let patch = target("h", "o").merge_patch(DEPLOYMENT, &manifest.read()).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
    }
}

#[test]
fn c4_5_the_trigger_on_the_workload_itself_is_removed() {
    let triggered = Manifest::listing("a").hash("h").observed("o").trigger("anything");
    let expected = Manifest::listing("a").hash("h").observed("o");
    assert!(!target("h", "o").is_met_by(&triggered.read()));
    assert_eq!(admitted(&triggered, &target("h", "o")), expected);
    assert_eq!(reconciled(&triggered, &target("h", "o")), expected);

    let triggered = Manifest::listing("a").trigger("anything");
    let expected = Manifest::listing("a").hash("h").observed("o");
    assert_eq!(admitted(&triggered, &target("h", "o")), expected);
    assert_eq!(reconciled(&triggered, &target("h", "o")), expected);
}

#[test]
fn c3_annotations_that_should_not_be_there_are_removed() {
    let manifest = Manifest::listing("a").hash("h").observed("o").template_annotated("other", "x");
    let neither = Manifest::listing("a").template_annotated("other", "x");
    assert_eq!(admitted(&manifest, &Target::default()), neither);
    assert_eq!(reconciled(&manifest, &Target::default()), neither);

    let hash_only = Target { hash: Some("h".into()), observed: None };
    let expected = neither.hash("h");
    assert_eq!(admitted(&manifest, &hash_only), expected);
    assert_eq!(reconciled(&manifest, &hash_only), expected);
}

/// What the API server counts: the bytes of all keys and values.
fn bytes_of(annotations: &Value) -> usize {
    let annotations = annotations.as_object().into_iter().flatten();
    annotations.map(|(key, value)| key.len() + value.as_str().expect("a string").len()).sum()
}

/// The workload with an annotation that leaves exactly that much room, the headroom for the Deployment controller apart.
fn with_room(manifest: Manifest, room: usize) -> Manifest {
    let present = bytes_of(&manifest.0["metadata"]["annotations"]);
    let filling = MAX_TOTAL_BYTES - HEADROOM_BYTES - present - room - "p".len();
    // Two bytes a character: it is bytes that count.
    manifest.annotated("p", &("\u{e9}".repeat(filling / 2) + &"x".repeat(filling % 2)))
}

#[test]
fn c4_2_observed_config_is_left_out_if_annotations_would_pass_256_kib() {
    let needed = OBSERVED_CONFIG.len() + "observed".len();
    let enough = with_room(Manifest::listing("a"), needed);
    let (fitted, left_out) = target("h", "observed").fitted_to(&enough.read());
    assert_eq!((fitted, left_out), (target("h", "observed"), vec![]));
    assert_eq!(
        bytes_of(&admitted(&enough, &target("h", "observed")).0["metadata"]["annotations"]),
        MAX_TOTAL_BYTES - HEADROOM_BYTES
    );

    let too_little = with_room(Manifest::listing("a"), needed - 1);
    let (fitted, left_out) = target("h", "observed").fitted_to(&too_little.read());
    assert_eq!(fitted, Target { hash: Some("h".into()), observed: None });
    assert_eq!(left_out, [NoRoom::Observed]);
}

/// They are no loss to anything but reads.
#[test]
fn c4_2_witnesses_are_left_out_before_observed_config_is() {
    let digest = "AAAAAAAAAAAAAAAAAAAAAA";
    let of = |seen: &str| format!(r#"{{"version":2,"key":"k","configmaps":{{"a":"{seen}"}}}}"#);
    let (short, long) = (of(digest), of(&format!("{digest}@BBBBBBBBBBA")));
    let needed = |text: &str| OBSERVED_CONFIG.len() + text.len();
    for (room, expected) in
        [(needed(&long), Some(&long)), (needed(&long) - 1, Some(&short)), (needed(&short) - 1, None)]
    {
        let workload = with_room(Manifest::listing("a"), room).read();
        let (fitted, left_out) = target("h", &long).fitted_to(&workload);
        assert_eq!(fitted.observed.as_ref(), expected, "{room}");
        assert_eq!(left_out.is_empty(), expected.is_some(), "{room}");
    }
}

#[test]
fn c4_2_what_the_patch_removes_or_replaces_makes_room() {
    let needed = "longer".len() - "short".len();
    let manifest = with_room(Manifest::listing("a").observed("short"), needed);
    assert_eq!(target("h", "longer").fitted_to(&manifest.read()).1, []);
    let manifest = with_room(Manifest::listing("a").observed("short"), needed - 1);
    assert_eq!(target("h", "longer").fitted_to(&manifest.read()).1, [NoRoom::Observed]);

    let trigger = "t".repeat(OBSERVED_CONFIG.len());
    let manifest = with_room(Manifest::listing("a").trigger(&trigger), 0);
    assert_eq!(target("h", "o").fitted_to(&manifest.read()).1, []);
}

#[test]
fn c4_2_what_the_request_itself_carries_too_much_is_relieved_of_observed_config() {
    let full = with_room(Manifest::listing("a"), 0).observed("of the old object");
    let (fitted, left_out) = target("h", "of the old object").fitted_to(&full.read());
    assert_eq!(left_out, [NoRoom::Observed]);
    let admitted = admitted(&full, &fitted);
    assert!(bytes_of(&admitted.0["metadata"]["annotations"]) <= MAX_TOTAL_BYTES);
    assert_eq!(admitted.0["metadata"]["annotations"][CONFIGMAPS], "a");
}

#[test]
fn c4_2_the_hash_is_left_out_if_the_templates_annotations_would_pass_256_kib() {
    let hash = "0".repeat(64);
    let needed = CONFIG_HASH.len() + hash.len();
    for (room, expected) in [(needed, vec![]), (needed - 1, vec![NoRoom::Hash])] {
        let filling = "x".repeat(MAX_TOTAL_BYTES - "p".len() - room);
        let workload = Manifest::listing("a").template_annotated("p", &filling).read();
        let (fitted, left_out) = target(&hash, "o").fitted_to(&workload);
        assert_eq!(left_out, expected);
        assert_eq!(fitted.hash.is_none(), left_out.contains(&NoRoom::Hash));
    }
}

#[test]
fn c4_2_nothing_to_set_needs_no_room() {
    let workload = with_room(Manifest::listing("a"), 0).read();
    assert_eq!(Target::default().fitted_to(&workload), (Target::default(), vec![]));
}
