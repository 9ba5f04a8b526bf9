//! Builders of objects, and what is read from them.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
pub use pod_reloader_core::annotation::{CONFIG_HASH, OBSERVED_CONFIG};
pub use pod_reloader_core::dialect::sap::{CONFIGMAPS, DISABLED, IGNORED, SECRETS};
pub use pod_reloader_core::kind::{BUILT_IN, KindRef, apps};
use serde_json::{Value, json};

/// The API of that kind in that namespace.
pub fn api(client: Client, kind: KindRef, namespace: &str) -> Api<DynamicObject> {
    let names = GroupVersionKind::gvk(kind.group, kind.version, kind.kind);
    Api::namespaced_with(client, namespace, &ApiResource::from_gvk_with_plural(&names, kind.plural))
}

/// A workload with those annotations and one container that uses no configuration.
#[expect(clippy::needless_pass_by_value, reason = "callers write json!({...}) in place")]
pub fn workload(kind: KindRef, name: &str, annotations: Value) -> DynamicObject {
    let mut object = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"selector": {"matchLabels": {"app": name}}}
    });
    let template = kind.template.iter().fold(&mut object, |parent, member| &mut parent[*member]);
    *template = json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "example.invalid/app:1"}]}
    });
    if kind != apps::DAEMON_SET {
        object["spec"]["replicas"] = json!(1);
    }
    if kind == apps::STATEFUL_SET {
        object["spec"]["serviceName"] = json!(name);
    }
    serde_json::from_value(object).expect("a workload is an object")
}

/// A Deployment that lists those `ConfigMaps` and uses none.
pub fn listing(name: &str, configmaps: &str) -> DynamicObject {
    workload(apps::DEPLOYMENT, name, json!({ CONFIGMAPS: configmaps }))
}

/// Has the first container take its environment from the `ConfigMap`.
pub fn env_from(mut workload: DynamicObject, configmap: &str, optional: bool) -> DynamicObject {
    let container = &mut workload.data["spec"]["template"]["spec"]["containers"][0];
    if container["envFrom"].is_null() {
        container["envFrom"] = json!([]);
    }
    if let Some(sources) = container["envFrom"].as_array_mut() {
        sources.push(json!({"configMapRef": {"name": configmap, "optional": optional}}));
    }
    workload
}

/// Another image for the first container.
pub fn image(mut workload: DynamicObject, image: &str) -> DynamicObject {
    workload.data["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    workload
}

/// The config hash on the pod template.
pub fn config_hash(workload: &DynamicObject) -> Option<String> {
    let annotations = &workload.data["spec"]["template"]["metadata"]["annotations"];
    annotations[CONFIG_HASH].as_str().map(str::to_owned)
}

/// An annotation of the workload itself.
pub fn annotation(workload: &DynamicObject, key: &str) -> Option<String> {
    workload.metadata.annotations.as_ref()?.get(key).cloned()
}

/// The observed-config annotation, parsed.
pub fn observed(workload: &DynamicObject) -> Option<Value> {
    serde_json::from_str(&annotation(workload, OBSERVED_CONFIG)?).ok()
}
