//! Reads from the API server, in bounded memory: metadata as a stream, content under the budget. How those who read the
//! same share them is in [`crate::shared`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use kube::api::{GetParams, ListParams};
use kube::client::Body;
use kube::{Client, Resource};
use pod_reloader_core::lookup::ConfigVersion;
use pod_reloader_core::name::{ConfigKind, ConfigRef};
use pod_reloader_core::reference::Keys;
use tokio::time::Instant;

use crate::budget::{Budget, Reservation};
use crate::fair::Party;
use crate::metadata::{ListedVersions, OneVersion};
use crate::objects::{ConfigContent, ConfigMeta};
use crate::scan::{Scanner, Visitor};
use crate::shared::SharedReads;
use crate::transport::is_timeout;
use crate::unreadable::{Unreadable, attempts};

/// The longest JSON of a config object. The API server stores content of 1 MiB, which escapes can make six times as
/// long, and 256 KiB of annotations.
const MAX_OBJECT_BYTES: usize = 8 << 20;
/// Sizes to try where nothing is known of the object: most are small, and nearly all of the rest are below 1.5 MiB.
const FIRST_GUESSES: [usize; 2] = [120 << 10, 3 << 19];
/// Beside the text there is a copy of the values while it is parsed.
const BYTES_PER_JSON_BYTE: usize = 2;
/// Parsing more than this would keep a worker thread from other requests.
const MAX_INLINE_BYTES: usize = 256 << 10;
/// What the connection reads ahead of a metadata answer that is scanned as it comes.
const SCAN_BYTES: usize = 64 << 10;
/// Objects in a page of a list.
const PAGE: u32 = 500;
/// What a page costs the API server, in single reads.
const PAGE_COST: u64 = 20;

/// See the module.
#[derive(Clone)]
pub(crate) struct Fetch {
    pub(crate) client: Client,
    pub(crate) budget: Budget,
    /// On whose behalf, for turns at the budget; empty for ourselves.
    pub(crate) caller: Arc<str>,
    pub(crate) shared: Arc<SharedReads>,
}

impl Fetch {
    /// The object's version; `None` if it does not exist.
    pub(crate) async fn version_alone(
        &self,
        object: &ConfigRef,
        deadline: Instant,
    ) -> Result<Option<ConfigVersion>, Unreadable> {
        let path = ConfigMeta::url_path(&object.kind, Some(&object.namespace));
        let request = kube::core::Request::new(path)
            .get_metadata(&object.name, &GetParams::default())
            .map_err(|_| Unreadable::Malformed)?;
        let _room = self.room(&object.namespace, SCAN_BYTES, deadline).await?;
        attempts(deadline, || async {
            let mut found = OneVersion::of(object.kind);
            let Some(response) = self.open(request.clone()).await? else { return Ok(None) };
            scan(response, &mut found).await?;
            let version = found.version;
            if version.uid.is_empty() { Err(Unreadable::Malformed) } else { Ok(Some(version)) }
        })
        .await
    }

    /// The versions of those of the wanted objects that exist, by lists of metadata. `None` if that would take more
    /// than asking for each of them.
    pub(crate) async fn versions_alone(
        &self,
        namespace: &str,
        kind: ConfigKind,
        wanted: &BTreeSet<Box<str>>,
        deadline: Instant,
    ) -> Result<Option<BTreeMap<String, ConfigVersion>>, Unreadable> {
        let mut page = match (wanted.len(), wanted.first()) {
            (1, Some(name)) => ListParams::default().fields(&format!("metadata.name={name}")),
            (count, _) => ListParams::default().limit(page_for(count)),
        };
        let path = ConfigMeta::url_path(&kind, Some(namespace));
        let mut found = BTreeMap::new();
        loop {
            let request =
                kube::core::Request::new(&path).list_metadata(&page).map_err(|_| Unreadable::Malformed)?;
            let room = self.room(namespace, SCAN_BYTES, deadline).await?;
            let list = attempts(deadline, || async {
                let mut list = ListedVersions::of(kind, wanted);
                let response = self.open(request.clone()).await?.ok_or(Unreadable::Status(404))?;
                scan(response, &mut list).await?;
                Ok(list)
            })
            .await?;
            drop(room);
            found.extend(list.found);
            let Some(token) = list.next.filter(|token| !token.is_empty()) else { return Ok(Some(found)) };
            if found.len() == wanted.len() {
                return Ok(Some(found));
            }
            let pages = list.remaining.unwrap_or(u64::from(PAGE)).div_ceil(u64::from(PAGE));
            // Then single reads are cheaper for the API server than the rest of the list.
            if pages.saturating_mul(PAGE_COST) > wanted.len() as u64 {
                return Ok(None);
            }
            page = page.limit(PAGE).continue_token(&token);
        }
    }

