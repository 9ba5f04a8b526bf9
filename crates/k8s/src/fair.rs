//! A semaphore whose permits are handed out in turns, so that one namespace cannot keep the others waiting.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Hands out permits in turns over keys (a key is a namespace), first come first served within a key.
///
/// - A request is granted whole or not at all, so that requests cannot block each other by holding parts.
/// - The key whose turn it is waits until its request fits, and everybody after it with it: a large request does not
///   starve behind small ones.
/// - A key that holds something is passed over while its next request would take it above three quarters of all
///   permits. What is left is for the others; a single request may be larger than that.
/// - A request for more than all permits is one for all permits.
///
/// Clones share the permits. The state of a key goes with its last waiter and its last permit.
#[derive(Clone, Debug)]
pub struct FairSemaphore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    held: HashMap<Arc<str>, usize>,
    queues: HashMap<Arc<str>, Queue>,
    /// The keys with waiters, by the number of their turn.
    turns: BTreeMap<u64, Arc<str>>,
    /// The next number of a turn or a waiter.
    next: u64,
}

#[derive(Debug)]
struct Queue {
    turn: u64,
    /// By number, so in the order in which they came.
    waiters: BTreeMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    permits: usize,
    grant: oneshot::Sender<Permit>,
}

/// Permits that are held; they are given back on drop.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    key: Arc<str>,
    permits: usize,
}

/// Grants that were decided on under the lock and are sent without it.
type Grants = Vec<(oneshot::Sender<Permit>, Permit)>;

impl FairSemaphore {
    /// A semaphore with that many permits, at least one.
    pub fn new(permits: usize) -> Self {
        let total = permits.max(1);
        let state = State {
            free: total,
            held: HashMap::new(),
            queues: HashMap::new(),
            turns: BTreeMap::new(),
            next: 0,
        };
        Self(Arc::new(Shared { total, state: Mutex::new(state) }))
    }

    /// Waits for permits, as many as asked for or all there are. A future that is dropped leaves no trace.
    pub async fn acquire(&self, key: &str, permits: usize) -> Permit {
        let permits = permits.min(self.0.total);
        let (grant, granted) = oneshot::channel();
        let waiting = self.enqueue(key, Waiter { permits, grant });
        let permit = granted.await;
        drop(waiting);
        // A waiter is taken out of its queue by a grant or by the drop of this future, so a sender is never lost.
        permit.expect("a waiter stays until it is granted")
    }

    /// All permits.
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// The permits that are held now.
    pub fn in_use(&self) -> usize {
        self.0.total - self.0.state().free
    }

    /// The requests that wait now.
    pub fn waiting(&self) -> usize {
        self.0.state().queues.values().map(|queue| queue.waiters.len()).sum()
    }

    fn enqueue(&self, key: &str, waiter: Waiter) -> Waiting {
        let mut state = self.0.state();
        let number = state.number();
        let key: Arc<str> = match state.queues.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => key.into(),
        };
        if !state.queues.contains_key(&key) {
            let turn = state.number();
            state.turns.insert(turn, key.clone());
            state.queues.insert(key.clone(), Queue { turn, waiters: BTreeMap::new() });
        }
        if let Some(queue) = state.queues.get_mut(&key) {
            queue.waiters.insert(number, waiter);
        }
        let grants = self.0.grant(&mut state);
        drop(state);
        send(grants);
        Waiting { shared: self.0.clone(), key, number }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants what can be granted now, in turns.
    fn grant(self: &Arc<Self>, state: &mut State) -> Grants {
        let mut grants = Grants::new();
        let mut from = 0;
        while let Some((turn, key)) = state.turns.range(from..).next().map(|(turn, key)| (*turn, key.clone()))
        {
            let Some(permits) = state.queues.get(&key).and_then(Queue::asks_for) else { break };
            let held = state.held.get(&key).copied().unwrap_or_default();
            if held > 0 && held + permits > self.total - self.total / 4 {
                from = turn + 1;
                continue;
            }
            if permits > state.free {
                break;
            }
            let Some(waiter) = state.next_turn(&key) else { break };
            state.free -= permits;
            if permits > 0 {
                *state.held.entry(key.clone()).or_default() += permits;
            }
            grants.push((waiter.grant, Permit { shared: self.clone(), key, permits }));
        }
        grants
    }

