//! Which namespaces are selected by their labels, for a short while: the webhook asks for each review (1.6).

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::fair::FairSemaphore;
use crate::unreadable::Unreadable;

/// The API server asks for reviews of selected namespaces alone, so that a yes is hardly ever outdated. A no is: a
/// namespace that was labelled a moment ago gets its first workload.
const YES_MAX_AGE: Duration = Duration::from_secs(5);
const NO_MAX_AGE: Duration = Duration::from_secs(1);
/// A bound, since clients that send reviews choose the names in them.
const MAX_KNOWN: usize = 1_000;
const CONCURRENT_QUESTIONS: usize = 16;

#[derive(Debug)]
pub(crate) struct Selected {
    known: Mutex<HashMap<String, Known>>,
    /// By caller.
    turns: FairSemaphore,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    is_selected: bool,
    asked_at: Instant,
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.asked_at.elapsed() < if self.is_selected { YES_MAX_AGE } else { NO_MAX_AGE }
    }
}

impl Default for Selected {
    fn default() -> Self {
        Self { known: Mutex::default(), turns: FairSemaphore::new(CONCURRENT_QUESTIONS) }
    }
}

impl Selected {
    /// What is known of the namespace, or else what the API server answers.
    pub(crate) async fn get_or_ask(
        &self,
        namespace: &str,
        caller: &str,
        deadline: Instant,
        ask: impl Future<Output = Result<bool, Unreadable>>,
    ) -> Result<bool, Unreadable> {
        if let Some(known) = self.recall(namespace) {
            return Ok(known);
        }
        let turn = timeout_at(deadline, self.turns.acquire(caller, 1)).await;
        let turn = turn.map_err(|_| Unreadable::TimedOut)?;
        // Another request may have asked while this one waited for its turn.
        if let Some(known) = self.recall(namespace) {
            return Ok(known);
        }
        let asked_at = Instant::now();
        let is_selected = ask.await?;
        drop(turn);
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.retain(|_, known| known.is_fresh());
        }
        // Made-up names are not selected.
        if known.len() >= MAX_KNOWN {
            known.retain(|_, known| known.is_selected);
        }
        // The bound holds in any case; what is forgotten costs a question each.
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(namespace.to_owned(), Known { is_selected, asked_at });
        Ok(is_selected)
    }

    fn recall(&self, namespace: &str) -> Option<bool> {
        let known = self.known.lock().get(namespace).copied()?;
        known.is_fresh().then_some(known.is_selected)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn c1_6_what_is_known_of_a_namespace_is_believed_for_a_short_while() {
        let (selected, asked) = (Selected::default(), Cell::new(0));
        let ask = async |namespace: &str, answer| {
            let deadline = Instant::now() + Duration::from_secs(10);
            let question = async {
                asked.set(asked.get() + 1);
                answer
            };
            selected.get_or_ask(namespace, "", deadline, question).await
        };
        for (wait, answer, expected, questions) in [
            (0, Ok(false), Ok(false), 1),
            (900, Ok(true), Ok(false), 1),
            (200, Ok(true), Ok(true), 2),
            (4_900, Ok(false), Ok(true), 2),
            (200, Err(Unreadable::Status(500)), Err(Unreadable::Status(500)), 3),
            (0, Ok(true), Ok(true), 4),
        ] {
            sleep(Duration::from_millis(wait)).await;
            assert_eq!(ask("shop", answer).await, expected, "after {wait}");
            assert_eq!(asked.get(), questions);
        }
        for i in 0..5_000 {
            ask(&format!("made-up-{i}"), Ok(false)).await.unwrap();
        }
        assert!(selected.known.lock().len() <= MAX_KNOWN);
        assert_eq!(selected.recall("shop"), Some(true), "what is selected outlasts made-up names");
    }

    #[tokio::test(start_paused = true)]
    async fn c1_6_what_is_known_does_not_wait_behind_questions_and_questions_are_few() {
        let (selected, asked) = (Selected::default(), Cell::new(0));
        let deadline = Instant::now() + Duration::from_secs(3);
        assert_eq!(selected.get_or_ask("shop", "", deadline, async { Ok(true) }).await, Ok(true));
        let names: Vec<_> = (0..100).map(|i| format!("hangs-{i}")).collect();
        let hang = async || {
            asked.set(asked.get() + 1);
            std::future::pending().await
        };
        let questions = names.iter().map(|name| selected.get_or_ask(name, "attacker", deadline, hang()));
        let known = async {
            sleep(Duration::from_millis(1)).await;
            let began = Instant::now();
            let known = async { unreachable!("it is known") };
            let answer = selected.get_or_ask("shop", "", deadline, known).await;
            assert_eq!((answer, began.elapsed()), (Ok(true), Duration::ZERO));
            // Nor do other callers' questions wait behind those of one caller.
            let answer = selected.get_or_ask("stock", "server", deadline, async { Ok(true) }).await;
            assert_eq!((answer, began.elapsed()), (Ok(true), Duration::ZERO));
        };
        let all = timeout_at(deadline, futures::future::join_all(questions));
        let (answers, ()) = tokio::join!(all, known);
        assert!(answers.is_err());
        assert_eq!(asked.get(), CONCURRENT_QUESTIONS / 4 * 3, "of one caller");
    }
}
