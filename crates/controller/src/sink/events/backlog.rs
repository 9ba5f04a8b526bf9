//! The Events that are yet to be written: in turns over namespaces, bounded by the bytes they take, and after the patches.
//!
//! Synchronous and without I/O. While workloads wait to be patched, Events make way: an API server has the more to do
//! for each patch the more is asked of it beside that. They do not wait for ever, and never too many of them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Events that are written at once, when nothing else is to be done.
const CONCURRENT: usize = 8;
/// And of one namespace: a policy webhook that hangs in it must not hold up the Events of others.
const CONCURRENT_OF_NAMESPACE: usize = 6;
/// The longest that they make way; after that a few are written at a time, each of another namespace.
const MAKE_WAY: Duration = Duration::from_secs(20);
const CONCURRENT_MAKING_WAY: usize = 2;
/// What all that wait may take: those of some ten thousand workloads.
const MAX_BYTES: usize = 12 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Backlog<T> {
    lines: HashMap<String, Line<T>>,
    /// Namespaces with Events that wait; the first is next.
    turns: VecDeque<String>,
    /// What all take, also those that are under way or wait to be tried again.
    bytes: usize,
    waiting: usize,
    under_way: usize,
    /// Since when some have been waiting without a pause.
    waiting_since: Option<Instant>,
    makes_way: bool,
}

/// Of one namespace.
#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<T>,
    bytes: usize,
    under_way: usize,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// This Event may be written. It counts as under way until [`Backlog::done`].
    Write(T),
    /// Nothing, before something changes or this time has come.
    Wait(Option<Instant>),
}

impl<T> Default for Backlog<T> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            turns: VecDeque::new(),
            bytes: 0,
            waiting: 0,
            under_way: 0,
            waiting_since: None,
            makes_way: false,
        }
    }
}

impl<T> Backlog<T> {
    /// Adds an Event that takes so many bytes; gives it back if there is no room for it.
    pub(super) fn push(&mut self, namespace: &str, event: T, bytes: usize, now: Instant) -> Result<(), T> {
        let of_namespace = self.lines.get(namespace).map_or(0, |line| line.bytes);
        // With very many namespaces there is still room for the first of each.
        if of_namespace + bytes > MAX_BYTES / 2 || (self.bytes + bytes > MAX_BYTES && of_namespace > 0) {
            return Err(event);
        }
        let line = self.lines.entry(namespace.to_owned()).or_insert_with(|| Line {
            waiting: VecDeque::new(),
            bytes: 0,
            under_way: 0,
        });
        line.bytes += bytes;
        self.bytes += bytes;
        self.again(namespace, event, now);
        Ok(())
    }

    /// Adds an Event again that was to be written and could not be.
    pub(super) fn again(&mut self, namespace: &str, event: T, now: Instant) {
        let Some(line) = self.lines.get_mut(namespace) else { return };
        if line.waiting.is_empty() {
            self.turns.push_back(namespace.to_owned());
        }
        line.waiting.push_back(event);
        self.waiting += 1;
        self.waiting_since.get_or_insert(now);
    }

    /// Says whether workloads wait to be patched. Returns whether that is new.
    pub(super) fn make_way(&mut self, makes_way: bool) -> bool {
        std::mem::replace(&mut self.makes_way, makes_way) != makes_way
    }

    pub(super) fn next(&mut self, now: Instant) -> Next<T> {
        let Some(since) = self.waiting_since else { return Next::Wait(None) };
        let is_overdue = now >= since + MAKE_WAY || self.bytes > MAX_BYTES / 4;
        let (limit, of_namespace) = match (self.makes_way, is_overdue) {
            (false, _) => (CONCURRENT, CONCURRENT_OF_NAMESPACE),
            (true, true) => (CONCURRENT_MAKING_WAY, 1),
            (true, false) => return Next::Wait(Some(since + MAKE_WAY)),
        };
        if self.under_way >= limit {
            return Next::Wait(None);
        }
        for _ in 0..self.turns.len() {
            let Some(name) = self.turns.pop_front() else { break };
            let event = self.take(&name, of_namespace);
            if self.lines.get(&name).is_some_and(|line| !line.waiting.is_empty()) {
                self.turns.push_back(name);
            }
            if let Some(event) = event {
                return Next::Write(event);
            }
        }
        Next::Wait(None)
    }

