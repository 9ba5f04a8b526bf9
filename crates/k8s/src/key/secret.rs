//! The form of the key's Secret.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use pod_reloader_core::digest::DigestKey;

use super::{SECRET_NAME, STAND_DOWN, STANDING_DOWN};

/// A Secret with that key.
pub(super) fn to_secret(key: &DigestKey) -> Secret {
    let labels =
        [("app.kubernetes.io/name", "pod-reloader"), ("app.kubernetes.io/managed-by", "pod-reloader")];
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET_NAME.into()),
            labels: Some(labels.map(|(key, value)| (key.into(), value.into())).into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([
            ("id".into(), ByteString(key.id().into())),
            ("key".into(), ByteString(key.bytes().into())),
        ])),
        ..Secret::default()
    }
}

/// How long the installation still stands down, if it does.
pub(super) fn standing_down_until(secret: &Secret) -> Option<Timestamp> {
    let until: Timestamp = secret.annotations().get(STANDING_DOWN)?.parse().ok()?;
    let now = Timestamp::now();
    // What lies further ahead was written by a clock that is wrong, or by mistake.
    (until > now && until <= now + STAND_DOWN * 2).then_some(until)
}

/// The key of a Secret; `None` if it holds none.
pub(super) fn from_secret(secret: &Secret) -> Option<DigestKey> {
    let data = secret.data.as_ref()?;
    let id = String::from_utf8(data.get("id")?.0.clone()).ok()?;
    DigestKey::new(id, &data.get("key")?.0)
}
