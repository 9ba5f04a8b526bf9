//! Questions that share answers, as a database groups its commits.
//!
//! Who asks while the same question is on its way waits for the *next* answer, together with all who ask meanwhile: each
//! answer is from a read that began after its question (4.3), and however many ask, there is one request at a time.
//!
//! Each request is a task of its own, and not driven by those who wait for it (as `futures::future::Shared` is): of these
//! one may give up in the moment in which it was woken on behalf of all, or panic.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
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

#[derive(Debug)]
struct Flight<Q, A> {
    /// `None` once the request has begun.
    boarding: Boarding<Q>,
    /// Who asks keeps it alive. If all give up, it is aborted.
    request: Weak<Request<A>>,
}

type Boarding<Q> = Arc<Mutex<Option<Q>>>;

/// A request that is under way, or yet to begin.
#[derive(Debug)]
struct Request<A> {
    answer: watch::Receiver<Option<A>>,
    task: AbortHandle,
}

impl<A> Drop for Request<A> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for an answer; `None` if there will be none, since asking panicked.
async fn answer_of<A: Clone>(mut answer: watch::Receiver<Option<A>>) -> Option<A> {
    answer.wait_for(Option::is_some).await.ok()?.clone()
}

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
    /// The answer to a question (`None` if asking panicked), and whether others asked it before. `merge` adds it to that
    /// of those who wait already; otherwise `ask` is called with it, or with what it has been merged to by then.
    pub(crate) fn join<F>(
        &self,
        key: K,
        question: Q,
        merge: impl FnOnce(&mut Q, Q),
        ask: impl FnOnce(Q) -> F + Send + 'static,
    ) -> (BoxFuture<'static, Option<A>>, bool)
    where
        F: Future<Output = A> + Send,
    {
        let (request, is_shared) = self.request(key, question, merge, ask);
        let answer = async move {
            let answer = answer_of(request.answer.clone()).await;
            drop(request);
            answer
        };
        (answer.boxed(), is_shared)
    }

    fn request<F>(
        &self,
        key: K,
        question: Q,
        merge: impl FnOnce(&mut Q, Q),
        ask: impl FnOnce(Q) -> F + Send + 'static,
    ) -> (Arc<Request<A>>, bool)
    where
        F: Future<Output = A> + Send,
    {
        let mut flights = self.flights.lock();
        let present = flights.get(&key).and_then(|flight| Some((flight, flight.request.upgrade()?)));
        let mut before = None;
        if let Some((flight, request)) = present {
            if let Some(waiting) = flight.boarding.lock().as_mut() {
                merge(waiting, question);
                return (request, true);
            }
            // Only the end of it matters: it need not go on for that.
            before = Some(request.answer.clone());
        }
        let boarding: Boarding<Q> = Arc::new(Mutex::new(Some(question)));
        let boarded = boarding.clone();
        let (sender, answer) = watch::channel(None);
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = timeout(PATIENCE, answer_of(before)).await;
            }
            let question = boarded.lock().take().expect("it is asked once");
            sender.send_replace(Some(ask(question).await));
        });
        let request = Arc::new(Request { answer, task: task.abort_handle() });
        if flights.len() >= self.many.load(Ordering::Relaxed) {
            flights.retain(|_, flight| flight.request.strong_count() > 0);
            // So that each is looked at a few times in all, however many are under way.
            self.many.store((2 * flights.len()).max(FEW), Ordering::Relaxed);
        }
        flights.insert(key, Flight { boarding, request: Arc::downgrade(&request) });
        (request, false)
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
            async { answer.await.unwrap() }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn c4_3_who_asks_during_a_read_shares_the_next_one() {
        let server = Server::new(LATENCY);
        let first = tokio::spawn(server.ask("a", 1));
        // Requests begin once their tasks run; who asks before that is on board.
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

    #[tokio::test(start_paused = true)]
    async fn c4_6_a_panic_while_asking_harms_those_who_asked_together_and_nobody_else() {
        let flights = Flights::<&str, (), ()>::default();
        let fails = || flights.join("a", (), |(), ()| (), |()| async { panic!("a bug") }).0;
        let (one, two) = tokio::join!(fails(), fails());
        assert_eq!((one, two), (None, None));
        let (answer, _) = flights.join("a", (), |(), ()| (), |()| async {});
        assert_eq!(answer.await, Some(()));
    }
}
