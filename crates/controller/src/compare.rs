//! Which objects have to be read because a watch reported another version: is their content another, too (3.1)?
//!
//! One read of an object at a time, and not more often than [`PAUSE`], however often it is written; [`MAX_READS`] at
//! once, and namespaces take turns.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pod_reloader_core::name::ConfigRef;
use tokio::time::Instant;

/// Between two reads of one object.
const PAUSE: Duration = Duration::from_millis(250);
/// Reads at once, those that pause included.
const MAX_READS: usize = 128;

/// A read to be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) object: ConfigRef,
    /// When the read may begin.
    pub(crate) at: Instant,
}

/// The reads that are under way, and those that wait.
#[derive(Debug, Default)]
pub(crate) struct Comparisons {
    states: HashMap<ConfigRef, State>,
    running: usize,
    waiting: HashMap<Arc<str>, VecDeque<ConfigRef>>,
    /// Namespaces with objects that wait; the first is next.
    turns: VecDeque<Arc<str>>,
}

#[derive(Debug)]
struct State {
    /// When the last read began; `None` while none has.
    began: Option<Instant>,
    is_running: bool,
    /// Another version was seen meanwhile.
    again: bool,
}

impl Comparisons {
    /// Another version of the object was seen.
    pub(crate) fn ask(&mut self, object: &ConfigRef) {
        if let Some(state) = self.states.get_mut(object) {
            state.again |= state.is_running;
            return;
        }
        let state = State { began: None, is_running: false, again: false };
        self.states.insert(object.clone(), state);
        self.wait(object);
    }

    fn wait(&mut self, object: &ConfigRef) {
        let waiting = self.waiting.entry(object.namespace.clone()).or_default();
        if waiting.is_empty() {
            self.turns.push_back(object.namespace.clone());
        }
        waiting.push_back(object.clone());
    }

    /// The next read to begin, if there may be one more.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Comparison> {
        if self.running >= MAX_READS {
            return None;
        }
        let namespace = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&namespace)?;
        let object = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        let state = self.states.get_mut(&object)?;
        let at = state.began.map_or(now, |began| (began + PAUSE).max(now));
        state.began = Some(at);
        state.is_running = true;
        self.running += 1;
        Some(Comparison { object, at })
    }

    /// A read is over. Returns whether the object has to be read again.
    pub(crate) fn done(&mut self, object: &ConfigRef) -> bool {
        let Some(state) = self.states.get_mut(object) else { return false };
        self.running -= 1;
        state.is_running = false;
        if std::mem::take(&mut state.again) {
            self.wait(object);
            return true;
        }
        self.states.remove(object);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: &str, i: usize) -> ConfigRef {
        ConfigRef::configmap(namespace, format!("object-{i}"))
    }

    #[test]
    fn c3_1_an_object_that_is_written_all_the_time_is_read_a_few_times_a_second() {
        let (mut comparisons, start) = (Comparisons::default(), Instant::now());
        let busy = object("ns", 0);
        comparisons.ask(&busy);
        comparisons.ask(&busy);
        assert_eq!(comparisons.next(start).unwrap().at, start);
        for _ in 1..100 {
            comparisons.ask(&busy);
            assert_eq!(comparisons.next(start), None);
        }
        assert!(comparisons.done(&busy));
        let second = comparisons.next(start + Duration::from_millis(100)).unwrap();
        assert_eq!(second.at, start + PAUSE);
        assert!(!comparisons.done(&busy));
        comparisons.ask(&busy);
        assert!(comparisons.next(second.at).is_some());
    }

    #[test]
    fn c5_2_reads_are_bounded_and_namespaces_take_turns() {
        let (mut comparisons, now) = (Comparisons::default(), Instant::now());
        (0..10_000).for_each(|i| comparisons.ask(&object("big", i)));
        let running: Vec<_> = std::iter::from_fn(|| comparisons.next(now)).collect();
        assert_eq!(running.len(), MAX_READS);
        comparisons.ask(&object("small", 0));
        let mut reads = 0;
        for read in running {
            comparisons.done(&read.object);
            reads += 1;
            if comparisons.next(now).is_some_and(|next| &*next.object.namespace == "small") {
                break;
            }
        }
        assert!(reads <= 2, "{reads}");
    }
}