    fn give_back(self: &Arc<Self>, key: &str, permits: usize) {
        if permits == 0 {
            return;
        }
        let mut state = self.state();
        state.free += permits;
        if let Some(held) = state.held.get_mut(key) {
            *held -= permits;
            if *held == 0 {
                state.held.remove(key);
            }
        }
        let grants = self.grant(&mut state);
        drop(state);
        send(grants);
    }
}

/// A grant that nobody waits for any more is dropped here, without the lock, and so given back.
fn send(grants: Grants) {
    for (sender, permit) in grants {
        drop(sender.send(permit));
    }
}

impl Queue {
    fn asks_for(&self) -> Option<usize> {
        self.waiters.first_key_value().map(|(_, waiter)| waiter.permits)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes the first waiter of a key out of its queue; the key's next turn comes after those of all others.
    fn next_turn(&mut self, key: &Arc<str>) -> Option<Waiter> {
        let turn = self.number();
        let queue = self.queues.get_mut(key)?;
        let (_, waiter) = queue.waiters.pop_first()?;
        self.turns.remove(&queue.turn);
        if queue.waiters.is_empty() {
            self.queues.remove(key);
        } else {
            queue.turn = turn;
            self.turns.insert(turn, key.clone());
        }
        Some(waiter)
    }
}

/// A request in its queue, taken out on drop.
struct Waiting {
    shared: Arc<Shared>,
    key: Arc<str>,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let Some(queue) = state.queues.get_mut(&self.key) else { return };
        if queue.waiters.remove(&self.number).is_none() {
            return;
        }
        if queue.waiters.is_empty() {
            let turn = queue.turn;
            state.turns.remove(&turn);
            state.queues.remove(&self.key);
        }
        // It may have been what everybody waited behind.
        let grants = self.shared.grant(&mut state);
        drop(state);
        send(grants);
    }
}

impl Permit {
    /// How many permits are held.
    pub fn permits(&self) -> usize {
        self.permits
    }

    /// Gives back all but `to`.
    pub fn shrink(&mut self, to: usize) {
        let surplus = self.permits.saturating_sub(to);
        self.permits -= surplus;
        self.shared.give_back(&self.key, surplus);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.give_back(&self.key, self.permits);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    struct Acquire(Pin<Box<dyn Future<Output = Permit>>>);

    impl std::fmt::Debug for Acquire {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a request that waits")
        }
    }

    /// Asks, and polls once so that the request is in its queue.
    fn ask(semaphore: &FairSemaphore, key: &'static str, permits: usize) -> Result<Permit, Acquire> {
        let semaphore = semaphore.clone();
        let mut acquire = Acquire(Box::pin(async move { semaphore.acquire(key, permits).await }));
        poll(&mut acquire).ok_or(acquire)
    }

