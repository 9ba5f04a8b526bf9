//! What the operator's own Secrets have in common.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;

/// On one of the operator's own Secrets: renew what it holds now. It is removed when that is done.
pub const RENEW: &str = "pod-reloader.cs.sap.com/renew";

/// A Secret of that name and type, which says whose it is.
pub fn own_secret(name: &str, kind: &str, data: BTreeMap<String, ByteString>) -> Secret {
    let labels =
        [("app.kubernetes.io/name", "pod-reloader"), ("app.kubernetes.io/managed-by", "pod-reloader")];
    Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(labels.map(|(key, value)| (key.into(), value.into())).into()),
            ..ObjectMeta::default()
        },
        type_: Some(kind.into()),
        data: Some(data),
        ..Secret::default()
    }
}
