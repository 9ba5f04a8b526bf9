//! Watches.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::connection::Connection;
use crate::fault::Fault;
use crate::read::view;
use crate::request::{RequestInfo, RequestKind};
use crate::resource::ResourceType;
use crate::select::Selector;
use crate::shared::{Shared, State};
use crate::status::Answer;
use crate::store::Change;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The server ends watches that name no timeout after half an hour to an hour.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(30);
/// A bookmark comes that long before the end.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// Of the events before a duplicated one, at most this many come again.
const MAX_REPLAYED: usize = 3;

/// An open watch. Nothing is buffered but what one poll found, and nothing is lost: events are read from the history.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    request: RequestInfo,
    resource: &'static ResourceType,
    selector: Selector,
    /// A fault that the request for the stream had, and that the stream has to suffer.
    inherited: Option<Fault>,
    versions: watch::Receiver<u64>,
    /// The version up to which the history has been read.
    position: u64,
    /// Events to be sent.
    waiting: VecDeque<Queued>,
    sent: VecDeque<Value>,
    deadline: Instant,
    next_bookmark: Option<Instant>,
    entry: usize,
    /// How often the connection had been interrupted when the watch began.
    interruptions: u64,
    /// Says that the version to begin at is forgotten.
    expired: Option<Answer>,
    has_begun: bool,
    /// Whether nothing comes any more, whatever else is waiting.
    ends_early: bool,
    is_over: bool,
}

/// An event that is to be sent.
struct Queued {
    event: Value,
    /// When it happened.
    since: Instant,
}

/// What a stream gives next.
enum Step {
    Line(Bytes),
    Break(io::Error),
    End,
}

