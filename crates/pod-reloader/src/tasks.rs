//! The long-running tasks, none of which may end unnoticed.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;

/// A set of named tasks.
#[derive(Default)]
pub(crate) struct Tasks(JoinSet<&'static str>);

impl Tasks {
    /// Starts a task.
    pub(crate) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits for a task that ends although none should, and says which.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            Some(Ok(name)) => anyhow::anyhow!("the task '{name}' ended unexpectedly"),
            Some(Err(error)) => anyhow::Error::new(error).context("a task panicked"),
            None => anyhow::anyhow!("no tasks run"),
        }
    }

    /// Waits for all to end by themselves, but not longer than `limit`.
    pub(crate) async fn shut_down(mut self, limit: Duration) {
        let all = async { while self.0.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("some tasks did not stop in time and were aborted");
        }
    }
}