    fn poll(acquire: &mut Acquire) -> Option<Permit> {
        match acquire.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn c5_2_ten_thousand_waiters_delay_another_namespace_by_at_most_one_grant() {
        let semaphore = FairSemaphore::new(4);
        let first = ask(&semaphore, "idle", 4).unwrap();
        let mut many: Vec<_> = (0..10_000).map(|_| ask(&semaphore, "noisy", 4).unwrap_err()).collect();
        let mut quiet = ask(&semaphore, "quiet", 4).unwrap_err();
        drop(first);
        assert!(poll(&mut quiet).is_none(), "the noisy one came first");
        drop(poll(&mut many[0]).unwrap());
        let permit = poll(&mut quiet).unwrap();
        assert!(poll(&mut many[1]).is_none());
        drop(permit);
        let _second = poll(&mut many[1]).unwrap();
        assert!(many[2..].iter_mut().all(|waiter| poll(waiter).is_none()), "in order within a key");
    }

    #[test]
    fn c5_2_a_large_request_does_not_starve_behind_small_ones() {
        let semaphore = FairSemaphore::new(8);
        let small = [ask(&semaphore, "a", 2).unwrap(), ask(&semaphore, "b", 2).unwrap()];
        let mut large = ask(&semaphore, "c", 6).unwrap_err();
        let mut later = ask(&semaphore, "d", 1).unwrap_err();
        let [one, other] = small;
        drop(one);
        let permit = poll(&mut large).unwrap();
        assert!(poll(&mut later).is_none());
        drop(other);
        assert!(poll(&mut later).is_some());
        drop(permit);
        assert_eq!(semaphore.in_use(), 0);
    }

    #[test]
    fn c5_2_one_namespace_leaves_a_quarter_to_the_others() {
        let semaphore = FairSemaphore::new(8);
        let mut held: Vec<_> = (0..6).map(|_| ask(&semaphore, "noisy", 1).unwrap()).collect();
        let mut more = ask(&semaphore, "noisy", 1).unwrap_err();
        let other = ask(&semaphore, "quiet", 2).unwrap();
        assert!(poll(&mut more).is_none());
        held.pop();
        assert!(poll(&mut more).is_some());
        drop((held, other));
        // A single request may be larger than that, or it would never be granted.
        assert_eq!(ask(&semaphore, "noisy", 8).unwrap().permits(), 8);
    }

    #[test]
    fn c5_2_a_waiter_that_is_dropped_leaves_no_trace() {
        let semaphore = FairSemaphore::new(4);
        let held = ask(&semaphore, "a", 3).unwrap();
        let in_front = ask(&semaphore, "b", 4).unwrap_err();
        let mut behind = ask(&semaphore, "c", 1).unwrap_err();
        assert!(poll(&mut behind).is_none());
        drop(in_front);
        drop(poll(&mut behind).unwrap());
        drop(held);

        // Granted, but dropped before it was seen.
        let held = ask(&semaphore, "a", 4).unwrap();
        let granted = ask(&semaphore, "b", 4).unwrap_err();
        drop(held);
        assert_eq!(semaphore.in_use(), 4);
        drop(granted);
        assert_eq!((semaphore.in_use(), semaphore.waiting()), (0, 0));
        let state = semaphore.0.state();
        assert!(state.held.is_empty() && state.queues.is_empty() && state.turns.is_empty());
    }

    #[test]
    fn c5_2_a_request_for_more_than_there_is_gets_all_and_can_be_shrunk() {
        let semaphore = FairSemaphore::new(4);
        let mut all = ask(&semaphore, "a", 1000).unwrap();
        assert_eq!(all.permits(), 4);
        let mut next = ask(&semaphore, "b", 2).unwrap_err();
        all.shrink(3);
        assert!(poll(&mut next).is_none());
        all.shrink(2);
        assert!(poll(&mut next).is_some());
        all.shrink(3);
        assert_eq!(all.permits(), 2, "shrinking never grows");
    }

    #[tokio::test(start_paused = true)]
    async fn c5_2_every_request_of_many_tasks_is_granted() {
        let semaphore = FairSemaphore::new(7);
        let tasks: Vec<_> = (0..500_usize)
            .map(|i| {
                let semaphore = semaphore.clone();
                tokio::spawn(async move {
                    let key = ["a", "b", "c"][i % 3];
                    let wait = semaphore.acquire(key, i % 9);
                    let limit = std::time::Duration::from_millis(if i % 5 == 0 { 3 } else { 3_600_000 });
                    if let Ok(permit) = tokio::time::timeout(limit, wait).await {
                        tokio::time::sleep(std::time::Duration::from_millis(i as u64 % 4)).await;
                        drop(permit);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!((semaphore.in_use(), semaphore.waiting()), (0, 0));
    }
}
