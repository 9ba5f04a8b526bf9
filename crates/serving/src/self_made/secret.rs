//! The Secret that all replicas share.

use std::collections::BTreeMap;
use std::time::SystemTime;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;

use super::authority::State;
use super::pair::{AuthorityError, Pair};

const LEAF: (&str, &str) = ("tls.crt", "tls.key");
const SIGNER: (&str, &str) = ("ca-signing.crt", "ca-signing.key");
const NEXT: (&str, &str) = ("ca-next.crt", "ca-next.key");
/// On the Secret, whatever its value: renew now. It goes when that is done.
const RENEW: &str = "pod-reloader.cs.sap.com/renew";
/// Where others look for what to trust.
const BUNDLE: &str = "ca.crt";

/// The Secret that is to take the place of that one. What others put on its metadata stays.
pub(crate) fn updated(before: &Secret, state: &State) -> Secret {
    let new = to_secret(before.metadata.name.as_deref().unwrap_or_default(), state);
    let mut metadata = before.metadata.clone();
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(RENEW);
    }
    metadata.labels.get_or_insert_default().extend(new.metadata.labels.unwrap_or_default());
    // The type cannot be changed once it exists.
    Secret { metadata, type_: before.type_.clone(), ..new }
}

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

/// Whether somebody asks for new certificates, by the annotation [`RENEW`].
pub(crate) fn is_renewal_asked(secret: &Secret) -> bool {
    secret.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(RENEW))
}

/// The state that the Secret holds.
pub(crate) fn from_secret(secret: &Secret, now: SystemTime) -> Result<State, AuthorityError> {
    let missing = AuthorityError::Unusable("tls.crt or the signing CA is missing");
    let (Some(leaf), Some(signer)) = (pair(secret, LEAF)?, pair(secret, SIGNER)?) else {
        return Err(missing);
    };
    let next = pair(secret, NEXT)?;
    Ok(State { leaf, signer, next, former: vec![] }.also_trusting(bundle(secret), now))
}

/// The CA that signs, if that part of a damaged Secret is in order: what it signed stays trusted.
pub(crate) fn signer(secret: &Secret) -> Option<Pair> {
    pair(secret, SIGNER).ok().flatten()
}

/// The CAs that the Secret says were published.
pub(crate) fn bundle(secret: &Secret) -> &str {
    text(secret, BUNDLE).unwrap_or_default()
}

fn pair(secret: &Secret, (certificate, key): (&str, &str)) -> Result<Option<Pair>, AuthorityError> {
    match (text(secret, certificate), text(secret, key)) {
        (Some(certificate), Some(key)) => Pair::read(certificate, key).map(Some),
        (None, None) => Ok(None),
        _ => Err(AuthorityError::Unusable("a certificate or its key is missing")),
    }
}

fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
}