    fn take(&mut self, namespace: &str, limit: usize) -> Option<T> {
        let line = self.lines.get_mut(namespace)?;
        if line.under_way >= limit {
            return None;
        }
        let event = line.waiting.pop_front()?;
        line.under_way += 1;
        self.under_way += 1;
        self.waiting -= 1;
        if self.waiting == 0 {
            self.waiting_since = None;
            // After ten thousand of them it would keep their room.
            self.turns.shrink_to(CONCURRENT);
        }
        Some(event)
    }

    /// An Event of that namespace is no longer under way; it may come [`Backlog::again`].
    pub(super) fn done(&mut self, namespace: &str) {
        if let Some(line) = self.lines.get_mut(namespace) {
            line.under_way -= 1;
            self.under_way -= 1;
        }
    }

    /// An Event of that namespace is written or given up, and what it took is free.
    pub(super) fn forget(&mut self, namespace: &str, bytes: usize) {
        let Some(line) = self.lines.get_mut(namespace) else { return };
        line.bytes -= bytes;
        self.bytes -= bytes;
        if line.bytes == 0 {
            self.lines.remove(namespace);
        }
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 300;

    fn push(backlog: &mut Backlog<usize>, namespace: &str, count: usize, now: Instant) -> usize {
        (0..count).filter(|i| backlog.push(namespace, *i, BYTES, now).is_ok()).count()
    }

    fn take_all(backlog: &mut Backlog<usize>, now: Instant) -> usize {
        std::iter::from_fn(|| matches!(backlog.next(now), Next::Write(_)).then_some(())).count()
    }

    #[test]
    fn c5_8_events_make_way_for_patches_but_not_for_ever() {
        let (mut backlog, begin) = (Backlog::default(), Instant::now());
        assert!(backlog.make_way(true) && !backlog.make_way(true));
        push(&mut backlog, "shop", 100, begin);
        assert_eq!(backlog.next(begin), Next::Wait(Some(begin + MAKE_WAY)));
        let later = begin + MAKE_WAY;
        assert_eq!(take_all(&mut backlog, later), 1);
        backlog.done("shop");
        assert_eq!(take_all(&mut backlog, later), 1, "one at a time");
        backlog.make_way(false);
        assert_eq!(take_all(&mut backlog, later), CONCURRENT_OF_NAMESPACE - 1);
    }

    #[test]
    fn c5_8_no_namespace_holds_up_the_events_of_others() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        push(&mut backlog, "hangs", 100, now);
        assert_eq!(take_all(&mut backlog, now), CONCURRENT_OF_NAMESPACE);
        push(&mut backlog, "shop", 1, now);
        assert_eq!(take_all(&mut backlog, now), 1);
        backlog.done("shop");
        assert_eq!(take_all(&mut backlog, now), 0);

        // Nor while they make way.
        let mut backlog = Backlog::default();
        backlog.make_way(true);
        push(&mut backlog, "hangs", 100, now);
        push(&mut backlog, "shop", 100, now);
        let later = now + MAKE_WAY;
        assert_eq!(take_all(&mut backlog, later), 2);
        for _ in 0..50 {
            backlog.done("shop");
            assert_eq!(take_all(&mut backlog, later), 1);
        }
    }

    #[test]
    fn c5_8_what_waits_is_bounded_and_each_namespace_has_room() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        backlog.make_way(true);
        let fits = MAX_BYTES / 2 / BYTES;
        assert_eq!(push(&mut backlog, "big", 100_000, now), fits);
        assert!(fits > 10_000);
        assert_eq!(take_all(&mut backlog, now), 1, "with so many waiting one is written at a time");
        assert_eq!(push(&mut backlog, "other", 100_000, now), fits);
        for i in 0..1_000 {
            assert_eq!(push(&mut backlog, &format!("small-{i}"), 1, now), 1);
        }
        backlog.make_way(false);
        // The one that is under way comes again.
        backlog.done("big");
        backlog.again("big", 0, now);
        let mut written = 0;
        while let Next::Write(_) = backlog.next(now) {
            written += 1;
            let is_of = |(name, line): (&String, &Line<usize>)| (line.under_way > 0).then(|| name.clone());
            let namespace = backlog.lines.iter().find_map(is_of).unwrap();
            backlog.done(&namespace);
            backlog.forget(&namespace, BYTES);
        }
        assert_eq!(written, 2 * fits + 1_000);
        assert!(backlog.is_empty() && backlog.bytes == 0 && backlog.turns.capacity() < 100);
    }
}
