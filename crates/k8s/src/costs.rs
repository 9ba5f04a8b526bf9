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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
/// And on the lists that are measured at once, which take no turns.
const MAX_MEASURING: usize = 4;

/// How to look up a handful of objects.
#[derive(Debug)]
pub(crate) enum Way {
    /// One by one.
    Singly,
    /// One by one, and by a list beside that, whose answer is not waited for: to know what it takes. The permit is to be
    /// kept until that is over.
    SinglyAndMeasure(OwnedSemaphorePermit),
    /// By a list that may take so long; then one by one.
    List(Duration),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Costs {
    known: Mutex<Known>,
    measuring: Arc<Semaphore>,
}

impl Default for Costs {
    fn default() -> Self {
        Self { known: Mutex::default(), measuring: Arc::new(Semaphore::new(MAX_MEASURING)) }
    }
}

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
    /// The mean of what was measured lately. A single outlier does not count for much, nor does what was measured long
    /// ago.
    fn and(before: Option<Self>, time: Duration, at: Instant) -> Self {
        let Some(before) = before else { return Self { time, at } };
        let weight = if before.is_old(at) { 1 } else { 3 };
        Self { time: (before.time * weight + time.min(before.time * 4)) / (weight + 1), at }
    }

    fn is_old(&self, now: Instant) -> bool {
        now.duration_since(self.at) > MAX_AGE
    }
}

impl Costs {
    /// How to look up so many objects of a namespace.
    pub(crate) fn choose(&self, namespace: &Arc<str>, count: usize, now: Instant) -> Way {
        let mut known = self.known.lock();
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
                let Ok(permit) = self.measuring.clone().try_acquire_owned() else { return Way::Singly };
                if known.lists.len() >= MAX_KNOWN {
                    known.lists.retain(|_, list| !list.is_old(now) && list.time < Duration::MAX);
                }
                if known.lists.len() >= MAX_KNOWN {
                    known.lists.clear();
                }
                // Until it is known, nobody else measures it, too.
                let time = before.map_or(Duration::MAX, |before| before.time);
                known.lists.insert(namespace.clone(), Measured { time, at: now });
                Way::SinglyAndMeasure(permit)
            }
        }
    }

    /// So many single reads at once were answered after that time.
    pub(crate) fn singles_took(&self, count: usize, time: Duration, now: Instant) {
        if let Some(singles) = self.known.lock().singles.get_mut(count) {
            *singles = Some(Measured::and(*singles, time, now));
        }
    }

    /// A list of the namespace was answered after that time; `None` if it gave no answer worth having.
    pub(crate) fn list_took(&self, namespace: &Arc<str>, time: Option<Duration>, now: Instant) {
        if let Some(list) = self.known.lock().lists.get_mut(namespace) {
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

    /// How to look up so many, without what is to be kept meanwhile.
    fn way(costs: &Costs, namespace: &Arc<str>, count: usize, now: Instant) -> &'static str {
        match costs.choose(namespace, count, now) {
            Way::Singly => "singly",
            Way::SinglyAndMeasure(_) => "and measure",
            Way::List(patience) => {
                assert_eq!(patience, 8 * MILLI);
                "list"
            }
        }
    }

    fn after(costs: &Costs, list: Option<Duration>) -> (Arc<str>, Instant) {
        let (shop, now) = (Arc::<str>::from("shop"), Instant::now());
        assert_eq!(way(costs, &shop, 3, now), "singly", "nothing is known of single reads");
        costs.singles_took(3, 2 * MILLI, now);
        assert_eq!(way(costs, &shop, 3, now), "and measure");
        assert_eq!(way(costs, &shop, 3, now), "singly", "one measures it");
        costs.list_took(&shop, list, now);
        (shop, now)
    }

    #[tokio::test(start_paused = true)]
    async fn c4_3_a_list_is_made_where_it_answers_sooner() {
        let costs = Costs::default();
        let (shop, now) = after(&costs, Some(MILLI));
        assert_eq!(way(&costs, &shop, 3, now), "list");
        assert_eq!(way(&costs, &shop, 1, now), "singly", "one object is one read");
        assert_eq!(way(&costs, &shop, 2, now), "singly", "two reads may be quicker");
        assert_eq!(way(&costs, &"stock".into(), 3, now), "and measure");
        let later = now + MAX_AGE + MILLI;
        assert_eq!(way(&costs, &shop, 3, later), "singly", "single reads are measured again");
        costs.singles_took(3, 2 * MILLI, later);
        assert_eq!(way(&costs, &shop, 3, later), "list");
        // A list that exceeds its patience is not tried again soon.
        costs.list_took(&shop, None, later);
        assert_eq!(way(&costs, &shop, 3, later), "singly");
    }

    #[tokio::test(start_paused = true)]
    async fn c4_3_no_list_is_made_where_it_is_slower_or_nothing_is_to_be_won() {
        for list in [Some(100 * MILLI), None] {
            let costs = Costs::default();
            let (shop, now) = after(&costs, list);
            assert_eq!(way(&costs, &shop, 3, now), "singly");
            assert_eq!(way(&costs, &shop, 3, now + MAX_AGE + MILLI), "and measure");
        }
        let costs = Costs::default();
        costs.singles_took(3, WORTHWHILE / 2, Instant::now());
        assert_eq!(way(&costs, &"shop".into(), 3, Instant::now()), "singly");
    }

    #[tokio::test(start_paused = true)]
    async fn c5_2_made_up_namespaces_are_not_remembered_without_bound() {
        let (costs, now) = (Costs::default(), Instant::now());
        costs.singles_took(3, MILLI, now);
        for i in 0..3 * MAX_KNOWN {
            assert_eq!(way(&costs, &format!("made-up-{i}").into(), 3, now), "and measure");
        }
        assert!(costs.known.lock().lists.len() <= MAX_KNOWN);
    }
}
