//! The tower service under the client.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use tokio::time::sleep;
use tower::Service;

use crate::connection::{Connection, Health};
use crate::fault::Fault;
use crate::log::{LogEntry, Outcome};
use crate::request::{RequestInfo, RequestKind};
use crate::resource::ResourceType;
use crate::shared::Shared;
use crate::status::Answer;
use crate::store::{Author, Key};
use crate::watch::{BoxError, Watch};
use crate::{OPERATOR_USER, read, write};

/// What answers have for a body.
pub type StubBody = UnsyncBoxBody<Bytes, BoxError>;

/// One pool of connections to the stub.
#[derive(Clone, Debug)]
pub struct StubService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) client: Arc<str>,
}

impl Service<Request<Body>> for StubService {
    type Response = Response<StubBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<StubBody>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}

/// Notes that a request was dropped before its answer.
struct Entry {
    shared: Arc<Shared>,
    index: usize,
}

impl Entry {
    fn finish(&self, outcome: Outcome) {
        self.shared.note(self.index, |entry, _| entry.outcome = outcome);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.note(self.index, |entry, _| {
            if entry.outcome == Outcome::Pending {
                entry.outcome = Outcome::GivenUp;
            }
        });
    }
}

impl StubService {
    async fn serve(self, request: Request<Body>) -> Result<Response<StubBody>, BoxError> {
        let (parts, body) = request.into_parts();
        let info = RequestInfo::parse(&parts, &self.client);
        let entry = self.begin(&info);
        let answer = self.connection.run(self.connection.interruptions(), async {
            let body = body.collect().await?.to_bytes();
            pause(self.shared.latency()).await;
            let fault = self.shared.decide(&info, info.kind, false);
            self.shared.note(entry.index, |entry, _| entry.fault = fault);
            let response = self.answer(&info, body, fault, entry.index).await;
            pause(self.shared.latency()).await;
            response
        });
        let answer = answer.await.unwrap_or_else(|| Err(reset()));
        entry.finish(match &answer {
            Ok(response) => Outcome::Answered(response.status().as_u16()),
            Err(_) => Outcome::Broken,
        });
        answer
    }

    fn begin(&self, info: &RequestInfo) -> Entry {
        let state = &mut *self.shared.lock();
        state.log.push(LogEntry {
            at: state.store.elapsed(),
            request: info.clone(),
            fault: None,
            outcome: Outcome::Pending,
            events: 0,
            ended: None,
        });
        Entry { shared: self.shared.clone(), index: state.log.len() - 1 }
    }

    async fn answer(
        &self,
        info: &RequestInfo,
        body: Bytes,
        fault: Option<Fault>,
        entry: usize,
    ) -> Result<Response<StubBody>, BoxError> {
        match fault {
            Some(Fault::HangBeforeHeaders) => return std::future::pending().await,
            Some(Fault::Reset) => return Err(reset()),
            Some(Fault::Status(code)) => return Ok(response(&Answer::trouble(code, info), fault)),
            Some(Fault::Delayed(pause)) if info.kind == RequestKind::WatchStart => sleep(pause).await,
            _ => {}
        }
        if info.resource_type.is_some_and(|resource| !self.shared.has(resource)) {
            return Ok(response(&Answer::no_such_path(), fault));
        }
        if info.kind == RequestKind::WatchStart
            && let Some(resource) = info.resource_type
        {
            if let Some(Fault::Late(pause)) = fault {
                sleep(pause).await;
            }
            return match fault {
                Some(Fault::LostAnswer) => Err(reset()),
                Some(Fault::LostAnswer500) => Ok(response(&Answer::trouble(504, info), fault)),
                _ => Ok(self.watch(info, resource, fault, entry)),
            };
        }
        let stale_by = if let Some(Fault::StaleList(writes)) = fault { writes } else { 0 };
        let work = carry_out(self.shared.clone(), info.clone(), body, stale_by);
        let answer = match fault {
            // Beside the request, which may be given up by then.
            Some(Fault::Delayed(pause)) => {
                let later = async move {
                    sleep(pause).await;
                    work.await
                };
                tokio::spawn(later).await?
            }
            _ => work.await,
        };
        match fault {
            Some(Fault::Late(pause)) => sleep(pause).await,
            Some(Fault::LostAnswer) => return Err(reset()),
            Some(Fault::LostAnswer500) => return Ok(response(&Answer::trouble(504, info), fault)),
            _ => {}
        }
        Ok(response(&answer, fault))
    }

