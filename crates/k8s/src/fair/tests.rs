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
    let state = semaphore.0.state.lock();
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

fn ask_for(
    semaphore: &FairSemaphore,
    key: &'static str,
    caller: &'static str,
    permits: usize,
) -> Result<Permit, Acquire> {
    let semaphore = semaphore.clone();
    let party = Party { key, caller };
    let mut acquire = Acquire(Box::pin(async move { semaphore.acquire(party, permits).await }));
    poll(&mut acquire).ok_or(acquire)
}

#[test]
fn c4_10_within_a_namespace_callers_take_turns() {
    let semaphore = FairSemaphore::new(1);
    let held = ask(&semaphore, "shop", 1).unwrap();
    let mut flood: Vec<_> =
        (0..1000).map(|_| ask_for(&semaphore, "shop", "attacker", 1).unwrap_err()).collect();
    let mut good: Vec<_> = (0..3).map(|_| ask_for(&semaphore, "shop", "server", 1).unwrap_err()).collect();
    drop(held);
    for (theirs, ours) in flood.iter_mut().zip(&mut good) {
        drop(poll(theirs).unwrap());
        drop(poll(ours).unwrap());
    }
    drop(poll(&mut flood[3]).unwrap());
    // A later caller is not queued behind all earlier ones.
    let mut late = ask_for(&semaphore, "shop", "server", 1).unwrap_err();
    drop(poll(&mut flood[4]));
    drop(poll(&mut late).unwrap());
}

#[test]
fn c4_10_one_caller_in_many_namespaces_leaves_every_other_turn_to_somebody_else() {
    let names: Vec<&'static str> = (0..100).map(|i| &*format!("n{i}").leak()).collect();
    let semaphore = FairSemaphore::new(1);
    let held = ask(&semaphore, "shop", 1).unwrap();
    let mut flood: Vec<_> =
        names.iter().map(|name| ask_for(&semaphore, name, "attacker", 1).unwrap_err()).collect();
    let mut good: Vec<_> =
        ["shop", "n99", "n50"].map(|name| ask_for(&semaphore, name, "server", 1).unwrap_err()).into();
    drop(held);
    // Every permit is given back at once.
    let take_turns = |waiting: &mut Vec<Acquire>| {
        let before = waiting.len();
        waiting.retain_mut(|waiter| poll(waiter).is_none());
        before - waiting.len()
    };
    let mut turns_of_others = 0;
    for _ in 0..100 {
        if take_turns(&mut good) > 0 && good.is_empty() {
            break;
        }
        if let Some(i) = flood.iter_mut().position(|waiter| poll(waiter).is_some()) {
            drop(flood.swap_remove(i));
            turns_of_others += 1;
        }
    }
    assert!(good.is_empty() && turns_of_others <= 8, "{turns_of_others}, {} left", good.len());
}