impl Watch {
    /// Begins a watch, or says why not.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        connection: &Arc<Connection>,
        request: &RequestInfo,
        resource: &'static ResourceType,
        inherited: Option<Fault>,
        entry: usize,
    ) -> Result<Self, Answer> {
        let selector = Selector::of(request)?;
        let mut watch = Self {
            shared: shared.clone(),
            connection: connection.clone(),
            request: request.clone(),
            resource,
            selector,
            inherited,
            // Before the store is read, so that no change slips through.
            versions: shared.versions(),
            position: 0,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            deadline: Instant::now(),
            next_bookmark: None,
            entry,
            interruptions: connection.interruptions(),
            expired: None,
            has_begun: false,
            ends_early: false,
            is_over: false,
        };
        // The lock is given back before a watch that is refused is dropped, which takes it.
        let begun = watch.begin(&mut shared.lock());
        begun.map(|()| watch)
    }

    fn begin(&mut self, state: &mut State) -> Result<(), Answer> {
        let seconds = self.request.parameter("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
        self.deadline += match seconds {
            Some(0) | None => {
                DEFAULT_TIMEOUT + Duration::from_secs(state.random.below(DEFAULT_TIMEOUT.as_secs()))
            }
            Some(seconds) => Duration::from_secs(seconds),
        };
        self.find_beginning(state)?;
        if self.request.is_set("allowWatchBookmarks") {
            self.plan_bookmark(state);
        }
        Ok(())
    }

    fn find_beginning(&mut self, state: &State) -> Result<(), Answer> {
        let asked = self.request.parameter("resourceVersion").unwrap_or_default().to_owned();
        let is_streaming_list = self.request.is_set("sendInitialEvents");
        if is_streaming_list && !state.settings.has_watch_list {
            return Err(Answer::invalid(
                "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden \
                 for watch unless the WatchList feature gate is enabled",
            ));
        }
        if is_streaming_list && self.request.parameter("resourceVersionMatch") != Some("NotOlderThan") {
            return Err(Answer::invalid(
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires \
                 setting resourceVersionMatch to NotOlderThan",
            ));
        }
        if is_streaming_list || matches!(asked.as_str(), "" | "0") {
            // With a lag, later versions come as events.
            self.position = self.visible(state);
            for object in state.store.snapshot(self.resource, self.position).values() {
                if self.selector.matches(object) {
                    let event = self.event("ADDED", object);
                    self.queue(event, Instant::now());
                }
            }
            if is_streaming_list && self.request.is_set("allowWatchBookmarks") {
                let end = json!({"k8s.io/initial-events-end": "true"});
                let bookmark = self.bookmark(Some(end));
                self.queue(bookmark, Instant::now());
            }
            return Ok(());
        }
        let version: u64 =
            asked.parse().map_err(|_| Answer::bad_request(format!("invalid resource version {asked:?}")))?;
        if version < state.store.compacted {
            let oldest = state.store.compacted;
            let gone = Answer::expired(format!("too old resource version: {version} ({oldest})"));
            if state.settings.expires_by_code {
                return Err(gone);
            }
            self.expired = Some(gone);
        }
        self.position = version;
        Ok(())
    }

    /// The next bytes of the stream.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        if self.is_over {
            return None;
        }
        let connection = self.connection.clone();
        let step = connection.run(self.interruptions, self.step()).await;
        let step = step.unwrap_or_else(|| Step::Break(io::ErrorKind::ConnectionReset.into()));
        match step {
            Step::Line(line) => Some(Ok(line)),
            Step::Break(error) => {
                self.is_over = true;
                Some(Err(error.into()))
            }
            Step::End => {
                self.is_over = true;
                None
            }
        }
    }

    async fn step(&mut self) -> Step {
        if !self.has_begun {
            self.has_begun = true;
            let at_start =
                self.inherited.filter(|fault| matches!(fault, Fault::HangAfterHeaders | Fault::EndAtOnce));
            let at_start =
                at_start.or_else(|| self.shared.decide(&self.request, RequestKind::WatchStream, true));
            if let Some(fault) = at_start
                && let Some(step) = self.suffer(fault, None).await
            {
                return step;
            }
        }
        if let Some(answer) = self.expired.take() {
            return self.fail(&answer);
        }
        loop {
            if self.ends_early {
                return Step::End;
            }
            if let Some(queued) = self.waiting.pop_front() {
                let fault = self.inherited.filter(|fault| fault.concerns(RequestKind::WatchStream));
                let fault =
                    fault.or_else(|| self.shared.decide(&self.request, RequestKind::WatchStream, false));
                if fault == Some(Fault::LostEvent) && queued.event["type"] != "BOOKMARK" {
                    continue;
                }
                if let Some(fault) = fault
                    && let Some(step) = self.suffer(fault, Some(&queued)).await
                {
                    return step;
                }
                return Step::Line(self.send(queued.event));
            }
            if let Some(step) = self.wait().await {
                return step;
            }
        }
    }

    /// Puts events into `waiting`, or waits until there may be some.
    async fn wait(&mut self) -> Option<Step> {
        self.versions.mark_unchanged();
        let now = Instant::now();
        let shared = self.shared.clone();
        let due = {
            let state = shared.lock();
            let changes = state.store.changes_after(self.resource, self.position);
            let lag = state.settings.watch_lag;
            let due = changes.iter().find(|change| change.at + lag > now).map(|change| change.at + lag);
            let mut last = self.position;
            for change in changes.iter().take_while(|change| change.at + lag <= now) {
                last = change.version;
                if let Some(event) = self.event_of(change) {
                    self.queue(event, change.at);
                }
            }
            self.position = last;
            if !self.waiting.is_empty() {
                return None;
            }
            if now >= self.deadline || state.settings.absent.contains(self.resource) {
                return Some(Step::End);
            }
            if self.next_bookmark.is_some_and(|at| at <= now) {
                self.position = self.visible(&state).max(self.position);
                let bookmark = self.bookmark(None);
                self.queue(bookmark, now);
                self.plan_bookmark(&state);
                return None;
            }
            due
        };
        let wake = [Some(self.deadline), self.next_bookmark, due].into_iter().flatten().min();
        tokio::select! {
            biased;
            _ = self.versions.changed() => {}
            () = sleep_until(wake.unwrap_or(self.deadline)) => {}
        }
        None
    }

    /// Applies a fault to the stream, before it sends that event; `None` if it goes on after all.
    async fn suffer(&mut self, fault: Fault, event: Option<&Queued>) -> Option<Step> {
        match fault {
            Fault::HangBeforeHeaders | Fault::HangAfterHeaders => std::future::pending().await,
            Fault::Reset | Fault::LostAnswer => Some(Step::Break(io::ErrorKind::ConnectionReset.into())),
            Fault::Status(code) => Some(self.fail(&Answer::trouble(code, &self.request))),
            Fault::LostAnswer500 => Some(self.fail(&Answer::trouble(504, &self.request))),
            Fault::Late(pause) | Fault::Delayed(pause) => {
                sleep_until(event?.since + pause).await;
                None
            }
            Fault::DuplicateEvents => {
                let event = &event?.event;
                let most = u64::try_from(self.sent.len()).unwrap_or_default();
                let again = self.shared.lock().random.below(most + 1);
                let again = usize::try_from(again).unwrap_or_default();
                // In their order, so that what was last stays last.
                let replayed = self.sent.range(self.sent.len() - again..).chain([event]);
                let mut lines: Vec<u8> = replayed.flat_map(line).collect();
                lines.extend(self.send(event.clone()));
                Some(Step::Line(lines.into()))
            }
            Fault::StaleList(_) | Fault::LostEvent => None,
            Fault::EndAtOnce => Some(Step::End),
            Fault::Truncated => {
                let line = line(&event?.event);
                self.ends_early = true;
                Some(Step::Line(line[..line.len() / 2].to_vec().into()))
            }
        }
    }

    fn fail(&mut self, answer: &Answer) -> Step {
        self.ends_early = true;
        Step::Line(line(&json!({"type": "ERROR", "object": answer.body})).into())
    }

    fn send(&mut self, event: Value) -> Bytes {
        self.shared.note(self.entry, |entry, _| entry.events += 1);
        let bytes = line(&event).into();
        if matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED" | "DELETED")) {
            self.sent.push_back(event);
            if self.sent.len() > MAX_REPLAYED {
                self.sent.pop_front();
            }
        }
        bytes
    }

    fn queue(&mut self, event: Value, since: Instant) {
        self.waiting.push_back(Queued { event, since });
    }

    fn event_of(&self, change: &Change) -> Option<Value> {
        let was_selected = change.old.as_ref().is_some_and(|old| self.selector.matches(old));
        let is_selected = !change.is_deletion && self.selector.matches(&change.object);
        match (was_selected, is_selected) {
            (false, false) => None,
            (false, true) => Some(self.event("ADDED", &change.object)),
            (true, true) => Some(self.event("MODIFIED", &change.object)),
            (true, false) => Some(self.event("DELETED", &change.object)),
        }
    }

    fn event(&self, event_type: &str, object: &Value) -> Value {
        json!({"type": event_type, "object": view(object, self.request.is_metadata)})
    }

    fn bookmark(&self, annotations: Option<Value>) -> Value {
        let mut metadata = json!({"resourceVersion": self.position.to_string(), "creationTimestamp": null});
        if let Some(annotations) = annotations {
            metadata["annotations"] = annotations;
        }
        let object = json!({
            "kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata,
        });
        json!({"type": "BOOKMARK", "object": view(&object, self.request.is_metadata)})
    }

    /// The version up to which this watch has been sent everything that concerns it.
    fn visible(&self, state: &State) -> u64 {
        let lag = state.settings.watch_lag;
        if lag.is_zero() {
            return state.store.version;
        }
        let now = Instant::now();
        let mut changes = state.store.changes_after(self.resource, 0).iter();
        changes.find(|change| change.at + lag > now).map_or(state.store.version, |change| change.version - 1)
    }

    fn plan_bookmark(&mut self, state: &State) {
        let now = Instant::now();
        let last = self.deadline.checked_sub(LAST_BOOKMARK).filter(|last| *last > now);
        let regular = now + state.settings.bookmark_period;
        let next = last.map_or(regular, |last| regular.min(last));
        self.next_bookmark = Some(next);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.note(self.entry, |entry, now| entry.ended = Some(now));
    }
}

fn line(event: &Value) -> Vec<u8> {
    let mut line = event.to_string().into_bytes();
    line.push(b'\n');
    line
}
