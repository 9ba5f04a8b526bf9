//! A semaphore whose permits are handed out in turns, so that one namespace cannot keep the others waiting.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Who asks: within a key, its callers take turns.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// What takes turns with others: a namespace.
    pub key: &'a str,
    /// On whose behalf within that: the address of whoever sent a review, empty for ourselves. Anybody can send reviews
    /// about a namespace, and is not to stand in the way of those who work there.
    pub caller: &'a str,
}

impl<'a> From<&'a str> for Party<'a> {
    fn from(key: &'a str) -> Self {
        Self { key, caller: "" }
    }
}

impl<'a> From<&'a String> for Party<'a> {
    fn from(key: &'a String) -> Self {
        key.as_str().into()
    }
}

/// Hands out permits in turns over keys (a key is a namespace) and within a key over its callers; for one caller first
/// come first served.
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
    /// By round, and within a round in the order in which they came.
    waiters: BTreeMap<Place, Waiter>,
    /// The round that the last grant was in.
    round: u64,
    /// The last round in which each caller has a place. A caller has one place in each, so one with many waiters
    /// leaves the next rounds to others.
    last_rounds: HashMap<Box<str>, u64>,
}

/// A round, and the number of the waiter.
type Place = (u64, u64);

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
    pub async fn acquire(&self, party: impl Into<Party<'_>>, permits: usize) -> Permit {
        let permits = permits.min(self.0.total);
        let (grant, granted) = oneshot::channel();
        let waiting = self.enqueue(party.into(), Waiter { permits, grant });
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

    fn enqueue(&self, Party { key, caller }: Party<'_>, waiter: Waiter) -> Waiting {
        let mut state = self.0.state();
        let number = state.number();
        let key: Arc<str> = match state.queues.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => key.into(),
        };
        if !state.queues.contains_key(&key) {
            let turn = state.number();
            state.turns.insert(turn, key.clone());
            state.queues.insert(key.clone(), Queue::new(turn));
        }
        let place =
            state.queues.get_mut(&key).map_or((0, number), |queue| queue.join(caller, number, waiter));
        let grants = self.0.grant(&mut state);
        drop(state);
        send(grants);
        Waiting { shared: self.0.clone(), key, place }
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
    fn new(turn: u64) -> Self {
        Self { turn, waiters: BTreeMap::new(), round: 0, last_rounds: HashMap::new() }
    }

    /// Gives a waiter its place: in the caller's next round.
    fn join(&mut self, caller: &str, number: u64, waiter: Waiter) -> Place {
        let round = self.last_rounds.get(caller).map_or(self.round, |last| (last + 1).max(self.round));
        self.last_rounds.insert(caller.into(), round);
        self.waiters.insert((round, number), waiter);
        (round, number)
    }

    /// Callers whose rounds are over need not be remembered: they join in the present one.
    fn enter(&mut self, round: u64) {
        if round != self.round {
            self.round = round;
            self.last_rounds.retain(|_, last| *last >= round);
        }
    }

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
        let ((round, _), waiter) = queue.waiters.pop_first()?;
        queue.enter(round);
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
    place: Place,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let Some(queue) = state.queues.get_mut(&self.key) else { return };
        if queue.waiters.remove(&self.place).is_none() {
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
mod tests;
