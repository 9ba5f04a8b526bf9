//! GET and LIST.

use serde_json::{Value, json};

use crate::request::RequestInfo;
use crate::resource::ResourceType;
use crate::select::Selector;
use crate::shared::Shared;
use crate::status::Answer;
use crate::store::{Key, Store};

pub(crate) fn get(store: &Store, request: &RequestInfo, key: &Key) -> Answer {
    match store.get(key) {
        Some(object) => Answer::ok(view(object, request.is_metadata)),
        None => Answer::not_found(request),
    }
}

/// The object as asked for: whole, or its metadata.
pub(crate) fn view(object: &Value, is_metadata: bool) -> Value {
    if is_metadata {
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
    } else {
        object.clone()
    }
}

/// A list, or a page of it, as of `stale_by` writes ago.
pub(crate) fn list(
    store: &Store,
    request: &RequestInfo,
    resource: &'static ResourceType,
    stale_by: u64,
) -> Result<Answer, Answer> {
    let selector = Selector::of(request)?;
    let asked_version = request.parameter("resourceVersion").unwrap_or_default();
    let continued = request.parameter("continue").filter(|token| !token.is_empty());
    let (version, after) = match continued {
        Some(token) => parse_token(token).ok_or_else(|| Answer::bad_request("continue key is not valid"))?,
        None => (listed_version(store, request, asked_version, stale_by)?, None),
    };
    if version < store.compacted {
        let message = if continued.is_some() {
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results."
        } else {
            "The resourceVersion for the provided list is too old."
        };
        return Err(Answer::expired(message));
    }
    // From its cache the server gives whole lists only.
    let limit = request.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(0_usize);
    let limit = if limit == 0 || (asked_version == "0" && continued.is_none()) { usize::MAX } else { limit };

    let snapshot = store.snapshot(resource, version);
    let position = |key: &Key| (key.namespace.clone(), key.name.clone());
    let mut rest = snapshot
        .iter()
        .filter(|(key, _)| after.as_ref().is_none_or(|after| position(key) > *after))
        .filter(|(_, object)| selector.matches(object));
    let mut items = vec![];
    let mut last = None;
    for (key, object) in rest.by_ref().take(limit) {
        let mut item = view(object, request.is_metadata);
        if let Some(item) = item.as_object_mut().filter(|_| !request.is_metadata) {
            // The server leaves these out of lists.
            item.remove("kind");
            item.remove("apiVersion");
        }
        items.push(item);
        last = Some(position(key));
    }
    let remaining = rest.count();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let Some((namespace, name)) = last.filter(|_| remaining > 0) {
        metadata["continue"] = json!(format!("{version}~{namespace}~{name}"));
        metadata["remainingItemCount"] = json!(remaining);
    }
    let (kind, api_version) = if request.is_metadata {
        ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
    } else {
        (format!("{}List", resource.kind), resource.api_version())
    };
    Ok(Answer::ok(json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items})))
}

fn listed_version(store: &Store, request: &RequestInfo, asked: &str, stale_by: u64) -> Result<u64, Answer> {
    let current = store.version.saturating_sub(stale_by).max(store.compacted);
    if matches!(asked, "" | "0") {
        return Ok(current);
    }
    let asked: u64 =
        asked.parse().map_err(|_| Answer::bad_request(format!("invalid resource version {asked:?}")))?;
    if asked > store.version {
        let mut answer = Answer::failure(504, "Timeout", "Timeout: Too large resource version");
        answer.body["details"] = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        });
        return Err(answer);
    }
    if request.parameter("resourceVersionMatch") == Some("Exact") {
        Ok(asked)
    } else {
        Ok(current.max(asked))
    }
}

fn parse_token(token: &str) -> Option<(u64, Option<(String, String)>)> {
    let mut parts = token.splitn(3, '~');
    let version = parts.next()?.parse().ok()?;
    Some((version, Some((parts.next()?.to_owned(), parts.next()?.to_owned()))))
}

/// The discovery of an API.
pub(crate) fn resources(shared: &Shared, group: &str, version: &str) -> Answer {
    let known = ResourceType::of_api(group, version).filter(|resource| shared.has(resource));
    let resources: Vec<_> = known
        .map(|resource| {
            json!({"name": resource.plural, "singularName": "", "kind": resource.kind,
                "namespaced": resource.is_namespaced, "verbs": ["get", "list", "watch", "patch"]})
        })
        .collect();
    if resources.is_empty() {
        return Answer::no_such_path();
    }
    Answer::ok(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"),
        "resources": resources}),
    )
}
