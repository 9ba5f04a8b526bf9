//! Questions that share answers, as a database groups its commits.
//!
//! Who asks while the same question is on its way waits for the *next* answer, together with all who ask meanwhile: each
//! answer is from a read that began after its question (4.3), and however many ask, there is one request at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use tokio::time::timeout;

/// The next request does not wait longer than this for the present one, whose connection may be dead.
const PATIENCE: Duration = Duration::from_millis(250);
/// So many are kept in any case, whether somebody waits for them or not.
const FEW: usize = 64;

/// See the module. `K` says which questions are the same; what differs between those who ask (`Q`, a deadline, say) is
/// merged until the request begins.
#[derive(Debug)]
pub(crate) struct Flights<K, Q, A> {
    flights: Mutex<HashMap<K, Flight<Q, A>>>,
    /// With more than this, what nobody waits for any more is cleared away.
    many: AtomicUsize,
}

type Answer<A> = Shared<BoxFuture<'static, A>>;

#[derive(Debug)]
struct Flight<Q, A> {
    /// `None` once the request has begun.
    question: Boarding<Q>,
    /// Who asks keeps it alive. If all give up, it is dropped.
    answer: WeakShared<BoxFuture<'static, A>>,
}

type Boarding<Q> = Arc<Mutex<Option<Q>>>;

impl<K, Q, A> Default for Flights<K, Q, A> {
    fn default() -> Self {
        Self { flights: Mutex::default(), many: AtomicUsize::new(FEW) }
    }
}

impl<K, Q, A> Flights<K, Q, A>
where
    K: Eq + Hash,
    Q: Send + 'static,
    A: Clone + Send + Sync + 'static,
{
    /// The answer to a question, and whether others asked it before. `merge` adds it to that of those who wait already;
    /// otherwise `ask` is called with it, or with what it has been merged to by then.
    pub(crate) fn join<F>(
        &self,
        key: K,
        question: Q,
        merge: impl FnOnce(&mut Q, Q),
        ask: impl FnOnce(Q) -> F + Send + 'static,
    ) -> (Answer<A>, bool)
    where
        F: Future<Output = A> + Send,
    {
        let mut flights = self.flights.lock();
        let present = flights.get(&key).and_then(|flight| Some((flight, flight.answer.upgrade()?)));
        let mut before = None;
        if let Some((flight, answer)) = present {
            if let Some(waiting) = flight.question.lock().as_mut() {
                merge(waiting, question);
                return (answer, true);
            }
            before = Some(answer).filter(|answer| answer.peek().is_none());
        }
        let question: Boarding<Q> = Arc::new(Mutex::new(Some(question)));
        let boarding = question.clone();
        let answer = async move {
            if let Some(before) = before {
                // Only its end matters, or that it takes too long.
                let _ = timeout(PATIENCE, before).await;
            }
            let question = boarding.lock().take().expect("it is asked once");
            ask(question).await
        };
        let answer = answer.boxed().shared();
        if let Some(weak) = answer.downgrade() {
            if flights.len() >= self.many.load(Ordering::Relaxed) {
                flights.retain(|_, flight| flight.answer.upgrade().is_some());
                // So that each is looked at a few times in all, however many are under way.
                self.many.store((2 * flights.len()).max(FEW), Ordering::Relaxed);
            }
            flights.insert(key, Flight { question, answer: weak });
        }
        (answer, false)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const LATENCY: Duration = Duration::from_millis(40);

    /// Answers with the number of the request, and the sum of what was merged.
    struct Server {
        flights: Arc<Flights<&'static str, usize, (usize, usize)>>,
        requests: Arc<AtomicUsize>,
        latency: Duration,
    }

    impl Server {
        fn new(latency: Duration) -> Self {
            Self { flights: Arc::default(), requests: Arc::default(), latency }
        }

        fn ask(&self, key: &'static str, question: usize) -> impl Future<Output = (usize, usize)> + use<> {
            let (requests, latency) = (self.requests.clone(), self.latency);
            let (answer, _) = self.flights.join(
                key,
                question,
                |waiting, question| *waiting += question,
                move |question| async move {
                    let number = requests.fetch_add(1, Ordering::SeqCst) + 1;
                    sleep(latency).await;
                    (number, question)
                },
            );
            answer
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c4_3_who_asks_during_a_read_shares_the_next_one() {
        let server = Server::new(LATENCY);
        let first = tokio::spawn(server.ask("a", 1));
        sleep(LATENCY / 2).await;
        let later: Vec<_> = (0..64).map(|_| server.ask("a", 1)).collect();
        let other = server.ask("b", 5).await;
        assert_eq!(other, (2, 5), "other questions do not wait");
        let answers = futures::future::join_all(later).await;
        assert_eq!(first.await.unwrap(), (1, 1));
        // One more request for all of them, which began after they asked.
        assert!(answers.iter().all(|answer| *answer == (3, 64)), "{answers:?}");
        assert_eq!(server.ask("a", 7).await, (4, 7), "what has landed is not given to anybody else");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_hangs_holds_up_the_next_for_a_moment_only() {
        let mut server = Server::new(Duration::from_hours(1));
        let hangs = tokio::spawn(server.ask("a", 1));
        sleep(LATENCY).await;
        server.latency = LATENCY;
        let began = Instant::now();
        assert_eq!(server.ask("a", 2).await, (2, 2));
        assert_eq!(began.elapsed(), PATIENCE + LATENCY);
        hangs.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_rest_their_answer_and_nobody_leaves_nothing() {
        let server = Server::new(LATENCY);
        let (one, two) = (server.ask("a", 1), server.ask("a", 2));
        let one = tokio::spawn(timeout(LATENCY / 2, one));
        assert_eq!(two.await, (1, 3));
        assert!(one.await.unwrap().is_err());
        let all = (0..1_000).map(|i| server.ask(Box::leak(format!("key-{i}").into_boxed_str()), i));
        for asked in all {
            assert!(timeout(LATENCY / 2, asked).await.is_err());
        }
        assert!(server.flights.flights.lock().len() <= FEW);
        let began = Instant::now();
        server.ask("key-999", 0).await;
        assert_eq!(began.elapsed(), LATENCY, "what was given up is not waited for");
    }
}
