//! One named object of the API server: requests with a time limit, and news of it.

use std::error::Error as _;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ListParams, ObjectList, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use super::pair::AuthorityError;
use crate::certificate::CertificateError;

pub(crate) const FIELD_MANAGER: &str = "pod-reloader";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a watch, objects are read that often.
const POLL: Duration = Duration::from_secs(5);
/// A watch that ends at once, as behind some proxies, must not become a storm of requests.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("a request for the {what} failed")]
    Api { what: &'static str, source: Box<kube::Error> },
    #[error("a request for the {what} took too long")]
    Timeout { what: &'static str },
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Somebody was faster, as a rule.
    #[error("the API server refused a change of the {what}")]
    Refused { what: &'static str, source: Box<kube::Error> },
}

impl Error {
    pub(crate) fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

pub(crate) struct Object<K> {
    pub(crate) api: Api<K>,
    pub(crate) name: String,
    /// For messages.
    pub(crate) what: &'static str,
}

impl<K: Resource + Clone + Serialize + DeserializeOwned + Debug> Object<K> {
    /// The object, if there is one, and a version to watch from.
    pub(crate) async fn find(&self) -> Result<(Option<K>, String), Error> {
        let by_name = ListParams::default().fields(&format!("metadata.name={}", self.name));
        let list: ObjectList<K> = self.settle(self.api.list(&by_name)).await?;
        Ok((list.items.into_iter().next(), list.metadata.resource_version.unwrap_or_default()))
    }

    pub(crate) async fn create(&self, object: &K) -> Result<K, Error> {
        self.settle(self.api.create(&post_params(), object)).await
    }

    /// Guarded by the version in the object.
    pub(crate) async fn replace(&self, object: &K) -> Result<K, Error> {
        self.settle(self.api.replace(&self.name, &post_params(), object)).await
    }

    /// Guarded by the tests in the patch.
    pub(crate) async fn patch(&self, patch: json_patch::Patch) -> Result<K, Error> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        self.settle(self.api.patch(&self.name, &params, &Patch::<()>::Json(patch))).await
    }

    /// Returns at the first event of that object since then, or a moment after the watch ended.
    pub(crate) async fn changed(&self, since: &str) {
        let by_name = WatchParams::default().fields(&format!("metadata.name={}", self.name));
        let Ok(events) = self.api.watch(&by_name, since).await else { return sleep(POLL).await };
        let mut events = std::pin::pin!(events);
        while let Some(Ok(event)) = events.next().await {
            match event {
                WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) => return,
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(_) => break,
            }
        }
        sleep(WATCH_PAUSE).await;
    }

    async fn settle<T>(&self, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
        match timeout(REQUEST_TIMEOUT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            // A failed test of a JSON Patch counts as invalid. Or the object came or went meanwhile.
            Ok(Err(kube::Error::Api(status)))
                if status.is_conflict()
                    || status.is_already_exists()
                    || status.is_invalid()
                    || status.is_not_found() =>
            {
                Err(Error::Refused { what: self.what, source: Box::new(kube::Error::Api(status)) })
            }
            Ok(Err(error)) => Err(Error::Api { what: self.what, source: Box::new(error) }),
            Err(_) => Err(Error::Timeout { what: self.what }),
        }
    }
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}
