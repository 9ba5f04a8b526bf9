//! Runs the reconciler in terms: whenever this replica leads.

use std::time::Duration;

use pod_reloader_controller::controller::{self, Settings};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long writes may take to come to their end at shutdown.
const FINISH: Duration = Duration::from_secs(15);
/// And when another replica leads. Whatever hangs is given up then, so that a term that is regained begins with fresh
/// reads.
const ABANDON: Duration = Duration::from_secs(1);

/// Runs the reconciler whenever this replica leads, until `stop` is cancelled.
pub(crate) async fn reconcile_while_leading(
    settings: Settings,
    mut leads: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        settings.metrics.set_leader(false);
        tokio::select! {
            () = stop.cancelled() => return,
            is_leading = leads.wait_for(|leads| *leads) => {
                if is_leading.is_err() {
                    return;
                }
            }
        }
        settings.metrics.set_leader(true);
        let term = CancellationToken::new();
        let mut reconciler = tokio::spawn(controller::run(settings.clone(), term.clone()));
        let end_of_term = async {
            // Without an election there is no sender, and this replica leads for ever.
            if leads.wait_for(|leads| !*leads).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            ended = &mut reconciler => Some(ended),
            () = end_of_term => None,
            () = stop.cancelled() => None,
        };
        term.cancel();
        let limit = if stop.is_cancelled() { FINISH } else { ABANDON };
        let ended = match ended {
            Some(ended) => Some(ended),
            None => timeout(limit, &mut reconciler).await.ok(),
        };
        match ended {
            // A bug: it ends the process, which is restarted.
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(_) => {}
            None => reconciler.abort(),
        }
    }
    settings.metrics.set_leader(false);
}

#[cfg(test)]
pub(crate) mod tests;
