//! The two Secrets that all replicas share: one has the certificate that is served and what to trust, which other
//! software may read or mount; the other has the CAs with their keys.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use pod_reloader_k8s::own_secret::{RENEW, own_secret};
use serde::{Deserialize, Serialize};

use crate::authority::{Authority, Former, Request};
use crate::lifetimes::Lifetimes;
use crate::pair::{AuthorityError, Pair, split_bundle};

const LEAF: (&str, &str) = ("tls.crt", "tls.key");
const SIGNER: (&str, &str) = ("ca-signing.crt", "ca-signing.key");
const NEXT: (&str, &str) = ("ca-next.crt", "ca-next.key");
/// CAs that do not sign, with their times.
const FORMER: &str = "ca-former.json";
const RENEWED: &str = "renewed";
/// The key that holds the CA bundle, where other software reads it.
const BUNDLE: &str = "ca.crt";
/// Times that lie further ahead than they should by this much are of another clock.
const SKEW: Duration = Duration::from_mins(1);

#[derive(Serialize, Deserialize)]
struct StoredFormer {
    certificate: String,
    #[serde(default)]
    until: Option<Timestamp>,
}

/// The Secret that is to take the place of that one. Metadata that other clients set stays.
pub(crate) fn updated(before: &Secret, new: Secret) -> Secret {
    let mut metadata = before.metadata.clone();
    metadata.managed_fields = None;
    metadata.labels.get_or_insert_default().extend(new.metadata.labels.unwrap_or_default());
    // The type cannot be changed once it exists.
    Secret { metadata, type_: before.type_.clone(), ..new }
}

/// The Secret without the request that it carries: it is met.
pub(crate) fn without_request(mut secret: Secret) -> Secret {
    if let Some(annotations) = &mut secret.metadata.annotations {
        annotations.remove(RENEW);
    }
    secret
}

/// What a user asks for by the annotation [`RENEW`], see [`Request`].
pub(crate) fn request(secret: &Secret) -> Option<Request> {
    secret.metadata.annotations.as_ref()?.get(RENEW).map(|value| Request::parse(value))
}

/// The Secret with the certificate that is served and the CAs to be trusted.
pub(crate) fn leaf_secret(name: &str, leaf: &Pair, authority: &Authority) -> Secret {
    let mut data = BTreeMap::new();
    put_pair(&mut data, LEAF, leaf);
    put(&mut data, BUNDLE, &authority.bundle());
    own_secret(name, "kubernetes.io/tls", data)
}

/// The Secret with the CAs.
pub(crate) fn ca_secret(name: &str, authority: &Authority) -> Secret {
    let mut data = BTreeMap::new();
    put_pair(&mut data, SIGNER, &authority.signer);
    if let Some(next) = &authority.next {
        put_pair(&mut data, NEXT, next);
    }
    if !authority.former.is_empty() {
        let former: Vec<_> = authority.former.iter().map(to_stored).collect();
        put(&mut data, FORMER, &serde_json::to_string(&former).expect("strings are JSON"));
    }
    if let Some(renewed) = &authority.renewed {
        put(&mut data, RENEWED, renewed);
    }
    own_secret(name, "Opaque", data)
}

fn to_stored(former: &Former) -> StoredFormer {
    let seconds = former.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let until = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    StoredFormer { certificate: former.certificate.clone(), until }
}

/// The certificate that the Secret holds.
pub(crate) fn leaf(secret: &Secret) -> Result<Pair, AuthorityError> {
    pair(secret, LEAF)?.ok_or(AuthorityError::Unusable("tls.crt is missing"))
}

/// The CAs that the Secret holds. A time that is missing or too far ahead starts over; whether something of that kind
/// has to be stored is for [`is_tidy`] to say.
pub(crate) fn authority(
    secret: &Secret,
    now: SystemTime,
    lifetimes: &Lifetimes,
) -> Result<Authority, AuthorityError> {
    let signer = pair(secret, SIGNER)?.ok_or(AuthorityError::Unusable("the signing CA is missing"))?;
    let mut authority = Authority { next: pair(secret, NEXT)?, ..Authority::of(signer) };
    authority.renewed = text(secret, RENEWED).map(str::to_owned);
    // If it is corrupt, trust in CAs is lost that would end soon anyway; all the rest is worth more.
    let stored = text(secret, FORMER).and_then(|text| serde_json::from_str::<Vec<StoredFormer>>(text).ok());
    for StoredFormer { certificate, until } in stored.unwrap_or_default() {
        let known = authority.former.len();
        authority = authority.also_trusting(&certificate, now, lifetimes);
        let until = until.and_then(|until| u64::try_from(until.as_second()).ok());
        let until = until.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        if let (Some(until), Some(new)) = (until, authority.former.get_mut(known))
            && until <= now + lifetimes.former + SKEW
        {
            new.until = until;
        }
    }
    Ok(authority)
}

/// Whether the Secret holds exactly what it should.
pub(crate) fn is_tidy(stored: &Secret, wanted: &Secret) -> bool {
    stored.data == wanted.data
}

/// The CAs of an earlier release, which kept them beside the certificate. Only what is published is taken for such: a
/// user who may write here must not gain trust in a CA by that.
pub(crate) fn earlier_authority(secret: &Secret, published: &str) -> Option<Authority> {
    let published = split_bundle(published);
    let trusted =
        |pair: &Pair| split_bundle(&pair.certificate).first().is_some_and(|it| published.contains(it));
    let signer = pair(secret, SIGNER).ok().flatten().filter(trusted)?;
    let next = pair(secret, NEXT).ok().flatten().filter(trusted);
    Some(Authority { next, ..Authority::of(signer) })
}

/// Whether keys of CAs lie beside the certificate.
pub(crate) fn has_ca_keys(secret: &Secret) -> bool {
    let keys = [SIGNER.0, SIGNER.1, NEXT.0, NEXT.1];
    secret.data.as_ref().is_some_and(|data| keys.iter().any(|key| data.contains_key(*key)))
}

/// The CA that signs, if that part of a corrupt Secret is valid: what it signed stays trusted.
pub(crate) fn signer(secret: &Secret) -> Option<Pair> {
    pair(secret, SIGNER).ok().flatten()
}

/// The CAs that the Secret says were published.
pub(crate) fn bundle(secret: &Secret) -> &str {
    text(secret, BUNDLE).unwrap_or_default()
}

fn put(data: &mut BTreeMap<String, ByteString>, key: &str, text: &str) {
    data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
}

fn put_pair(data: &mut BTreeMap<String, ByteString>, (certificate, key): (&str, &str), pair: &Pair) {
    put(data, certificate, &pair.certificate);
    put(data, key, &pair.key);
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
