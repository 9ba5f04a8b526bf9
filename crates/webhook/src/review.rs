//! `AdmissionReview` of `admission.k8s.io/v1`, reduced to what concerns us.
//!
//! The objects stay raw text: what we do not know must pass through untouched, so nothing is re-serialised.

use std::fmt::{self, Write};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
/// Names and the like are never longer; longer ones are not copied out of the body.
const MAX_TEXT_BYTES: usize = 4096;
/// So much of an error is shown: `serde_json` quotes what it did not expect, however long.
const MAX_ERROR_BYTES: usize = 300;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReview<'a> {
    #[serde(default, deserialize_with = "short")]
    api_version: Option<String>,
    #[serde(default, deserialize_with = "short")]
    kind: Option<String>,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

/// The request of a review.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// To be given back in the response.
    #[serde(deserialize_with = "required")]
    pub uid: String,
    /// The object's kind.
    pub kind: GroupVersionKind,
    /// `status`, `scale` and the like; empty or missing for the object itself.
    #[serde(default, deserialize_with = "short")]
    pub sub_resource: Option<String>,
    /// Missing where the API server is yet to generate it.
    #[serde(default, deserialize_with = "short")]
    pub name: Option<String>,
    /// The object's namespace.
    #[serde(default, deserialize_with = "short")]
    pub namespace: Option<String>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(deserialize_with = "required")]
    pub operation: String,
    /// The user who writes.
    pub user_info: Option<UserInfo>,
    /// The object as it would be stored.
    #[serde(borrow)]
    pub object: Option<&'a RawValue>,
    /// The object as it is stored.
    #[serde(borrow)]
    pub old_object: Option<&'a RawValue>,
    /// Nothing will be stored.
    pub dry_run: Option<bool>,
    /// `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub options: Option<Options>,
}

/// A kind with its group and version.
#[derive(Debug, Deserialize)]
pub struct GroupVersionKind {
    /// Empty for the core group.
    #[serde(default, deserialize_with = "required")]
    pub group: String,
    /// Such as `v1`.
    #[serde(default, deserialize_with = "required")]
    pub version: String,
    /// Such as `Deployment`.
    #[serde(deserialize_with = "required")]
    pub kind: String,
}

/// The user who writes, as the API server authenticated them.
#[derive(Debug, Deserialize)]
pub struct UserInfo {
    /// The user's name.
    #[serde(default, deserialize_with = "short")]
    pub username: Option<String>,
}

/// The options of a write.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// As the client chose it.
    #[serde(default, deserialize_with = "short")]
    pub field_manager: Option<String>,
}

/// Why a body is no review that could be answered.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Not JSON, or not of the right shape.
    #[error("the body is no {KIND} of {API_VERSION}: {}", Beginning::of(.0))]
    Malformed(#[from] serde_json::Error),
    /// Another kind or version of object.
    #[error("expected kind {KIND} of {API_VERSION}, got {kind:?} of {api_version:?}")]
    NotAReview {
        /// What it says it is.
        kind: String,
        /// Of which API version.
        api_version: String,
    },
    /// A review without a request.
    #[error("the {KIND} has no request")]
    NoRequest,
    /// A request that cannot be answered, since its uid is empty.
    #[error("the {KIND}'s request has no uid")]
    NoUid,
}

impl<'a> Request<'a> {
    /// Reads a review's request.
    ///
    /// # Errors
    /// If the body is not an `AdmissionReview` of `v1` with a request and a uid.
    pub fn parse(body: &'a [u8]) -> Result<Self, ReviewError> {
        let review: WireReview<'a> = serde_json::from_slice(body)?;
        let (kind, api_version) = (review.kind.unwrap_or_default(), review.api_version.unwrap_or_default());
        if kind != KIND || api_version != API_VERSION {
            return Err(ReviewError::NotAReview { kind, api_version });
        }
        let request = review.request.ok_or(ReviewError::NoRequest)?;
        if request.uid.is_empty() {
            return Err(ReviewError::NoUid);
        }
        Ok(request)
    }
}

