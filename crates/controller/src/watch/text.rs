//! The text of lists and watches. Users of the API server decide how large it is, so large pieces are in memory one at
//! a time, whichever streams they come from.

use std::ops::Deref;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::requests::Failure;

/// Longest line that is taken: the API server's objects have at most 1.5 MiB, which escapes make six times as long.
const MAX_LINE: usize = 12 * 1024 * 1024;
/// What is larger is read in turn.
const LARGE: usize = 512 * 1024;
/// How long a large text may pause: other texts wait for their turn.
const LARGE_SILENCE: Duration = Duration::from_secs(10);

static LARGE_TEXTS: Semaphore = Semaphore::const_new(1);

/// A line or page. Its turn ends when it is dropped.
pub(super) struct Text {
    bytes: Bytes,
    _turn: Option<SemaphorePermit<'static>>,
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Text that arrives.
#[derive(Default)]
struct Buffer {
    bytes: BytesMut,
    turn: Option<SemaphorePermit<'static>>,
}

impl Buffer {
    async fn next(&mut self, body: &mut Body) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = match &self.turn {
                None => body.frame().await,
                Some(_) => timeout(LARGE_SILENCE, body.frame()).await.map_err(|_| Failure::Silent)?,
            };
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
    }

    async fn add(&mut self, data: &[u8]) {
        if self.turn.is_none() && self.bytes.len() + data.len() > LARGE {
            // Never closed.
            self.turn = LARGE_TEXTS.acquire().await.ok();
        }
        self.bytes.extend_from_slice(data);
    }

    /// The first bytes; what comes after them stays.
    fn split(&mut self, length: usize) -> Text {
        let bytes = self.bytes.split_to(length).freeze();
        // Else it would keep all of the memory that they are in.
        self.bytes = BytesMut::from(&self.bytes[..]);
        Text { bytes, _turn: self.turn.take() }
    }
}

/// All of a body; `None` if it is larger than that.
pub(super) async fn whole(mut body: Body, most: usize) -> Result<Option<Text>, Failure> {
    let mut buffer = Buffer::default();
    while let Some(data) = buffer.next(&mut body).await? {
        if buffer.bytes.len() + data.len() > most {
            return Ok(None);
        }
        buffer.add(&data).await;
    }
    let length = buffer.bytes.len();
    Ok(Some(buffer.split(length)))
}

/// The lines of a body.
pub(super) struct Lines {
    body: Body,
    buffer: Buffer,
    /// So much of the buffer has no line end.
    searched: usize,
    /// The line that arrives is too long.
    is_skipping: bool,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, buffer: Buffer::default(), searched: 0, is_skipping: false }
    }

    /// The next line; one that is too long is left out, since it must not keep us from the others.
    pub(super) async fn next(&mut self) -> Result<Option<Text>, Failure> {
        loop {
            let unsearched = &self.buffer.bytes[self.searched..];
            if let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split(self.searched + end + 1);
                self.searched = 0;
                if std::mem::take(&mut self.is_skipping) {
                    tracing::warn!("an object that a watch told of is too large and is left out");
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.bytes.len();
            if self.is_skipping || self.searched > MAX_LINE {
                self.is_skipping = true;
                self.searched = 0;
                self.buffer = Buffer::default();
            }
            // The rest of a line that broke off is of no use.
            let Some(data) = self.buffer.next(&mut self.body).await? else { return Ok(None) };
            self.buffer.add(&data).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;
    use std::sync::Mutex;

    use futures::stream::{self, Stream, StreamExt};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// There is one turn for all tests.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// A body of these frames, as the client gets it.
    async fn body(frames: impl Stream<Item = Bytes> + Send + 'static) -> Body {
        let body = StreamBody::new(frames.map(|data| Ok::<_, Infallible>(Frame::data(data))));
        let body = Mutex::new(Some(body));
        let service = tower::service_fn(move |_: http::Request<Body>| {
            let body = body.lock().unwrap().take().unwrap();
            async move { Ok::<_, Infallible>(http::Response::new(body)) }
        });
        let client = kube::Client::new(service, "default");
        client.send(http::Request::new(Body::empty())).await.unwrap().into_body()
    }

    fn pieces<const N: usize>(of: [(usize, &'static str); N]) -> impl Stream<Item = Bytes> + Send + 'static {
        let pieces = of.into_iter().flat_map(|(bytes, end)| {
            let piece = Bytes::from(vec![b'x'; 1 << 16]);
            std::iter::repeat_n(piece, bytes >> 16).chain([Bytes::from(end)])
        });
        stream::iter(pieces)
    }

    #[tokio::test(start_paused = true)]
    async fn c5_2_a_line_that_is_too_long_is_left_out_and_the_others_are_read() {
        let _alone = ALONE.lock().await;
        let mut lines = Lines::new(body(pieces([(0, "a\nb"), (1 << 20, "\n"), (40 << 20, "\nc\nd")])).await);
        let mut lengths = vec![];
        while let Some(line) = lines.next().await.unwrap() {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [2, (1 << 20) + 2, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn c5_2_large_texts_are_in_memory_one_at_a_time() {
        let _alone = ALONE.lock().await;
        let read = async |bytes: usize| whole(body(pieces([(bytes, "\n")])).await, 4 << 20).await;
        let first = read(1 << 20).await.unwrap().unwrap();
        let mut second = pin!(read(2 << 20));
        let small = read(1 << 18).await.unwrap().unwrap();
        assert_eq!(small.len(), (1 << 18) + 1);
        let waited = timeout(Duration::from_secs(1), &mut second).await;
        assert!(waited.is_err(), "the first one is still there");
        drop(first);
        assert_eq!(second.await.unwrap().unwrap().len(), (2 << 20) + 1);
        assert!(read(5 << 20).await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn c5_7_a_large_text_that_hangs_holds_up_the_others_for_seconds_only() {
        let _alone = ALONE.lock().await;
        let hanging = body(pieces([(1 << 20, "x")]).chain(stream::pending())).await;
        let hanging = tokio::spawn(async { Lines::new(hanging).next().await.map(drop) });
        tokio::task::yield_now().await;
        let other = whole(body(pieces([(1 << 20, "\n")])).await, 4 << 20);
        let other = timeout(Duration::from_secs(11), other).await.expect("its turn comes");
        assert_eq!(other.unwrap().unwrap().len(), (1 << 20) + 1);
        assert!(matches!(hanging.await.unwrap(), Err(Failure::Silent)));
    }
}
