//! Lists and watches of one kind, as requests and the parsing of their answers.

use std::time::Duration;

use http::{Request as HttpRequest, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::api::{ListParams, WatchParams};
use kube::client::Body;
use kube::core::{Request, Status};
use kube::{Client, Resource};
use pod_reloader_core::object::read_with;
use pod_reloader_core::selector::Selector;
use pod_reloader_k8s::objects::Watched;
use pod_reloader_k8s::transport::is_timeout;
use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::health::Sign;
use super::page::Page;
use super::text::{self, Lines};
use super::{Change, Out};

/// The server ends a watch after so many seconds. With the grace of the transport this bounds how long a connection that
/// died silently can hide a change: to less than a minute.
const WATCH_SECONDS: u32 = 40;
/// A streamed list may take longer in all, but is never silent for long.
const STREAMED_LIST_SECONDS: u32 = 300;
const LIST_SILENCE: Duration = Duration::from_secs(15);
/// The largest page: of several objects, and of one alone.
const MAX_PAGE: usize = 4 * 1024 * 1024;
const MAX_PAGE_OF_ONE: usize = 32 * 1024 * 1024;
/// What a page should weigh: the number of its objects follows from what the last one weighed.
const PAGE_BYTES: usize = 1024 * 1024;
const FIRST_PAGE: u32 = 8;
const LARGEST_PAGE: u32 = 500;
/// Says, on a bookmark, that a streamed list is complete (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Why a list or watch came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// What it asked for is no longer there: everything has to be listed again.
    #[error("the resource version is too old")]
    Expired,
    #[error("{} ({})", .0.message, .0.code)]
    Refused(Box<Status>),
    #[error(transparent)]
    Request(#[from] kube::Error),
    #[error("the API server sent something that cannot be read: {0}")]
    Unreadable(&'static str),
    #[error("the list stopped in the middle")]
    Silent,
}

impl Failure {
    /// Whether the API server does not have such a resource, as far as it says.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 404)
    }

    /// Whether nothing came within a deadline.
    pub(super) fn is_silence(&self) -> bool {
        match self {
            Self::Silent => true,
            Self::Request(error) => is_timeout(error),
            _ => false,
        }
    }
}

/// A complete list.
pub(super) struct Listed {
    pub(super) version: String,
    pub(super) objects: usize,
}

/// Makes the requests for one stream.
pub(super) struct Requests<K: Resource> {
    client: Client,
    kind: K::DynamicType,
    namespace: Option<String>,
    /// Only objects with such labels.
    labels: Option<String>,
    /// Whether the server has not refused to stream lists.
    can_stream: bool,
    /// Whether the last list was streamed and broke off. The next one is made of pages: a proxy that holds streams back
    /// gives whole answers.
    broke_off: bool,
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
struct BookmarkMeta {
    #[serde(rename = "resourceVersion")]
    version: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// One line of a watch.
enum Event<K> {
    Applied(K),
    Deleted(K),
    Bookmark { version: String, ends_list: bool },
}

impl<K: Watched> Requests<K> {
    pub(super) fn new(
        client: Client,
        kind: K::DynamicType,
        namespace: Option<String>,
        labels: &Selector,
    ) -> Self {
        let labels = (!labels.is_empty()).then(|| labels.as_str().to_owned());
        Self { client, kind, namespace, labels, can_stream: true, broke_off: false }
    }

    /// Lists everything: streamed, so that one object at a time is in memory, else in pages that are bounded by what they
    /// turn out to weigh.
    pub(super) async fn list(&mut self, out: &Out<K>, sign: &Sign) -> Result<Listed, Failure> {
        out.send(Change::ListBegins).await;
        let listed = if self.can_stream && !std::mem::take(&mut self.broke_off) {
            match self.list_streamed(out, sign).await {
                // A server that does not know how says that the request is invalid.
                Err(Failure::Refused(status)) if matches!(status.code, 400 | 422) => {
                    self.can_stream = false;
                    self.list_pages(out, sign).await
                }
                Err(failure) => {
                    self.broke_off = true;
                    Err(failure)
                }
                listed => listed,
            }
        } else {
            self.list_pages(out, sign).await
        }?;
        out.send(Change::ListEnds).await;
        Ok(listed)
    }

    async fn list_streamed(&self, out: &Out<K>, sign: &Sign) -> Result<Listed, Failure> {
        let params = self.watch_params(STREAMED_LIST_SECONDS).initial_events();
        let mut lines = Lines::new(self.send(self.watch_request(&params, "")?, sign).await?);
        let mut objects = 0;
        loop {
            let line = timeout(LIST_SILENCE, lines.next()).await.map_err(|_| Failure::Silent)??;
            let line = line.ok_or(Failure::Silent)?;
            sign.alive();
            let event = parse(K::seed(self.kind), &line)?;
            drop(line);
            match event {
                Some(Event::Bookmark { version, ends_list: true }) => return Ok(Listed { version, objects }),
                Some(Event::Applied(object)) => {
                    objects += 1;
                    out.send(Change::Listed(object)).await;
                }
                Some(Event::Deleted(object)) => out.send(Change::Deleted(object)).await,
                Some(Event::Bookmark { .. }) | None => {}
            }
        }
    }

    async fn list_pages(&self, out: &Out<K>, sign: &Sign) -> Result<Listed, Failure> {
        let mut params = ListParams::default().limit(FIRST_PAGE);
        params.label_selector.clone_from(&self.labels);
        let mut objects = 0;
        loop {
            let request = Request::new(self.path());
            let request =
                if K::metadata_api() { request.list_metadata(&params) } else { request.list(&params) };
            let body = self.send(request.map_err(kube::Error::BuildRequest)?, sign).await?;
            let limit = params.limit.unwrap_or(FIRST_PAGE);
            let most = if limit > 1 { MAX_PAGE } else { MAX_PAGE_OF_ONE };
            let text = text::whole(body, most).await?;
            sign.alive();
            let Some(text) = text else {
                if limit == 1 {
                    return Err(Failure::Unreadable("an object is too large"));
                }
                params.limit = Some((limit / 4).max(1));
                continue;
            };
            let page = Page::read(K::seed(self.kind), &text).map_err(|_| Failure::Unreadable("a list"))?;
            let weight = text.len();
            drop(text);
            params.limit = Some(next_limit(limit, weight));
            objects += page.items.len();
            for object in page.items {
                out.send(Change::Listed(object)).await;
            }
            match page.next.filter(|next| !next.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => return Ok(Listed { version: page.version, objects }),
            }
        }
    }

    /// Begins a watch from that version on: returns once the server has accepted it.
    pub(super) async fn watch(&self, version: &str, sign: &Sign) -> Result<Lines, Failure> {
        let params = self.watch_params(WATCH_SECONDS);
        Ok(Lines::new(self.send(self.watch_request(&params, version)?, sign).await?))
    }

    /// Passes on what the watch delivers, and moves the version along, until the server ends the stream cleanly.
    pub(super) async fn follow(
        &self,
        mut lines: Lines,
        version: &mut String,
        out: &Out<K>,
        sign: &Sign,
    ) -> Result<(), Failure> {
        while let Some(line) = lines.next().await? {
            sign.delivered();
            let event = parse(K::seed(self.kind), &line)?;
            drop(line);
            match event {
                Some(Event::Bookmark { version: seen, .. }) => *version = seen,
                Some(Event::Applied(object)) => {
                    move_along(version, &object);
                    out.send(Change::Applied(object)).await;
                }
                Some(Event::Deleted(object)) => {
                    move_along(version, &object);
                    out.send(Change::Deleted(object)).await;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn path(&self) -> String {
        K::url_path(&self.kind, self.namespace.as_deref())
    }

    fn watch_params(&self, seconds: u32) -> WatchParams {
        WatchParams { label_selector: self.labels.clone(), ..WatchParams::default().timeout(seconds) }
    }

    fn watch_request(&self, params: &WatchParams, version: &str) -> Result<HttpRequest<Vec<u8>>, Failure> {
        let request = Request::new(self.path());
        let request = if K::metadata_api() {
            request.watch_metadata(params, version)
        } else {
            request.watch(params, version)
        };
        Ok(request.map_err(kube::Error::BuildRequest)?)
    }

    async fn send(&self, request: HttpRequest<Vec<u8>>, sign: &Sign) -> Result<Body, Failure> {
        const MAX_STATUS: usize = 64 * 1024;
        let response = self.client.send(request.map(Body::from)).await?;
        sign.alive();
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let text = Limited::new(body, MAX_STATUS).collect().await.map(http_body_util::Collected::to_bytes);
        let status = text.ok().and_then(|text| serde_json::from_slice::<Status>(&text).ok());
        let status = status
            .unwrap_or_else(|| Status::failure(head.status.as_str(), "").with_code(head.status.as_u16()));
        Err(if head.status == StatusCode::GONE {
            Failure::Expired
        } else {
            Failure::Refused(Box::new(status))
        })
    }
}

fn move_along<K: Resource>(version: &mut String, object: &K) {
    if let Some(seen) = &object.meta().resource_version {
        version.clone_from(seen);
    }
}

/// How many objects the next page should have, after one with `limit` weighed so much.
fn next_limit(limit: u32, weight: usize) -> u32 {
    let fitting = PAGE_BYTES as u64 * u64::from(limit) / (weight.max(1) as u64);
    // Objects differ: it grows step by step, and shrinks at once.
    u32::try_from(fitting).unwrap_or(u32::MAX).min(limit.saturating_mul(4)).clamp(1, LARGEST_PAGE)
}

/// Reads one line. `None` for an object that cannot be read, which must not keep us from the others.
fn parse<'a, S: DeserializeSeed<'a>>(seed: S, line: &'a [u8]) -> Result<Option<Event<S::Value>>, Failure> {
    let Line { r#type, object } =
        serde_json::from_slice(line).map_err(|_| Failure::Unreadable("a watch event"))?;
    let applied = |event: fn(S::Value) -> Event<S::Value>| {
        let parsed = read_with(seed, object.get());
        if parsed.is_err() {
            tracing::warn!("an object that a watch told of cannot be read and is left out");
        }
        Ok(parsed.ok().map(event))
    };
    match r#type {
        "ADDED" | "MODIFIED" => applied(Event::Applied),
        "DELETED" => applied(Event::Deleted),
        "BOOKMARK" => {
            let Bookmark { metadata } =
                serde_json::from_str(object.get()).map_err(|_| Failure::Unreadable("a bookmark"))?;
            let ends_list = metadata.annotations.get(INITIAL_EVENTS_END).is_some_and(|value| value == "true");
            Ok(Some(Event::Bookmark { version: metadata.version, ends_list }))
        }
        "ERROR" => {
            let status: Status =
                serde_json::from_str(object.get()).map_err(|_| Failure::Unreadable("an error"))?;
            Err(if status.code == 410 { Failure::Expired } else { Failure::Refused(Box::new(status)) })
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c5_2_pages_are_bounded_by_what_they_turn_out_to_weigh() {
        assert_eq!(next_limit(8, 8 * 250 * 1024), 4);
        assert_eq!(next_limit(4, 4 * 2_700 * 1024), 1);
        assert_eq!(next_limit(8, 8 * 1024), 32);
        assert_eq!(next_limit(200, 200 * 1024), 500);
        assert_eq!(next_limit(8, 0), 32);
    }
}
