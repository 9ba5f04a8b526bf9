//! POST, PUT, PATCH and DELETE.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use json_patch::PatchOperation;
use serde_json::{Value, json};

use crate::read::view;
use crate::request::RequestInfo;
use crate::resource::ResourceType;
use crate::shared::Shared;
use crate::status::Answer;
use crate::store::{Author, Key, Store};

/// As often does the server try a patch that names no version.
const ATTEMPTS: usize = 5;
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// A write of a workload, on its way into the store.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The resource's plural.
    pub resource: &'static str,
    /// The object before; `None` for a creation.
    pub old: Option<Value>,
    /// The object as it should be.
    pub new: Value,
    /// The authenticated user.
    pub user: String,
    /// The field manager.
    pub manager: String,
    /// Whether nothing will be stored.
    pub is_dry_run: bool,
}

/// An admission hook's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP code.
    pub code: u16,
    /// Whose policy, and why.
    pub message: String,
}

pub(crate) type HookFn = dyn Fn(Admission) -> BoxFuture<'static, Result<Value, Refusal>> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Hook(pub(crate) Arc<HookFn>);

impl Hook {
    pub(crate) fn new<F, R>(hook: F) -> Self
    where
        F: Fn(Admission) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, Refusal>> + Send + 'static,
    {
        Self(Arc::new(move |admission| Box::pin(hook(admission))))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// Carries out the request.
pub(crate) async fn write(
    shared: &Shared,
    request: &RequestInfo,
    resource: &'static ResourceType,
    author: Author,
    body: &[u8],
) -> Result<Answer, Answer> {
    match (request.method.as_str(), request.is_collection) {
        ("POST", true) => create(shared, request, resource, author, body).await,
        ("PUT", false) => {
            let object = parse(body)?;
            if resource.plural == "leases" && version_of(&object).is_empty() {
                return Err(Answer::invalid("metadata.resourceVersion: must be specified for an update"));
            }
            let update = |old: Option<&Value>| {
                old.ok_or_else(|| Answer::not_found(request))?;
                Ok(object.clone())
            };
            apply(shared, request, &key_of(request, resource), author, &update).await
        }
        ("PATCH", false) => patch(shared, request, resource, author, body).await,
        ("DELETE", false) => {
            let key = key_of(request, resource);
            // Of the options, only what has to be the same, and whether it is meant.
            let options = if body.is_empty() { Value::Null } else { parse(body)? };
            let expected = json!({"metadata": options["preconditions"]});
            let deleted = shared.change(|store| {
                store.get(&key).map_or(Ok(()), |old| refuse_other_version(request, old, &expected))?;
                if request.is_dry_run() || options["dryRun"] == json!(["All"]) {
                    return Ok(store.get(&key).cloned());
                }
                Ok(store.delete(&key, &author))
            })?;
            deleted
                .map(|object| Answer::ok(view(&object, request.is_metadata)))
                .ok_or_else(|| Answer::not_found(request))
        }
        _ => Err(Answer::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the resource",
        )),
    }
}

async fn create(
    shared: &Shared,
    request: &RequestInfo,
    resource: &'static ResourceType,
    author: Author,
    body: &[u8],
) -> Result<Answer, Answer> {
    let mut object = parse(body)?;
    if resource.plural == "selfsubjectreviews" {
        let groups = ["system:serviceaccounts", "system:authenticated"];
        object["status"] = json!({"userInfo": {"username": author.user, "groups": groups}});
        return Ok(Answer::created(object));
    }
    if object["metadata"]["name"].as_str().unwrap_or_default().is_empty() {
        let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default().to_owned();
        if prefix.is_empty() {
            return Err(Answer::invalid("name or generateName is required"));
        }
        let suffix = shared.change(Store::unique);
        object["metadata"]["name"] = json!(format!("{prefix}{suffix:05x}"));
    }
    if let Some(namespace) = &request.namespace {
        object["metadata"]["namespace"] = json!(namespace);
        refuse_bad_namespace(shared, namespace)?;
    }
    let key = Key::of(resource, &object);
    let create = |old: Option<&Value>| match old {
        Some(_) => Err(Answer::already_exists(request, &key.name)),
        None => Ok(object.clone()),
    };
    apply(shared, request, &key, author, &create).await
}

fn refuse_bad_namespace(shared: &Shared, namespace: &str) -> Result<(), Answer> {
    let Some(resource) = ResourceType::by_plural("", "v1", "namespaces") else { return Ok(()) };
    let key = Key { resource, namespace: String::new(), name: namespace.to_owned() };
    let found = shared.lock().store.get(&key).cloned();
    match found {
        None => Err(Answer::failure(404, "NotFound", format!("namespaces \"{namespace}\" not found"))),
        Some(object) if object["metadata"]["deletionTimestamp"].is_string() => Err(Answer::failure(
            403,
            "Forbidden",
            format!("unable to create new content in namespace {namespace} because it is being terminated"),
        )),
        Some(_) => Ok(()),
    }
}

async fn patch(
    shared: &Shared,
    request: &RequestInfo,
    resource: &'static ResourceType,
    author: Author,
    body: &[u8],
) -> Result<Answer, Answer> {
    let key = key_of(request, resource);
    let content_type = request.content_type.split(';').next().unwrap_or_default().trim();
    match content_type {
        "application/json-patch+json" => {
            let operations: Vec<PatchOperation> =
                serde_json::from_slice(body).map_err(|error| Answer::bad_request(error.to_string()))?;
            let update = |old: Option<&Value>| {
                let old = old.ok_or_else(|| Answer::not_found(request))?;
                crate::json_patch::apply(old, &operations).map_err(|_| {
                    Answer::invalid("the server rejected our request due to an error in our request")
                })
            };
            apply(shared, request, &key, author, &update).await
        }
        // Strategic merges and applies as far as they agree with merges: no lists, no ownership.
        "application/merge-patch+json"
        | "application/strategic-merge-patch+json"
        | "application/apply-patch+yaml" => {
            let patch = parse(body)?;
            let is_apply = content_type == "application/apply-patch+yaml";
            let update = |old: Option<&Value>| {
                let mut object = match old {
                    Some(old) => old.clone(),
                    None if is_apply => json!({"metadata": {"namespace": request.namespace}}),
                    None => return Err(Answer::not_found(request)),
                };
                json_patch::merge(&mut object, &patch);
                Ok(object)
            };
            apply(shared, request, &key, author, &update).await
        }
        other => {
            let message = format!("the body of the request was in an unknown format: {other}");
            Err(Answer::failure(415, "UnsupportedMediaType", message))
        }
    }
}

/// Makes the new object of the old one, asks the hook and stores it, unless the old one changed meanwhile.
async fn apply(
    shared: &Shared,
    request: &RequestInfo,
    key: &Key,
    author: Author,
    make: &(dyn Fn(Option<&Value>) -> Result<Value, Answer> + Sync),
) -> Result<Answer, Answer> {
    for _ in 0..ATTEMPTS {
        let (old, mut new, hook) = {
            let state = shared.lock();
            let old = state.store.get(key).cloned();
            let new = make(old.as_deref())?;
            if let Some(old) = &old {
                refuse_other_version(request, old, &new)?;
            }
            (old, new, state.hook.clone())
        };
        new["metadata"]["name"] = json!(key.name);
        if key.resource.is_namespaced {
            new["metadata"]["namespace"] = json!(key.namespace);
        }
        let deletion = old.as_ref().map_or(Value::Null, |old| old["metadata"]["deletionTimestamp"].clone());
        new["metadata"]["deletionTimestamp"] = deletion;
        new = shared.lock().store.prepare(key, new);
        if let Some(hook) = hook.filter(|_| key.resource.is_workload()) {
            let admission = Admission {
                resource: key.resource.plural,
                old: old.as_deref().cloned(),
                new,
                user: author.user.clone(),
                manager: author.manager.clone(),
                is_dry_run: request.is_dry_run(),
            };
            new = (hook.0)(admission)
                .await
                .map_err(|refusal| Answer::failure(refusal.code, "Forbidden", refusal.message))?;
            new = shared.lock().store.prepare(key, new);
        }
        refuse_long_annotations(&new["metadata"])?;
        refuse_long_annotations(&key.resource.template(&new)["metadata"])?;
        let stored = shared.change(|store| {
            if store.get(key).map(|object| version_of(object)) != old.as_deref().map(version_of) {
                return None;
            }
            if request.is_dry_run() {
                return Some(Arc::new(new));
            }
            let stored = store.commit(key, new, &author);
            let is_over = stored["metadata"]["deletionTimestamp"].is_string()
                && stored["metadata"]["finalizers"].is_null()
                && key.resource.plural != "namespaces";
            if is_over { store.delete(key, &author) } else { Some(stored) }
        });
        if let Some(object) = stored {
            let object = view(&object, request.is_metadata);
            return Ok(if old.is_some() { Answer::ok(object) } else { Answer::created(object) });
        }
    }
    Err(Answer::conflict(request))
}

fn refuse_other_version(request: &RequestInfo, old: &Value, new: &Value) -> Result<(), Answer> {
    let differs = |field: &str| {
        let wanted = new["metadata"][field].as_str().unwrap_or_default();
        !wanted.is_empty() && old["metadata"][field].as_str() != Some(wanted)
    };
    if differs("resourceVersion") || differs("uid") { Err(Answer::conflict(request)) } else { Ok(()) }
}

fn refuse_long_annotations(metadata: &Value) -> Result<(), Answer> {
    let annotations = metadata["annotations"].as_object().into_iter().flatten();
    let bytes: usize =
        annotations.map(|(name, value)| name.len() + value.as_str().unwrap_or_default().len()).sum();
    if bytes > MAX_ANNOTATION_BYTES {
        return Err(Answer::invalid("metadata.annotations: Too long: may not be more than 262144 bytes"));
    }
    Ok(())
}

fn key_of(request: &RequestInfo, resource: &'static ResourceType) -> Key {
    Key {
        resource,
        namespace: request.namespace.clone().unwrap_or_default(),
        name: request.name.clone().unwrap_or_default(),
    }
}

fn version_of(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

fn parse(body: &[u8]) -> Result<Value, Answer> {
    serde_json::from_slice(body).map_err(|error| Answer::bad_request(error.to_string()))
}
