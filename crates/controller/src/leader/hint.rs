//! A watch of the Lease, so that one that was released or deleted is noticed at once. Only a hint: the candidate reads
//! the Lease itself, and does so every two seconds without a hint.

use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, WatchEvent, WatchParams};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::{Election, Jitter, record};

/// How long the API server keeps a watch open.
const WATCH_SECONDS: u32 = 60;
/// A watch that the API server has not ended by then is dead.
const WATCH_TIMEOUT: Duration = Duration::from_secs(75);
/// How long until a watch begins.
const START_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Notifies whenever the Lease is deleted or has another holder; never ends.
pub(crate) async fn watch(election: &Election, hints: &Notify) {
    let api = Api::<Lease>::namespaced(election.client.clone(), &election.namespace);
    let mut holder = None;
    let mut pause = FIRST_PAUSE;
    let mut jitter = Jitter::new(&election.identity);
    loop {
        let began = Instant::now();
        // How it ended makes no difference.
        let _ = timeout(WATCH_TIMEOUT, follow(&api, election, &mut holder, hints)).await;
        // Where watches fail or end at once there is nothing to gain from asking often.
        pause = if began.elapsed() >= MAX_PAUSE { FIRST_PAUSE } else { (pause * 2).min(MAX_PAUSE) };
        sleep(jitter.apply(pause)).await;
    }
}

/// Follows one watch to its end.
async fn follow(api: &Api<Lease>, election: &Election, holder: &mut Option<String>, hints: &Notify) {
    let by_name =
        WatchParams::default().fields(&format!("metadata.name={}", election.name)).timeout(WATCH_SECONDS);
    // "0": from whatever the API server has in memory.
    let Ok(Ok(events)) = timeout(START_TIMEOUT, api.watch(&by_name, "0")).await else { return };
    let mut events = std::pin::pin!(events);
    while let Ok(Some(event)) = events.try_next().await {
        let now = match event {
            WatchEvent::Added(lease) | WatchEvent::Modified(lease) => {
                record::holder(&lease).map(str::to_owned)
            }
            WatchEvent::Deleted(_) => None,
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(_) => break,
        };
        let is_news = now != *holder;
        *holder = now;
        if is_news && holder.as_ref() != Some(&election.identity) {
            hints.notify_one();
        }
    }
}
