use super::*;
use serde_json::json;

#[test]
fn c3_uses_are_found_in_env_env_from_and_volumes_of_all_containers() {
    let spec: PodSpec = serde_json::from_value(json!({
        "containers": [{
            "env": [
                {"name": "A", "value": "x"},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "env-secret", "key": "k"}}},
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "env-opt", "key": "k", "optional": true}}}
            ],
            "envFrom": [{"configMapRef": {"name": "from"}}, {"secretRef": {"name": "from", "optional": false}}]
        }],
        "initContainers": [{"envFrom": [{"secretRef": {"name": "init"}}], "env": null}],
        "volumes": [
            {"name": "v", "secret": {"secretName": "vol"}},
            {"name": "o", "configMap": {"name": "both", "optional": true}},
            {"name": "p", "projected": {"sources": [
                {"configMap": {"name": "both"}},
                {"secret": {"name": "projected", "optional": true}},
                {"serviceAccountToken": {"path": "t"}}]}},
            {"name": "c", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
            {"name": "e", "emptyDir": {}}
        ],
        "imagePullSecrets": [{"name": "pull"}]
    }))
    .unwrap();
    let uses = TemplateUses::from(spec);
    let required: Vec<String> = uses.required().map(ToString::to_string).collect();
    assert_eq!(
        required,
        [
            "configmap/both",
            "configmap/from",
            "secret/csi",
            "secret/env-secret",
            "secret/from",
            "secret/init",
            "secret/vol"
        ]
    );
    assert_eq!(uses.need(&ConfigRef::configmap("", "env-opt")), Some(Need::Optional));
    assert_eq!(uses.need(&ConfigRef::secret("", "projected")), Some(Need::Optional));
    assert_eq!(uses.need(&ConfigRef::secret("", "pull")), None);
}

fn uses_of(spec: &serde_json::Value) -> TemplateUses {
    serde_json::from_str::<PodSpec>(&spec.to_string()).unwrap().into()
}

fn required_keys(uses: &TemplateUses) -> Vec<String> {
    uses.required_keys().flat_map(|(name, keys)| keys.map(move |key| format!("{name}:{key}"))).collect()
}

#[test]
fn c3_5_a_required_key_is_one_that_a_use_names_which_is_not_optional() {
    let uses = uses_of(&json!({
        "containers": [{"env": [
            {"valueFrom": {"secretKeyRef": {"name": "s", "key": "env"}}},
            {"valueFrom": {"secretKeyRef": {"name": "s", "key": "opt", "optional": true}}},
            {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"valueFrom": null}
        ], "envFrom": [{"secretRef": {"name": "whole"}}]}],
        "initContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "c", "key": "init"}}}]}],
        "volumes": [
            {"secret": {"secretName": "s", "items": [{"key": "b", "path": "b"}, {"key": "a", "path": "x"}]}},
            {"configMap": {"name": "c", "items": [{"key": "no", "path": "p"}], "optional": true}},
            {"projected": {"sources": [
                {"configMap": {"name": "c", "items": [{"key": "projected", "path": "p"}]}},
                {"secret": {"name": "p", "items": [{"key": "no", "path": "p"}], "optional": true}}]}}
        ]
    }));
    assert_eq!(
        required_keys(&uses),
        ["configmap/c:init", "configmap/c:projected", "secret/s:a", "secret/s:b", "secret/s:env"]
    );
    assert_eq!(uses.need(&ConfigRef::secret("", "whole")), Some(Need::Required));
    assert_eq!(uses.need(&ConfigRef::secret("", "p")), Some(Need::Optional));
    assert!(!uses.is_truncated());
}

#[test]
fn c5_2_of_a_template_no_more_than_a_thousand_objects_and_keys_are_kept() {
    let env = |name: &dyn Fn(usize) -> String, key: &dyn Fn(usize) -> String, count| {
        let vars =
            (0..count).map(|n| json!({"valueFrom": {"configMapKeyRef": {"name": name(n), "key": key(n)}}}));
        uses_of(&json!({"containers": [{"env": vars.collect::<Vec<_>>()}]}))
    };
    let (same, other) = (|_| "same".to_owned(), |n: usize| format!("n{n}"));
    let objects = env(&other, &same, 1_001);
    assert_eq!((objects.required().count(), objects.is_truncated()), (1_000, true));
    let keys = env(&same, &other, 1_001);
    assert_eq!((required_keys(&keys).len(), keys.is_truncated()), (1_000, true));
    assert!(!env(&other, &same, 1_000).is_truncated() && !env(&same, &other, 1_000).is_truncated());
    let items = (0..1_001).map(|n| json!({"key": other(n)})).collect::<Vec<_>>();
    assert!(uses_of(&json!({"volumes": [{"configMap": {"name": "c", "items": items}}]})).is_truncated());
}

#[test]
fn c4_6_a_name_or_key_that_cannot_be_is_no_use() {
    for name in ["", "../../x", "A", &"a".repeat(254)] {
        let uses = uses_of(&json!({"volumes": [{"secret": {"secretName": name}}]}));
        assert_eq!(uses.required().count(), 0, "{name}");
    }
    let key = "k".repeat(254);
    let uses = uses_of(
        &json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s", "key": key}}}]}]}),
    );
    assert_eq!((uses.required().count(), required_keys(&uses).len()), (1, 0));
}

#[test]
fn c7_2_the_folder_that_the_kubelet_keeps_files_in_is_the_volume() {
    let followed = |sub_path: &str| {
        let uses = uses_of(&json!({
            "containers": [{"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": sub_path}]}],
            "volumes": [{"name": "v", "configMap": {"name": "c"}}]
        }));
        uses.read().map(|(_, keys)| keys).next()
    };
    assert_eq!((followed("..data"), followed("./..data/")), (Some(Keys::All), Some(Keys::All)));
    assert_eq!(followed("..data/k"), Some(Keys::only(["k"])));
    assert_eq!(followed("k/..data"), None, "no file is there");
}
