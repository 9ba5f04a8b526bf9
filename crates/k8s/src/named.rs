//! One object that the operator keeps, known by its name: a Secret of its own, or the webhook configuration.
//!
//! It is listed and watched by its name, never read: `list` and `watch` are all the rights that takes, and a watch can
//! begin at a list's version, for which an object's own may be too old. All replicas keep the same objects, so every
//! write is guarded by the version that it was decided on.

use std::error::Error as StdError;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ListParams, ObjectList, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::Status;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use crate::FIELD_MANAGER;
use crate::connect::REQUEST_TIMEOUT;

/// A watch that ends at once, as behind some proxies, must not become a storm of requests.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// Why a request for the object did not do what it was to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server could not be asked, or failed, or does not allow it.
    #[error("a request for the {object} failed")]
    Api {
        /// Kind and name.
        object: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// No answer within [`REQUEST_TIMEOUT`].
    #[error("a request for the {object} took too long")]
    Timeout {
        /// Kind and name.
        object: String,
    },
    /// The object is not as the write expects it: another replica wrote first, as a rule.
    #[error("the API server refused a change of the {object}")]
    Refused {
        /// Kind and name.
        object: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
}

impl Error {
    /// The client's error, if there was an answer or a failure.
    pub fn cause(&self) -> Option<&kube::Error> {
        match self {
            Self::Api { source, .. } | Self::Refused { source, .. } => Some(source),
            Self::Timeout { .. } => None,
        }
    }

    /// What the API server answered, if it did.
    pub fn status(&self) -> Option<&Status> {
        match self.cause()? {
            kube::Error::Api(status) => Some(status),
            _ => None,
        }
    }
}

/// An error with its causes, in one line.
pub fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// An object by its name; see the module.
#[derive(Debug)]
pub struct Named<K> {
    api: Api<K>,
    name: String,
    watch: WatchParams,
    poll: Duration,
}

impl<K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug> Named<K> {
    /// The object of that name. Where it cannot be watched, its keeper is to read it again after `poll`.
    pub fn new(api: Api<K>, name: impl Into<String>, poll: Duration) -> Self {
        let name = name.into();
        let watch = WatchParams::default().fields(&by_name(&name));
        Self { api, name, watch, poll }
    }

    /// Has the API server end each watch after so many seconds; without this it decides.
    #[must_use]
    pub fn watched_for(mut self, seconds: u32) -> Self {
        self.watch = self.watch.timeout(seconds);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object, if there is one, and a version to watch from.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn find(&self) -> Result<(Option<K>, String), Error> {
        let params = ListParams::default().fields(&by_name(&self.name));
        let list: ObjectList<K> = self.settle(self.api.list(&params)).await?;
        Ok((list.items.into_iter().next(), list.metadata.resource_version.unwrap_or_default()))
    }

    /// Creates it.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is there already; otherwise if the request fails.
    pub async fn create(&self, object: &K) -> Result<K, Error> {
        self.settle(self.api.create(&post_params(), object)).await
    }

    /// Replaces it, guarded by the version in the object.
    ///
    /// # Errors
    /// [`Error::Refused`] if it has another version or is gone; otherwise if the request fails.
    pub async fn replace(&self, object: &K) -> Result<K, Error> {
        self.settle(self.api.replace(&self.name, &post_params(), object)).await
    }

    /// Patches it, guarded by the tests in the patch.
    ///
    /// # Errors
    /// [`Error::Refused`] if a test fails or the object is gone; otherwise if the request fails.
    pub async fn patch(&self, patch: json_patch::Patch) -> Result<K, Error> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        self.settle(self.api.patch(&self.name, &params, &Patch::<()>::Json(patch))).await
    }

    /// Returns when it should be read again: at the first event of the object since then, or a moment after the watch
    /// ended or failed. `on_failure` gets a failure.
    pub async fn changed(&self, since: &str, on_failure: impl Fn(&kube::Error)) {
        let events = match self.api.watch(&self.watch, since).await {
            Ok(events) => events,
            Err(error) => {
                on_failure(&error);
                return sleep(self.poll).await;
            }
        };
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_)) => return,
                Ok(WatchEvent::Bookmark(_)) => {}
                Ok(WatchEvent::Error(_)) => break,
                Err(error) => {
                    on_failure(&error);
                    break;
                }
            }
        }
        sleep(WATCH_PAUSE).await;
    }

    async fn settle<T>(&self, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        let object = || format!("{} {}", K::kind(&()), self.name);
        match timeout(REQUEST_TIMEOUT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if is_refusal(&error) => {
                Err(Error::Refused { object: object(), source: Box::new(error) })
            }
            Ok(Err(error)) => Err(Error::Api { object: object(), source: Box::new(error) }),
            Err(_) => Err(Error::Timeout { object: object() }),
        }
    }
}

/// A failed test of a JSON Patch counts as invalid. Or the object was created or deleted meanwhile.
fn is_refusal(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.is_conflict() || status.is_already_exists() || status.is_invalid() || status.is_not_found()
}

fn by_name(name: &str) -> String {
    format!("metadata.name={name}")
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}

#[cfg(test)]
mod tests;
