//! 7.1 to 7.3: which config objects a pod template has a workload follow, which of their keys, and what it only needs.

mod support;

#[path = "support/naive.rs"]
mod naive;
#[path = "support/templates.rs"]
mod templates;

use std::collections::{BTreeMap, BTreeSet};

use naive::Uses;
use pod_reloader_core::dialect::own::{AUTO, EXCLUDE_CONFIGMAPS, EXCLUDE_SECRETS};
use pod_reloader_core::dialect::sap;
use pod_reloader_core::name::ConfigRef;
use pod_reloader_core::reference::{Keys, Origin};
use pod_reloader_core::template::Need;
use pod_reloader_core::workload::Workload;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::manifest::Manifest;
use support::{NAMESPACE, cm, secret};
use templates::{nameable, pod_specs};

const SPEC: &str = "/spec/template/spec";

fn with_spec(spec: &Value) -> Manifest {
    Manifest::new().at(SPEC, spec.clone())
}

fn auto(spec: &Value) -> Workload {
    with_spec(spec).annotated(AUTO, "true").read()
}

/// What it follows without listing it.
fn followed(workload: &Workload) -> BTreeMap<ConfigRef, Keys> {
    let all = workload.references.all().into_values();
    let followed = all.filter(|it| it.origin == Origin::Followed);
    followed.map(|it| (it.object.clone(), it.keys.clone())).collect()
}

/// The same as text: `configmap/a` is all of it, `configmap/a:x,y` these keys.
fn shown(workload: &Workload) -> Vec<String> {
    let keys = |keys: &Keys| match keys {
        Keys::All => String::new(),
        Keys::Only(keys) => format!(":{}", keys.join(",")),
    };
    followed(workload).iter().map(|(object, of)| format!("{object}{}", keys(of))).collect()
}

fn required_keys(workload: &Workload) -> BTreeSet<(ConfigRef, String)> {
    let required = workload.template.uses.required_keys();
    required.flat_map(|(object, keys)| keys.map(|key| (object.clone(), key.to_owned()))).collect()
}

fn mounted(volumes: &Value, mounts: &Value) -> Value {
    json!({"containers": [{"name": "main", "volumeMounts": mounts}], "volumes": volumes})
}

/// A volume of that source, mounted with these further members.
fn one_volume(source: &Value, mount: &Value) -> Value {
    let (mut volume, mut mounted_as) = (source.clone(), mount.clone());
    volume["name"] = json!("v");
    mounted_as["name"] = json!("v");
    mounted(&json!([volume]), &json!([mounted_as]))
}

#[test]
fn c7_1_env_env_from_and_mounted_volumes_of_all_containers_are_followed() {
    let spec = json!({
        "containers": [
            {"name": "x", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}]},
            {"name": "y", "envFrom": [{"configMapRef": {"name": "from"}}, {"secretRef": {"name": "from"}}],
             "volumeMounts": [{"name": "secret"}, {"name": "by-hand"}]}],
        "initContainers": [
            {"name": "init", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "init", "key": "k"}}}]},
            {"name": "sidecar", "restartPolicy": "Always", "volumeMounts": [{"name": "projected"}]}],
        "volumes": [
            {"name": "secret", "secret": {"secretName": "volume"}},
            {"name": "by-hand", "configMap": {"name": "kube-root-ca.crt"}},
            {"name": "projected", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "part"}},
                {"secret": {"name": "part", "optional": true}}]}}],
    });
    let expected = [
        "configmap/from",
        "configmap/init:k",
        "configmap/kube-root-ca.crt",
        "configmap/part",
        "secret/env:k",
        "secret/from",
        "secret/part",
        "secret/volume",
    ];
    assert_eq!(shown(&auto(&spec)), expected);
}

