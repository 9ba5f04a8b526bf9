//! A semaphore whose permits are handed out in turns, so that one namespace cannot keep the others waiting.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Who a request is made for.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// What has a share: a namespace, or an address where callers share something among them.
    pub key: &'a str,
    /// On whose behalf, for the rounds: the address of the client that sent a review, empty for ourselves. Any client can
    /// send reviews, about whatever namespaces, and must not hold up the users who work there. Where addresses share, it
    /// is the namespace.
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

/// Hands out permits in turns over keys (a key is a namespace), first come first served within a key; and in rounds
/// over callers, so that a caller that asks for many keys, or often for one, leaves every other turn to another caller.
///
/// - A request is granted whole or not at all, so that requests cannot block each other by holding parts.
/// - The key whose turn it is waits until its request fits, and all later ones with it: a large request does not
///   starve behind small ones.
/// - A key that holds something is passed over while its next request would take it above three quarters of all
///   permits. What is left is for other keys; a single request may be larger than that.
/// - A request for more than all permits is one for all permits.
///
/// Clones share the permits. The state of a key is dropped with its last waiter and its last permit.
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
    /// The keys with waiters, in the order of their turns.
    turns: BTreeMap<Place, Arc<str>>,
    rounds: Rounds,
    /// The next number of a turn or a waiter.
    next: u64,
}

#[derive(Debug)]
struct Queue {
    turn: Place,
    waiters: BTreeMap<Place, Waiter>,
    rounds: Rounds,
}

/// A round, and a number: within a round, first come first served.
type Place = (u64, u64);

/// Gives each caller one place in each round.
#[derive(Debug, Default)]
struct Rounds {
    /// The round of the last grant.
    present: u64,
    /// The last round in which each caller has a place, if that is not over.
    last: HashMap<Arc<str>, u64>,
}

impl Rounds {
    fn join(&mut self, caller: &Arc<str>) -> u64 {
        let round = self.last.get(caller).map_or(self.present, |last| (last + 1).max(self.present));
        self.last.insert(caller.clone(), round);
        round
    }

    fn enter(&mut self, round: u64) {
        if round > self.present {
            self.present = round;
            self.last.retain(|_, last| *last >= round);
        }
    }
}

#[derive(Debug)]
struct Waiter {
    caller: Arc<str>,
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
            rounds: Rounds::default(),
            next: 0,
        };
        Self(Arc::new(Shared { total, state: Mutex::new(state) }))
    }

    /// Waits for permits, as many as asked for or all there are. A future that is dropped leaves no trace.
    pub async fn acquire(&self, party: impl Into<Party<'_>>, permits: usize) -> Permit {
        let permits = permits.min(self.0.total);
        let (grant, granted) = oneshot::channel();
        let Party { key, caller } = party.into();
        let waiting = self.enqueue(key, Waiter { caller: caller.into(), permits, grant });
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
        self.0.total - self.0.state.lock().free
    }

    /// The requests that wait now.
    pub fn waiting(&self) -> usize {
        self.0.state.lock().queues.values().map(|queue| queue.waiters.len()).sum()
    }

    fn enqueue(&self, key: &str, waiter: Waiter) -> Waiting {
        let mut state = self.0.state.lock();
        let key: Arc<str> = match state.queues.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => key.into(),
        };
        let place = state.join(&key, waiter);
        let grants = self.0.grant(&mut state);
        drop(state);
        send(grants);
        Waiting { shared: self.0.clone(), key, place }
    }
}

impl Shared {
    /// Grants what can be granted now, in turns.
    fn grant(self: &Arc<Self>, state: &mut State) -> Grants {
        let mut grants = Grants::new();
        let mut from = Bound::Unbounded;
        while let Some((turn, key)) = state.turns.range((from, Bound::Unbounded)).next() {
            let (turn, key) = (*turn, key.clone());
            let Some(permits) = state.queues.get(&key).and_then(Queue::asks_for) else { break };
            let held = state.held.get(&key).copied().unwrap_or_default();
            if held > 0 && held + permits > self.total - self.total / 4 {
                from = Bound::Excluded(turn);
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
        let mut state = self.state.lock();
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

/// A grant whose waiter is gone is dropped here, without the lock, and so given back.
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
    fn turn_of(&mut self, caller: &Arc<str>) -> Place {
        self.next += 1;
        (self.rounds.join(caller), self.next)
    }

    /// Puts a waiter into its key's queue, and gives the key a turn: an earlier one, if it has one for another caller.
    fn join(&mut self, key: &Arc<str>, waiter: Waiter) -> Place {
        let caller = waiter.caller.clone();
        let is_new = self.queues.get(key).is_none_or(|queue| !queue.rounds.last.contains_key(&caller));
        let turn = if is_new { Some(self.turn_of(&caller)) } else { None };
        self.next += 1;
        let number = self.next;
        let queue = self.queues.entry(key.clone()).or_insert_with(|| Queue {
            turn: (u64::MAX, number),
            waiters: BTreeMap::new(),
            rounds: Rounds::default(),
        });
        if let Some(turn) = turn.filter(|turn| *turn < queue.turn) {
            self.turns.remove(&queue.turn);
            self.turns.insert(turn, key.clone());
            queue.turn = turn;
        }
        let place = (queue.rounds.join(&caller), number);
        queue.waiters.insert(place, waiter);
        place
    }

    /// Takes the first waiter of a key out of its queue; the key's next turn is in the next round of the caller that is
    /// first then.
    fn next_turn(&mut self, key: &Arc<str>) -> Option<Waiter> {
        let queue = self.queues.get_mut(key)?;
        let ((round, _), waiter) = queue.waiters.pop_first()?;
        queue.rounds.enter(round);
        self.turns.remove(&queue.turn);
        self.rounds.enter(queue.turn.0);
        let Some((_, first)) = queue.waiters.first_key_value() else {
            self.queues.remove(key);
            return Some(waiter);
        };
        let caller = first.caller.clone();
        let turn = self.turn_of(&caller);
        if let Some(queue) = self.queues.get_mut(key) {
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
        let mut state = self.shared.state.lock();
        let Some(queue) = state.queues.get_mut(&self.key) else { return };
        if queue.waiters.remove(&self.place).is_none() {
            return;
        }
        if queue.waiters.is_empty() {
            let turn = queue.turn;
            state.turns.remove(&turn);
            state.queues.remove(&self.key);
        }
        // All other requests may have waited behind it.
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