    /// The object with what these keys hold summed, and the length of its JSON; `None` if it does not exist. `expected` is
    /// that length when the object was read last.
    pub(crate) async fn content_alone(
        &self,
        object: &ConfigRef,
        keys: &Keys,
        expected: Option<usize>,
        deadline: Instant,
    ) -> Result<Option<(ConfigContent, usize)>, Unreadable> {
        let path = ConfigMeta::url_path(&object.kind, Some(&object.namespace));
        let request = kube::core::Request::new(path)
            .get(&object.name, &GetParams::default())
            .map_err(|_| Unreadable::Malformed)?;
        // With some room for what was added since.
        let mut room =
            expected.map_or(FIRST_GUESSES[0], |bytes| bytes + bytes / 8 + 4096).min(MAX_OBJECT_BYTES);
        loop {
            let mut reservation = self.room(&object.namespace, room * BYTES_PER_JSON_BYTE, deadline).await?;
            match attempts(deadline, || self.body(request.clone(), room)).await? {
                Read::Absent => return Ok(None),
                Read::Whole(json) => {
                    let length = json.len();
                    reservation.shrink(length * BYTES_PER_JSON_BYTE);
                    let content = if length > MAX_INLINE_BYTES {
                        // The thread keeps the reservation: it continues if this future is dropped.
                        let (kind, keys) = (object.kind, keys.clone());
                        let parse = move || (ConfigContent::parse(kind, &json, &keys), reservation);
                        tokio::task::spawn_blocking(parse).await.map_err(|_| Unreadable::Malformed)?.0
                    } else {
                        ConfigContent::parse(object.kind, &json, keys)
                    };
                    return content.map(|content| Some((content, length))).ok_or(Unreadable::Malformed);
                }
                Read::Longer(length) => {
                    let guess = FIRST_GUESSES.into_iter().find(|guess| *guess > room);
                    let next = length.or(guess).unwrap_or(MAX_OBJECT_BYTES).max(room + 1);
                    if next > MAX_OBJECT_BYTES {
                        return Err(Unreadable::TooLarge);
                    }
                    // Nothing is held while it waits for more room.
                    room = next;
                }
            }
        }
    }

    pub(crate) async fn room(
        &self,
        namespace: &str,
        bytes: usize,
        deadline: Instant,
    ) -> Result<Reservation, Unreadable> {
        let party = Party { key: namespace, caller: &self.caller };
        self.budget.reserve_until(party, bytes, deadline).await.ok_or(Unreadable::NoRoom)
    }

    /// The body of an answer, as far as it fits.
    pub(crate) async fn body(&self, request: Request<Vec<u8>>, room: usize) -> Result<Read, Unreadable> {
        let Some(response) = self.open(request).await? else { return Ok(Read::Absent) };
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > room) {
            return Ok(Read::Longer(length));
        }
        let mut body = response.into_body();
        let mut json = Vec::with_capacity(length.unwrap_or_default());
        while let Some(data) = next_data(&mut body).await? {
            // A chunked answer has no length, so what comes is counted, too.
            if json.len() + data.len() > room {
                return Ok(Read::Longer(None));
            }
            json.extend_from_slice(&data);
        }
        Ok(Read::Whole(json))
    }

    /// Sends a request; `None` if there is nothing at that path.
    async fn open(&self, request: Request<Vec<u8>>) -> Result<Option<Response<Body>>, Unreadable> {
        let response =
            self.client.send(request.map(Body::from)).await.map_err(|error| connection_error(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(Some(response));
        }
        // A short body that is read to its end leaves a connection that can be used again.
        let mut body = response.into_body();
        let mut left = 64_usize << 10;
        while let (true, Ok(Some(data))) = (left > 0, next_data(&mut body).await) {
            left = left.saturating_sub(data.len());
        }
        if status == http::StatusCode::NOT_FOUND {
            Ok(None)
        } else {
            Err(Unreadable::Status(status.as_u16()))
        }
    }
}

/// How many objects to list at first, for so many that are wanted: a namespace that has far more than these is not worth
/// a list.
fn page_for(wanted: usize) -> u32 {
    u32::try_from(wanted.saturating_mul(16)).unwrap_or(PAGE).clamp(32, PAGE)
}

