//! Which objects have to be read because a watch told of another version: is their content another, too (3.1)?
//!
//! One read of an object at a time, and not more often than [`PAUSE`], however often it is written.

use std::collections::HashMap;
use std::time::Duration;

use pod_reloader_core::reference::ConfigRef;
use tokio::time::Instant;

/// Between two reads of one object.
const PAUSE: Duration = Duration::from_millis(250);

/// A read to be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) object: ConfigRef,
    /// When the read may begin.
    pub(crate) at: Instant,
}

/// The reads that are under way.
#[derive(Debug, Default)]
pub(crate) struct Comparisons(HashMap<ConfigRef, State>);

#[derive(Debug)]
struct State {
    began: Instant,
    /// Another version was seen meanwhile.
    again: bool,
}

impl Comparisons {
    /// Another version of the object was seen. Returns the read to begin, unless one is under way.
    pub(crate) fn ask(&mut self, object: &ConfigRef, now: Instant) -> Option<Comparison> {
        if let Some(state) = self.0.get_mut(object) {
            state.again = true;
            return None;
        }
        self.0.insert(object.clone(), State { began: now, again: false });
        Some(Comparison { object: object.clone(), at: now })
    }

    /// A read is over. Returns the next one of the object, if it has to be read again.
    pub(crate) fn done(&mut self, object: &ConfigRef, now: Instant) -> Option<Comparison> {
        let State { began, again } = self.0.remove(object)?;
        if !again {
            return None;
        }
        let at = (began + PAUSE).max(now);
        self.0.insert(object.clone(), State { began: at, again: false });
        Some(Comparison { object: object.clone(), at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_reloader_core::reference::ConfigName;

    #[test]
    fn c3_1_an_object_that_is_written_all_the_time_is_read_a_few_times_a_second() {
        let (mut comparisons, start) = (Comparisons::default(), Instant::now());
        let object = ConfigRef::new("ns", ConfigName::configmap("busy"));
        let first = comparisons.ask(&object, start).unwrap();
        assert_eq!(first.at, start);
        for i in 1..100 {
            assert_eq!(comparisons.ask(&object, start + Duration::from_millis(i)), None);
        }
        let second = comparisons.done(&object, start + Duration::from_millis(100)).unwrap();
        assert_eq!(second.at, start + PAUSE);
        assert_eq!(comparisons.done(&object, second.at), None);
        assert!(comparisons.ask(&object, second.at).is_some());
    }
}
