//! `AdmissionReview` of `admission.k8s.io/v1`, reduced to what concerns us.
//!
//! The objects stay raw text: what we do not know must pass through untouched, so nothing is re-serialised.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReview<'a> {
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

/// The request of a review.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// To be given back in the response.
    pub uid: String,
    /// The object's kind.
    pub kind: GroupVersionKind,
    /// `status`, `scale` and the like; empty or missing for the object itself.
    pub sub_resource: Option<String>,
    /// Missing where the API server is yet to generate it.
    pub name: Option<String>,
    /// The object's namespace.
    pub namespace: Option<String>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: String,
    /// Who is writing.
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
    #[serde(default)]
    pub group: String,
    /// Such as `v1`.
    #[serde(default)]
    pub version: String,
    /// Such as `Deployment`.
    pub kind: String,
}

/// Who is writing, as the API server authenticated it.
#[derive(Debug, Deserialize)]
pub struct UserInfo {
    /// The user's name.
    pub username: Option<String>,
}

/// The options of a write.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// As the client chose it.
    pub field_manager: Option<String>,
}

/// Why a body is no review that could be answered.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Not JSON, or not of the right shape.
    #[error("the body is no {KIND} of {API_VERSION}: {0}")]
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

/// The answer: always allowed.
#[derive(Debug, Default, PartialEq)]
pub struct Response {
    /// What is to be changed; empty for nothing.
    pub patch: json_patch::Patch,
    /// Shown to the user by kubectl and others.
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
