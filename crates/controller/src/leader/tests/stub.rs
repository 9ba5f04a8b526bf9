//! A Lease API in memory, below the real client, with faults.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::sleep;
use tower::service_fn;

/// What happens to one request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// It takes that long.
    Takes(Duration),
    /// It never arrives.
    HangsBefore,
    /// It takes effect, and is never answered.
    HangsAfter,
    /// It takes effect, and the connection breaks.
    LosesAnswer,
    /// It takes effect only after that time, whoever still waits.
    ArrivesLate(Duration),
    /// It is refused with that code.
    Refused(u16),
}

type Faults = Box<dyn FnMut(&str) -> Option<Fault> + Send>;

pub(super) struct State {
    lease: Option<Value>,
    version: u64,
    pub(super) requests: u64,
    pub(super) writes: u64,
    pub(super) has_no_watch: bool,
    /// Every request takes that long.
    pub(super) delay: Duration,
    /// That candidate's requests never arrive.
    pub(super) cut_off: Option<String>,
    /// What happens to the next writes, the last one first.
    pub(super) on_writes: Vec<Fault>,
    /// What happens to the next request of that caller.
    pub(super) on_any: Faults,
    events: broadcast::Sender<String>,
}

#[derive(Clone)]
pub(super) struct Server(Arc<Mutex<State>>);

impl Default for Server {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            lease: None,
            version: 0,
            requests: 0,
            writes: 0,
            has_no_watch: false,
            delay: Duration::from_millis(5),
            cut_off: None,
            on_writes: vec![],
            on_any: Box::new(|_| None),
            events: broadcast::channel(64).0,
        })))
    }
}

type Answer = (StatusCode, Value);
type Sent = UnsyncBoxBody<Bytes, std::io::Error>;

impl State {
    fn store(&mut self, mut lease: Value) -> Answer {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let kind = if self.lease.is_some() { "MODIFIED" } else { "ADDED" };
        self.lease = Some(lease.clone());
        let _ = self.events.send(json!({"type": kind, "object": lease}).to_string());
        (StatusCode::OK, lease)
    }

    fn answer(&mut self, method: &Method, body: Value) -> Answer {
        match (method.as_str(), &self.lease) {
            ("GET", Some(lease)) => (StatusCode::OK, lease.clone()),
            ("POST", Some(_)) => failure(409),
            ("PUT", Some(lease))
                if body["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] =>
            {
                failure(409)
            }
            ("POST", None) | ("PUT", Some(_)) => {
                self.writes += 1;
                self.store(body)
            }
            _ => failure(404),
        }
    }
}

fn failure(code: u16) -> Answer {
    let reason = if code == 404 { "NotFound" } else { "" };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": "", "code": code,
    });
    (StatusCode::from_u16(code).unwrap(), status)
}

impl Server {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another client's write.
    pub(super) fn put(&self, lease: Value) {
        self.state().store(lease);
    }

    pub(super) fn delete(&self) {
        let mut state = self.state();
        let lease = state.lease.take();
        let _ = state.events.send(json!({"type": "DELETED", "object": lease}).to_string());
    }

    pub(super) fn lease(&self) -> Option<Value> {
        self.state().lease.clone()
    }

    pub(super) fn spec(&self) -> Value {
        self.lease().expect("there is a Lease")["spec"].clone()
    }

    pub(super) fn client(&self, caller: &str) -> Client {
        let (server, caller) = (self.clone(), caller.to_owned());
        let service = service_fn(move |request: Request<Body>| {
            let (server, caller) = (server.clone(), caller.clone());
            async move { server.serve(&caller, request).await }
        });
        Client::new(service, "ns")
    }

    async fn serve(&self, caller: &str, request: Request<Body>) -> kube::Result<Response<Sent>> {
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = body.collect_bytes().await?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let (fault, delay, is_cut_off) = {
            let mut state = self.state();
            state.requests += 1;
            let is_write = parts.method != Method::GET;
            let fault = if is_write { state.on_writes.pop() } else { None };
            let fault = fault.or_else(|| (state.on_any)(caller));
            (fault, state.delay, state.cut_off.as_deref() == Some(caller))
        };
        if is_cut_off {
            std::future::pending::<()>().await;
        }
        sleep(delay).await;
        if query.contains("watch=true") {
            return Ok(self.watch());
        }
        let server = self.clone();
        let apply = move || server.state().answer(&parts.method, body);
        match fault {
            None => Ok(respond(apply())),
            Some(Fault::Takes(time)) => {
                sleep(time).await;
                Ok(respond(apply()))
            }
            Some(Fault::HangsBefore) => std::future::pending().await,
            Some(Fault::HangsAfter) => {
                apply();
                std::future::pending().await
            }
            Some(Fault::LosesAnswer) => {
                apply();
                Err(kube::Error::Service("connection reset".into()))
            }
            Some(Fault::ArrivesLate(time)) => {
                let late = tokio::spawn(async move {
                    sleep(time).await;
                    apply()
                });
                Ok(respond(late.await.expect("it is not aborted")))
            }
            Some(Fault::Refused(code)) => Ok(respond(failure(code))),
        }
    }

    fn watch(&self) -> Response<Sent> {
        let state = self.state();
        if state.has_no_watch {
            return respond(failure(403));
        }
        let first = state.lease.as_ref().map(|lease| json!({"type": "ADDED", "object": lease}).to_string());
        let events = state.events.subscribe();
        let end = tokio::time::Instant::now() + Duration::from_mins(1);
        let events = stream::unfold((first, events), move |(first, mut events)| async move {
            let event = match first {
                Some(event) => event,
                None => tokio::time::timeout_at(end, events.recv()).await.ok()?.ok()?,
            };
            Some((format!("{event}\n"), (None, events)))
        });
        let frames = events.map(|line| Ok::<_, std::io::Error>(Frame::data(Bytes::from(line))));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn respond((code, answer): Answer) -> Response<Sent> {
    let body = Full::new(Bytes::from(answer.to_string())).map_err(|never| match never {});
    Response::builder().status(code).body(body.boxed_unsync()).expect("the parts are valid")
}
