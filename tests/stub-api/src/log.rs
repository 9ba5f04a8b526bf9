//! What was asked, when, and what became of it.

use std::time::Duration;

use crate::fault::Fault;
use crate::request::{RequestInfo, RequestKind};

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not answered yet.
    Pending,
    /// Answered with that code. Of a watch: its headers.
    Answered(u16),
    /// The connection broke.
    Broken,
    /// The client gave up before an answer came.
    GivenUp,
}

/// A request.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// When it came, from the start of the stub.
    pub at: Duration,
    /// What it was.
    pub request: RequestInfo,
    /// Its fault, if it had one. Faults of single events of a watch are not noted.
    pub fault: Option<Fault>,
    /// What became of it.
    pub outcome: Outcome,
    /// Events of the watch that were sent, bookmarks among them.
    pub events: usize,
    /// When a watch's stream ended or was dropped.
    pub ended: Option<Duration>,
}

impl LogEntry {
    /// The request's kind.
    pub fn kind(&self) -> RequestKind {
        self.request.kind
    }
}

impl std::fmt::Display for LogEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, request, fault, outcome, .. } = self;
        write!(f, "{:>9.3} {} {} {}", at.as_secs_f64(), request.client, request.method, request.path)?;
        for (index, (name, value)) in request.query.iter().enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
        }
        write!(f, " {:?}: {outcome:?}", request.kind)?;
        fault.map_or(Ok(()), |fault| write!(f, " ({fault:?})"))
    }
}