/// What came of reading a body.
pub(crate) enum Read {
    Absent,
    Whole(Vec<u8>),
    /// It does not fit; its length, if the answer has one.
    Longer(Option<usize>),
}

async fn scan(response: Response<Body>, visitor: &mut impl Visitor) -> Result<(), Unreadable> {
    let mut body = response.into_body();
    let mut scanner = Scanner::default();
    while let Some(data) = next_data(&mut body).await? {
        scanner.feed(&data, visitor);
    }
    if scanner.is_complete() { Ok(()) } else { Err(Unreadable::Malformed) }
}

async fn next_data(body: &mut Body) -> Result<Option<Bytes>, Unreadable> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| connection_error(&error))?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn connection_error(error: &kube::Error) -> Unreadable {
    tracing::debug!(%error, "a request to the API server failed");
    if is_timeout(error) { Unreadable::TimedOut } else { Unreadable::Connection }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// An API server that answers everything with these bytes, over and over if they are `endless`.
    fn fetch(head: String, filling: usize, says_length: bool) -> (Fetch, Arc<AtomicUsize>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            let piece = Bytes::from(vec![b'x'; 64 << 10]);
            let pieces = std::iter::once(Bytes::from(head.clone()))
                .chain(std::iter::repeat_n(piece, filling >> 16))
                .chain(std::iter::once(Bytes::from("\"}}")))
                .map(|piece| Ok::<_, Infallible>(http_body::Frame::data(piece)));
            let body = http_body_util::StreamBody::new(futures::stream::iter(pieces));
            let mut response = Response::new(body);
            if says_length {
                response.headers_mut().insert(header::CONTENT_LENGTH, (head.len() + filling + 3).into());
            }
            async move { Ok::<_, Infallible>(response) }
        });
        let client = Client::new(service, "default");
        (Fetch { client, budget: Budget::new(24 << 20), caller: "".into(), shared: Arc::default() }, requests)
    }

    fn object() -> ConfigRef {
        ConfigRef::configmap("shop", "a")
    }

    const HEAD: &str = r#"{"metadata":{"uid":"u","resourceVersion":"7"},"data":{"key":""#;

    #[tokio::test(start_paused = true)]
    async fn c5_2_content_of_any_size_is_read_within_its_reservation() {
        for (mib, says_length, expected_requests) in
            [(0, false, 1), (1, false, 2), (1, true, 2), (6, false, 3)]
        {
            let (fetch, requests) = fetch(HEAD.into(), mib << 20, says_length);
            let deadline = Instant::now() + Duration::from_secs(5);
            let (content, length) =
                fetch.content_alone(&object(), &Keys::All, None, deadline).await.unwrap().unwrap();
            assert_eq!((content.version.uid.as_str(), content.version.resource_version.as_str()), ("u", "7"));
            assert_eq!(length, HEAD.len() + (mib << 20) + 3);
            assert_eq!(requests.load(Ordering::SeqCst), expected_requests, "{mib}");
            // Known from before, one request is enough.
            fetch.content_alone(&object(), &Keys::All, Some(length), deadline).await.unwrap().unwrap();
            assert_eq!(requests.load(Ordering::SeqCst), expected_requests + 1);
            assert!(fetch.budget.peak() <= fetch.budget.total() && fetch.budget.peak() >= length);
            assert_eq!(fetch.budget.reserved(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c5_2_an_object_without_an_end_is_too_large() {
        for says_length in [false, true] {
            let (fetch, _) = fetch(HEAD.into(), 1 << 40, says_length);
            let deadline = Instant::now() + Duration::from_secs(5);
            let read = fetch.content_alone(&object(), &Keys::All, None, deadline).await;
            assert_eq!(read.err(), Some(Unreadable::TooLarge));
            assert_eq!(fetch.budget.reserved(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c5_2_metadata_with_a_large_annotation_takes_no_room_of_its_size() {
        let head = r#"{"metadata":{"uid":"u","resourceVersion":"7","last-applied":""#;
        let (fetch, _) = fetch(head.into(), 40 << 20, false);
        let deadline = Instant::now() + Duration::from_secs(50);
        let version = fetch.version_alone(&object(), deadline).await.unwrap().unwrap();
        assert_eq!((version.uid.as_str(), version.resource_version.as_str()), ("u", "7"));
        assert!(fetch.budget.peak() <= 64 << 10);
    }
}
