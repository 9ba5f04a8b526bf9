//! Facts in Events on the workloads (5.8).
//!
//! Written one by one rather than by kube's `Recorder`, which folds repeats into one Event with the first one's
//! note: each reload has to name the references that changed.

mod backlog;
mod writing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{BoxFuture, FutureExt};
use kube::Client;

use super::Sink;
use crate::conditions::Condition;
use crate::fact::{Fact, Subject};
use crate::metrics::Metrics;
use writing::{Waiting, Writer};

/// Writes Events in the background.
pub(super) struct Events {
    writer: Arc<Writer>,
    is_running: AtomicBool,
}

impl Sink for Events {
    /// Writes an Event, when its turn comes. One that meets a passing failure is tried again; what cannot be written is
    /// logged and counted, nothing else: the work itself is done.
    fn publish(&self, subject: &Subject, fact: &Fact) {
        let Some(form) = Form::of(fact) else { return };
        if !self.is_running.swap(true, Ordering::Relaxed) {
            self.writer.start();
        }
        self.writer.add(Waiting::new(subject, form, fact.to_string()));
    }

    fn make_way(&self, makes_way: bool) {
        self.writer.make_way(makes_way);
    }

    /// Waits briefly for pending Events; the rest continue in the background.
    fn flush(&self) -> BoxFuture<'_, ()> {
        self.writer.flush().boxed()
    }
}

impl Events {
    pub(super) fn new(client: Client, instance: String, metrics: Metrics) -> Self {
        Self { writer: Arc::new(Writer::new(client, instance, metrics)), is_running: AtomicBool::new(false) }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.writer.end();
    }
}

/// The fixed words of an Event.
#[derive(Clone, Copy, Debug)]
struct Form {
    event_type: &'static str,
    reason: &'static str,
    action: &'static str,
}

impl Form {
    /// `None` if the fact leaves no Event.
    fn of(fact: &Fact) -> Option<Self> {
        let warning = |reason, action| Some(Self { event_type: "Warning", reason, action });
        match fact {
            // SAP's word for a reload.
            Fact::Reloaded(_) => {
                Some(Self { event_type: "Normal", reason: "ConfigurationChanged", action: "Reload" })
            }
            Fact::KeyReplaced => warning("KeyReplaced", "Record"),
            _ => fact.condition().and_then(|condition| warning(condition.as_str(), action(condition))),
        }
    }
}

/// What the operator does about a condition.
const fn action(condition: Condition) -> &'static str {
    match condition {
        Condition::ReloadDeferred | Condition::PatchRefused | Condition::ReferenceUnreadable => "Wait",
        Condition::InvalidReference
        | Condition::NoRoom
        | Condition::ReferenceNotFound
        | Condition::TooManyReferences
        | Condition::SecretsNotFollowed => "LeaveOut",
        Condition::AnotherInstallation => "StandDown",
    }
}