#[test]
fn c7_1_what_is_needed_only_is_not_followed() {
    let credentials = json!([
        {"name": "v0", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
        {"name": "v1", "azureFile": {"secretName": "azure", "shareName": "s"}},
        {"name": "v2", "cephfs": {"secretRef": {"name": "ceph"}}},
        {"name": "v3", "flexVolume": {"driver": "d", "secretRef": {"name": "flex"}}},
        {"name": "v4", "configMap": {"name": "unmounted"}},
        {"name": "v5", "secret": {"secretName": "unmounted", "optional": true}},
    ]);
    let mounts: Vec<_> = (0..4).map(|n| json!({"name": format!("v{n}"), "mountPath": "/m"})).collect();
    let mut spec = mounted(&credentials, &json!(mounts));
    spec["imagePullSecrets"] = json!([{"name": "pull"}]);
    let workload = auto(&spec);
    assert_eq!(shown(&workload), [""; 0]);
    assert!(!workload.references.opted_in(), "1.2: nothing to follow");
    let need = |object: &ConfigRef| workload.template.uses.need(object);
    for name in ["csi", "azure", "ceph", "flex"] {
        assert_eq!(need(&secret(name)), Some(Need::Required), "{name}");
    }
    assert_eq!(
        need(&cm("unmounted")),
        Some(Need::Required),
        "an absent volume holds pods back, mounted or not"
    );
    assert_eq!(need(&secret("unmounted")), Some(Need::Optional));
    assert_eq!(need(&secret("pull")), None, "an absent pull secret holds nothing back");
}

#[test]
fn c7_1_values_of_auto_and_where_it_stands() {
    let spec = json!({"containers": [{"name": "main", "envFrom": [
        {"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}]}]});
    let (both, configmap, secret, none) =
        (&["configmap/a", "secret/b"][..], &["configmap/a"][..], &["secret/b"][..], &[][..]);
    for (on_workload, on_template, expected, mistakes) in [
        (None, None, none, 0),
        (Some("true"), None, both, 0),
        (Some("configmaps"), None, configmap, 0),
        (Some("secrets"), None, secret, 0),
        (Some("false"), None, none, 0),
        (None, Some("true"), both, 0),
        (None, Some("configmaps"), configmap, 0),
        (None, Some("secrets"), secret, 0),
        (Some("false"), Some("true"), none, 0),
        (Some("secrets"), Some("configmaps"), secret, 0),
        (Some("true"), Some("false"), both, 0),
        (Some("yes"), None, none, 1),
        (Some("True"), None, none, 1),
        (Some("configmaps,secrets"), None, none, 1),
        (None, Some("on"), none, 1),
        (Some("yes"), Some("secrets"), secret, 1),
        (Some("yes"), Some("no"), none, 2),
    ] {
        let mut manifest = with_spec(&spec);
        if let Some(value) = on_workload {
            manifest = manifest.annotated(AUTO, value);
        }
        if let Some(value) = on_template {
            manifest = manifest.template_annotated(AUTO, value);
        }
        let workload = manifest.read();
        assert_eq!(shown(&workload), expected, "{on_workload:?} {on_template:?}");
        assert_eq!(workload.mistakes.len(), mistakes, "{on_workload:?} {on_template:?}");
        assert_eq!(workload.is_managed(), !expected.is_empty());
    }
}

#[test]
fn c7_2_keys_that_count_of_a_volume_are_those_that_its_mounts_show() {
    let whole = json!({"configMap": {"name": "c"}});
    let items = json!({"configMap": {"name": "c", "items": [
        {"key": "x", "path": "one"}, {"key": "y", "path": "dir/two"}, {"key": "z", "path": "dir/sub/three"}]}});
    let folders = json!({"projected": {"sources": [
        {"configMap": {"name": "c", "items": [{"key": "x", "path": "dir/one"}, {"key": "y", "path": "two"}]}},
        {"secret": {"name": "s"}}]}});
    for (source, mount, expected) in [
        (&whole, json!({}), &["configmap/c"][..]),
        (&whole, json!({"subPath": ""}), &["configmap/c"]),
        (&whole, json!({"subPath": "x"}), &["configmap/c:x"]),
        (&whole, json!({"subPath": "./x"}), &["configmap/c:x"]),
        (&whole, json!({"subPath": "x/"}), &["configmap/c:x"]),
        (&whole, json!({"subPath": "."}), &["configmap/c"]),
        (&whole, json!({"subPathExpr": "$(HOST)"}), &["configmap/c"]),
        (&items, json!({}), &["configmap/c:x,y,z"]),
        (&items, json!({"subPath": "one"}), &["configmap/c:x"]),
        (&items, json!({"subPath": "dir"}), &["configmap/c:y,z"]),
        (&items, json!({"subPath": "dir/"}), &["configmap/c:y,z"]),
        (&items, json!({"subPath": "dir/sub"}), &["configmap/c:z"]),
        (&items, json!({"subPath": "di"}), &[]),
        (&items, json!({"subPath": "x"}), &[]),
        (&items, json!({"subPathExpr": "one"}), &["configmap/c:x,y,z"]),
        (&folders, json!({}), &["configmap/c:x,y", "secret/s"]),
        (&folders, json!({"subPath": "dir"}), &["configmap/c:x", "secret/s:dir"]),
        (&folders, json!({"subPath": "two"}), &["configmap/c:y", "secret/s:two"]),
    ] {
        assert_eq!(shown(&auto(&one_volume(source, &mount))), expected, "{source} {mount}");
    }
}

#[test]
fn c7_2_of_several_uses_of_one_object_the_union_counts() {
    let source = json!({"configMap": {"name": "c"}});
    let twice = json!([{"name": "v", "subPath": "x"}, {"name": "v", "subPath": "y"}]);
    let mut volume = source.clone();
    volume["name"] = json!("v");
    let mut spec = mounted(&json!([volume]), &twice);
    assert_eq!(shown(&auto(&spec)), ["configmap/c:x,y"]);
    spec["initContainers"] = json!([{"name": "i", "env": [
        {"name": "Z", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "z", "optional": true}}}]}]);
    assert_eq!(shown(&auto(&spec)), ["configmap/c:x,y,z"]);
    let required =
        |workload: &Workload| required_keys(workload).into_iter().map(|(_, key)| key).collect::<Vec<_>>();
    assert_eq!(required(&auto(&spec)), ["x", "y"], "optional or not is said by each use");
    spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "subPath": "x"}, {"name": "v"}]);
    assert_eq!(shown(&auto(&spec)), ["configmap/c"]);
    assert_eq!(required(&auto(&spec)), ["x"], "also where the object is followed whole");
}

#[test]
fn c7_2_a_key_is_required_by_each_use_that_names_it_and_is_not_optional() {
    let required = |source: Value, mount: Value| {
        let keys = required_keys(&auto(&one_volume(&source, &mount)));
        keys.into_iter().map(|(object, key)| format!("{object}:{key}")).collect::<Vec<_>>()
    };
    let items = json!([{"key": "x", "path": "one"}, {"key": "y", "path": "two"}]);
    let secret = |optional: bool| json!({"secret": {"secretName": "s", "optional": optional}});
    let of_items =
        |optional: bool| json!({"secret": {"secretName": "s", "optional": optional, "items": items}});
    assert_eq!(required(secret(false), json!({"subPath": "x"})), ["secret/s:x"]);
    assert_eq!(required(secret(true), json!({"subPath": "x"})), [""; 0]);
    assert_eq!(required(secret(false), json!({"subPathExpr": "x"})), [""; 0], "nobody knows which");
    // A volume is set up as a whole, whatever mounts show of it.
    assert_eq!(required(of_items(false), json!({"subPath": "one"})), ["secret/s:x", "secret/s:y"]);
    assert_eq!(required(of_items(false), json!({"subPathExpr": "one"})), ["secret/s:x", "secret/s:y"]);
    assert_eq!(required(of_items(true), json!({"subPath": "one"})), [""; 0]);
    // Which of several sources is to have a file, nobody says: pods start if one of them does.
    let sources = |sources: &[Value]| json!({"projected": {"sources": sources}});
    let (configmap, token) =
        (json!({"configMap": {"name": "c"}}), json!({"serviceAccountToken": {"path": "t"}}));
    let password = json!({"secret": {"name": "s", "items": [{"key": "x", "path": "one"}]}});
    let alone = sources(std::slice::from_ref(&configmap));
    assert_eq!(required(alone, json!({"subPath": "one"})), ["configmap/c:one"]);
    assert_eq!(required(sources(&[configmap.clone(), token]), json!({"subPath": "t"})), [""; 0]);
    assert_eq!(required(sources(&[configmap, password]), json!({"subPath": "one"})), ["secret/s:x"]);
}

#[test]
fn c7_2_past_a_thousand_keys_of_one_template_objects_are_followed_whole() {
    let env = |count: usize| {
        let env = (0..count).map(
            |n| json!({"name": "X", "valueFrom": {"configMapKeyRef": {"name": "c", "key": format!("k{n}")}}}),
        );
        let last = json!({"name": "Y", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}});
        json!({"containers": [{"name": "main", "env": env.chain([last]).collect::<Vec<_>>()}]})
    };
    let precise = followed(&auto(&env(999)));
    assert_eq!(precise[&secret("s")], Keys::only(["k"]));
    assert!(matches!(&precise[&cm("c")], Keys::Only(keys) if keys.len() == 999));
    let whole = followed(&auto(&env(2_000)));
    assert_eq!(whole, [(cm("c"), Keys::All), (secret("s"), Keys::All)].into());
}

#[test]
fn c7_3_auto_and_the_lists_add_up_and_exclude_lists_take_away_what_auto_found() {
    let spec = json!({"containers": [{"name": "main", "envFrom": [
        {"configMapRef": {"name": "a"}}, {"configMapRef": {"name": "ab"}}, {"secretRef": {"name": "a"}}],
        "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "listed", "key": "k"}}}]}]});
    let manifest = with_spec(&spec).annotated(sap::CONFIGMAPS, "unused,listed");
    let all = |workload: &Workload| -> Vec<String> {
        let all = workload.references.all().into_values();
        all.map(|it| format!("{:?} {} {}", it.origin, it.object, it.keys == Keys::All)).collect()
    };
    let listed = ["Listed configmap/listed true", "Listed configmap/unused true"];
    assert_eq!(all(&manifest.clone().annotated(AUTO, "false").read()), listed);
    let (a, ab, s) = ("Followed configmap/a true", "Followed configmap/ab true", "Followed secret/a true");
    for (configmaps, secrets, expected) in [
        ("", "", vec![a, ab, listed[0], listed[1], s]),
        ("a", "", vec![ab, listed[0], listed[1], s]),
        ("a*", "b", vec![listed[0], listed[1], s]),
        ("a?", "?", vec![a, listed[0], listed[1]]),
        ("*", "*", vec![listed[0], listed[1]]),
        (" b , ,ab", "A", vec![a, listed[0], listed[1], s]),
    ] {
        for on_template in [false, true] {
            let manifest = if on_template {
                manifest.clone().template_annotated(AUTO, "true")
            } else {
                manifest.clone().annotated(AUTO, "true")
            };
            let workload =
                manifest.annotated(EXCLUDE_CONFIGMAPS, configmaps).annotated(EXCLUDE_SECRETS, secrets).read();
            assert_eq!(all(&workload), expected, "{configmaps} {secrets}");
            assert_eq!(
                workload.mistakes.len(),
                usize::from(secrets == "A"),
                "what no name can match is warned of"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c7_2_what_any_template_uses_is_what_a_naive_walk_over_it_finds(spec in pod_specs()) {
        let (workload, expected) = (auto(&spec), Uses::of(NAMESPACE, &spec));
        prop_assert_eq!(followed(&workload), expected.followed());
        for object in nameable() {
            let need = workload.template.uses.need(&object);
            prop_assert_eq!(need, expected.need.get(&object).copied(), "{}", object);
        }
        prop_assert_eq!(required_keys(&workload), expected.required_keys);
    }

    /// Whatever else the template uses, and whether that is followed.
    #[test]
    fn c7_3_what_is_listed_is_followed_as_ever_beside_auto(spec in pod_specs(), list in "[a-f](,[a-f]){0,5}") {
        let listing = with_spec(&spec).annotated(sap::CONFIGMAPS, &list).annotated(sap::SECRETS, "b,b");
        let plain = Manifest::new().annotated(sap::CONFIGMAPS, &list).annotated(sap::SECRETS, "b,b").read();
        let (alone, with_auto) = (listing.read(), listing.clone().annotated(AUTO, "true").read());
        prop_assert!(alone.references.listed().eq(plain.references.listed()));
        prop_assert!(with_auto.references.listed().eq(plain.references.listed()), "in order, with repetitions");
        prop_assert_eq!(followed(&alone), BTreeMap::new());
        prop_assert_eq!(&alone.template.uses, &with_auto.template.uses);
        for (object, reference) in alone.references.all() {
            prop_assert_eq!(Some(reference), with_auto.references.all().get(object).copied());
            prop_assert_eq!((&reference.keys, reference.origin), (&Keys::All, Origin::Listed));
        }
        let mut expected = Uses::of(NAMESPACE, &spec).followed();
        expected.retain(|object, _| !plain.references.objects().contains(object));
        prop_assert_eq!(followed(&with_auto), expected);
    }
}
