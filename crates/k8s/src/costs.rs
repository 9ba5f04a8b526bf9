//! Whether one list of a namespace's metadata answers sooner than single reads, as the API server has answered lately.
//!
//! In a small namespace of a quiet cluster one list takes hardly longer than one read. Where a namespace is large it
//! carries much that nobody asked for; and since API servers answer lists from their cache, after they have waited until
//! that is up to date (Kubernetes 1.31 and later), it takes a tenth of a second wherever other kinds of objects are
//! written all the time. Neither can be known beforehand, so it is measured.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// More objects than this are always listed: that is kinder to the API server.
pub(crate) const HANDFUL: usize = 8;
/// When single reads take less than this, there is nothing to be won.
const WORTHWHILE: Duration = Duration::from_micros(300);
/// What was measured is measured again after this time.
const MAX_AGE: Duration = Duration::from_secs(10);
/// A list that was expected to be quick may take so many times what single reads take, within these limits.
const PATIENCE: u32 = 4;
const PATIENCE_LIMITS: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(250)];
/// A bound, since clients that send reviews choose the namespaces in them.
const MAX_KNOWN: usize = 1_000;

/// How to look up a handful of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One by one.
    Singly,
    /// One by one, and by a list beside that, whose answer is not waited for: to know what it takes.
    SinglyAndMeasure,
    /// By a list that may take so long; then one by one.
    List(Duration),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Costs(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By how many were read at once.
    singles: [Option<Measured>; HANDFUL + 1],
    /// By namespace.
    lists: HashMap<Arc<str>, Measured>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    time: Duration,
    at: Instant,
}

impl Measured {
    /// The mean of what was measured lately. A single outlier does not count for much.
    fn and(before: Option<Self>, time: Duration, at: Instant) -> Self {
        let before = before.map_or(time, |before| before.time);
        Self { time: (before * 3 + time.min(before * 4)) / 4, at }
    }

    fn is_old(&self, now: Instant) -> bool {
        now.duration_since(self.at) > MAX_AGE
    }
}

impl Costs {
    /// How to look up so many objects of a namespace.
    pub(crate) fn choose(&self, namespace: &Arc<str>, count: usize, now: Instant) -> Way {
        let mut known = self.0.lock();
        let singles = known.singles.get(count).copied().flatten();
        let Some(singles) = singles.filter(|singles| count > 1 && singles.time >= WORTHWHILE) else {
            return Way::Singly;
        };
        let list = known.lists.get(namespace).copied();
        match list {
            Some(list) if list.time < singles.time && singles.is_old(now) => Way::Singly,
            Some(list) if list.time < singles.time => {
                let [least, most] = PATIENCE_LIMITS;
                Way::List((singles.time * PATIENCE).clamp(least, most))
            }
            Some(list) if !list.is_old(now) => Way::Singly,
            before => {
                if known.lists.len() >= MAX_KNOWN {
                    known.lists.clear();
                }
                // Until it is known, nobody else measures it, too.
                let time = before.map_or(Duration::MAX, |before| before.time);
                known.lists.insert(namespace.clone(), Measured { time, at: now });
                Way::SinglyAndMeasure
            }
        }
    }

    /// So many single reads at once were answered after that time.
    pub(crate) fn singles_took(&self, count: usize, time: Duration, now: Instant) {
        if let Some(singles) = self.0.lock().singles.get_mut(count) {
            *singles = Some(Measured::and(*singles, time, now));
        }
    }

    /// A list of the namespace was answered after that time; `None` if it gave no answer worth having.
    pub(crate) fn list_took(&self, namespace: &Arc<str>, time: Option<Duration>, now: Instant) {
        if let Some(list) = self.0.lock().lists.get_mut(namespace) {
            let before = Some(*list).filter(|list| list.time < Duration::MAX);
            *list = match time {
                Some(time) => Measured::and(before, time, now),
                None => Measured { time: Duration::MAX, at: now },
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn after(costs: &Costs, list: Option<Duration>) -> (Arc<str>, Instant) {
        let (shop, now) = (Arc::<str>::from("shop"), Instant::now());
        assert_eq!(costs.choose(&shop, 3, now), Way::Singly, "nothing is known of single reads");
        costs.singles_took(3, 2 * MILLI, now);
        assert_eq!(costs.choose(&shop, 3, now), Way::SinglyAndMeasure);
        assert_eq!(costs.choose(&shop, 3, now), Way::Singly, "one measures it");
        costs.list_took(&shop, list, now);
        (shop, now)
    }

    #[tokio::test(start_paused = true)]
    async fn c4_3_a_list_is_made_where_it_answers_sooner() {
        let costs = Costs::default();
        let (shop, now) = after(&costs, Some(MILLI));
        assert_eq!(costs.choose(&shop, 3, now), Way::List(8 * MILLI));
        assert_eq!(costs.choose(&shop, 1, now), Way::Singly, "one object is one read");
        assert_eq!(costs.choose(&shop, 2, now), Way::Singly, "two reads may be quicker");
        assert_eq!(costs.choose(&"stock".into(), 3, now), Way::SinglyAndMeasure);
        let later = now + MAX_AGE + MILLI;
        assert_eq!(costs.choose(&shop, 3, later), Way::Singly, "single reads are measured again");
        costs.singles_took(3, 2 * MILLI, later);
        assert_eq!(costs.choose(&shop, 3, later), Way::List(8 * MILLI));
        // A list that exceeds its patience is not tried again soon.
        costs.list_took(&shop, None, later);
        assert_eq!(costs.choose(&shop, 3, later), Way::Singly);
    }

    #[tokio::test(start_paused = true)]
    async fn c4_3_no_list_is_made_where_it_is_slower_or_nothing_is_to_be_won() {
        for list in [Some(100 * MILLI), None] {
            let costs = Costs::default();
            let (shop, now) = after(&costs, list);
            assert_eq!(costs.choose(&shop, 3, now), Way::Singly);
            assert_eq!(costs.choose(&shop, 3, now + MAX_AGE + MILLI), Way::SinglyAndMeasure);
        }
        let costs = Costs::default();
        costs.singles_took(3, WORTHWHILE / 2, Instant::now());
        assert_eq!(costs.choose(&"shop".into(), 3, Instant::now()), Way::Singly);
    }

    #[tokio::test(start_paused = true)]
    async fn c5_2_made_up_namespaces_are_not_remembered_without_bound() {
        let (costs, now) = (Costs::default(), Instant::now());
        costs.singles_took(3, MILLI, now);
        for i in 0..3 * MAX_KNOWN {
            assert_eq!(costs.choose(&format!("made-up-{i}").into(), 3, now), Way::SinglyAndMeasure);
        }
        assert!(costs.0.lock().lists.len() <= MAX_KNOWN);
    }
}
