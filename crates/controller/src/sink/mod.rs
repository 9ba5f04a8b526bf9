//! Where facts are published: the log, the metrics, Events.
//!
//! A sink is a file here and a line in [`Publisher::new`]. Nothing else counts, writes Events or logs (but
//! for debugging) what happened to a workload.

mod events;
mod log;
mod metrics;

use futures::future::{BoxFuture, FutureExt, join_all, ready};
use pod_reloader_core::reference::WorkloadRef;

use crate::conditions::{Condition, Conditions};
use crate::controller::Settings;
use crate::fact::{Fact, Subject};

/// Something that facts are published to.
pub(crate) trait Sink: Send + Sync {
    /// Takes a fact, without making the caller wait. It gets a condition once while it is active.
    fn publish(&self, subject: &Subject, fact: &Fact);

    /// Says whether workloads wait to be patched: what is less urgent makes way for that.
    fn make_way(&self, _makes_way: bool) {}

    /// Waits a moment for what was published and is still on its way.
    fn flush(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// Publishes facts to every sink: a condition once while it is active, anything else whenever it happens.
pub(crate) struct Publisher {
    conditions: Conditions,
    sinks: Vec<Box<dyn Sink>>,
}

impl Publisher {
    pub(crate) fn new(settings: &Settings) -> Self {
        let Settings { client, instance, metrics, .. } = settings;
        Self::to(vec![
            Box::new(metrics::Counts::new(metrics.clone())),
            Box::new(log::Log),
            Box::new(events::Events::new(client.clone(), instance.clone(), metrics.clone())),
        ])
    }

    fn to(sinks: Vec<Box<dyn Sink>>) -> Self {
        Self { conditions: Conditions::default(), sinks }
    }

    pub(crate) fn publish(&self, subject: &Subject, fact: &Fact) {
        if self.conditions.begin(&subject.workload, fact) {
            self.sinks.iter().for_each(|sink| sink.publish(subject, fact));
        }
    }

    /// See [`Conditions::is_active`].
    pub(crate) fn is_active(&self, workload: &WorkloadRef, fact: &Fact) -> bool {
        self.conditions.is_active(workload, fact)
    }

    /// See [`Conditions::resolve`].
    pub(crate) fn resolve(&self, workload: &WorkloadRef, conditions: &[Condition]) {
        self.conditions.resolve(workload, conditions);
    }

    /// See [`Conditions::forget`].
    pub(crate) fn forget(&self, workload: &WorkloadRef) {
        self.conditions.forget(workload);
    }

    /// See [`Conditions::count`].
    pub(crate) fn count(&self, condition: Condition) -> usize {
        self.conditions.count(condition)
    }

    /// See [`Sink::make_way`].
    pub(crate) fn make_way(&self, makes_way: bool) {
        self.sinks.iter().for_each(|sink| sink.make_way(makes_way));
    }

    /// See [`Sink::flush`].
    pub(crate) async fn flush(&self) {
        join_all(self.sinks.iter().map(|sink| sink.flush())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_reloader_core::kind::apps::DEPLOYMENT;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<Fact>>>);

    impl Sink for Heard {
        fn publish(&self, _: &Subject, fact: &Fact) {
            self.0.lock().unwrap().push(fact.clone());
        }
    }

    #[test]
    fn c5_8_every_sink_hears_of_a_condition_once_while_it_stands() {
        let heard = [Heard::default(), Heard::default()];
        let publisher =
            Publisher::to(heard.iter().map(|sink| Box::new(sink.clone()) as Box<dyn Sink>).collect());
        let workload = WorkloadRef { kind: DEPLOYMENT, namespace: "ns".into(), name: "web".into() };
        let subject = Subject { workload, uid: None, resource_version: None };
        let facts = [Fact::LeftOut, Fact::LeftOut, Fact::Recorded, Fact::Recorded, Fact::LeftOut];
        for fact in &facts {
            publisher.publish(&subject, fact);
        }
        publisher.resolve(&subject.workload, &[Condition::TooManyReferences]);
        publisher.publish(&subject, &Fact::LeftOut);
        for sink in heard {
            let expected = [Fact::LeftOut, Fact::Recorded, Fact::Recorded, Fact::LeftOut];
            assert_eq!(*sink.0.lock().unwrap(), expected);
        }
    }
}
