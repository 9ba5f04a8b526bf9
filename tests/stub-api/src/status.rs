//! What the API server answers when it does not do what it was asked.

use serde_json::{Value, json};

use crate::request::RequestInfo;

/// An answer: HTTP code and body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn ok(body: Value) -> Self {
        Self { code: 200, body }
    }

    pub(crate) fn created(body: Value) -> Self {
        Self { code: 201, body }
    }

    /// A `Status` of kind `Failure`.
    pub(crate) fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message.into(), "reason": reason, "code": code,
        });
        Self { code, body }
    }

    fn about(mut self, request: &RequestInfo) -> Self {
        self.body["details"] = json!({
            "name": request.name.clone().unwrap_or_default(),
            "group": request.group(),
            "kind": request.resource,
        });
        self
    }

    pub(crate) fn not_found(request: &RequestInfo) -> Self {
        let message =
            format!("{} \"{}\" not found", qualified(request), request.name.as_deref().unwrap_or_default());
        Self::failure(404, "NotFound", message).about(request)
    }

    pub(crate) fn no_such_path() -> Self {
        Self::failure(404, "NotFound", "the server could not find the requested resource")
    }

    pub(crate) fn already_exists(request: &RequestInfo, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", qualified(request));
        Self::failure(409, "AlreadyExists", message).about(request)
    }

    pub(crate) fn conflict(request: &RequestInfo) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please apply your changes to \
             the latest version and try again",
            qualified(request),
            request.name.as_deref().unwrap_or_default()
        );
        Self::failure(409, "Conflict", message).about(request)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::failure(422, "Invalid", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// What the server says with that code when it is in trouble.
    pub(crate) fn trouble(code: u16, request: &RequestInfo) -> Self {
        match code {
            403 => {
                let scope = match &request.namespace {
                    Some(namespace) => format!("in the namespace \"{namespace}\""),
                    None => "at the cluster scope".to_owned(),
                };
                let message = format!(
                    "{} is forbidden: User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {scope}",
                    qualified(request),
                    crate::OPERATOR_USER,
                    request.verb(),
                    request.resource,
                    request.group()
                );
                Self::failure(403, "Forbidden", message).about(request)
            }
            404 => Self::no_such_path(),
            409 => Self::conflict(request),
            410 => Self::expired("The resourceVersion for the provided watch is too old."),
            422 => Self::invalid("the object is invalid"),
            429 => {
                let mut answer = Self::failure(
                    429,
                    "TooManyRequests",
                    "The server has received too many requests and has asked us to try again later",
                );
                answer.body["details"] = json!({"retryAfterSeconds": 1});
                answer
            }
            503 => {
                let message = "The server is currently unable to handle the request";
                Self::failure(503, "ServiceUnavailable", message)
            }
            504 => {
                Self::failure(504, "Timeout", "Timeout: request did not complete within the allotted timeout")
            }
            _ => {
                Self::failure(code, "InternalError", "Internal error occurred: etcdserver: request timed out")
            }
        }
    }

    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.body["details"]["retryAfterSeconds"].as_u64().filter(|_| self.code >= 400)
    }
}

fn qualified(request: &RequestInfo) -> String {
    match request.group() {
        "" => request.resource.to_owned(),
        group => format!("{}.{group}", request.resource),
    }
}