/// A string, or nothing if it is longer than such strings are.
fn short<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(text) = Option::<&RawValue>::deserialize(deserializer)? else { return Ok(None) };
    if text.get().len() > MAX_TEXT_BYTES && text.get().starts_with('"') {
        return Ok(None);
    }
    // Not the inner error, which would quote what it is instead of a string.
    serde_json::from_str(text.get()).map_err(|_| D::Error::custom("expected a string"))
}

/// A string that is no longer than such strings are.
fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    short(deserializer)?.ok_or_else(|| D::Error::custom("a name is null, or too long"))
}

/// The beginning of what an error says.
#[derive(Default)]
struct Beginning(String);

impl Beginning {
    fn of(error: &impl fmt::Display) -> String {
        let mut beginning = Self::default();
        // It ends with an error once it has enough.
        let _ = write!(beginning, "{error}");
        beginning.0
    }
}

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_ERROR_BYTES - self.0.len();
        self.0.push_str(&text[..text.floor_char_boundary(room)]);
        if text.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The answer: always allowed.
#[derive(Debug, Default, PartialEq)]
pub struct Response {
    /// What is to be changed; empty for nothing.
    pub patch: json_patch::Patch,
    /// Shown to the user by kubectl and other clients.
    pub warnings: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireAnswer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: WireResponse<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireResponse<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    /// JSON Patch (RFC 6902), in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
}

impl Response {
    /// The review that carries this response to the request of that uid.
    ///
    /// # Errors
    /// Never in practice: patches and warnings are JSON.
    pub fn to_json(&self, uid: &str) -> Result<Vec<u8>, serde_json::Error> {
        use base64::Engine;
        let patch = if self.patch.0.is_empty() {
            None
        } else {
            let patch = serde_json::to_vec(&self.patch)?;
            Some(base64::engine::general_purpose::STANDARD.encode(patch))
        };
        serde_json::to_vec(&WireAnswer {
            api_version: API_VERSION,
            kind: KIND,
            response: WireResponse {
                uid,
                allowed: true,
                patch_type: patch.is_some().then_some("JSONPatch"),
                patch,
                warnings: &self.warnings,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: usize = 1 << 20;

    fn review(fields: &str) -> String {
        format!(r#"{{"apiVersion":"{API_VERSION}","kind":"{KIND}","request":{{{fields}}}}}"#)
    }

    #[test]
    fn c5_2_no_long_name_is_copied_out_of_a_body() {
        let long = "x".repeat(LONG);
        let text = |uid: &str, name: &str, user: &str| {
            review(&format!(
                r#""uid":"{uid}","operation":"UPDATE","kind":{{"kind":"Deployment"}},"name":"{name}",
                   "namespace":null,"userInfo":{{"username":"{user}"}},"object":{{}}"#
            ))
        };
        let body = text("u\\u00e9", &long, &long);
        let request = Request::parse(body.as_bytes()).unwrap();
        assert_eq!((request.uid.as_str(), request.name, request.namespace), ("ué", None, None));
        assert_eq!(request.user_info.unwrap().username, None);
        assert!(Request::parse(text(&long, "a", "b").as_bytes()).is_err());
    }

    #[test]
    fn c4_6_errors_are_short_whatever_they_are_about() {
        let long = "é".repeat(LONG);
        for body in [
            format!("\"{long}\""),
            format!("[\"{long}\"]"),
            format!(r#"{{"apiVersion":"{long}","kind":"{long}"}}"#),
            format!(r#"{{"apiVersion":["{long}"]}}"#),
            format!(r#"{{"request":"{long}"}}"#),
            review(&format!(r#""uid":"u","dryRun":"{long}""#)),
            review(&format!(r#""uid":"{long}","kind":{{"kind":"a"}},"operation":"UPDATE""#)),
        ] {
            let error = Request::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(error.len() < 500, "{}", &error[..1000]);
        }
    }
}