    fn watch(
        &self,
        info: &RequestInfo,
        resource: &'static ResourceType,
        fault: Option<Fault>,
        entry: usize,
    ) -> Response<StubBody> {
        // What is over with the headers does not concern the stream.
        let inherited = fault.filter(|fault| {
            matches!(
                fault,
                Fault::HangAfterHeaders | Fault::DuplicateEvents | Fault::EndAtOnce | Fault::Truncated
            )
        });
        match Watch::new(&self.shared, &self.connection, info, resource, inherited, entry) {
            Ok(watch) => {
                let lines = stream::unfold(watch, |mut watch| async move {
                    let line = watch.next().await?;
                    Some((line.map(Frame::data), watch))
                });
                head(200, None, StreamBody::new(lines).boxed_unsync())
            }
            Err(answer) => response(&answer, None),
        }
    }
}

async fn carry_out(shared: Arc<Shared>, info: RequestInfo, body: Bytes, stale_by: u64) -> Answer {
    if info.path == "/version" {
        return Answer::ok(serde_json::json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0"}));
    }
    if let Some(("", api)) = info.path.split_once("/apis/")
        && let Some((group, version)) = api.split_once('/').filter(|(_, version)| !version.contains('/'))
    {
        return read::resources(&shared, group, version);
    }
    let Some(resource) = info.resource_type else { return Answer::no_such_path() };
    if info.method == http::Method::GET {
        let state = shared.lock();
        if info.is_collection {
            return read::list(&state.store, &info, resource, stale_by).unwrap_or_else(|answer| answer);
        }
        let namespace = info.namespace.clone().unwrap_or_default();
        let key = Key { resource, namespace, name: info.name.clone().unwrap_or_default() };
        return read::get(&state.store, &info, &key);
    }
    let manager = info.parameter("fieldManager").unwrap_or("unknown").to_owned();
    let author = Author { user: user_of(&info.client), manager };
    write::write(&shared, &info, resource, author, &body).await.unwrap_or_else(|answer| answer)
}

/// Clients that are named like users are those; any other is the operator.
fn user_of(client: &str) -> String {
    client.strip_prefix("user:").map_or_else(|| OPERATOR_USER.to_owned(), str::to_owned)
}

fn response(answer: &Answer, fault: Option<Fault>) -> Response<StubBody> {
    let text = Bytes::from(answer.body.to_string());
    let half = text.slice(..text.len() / 2);
    let frames: Vec<Result<Bytes, BoxError>> = match fault {
        Some(Fault::HangAfterHeaders) => {
            let silence = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>());
            return head(answer.code, answer.retry_after(), silence.boxed_unsync());
        }
        Some(Fault::Truncated) => {
            vec![Ok(half), Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())]
        }
        Some(Fault::EndAtOnce) => vec![],
        _ => vec![Ok(text)],
    };
    let frames = stream::iter(frames.into_iter().map(|frame| frame.map(Frame::data)));
    head(answer.code, answer.retry_after(), StreamBody::new(frames).boxed_unsync())
}

fn head(code: u16, retry_after: Option<u64>, body: StubBody) -> Response<StubBody> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::IM_A_TEAPOT);
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after {
        headers.insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Even a sleep of nothing takes a turn of the timer.
async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

fn reset() -> BoxError {
    io::Error::from(io::ErrorKind::ConnectionReset).into()
}

impl StubService {
    /// Whether requests on this pool get answers.
    pub fn works(&self) -> bool {
        self.connection.health() == Health::Works
    }
}
