//! The Secret that all replicas share.

use std::collections::BTreeMap;
use std::time::SystemTime;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;

use super::authority::{AuthorityError, Pair, State, is_trustworthy, split_bundle};

const LEAF: (&str, &str) = ("tls.crt", "tls.key");
const SIGNER: (&str, &str) = ("ca-signing.crt", "ca-signing.key");
const NEXT: (&str, &str) = ("ca-next.crt", "ca-next.key");
/// Where others look for what to trust.
const BUNDLE: &str = "ca.crt";

/// The Secret that holds the state.
pub(crate) fn to_secret(name: &str, state: &State) -> Secret {
    let mut data = BTreeMap::new();
    let mut put = |key: &str, text: &str| data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
    for ((certificate, key), pair) in
        [(LEAF, Some(&state.leaf)), (SIGNER, Some(&state.signer)), (NEXT, state.next.as_ref())]
    {
        if let Some(pair) = pair {
            put(certificate, &pair.certificate);
            put(key, &pair.key);
        }
    }
    put(BUNDLE, &state.bundle());
    let labels =
        [("app.kubernetes.io/name", "pod-reloader"), ("app.kubernetes.io/managed-by", "pod-reloader")];
    Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(labels.map(|(key, value)| (key.into(), value.into())).into()),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".into()),
        data: Some(data),
        ..Secret::default()
    }
}

/// The state that the Secret holds.
pub(crate) fn from_secret(secret: &Secret, now: SystemTime) -> Result<State, AuthorityError> {
    let text = |key: &str| {
        let bytes = &secret.data.as_ref()?.get(key)?.0;
        std::str::from_utf8(bytes).ok()
    };
    let pair = |(certificate, key)| match (text(certificate), text(key)) {
        (Some(certificate), Some(key)) => Pair::read(certificate, key).map(Some),
        (None, None) => Ok(None),
        _ => Err(AuthorityError::Unusable("a certificate or its key is missing")),
    };
    let missing = AuthorityError::Unusable("tls.crt or the signing CA is missing");
    let (Some(leaf), Some(signer)) = (pair(LEAF)?, pair(SIGNER)?) else { return Err(missing) };
    let next = pair(NEXT)?;
    let known = [Some(&signer), next.as_ref()];
    let is_former = |pem: &String| {
        is_trustworthy(pem, now) && !known.iter().flatten().any(|pair| pair.certificate.trim() == pem.trim())
    };
    let former = split_bundle(text(BUNDLE).unwrap_or_default()).into_iter().filter(is_former).collect();
    Ok(State { leaf, signer, next, former })
}
