//! Awaiting conditions.

use std::{
    fmt::{self, Display},
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};

/// How long to wait for what an API server, its controllers and the operator do within seconds on a quiet machine.
pub const TIMEOUT: Duration = Duration::from_mins(1);

/// How long to pause between two polls.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until `condition` gives `Ok`, polling it every 50 ms, and returns what it gave.
///
/// An `Err` of the condition means "not yet", and says what was seen instead; the last one becomes part of the error
/// when `deadline` passes. A poll that takes longer than what is left is cut off. See [`give_up`] for ending early.
///
/// ```no_run
/// # async fn example(api: kube::Api<k8s_openapi::api::core::v1::ConfigMap>) -> anyhow::Result<()> {
/// use std::time::Duration;
/// let gone = pod_reloader_e2e::eventually("the ConfigMap to be gone", Duration::from_secs(5), || async {
///     match api.get_opt("settings").await? {
///         Some(obj) => anyhow::bail!("it is still there: {:?}", obj.metadata),
///         None => Ok(()),
///     }
/// });
/// gone.await
/// # }
/// ```
pub async fn eventually<T, F, Fut>(
    what: impl Display,
    deadline: Duration,
    mut condition: F,
) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let end = Instant::now() + deadline;
    let mut last_seen: Option<anyhow::Error> = None;
    loop {
        match tokio::time::timeout(end.saturating_duration_since(Instant::now()), condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if error.is::<GaveUp>() => {
                return Err(error).with_context(|| format!("gave up waiting for {what}"));
            }
            Ok(Err(error)) => last_seen = Some(error),
            Err(_) => {}
        }
        // Checked here too: a poll that answers at once is never cut off.
        let remaining = end.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            let error = last_seen.unwrap_or_else(|| anyhow!("nothing: the first look got no answer"));
            return Err(error.context(format!("waited {deadline:?} for {what}; last seen")));
        }
        tokio::time::sleep(POLL_INTERVAL.min(remaining)).await;
    }
}

/// An error that makes [`eventually`] end at once: what it waits for cannot come any more.
pub fn give_up(reason: impl Display) -> anyhow::Error {
    anyhow::Error::new(GaveUp(reason.to_string()))
}

/// A pause that a test needs because time itself is what it tests.
pub async fn let_pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[derive(Debug)]
struct GaveUp(String);

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for GaveUp {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_what_was_awaited_and_last_seen() {
        let mut looks = 0;
        let error = eventually("the moon", Duration::from_millis(120), || {
            looks += 1;
            let seen = format!("cloud {looks}");
            async move { anyhow::Result::<()>::Err(anyhow!(seen)) }
        })
        .await
        .unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("waited 120ms for the moon; last seen: cloud "), "{text}");
        assert!(looks >= 2, "{looks}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_cut_off() {
        let hangs =
            eventually("an answer", Duration::from_millis(50), std::future::pending::<anyhow::Result<()>>);
        let text = format!("{:#}", hangs.await.unwrap_err());
        assert!(text.contains("the first look got no answer"), "{text}");
    }

    #[tokio::test]
    async fn giving_up_ends_at_once() {
        let wait =
            eventually("etcd", Duration::from_mins(10), || async { Err::<(), _>(give_up("it exited")) });
        assert_eq!(format!("{:#}", wait.await.unwrap_err()), "gave up waiting for etcd: it exited");
    }
}
