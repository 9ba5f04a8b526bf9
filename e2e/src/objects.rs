//! Builders of objects, and what is read from them.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
pub use pod_reloader_core::annotation::{CONFIG_HASH, OBSERVED_CONFIG};
pub use pod_reloader_core::dialect::sap::{CONFIGMAPS, DISABLED, IGNORED, SECRETS};
pub use pod_reloader_core::kind::{BUILT_IN, KindRef, Kinds, PRESETS, Shape, apps};
use serde_json::{Value, json};

use crate::kinds;

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
        "spec": kinds::spec(kind, name)
    });
    let template = kind.template.iter().fold(&mut object, |parent, member| &mut parent[*member]);
    *template = json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "example.invalid/app:1"}]}
    });
    serde_json::from_value(object).expect("a workload is an object")
}

/// A Deployment that lists those `ConfigMaps` and uses none.
pub fn listing(name: &str, configmaps: &str) -> DynamicObject {
    workload(apps::DEPLOYMENT, name, json!({ CONFIGMAPS: configmaps }))
}

/// Has the first container take its environment from the `ConfigMap`.
pub fn env_from(mut workload: DynamicObject, configmap: &str, optional: bool) -> DynamicObject {
    let container = &mut pod_template_mut(&mut workload)["spec"]["containers"][0];
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
    pod_template_mut(&mut workload)["spec"]["containers"][0]["image"] = json!(image);
    workload
}

/// The config hash on the pod template.
pub fn config_hash(workload: &DynamicObject) -> Option<String> {
    let template = template_path(workload).iter().fold(&workload.data, |parent, member| &parent[*member]);
    template["metadata"]["annotations"][CONFIG_HASH].as_str().map(str::to_owned)
}

/// Where the pod template is; items of a list, which do not say their kind, are taken for `apps/v1`'s.
fn template_path(workload: &DynamicObject) -> &'static [&'static str] {
    let types = workload.types.as_ref();
    let is_it = |kind: &KindRef| {
        types.is_some_and(|types| types.kind == kind.kind && types.api_version == kind.api_version())
    };
    BUILT_IN.into_iter().find(is_it).unwrap_or(apps::DEPLOYMENT).template
}

fn pod_template_mut(workload: &mut DynamicObject) -> &mut Value {
    let path = template_path(workload);
    path.iter().fold(&mut workload.data, |parent, member| &mut parent[*member])
}

/// An annotation of the workload itself.
pub fn annotation(workload: &DynamicObject, key: &str) -> Option<String> {
    workload.metadata.annotations.as_ref()?.get(key).cloned()
}

/// The observed-config annotation, parsed.
pub fn observed(workload: &DynamicObject) -> Option<Value> {
    serde_json::from_str(&annotation(workload, OBSERVED_CONFIG)?).ok()
}
