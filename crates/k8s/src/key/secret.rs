//! The form of the key's Secret.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use pod_reloader_core::digest::DigestKey;
use serde::{Deserialize, Serialize};

use crate::own_secret::{RENEW, own_secret};

/// The Secret's name, in the operator's namespace.
pub const SECRET_NAME: &str = "pod-reloader-key";
/// How long a key that was replaced on purpose is kept, for what is still recorded with it.
pub const FORMER_KEPT: Duration = Duration::from_hours(24);

/// On the Secret: until when the installation leaves all workloads to another one (RFC 3339).
pub const STANDING_DOWN: &str = "pod-reloader.cs.sap.com/standing-down-until";
/// How long it does; then it checks whether the other one is still there.
pub const STAND_DOWN: Duration = Duration::from_hours(1);

/// In the Secret: the keys that this one replaced, with their times.
const FORMER: &str = "former";
/// So many of them at most: what is older is compared no more.
const MAX_FORMER: usize = 3;

/// A key that was replaced on purpose, and until when it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FormerKey {
    pub(super) key: DigestKey,
    pub(super) until: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct StoredFormer {
    id: String,
    key: ByteString,
    until: Timestamp,
}

/// A Secret with that key.
pub(super) fn to_secret(key: &DigestKey) -> Secret {
    let data = BTreeMap::from([
        ("id".into(), ByteString(key.id().into())),
        ("key".into(), ByteString(key.bytes().into())),
    ]);
    own_secret(SECRET_NAME, "Opaque", data)
}

/// What is to take the place of a corrupt Secret. Its annotations stay: that this installation stands down, say, or
/// that another key is asked for.
pub(super) fn repaired(damaged: &Secret, held: &DigestKey, former: &[FormerKey]) -> Secret {
    let mut repaired = with_former(to_secret(held), former);
    repaired.metadata.resource_version.clone_from(&damaged.metadata.resource_version);
    repaired.metadata.annotations.clone_from(&damaged.metadata.annotations);
    repaired.type_.clone_from(&damaged.type_);
    repaired
}

/// The Secret with those former keys.
pub(super) fn with_former(mut secret: Secret, former: &[FormerKey]) -> Secret {
    let stored: Vec<_> = former
        .iter()
        .take(MAX_FORMER)
        .map(|former| StoredFormer {
            id: former.key.id().to_owned(),
            key: ByteString(former.key.bytes().into()),
            until: former.until,
        })
        .collect();
    let data = secret.data.get_or_insert_default();
    if stored.is_empty() {
        data.remove(FORMER);
    } else {
        let text = serde_json::to_vec(&stored).expect("strings are JSON");
        data.insert(FORMER.into(), ByteString(text));
    }
    secret
}

/// The former keys that are still to be kept, and whether the Secret holds others, too.
pub(super) fn former(secret: &Secret, now: Timestamp) -> (Vec<FormerKey>, bool) {
    let Some(text) = secret.data.as_ref().and_then(|data| data.get(FORMER)) else { return (vec![], false) };
    let stored: Vec<StoredFormer> = serde_json::from_slice(&text.0).unwrap_or_default();
    let all = stored.len();
    // What lies further ahead was written by a clock that is wrong, or by mistake.
    let latest = now + FORMER_KEPT * 2;
    let kept: Vec<_> = stored
        .into_iter()
        .filter(|former| former.until > now && former.until <= latest)
        .filter_map(|StoredFormer { id, key, until }| {
            Some(FormerKey { key: DigestKey::new(id, &key.0)?, until })
        })
        .take(MAX_FORMER)
        .collect();
    let has_others = kept.len() < all || all == 0;
    (kept, has_others)
}

/// Whether another key is asked for.
pub(super) fn is_rotation_asked(secret: &Secret) -> bool {
    secret.annotations().contains_key(RENEW)
}

/// How long the installation still stands down, if it does.
pub(super) fn standing_down_until(secret: &Secret) -> Option<Timestamp> {
    let until: Timestamp = secret.annotations().get(STANDING_DOWN)?.parse().ok()?;
    let now = Timestamp::now();
    // What lies further ahead was written by a clock that is wrong, or by mistake.
    (until > now && until <= now + STAND_DOWN * 2).then_some(until)
}

/// The key of a Secret, with its former ones; `None` if it holds none.
pub(super) fn from_secret(secret: &Secret) -> Option<DigestKey> {
    let data = secret.data.as_ref()?;
    let id = String::from_utf8(data.get("id")?.0.clone()).ok()?;
    let (former, _) = former(secret, Timestamp::now());
    let key = DigestKey::new(id, &data.get("key")?.0)?;
    Some(key.with_former(former.into_iter().map(|former| former.key)))
}
