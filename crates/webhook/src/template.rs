//! Whether a write makes another pod template, our hash apart.

use pod_reloader_core::annotation::CONFIG_HASH;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    spec: Option<Spec<'a>>,
}

#[derive(Deserialize)]
struct Spec<'a> {
    #[serde(borrow)]
    template: Option<&'a RawValue>,
}

/// Compares the pod templates of two versions of a workload. What cannot be read counts as changed: reading the
/// configuration once too often is harmless.
pub(crate) fn differs(old: &RawValue, new: &RawValue) -> bool {
    let text = |object: &RawValue| {
        let object: Object<'_> = serde_json::from_str(object.get()).ok()?;
        Some(object.spec?.template?.get().to_owned())
    };
    match (text(old), text(new)) {
        (Some(old), Some(new)) => old != new && without_hash(&old) != without_hash(&new),
        (old, new) => old != new,
    }
}

fn without_hash(template: &str) -> Option<Value> {
    let mut template: Value = serde_json::from_str(template).ok()?;
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(CONFIG_HASH);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
        metadata.retain(|_, value| !value.is_null());
        if metadata.is_empty() {
            template.as_object_mut()?.remove("metadata");
        }
    }
    Some(template)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn raw(template: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(&json!({"spec": {"replicas": 1, "template": template}})).unwrap()
    }

    #[test]
    fn c4_3_only_our_hash_is_left_out_of_the_comparison() {
        let bare = json!({"spec": {"containers": []}});
        let with = |annotations: Value| json!({"metadata": {"annotations": annotations}, "spec": {"containers": []}});
        for (old, new, expected) in [
            (bare.clone(), bare.clone(), false),
            (bare.clone(), with(json!({CONFIG_HASH: "h"})), false),
            (with(json!({CONFIG_HASH: "h"})), with(json!({CONFIG_HASH: "i"})), false),
            (
                with(json!({CONFIG_HASH: "h"})),
                json!({"metadata": {"creationTimestamp": null}, "spec": {"containers": []}}),
                false,
            ),
            (with(json!({CONFIG_HASH: "h"})), with(json!({CONFIG_HASH: "h", "restartedAt": "now"})), true),
            (bare.clone(), with(json!({"a": "b"})), true),
            (bare, json!({"spec": {"containers": [{"image": "x"}]}}), true),
        ] {
            assert_eq!(differs(&raw(&old), &raw(&new)), expected, "{old} {new}");
        }
    }
}
