//! The life of one stream: list, watch, and again.

use std::sync::Arc;
use std::time::Duration;

use pod_reloader_k8s::objects::Watched;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};

use super::health::Sign;
use super::pace::{Pace, resync_after};
use super::requests::{Failure, Requests};
use super::{Change, Out};

/// A watch that has lasted so long is healthy; one that ended before was of no use.
const STEADY: Duration = Duration::from_secs(5);
/// After so many failures in a row a watch is not simply begun again: what it may not deliver is listed.
const MAX_FAILURES: u32 = 5;

/// Between the request for a relist and the list: further requests may arrive.
const BEFORE_RELIST: Duration = Duration::from_secs(1);

/// Whether the API server must have the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// That it does not is a failure like any other.
    Expected,
    /// It may come and go.
    Optional,
}

impl Presence {
    fn ends_with(self, failure: &Failure) -> bool {
        self == Self::Optional && failure.is_absence()
    }
}

/// Lists and watches until the resource is not there, if it may not be, and else for ever; lists at once whenever
/// `relist` changes.
pub(super) async fn follow<K>(
    mut requests: Requests<K>,
    presence: Presence,
    out: &Out<K>,
    sign: Sign,
    turns: Arc<Semaphore>,
    mut relist: watch::Receiver<u64>,
) where
    K: Watched,
{
    let mut pace = Pace::default();
    loop {
        let listed = {
            let Ok(_turn) = turns.acquire().await else { return };
            requests.list(out, &sign).await
        };
        match listed {
            Ok(listed) => {
                let relist_at = Instant::now() + resync_after(listed.objects);
                let watch = Watch { requests: &requests, presence, out, sign: &sign, pace: &mut pace };
                let watched = watch.until(relist_at, listed.version);
                tokio::select! {
                    () = watched => {}
                    Ok(()) = relist.changed() => {
                        sleep(BEFORE_RELIST).await;
                        relist.mark_unchanged();
                    }
                }
            }
            Err(failure) if presence.ends_with(&failure) => return,
            Err(failure) => {
                sign.failed(&failure.to_string(), failure.is_silence());
                out.send(Change::ListFailed).await;
                sleep(pace.after_failure()).await;
            }
        }
    }
}

/// What a watch takes.
struct Watch<'a, K: Watched> {
    requests: &'a Requests<K>,
    presence: Presence,
    out: &'a Out<K>,
    sign: &'a Sign,
    pace: &'a mut Pace,
}

impl<K: Watched> Watch<'_, K> {
    /// Watches until everything has to be listed again: because the version expired, or the resource is not there, or
    /// because it is time.
    async fn until(self, relist_at: Instant, mut version: String) {
        let Self { requests, presence, out, sign, pace } = self;
        while Instant::now() < relist_at {
            let mut was_steady = false;
            let ended = match requests.watch(&version, sign).await {
                Ok(lines) => {
                    let mut ended = std::pin::pin!(requests.follow(lines, &mut version, out, sign));
                    tokio::select! {
                        ended = &mut ended => ended,
                        () = sleep(STEADY) => {
                            was_steady = true;
                            pace.steady();
                            sign.lasts();
                            ended.await
                        }
                    }
                }
                Err(failure) => Err(failure),
            };
            match ended {
                Ok(()) if was_steady => sign.steady(),
                Ok(()) => {
                    // Those of a resource that goes end, too: what comes next tells.
                    if presence == Presence::Expected || pace.failures() > 0 {
                        sign.failed("the watch ended at once", false);
                    }
                    sleep(pace.after_failure()).await;
                }
                Err(Failure::Expired) => {
                    // Once in a while that is ordinary.
                    if pace.failures() > 0 {
                        sign.failed(&Failure::Expired.to_string(), false);
                    }
                    sleep(pace.after_failure()).await;
                    return;
                }
                Err(failure) if presence.ends_with(&failure) => return,
                Err(failure) => {
                    sign.failed(&failure.to_string(), failure.is_silence());
                    sleep(pace.after_failure()).await;
                    // It may have withheld anything, and so may the next one.
                    if failure.is_silence() {
                        return;
                    }
                }
            }
            if pace.failures() > MAX_FAILURES {
                return;
            }
        }
    }
}
