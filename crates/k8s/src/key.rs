//! The installation's digest key, kept in a Secret (2.2).
//!
//! The first replica creates the key. A running replica puts the Secret back if it is deleted or corrupted. If the
//! Secret holds another key than the replica does, the replica decides nothing ([`KeyReader::get`] is `None`) until the
//! stored key has been there for [`ADOPTION_DELAY`], and then takes that one.
//!
//! The Secret also says whether the whole installation stands down because another one writes the same workloads: all
//! replicas have to know, also after a restart.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::core::Status;
use kube::{Api, Client};
use pod_reloader_core::digest::DigestKey;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::connect::REQUEST_TIMEOUT;
use crate::metrics::Metrics;
use crate::named::{self, Named, with_causes};

mod rotation;
mod secret;
mod stand_down;

pub use crate::own_secret::RENEW;
pub use secret::{FORMER_KEPT, SECRET_NAME, STAND_DOWN, STANDING_DOWN};
use secret::{FormerKey, former, from_secret, is_rotation_asked, repaired, to_secret, with_former};

/// How long another key must have been stored before a running replica takes it for its own. Long enough that a key
/// that is put back at once, or two replicas that overwrite each other, do not cause workloads to be recorded again.
pub const ADOPTION_DELAY: Duration = Duration::from_secs(10);

const RETRY: Duration = Duration::from_secs(1);
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(15);
/// Without an event from the watch, the Secret is read again after this long.
const RECHECK: Duration = Duration::from_mins(1);
/// The server ends the watch before that.
const WATCH_SECONDS: u32 = 50;

/// What the key may be used for now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    in_force: Option<Arc<DigestKey>>,
    is_standing_down: bool,
}

/// A handle to the key that is in force.
#[derive(Clone, Debug)]
pub struct KeyReader {
    state: watch::Receiver<State>,
    stand_down: Arc<Notify>,
    /// When the keeper began to read the Secret last.
    aligned: watch::Receiver<Option<Instant>>,
    recheck: Arc<Notify>,
}

impl KeyReader {
    /// A key that is in force for good, for where no [`KeyKeeper`] runs.
    pub fn fixed(key: DigestKey) -> Self {
        let state = State { in_force: Some(Arc::new(key)), ..State::default() };
        Self {
            state: watch::channel(state).1,
            stand_down: Arc::default(),
            aligned: watch::channel(None).1,
            recheck: Arc::default(),
        }
    }

    /// The key, while this replica's is the stored one and the installation does not stand down; without it nothing may
    /// be decided.
    pub fn get(&self) -> Option<Arc<DigestKey>> {
        let state = self.state.borrow();
        if state.is_standing_down { None } else { state.in_force.clone() }
    }

    /// Waits until the Secret was read after that time, so that a key that another replica made before it is known here.
    /// `false` if that takes too long.
    pub async fn is_confirmed(&self, since: Instant) -> bool {
        let mut aligned = self.aligned.clone();
        let is_read = |at: &Option<Instant>| at.is_some_and(|at| at >= since);
        if is_read(&aligned.borrow()) {
            return true;
        }
        self.recheck.notify_one();
        // Without a keeper there is no other key.
        timeout(REQUEST_TIMEOUT, aligned.wait_for(is_read)).await.is_ok()
    }

    /// Whether the installation leaves all workloads to another one.
    pub fn is_standing_down(&self) -> bool {
        self.state.borrow().is_standing_down
    }

    /// Has all replicas of this installation stand down for [`STAND_DOWN`]: another one writes the same workloads.
    pub fn stand_down(&self) {
        self.stand_down.notify_one();
    }

    /// Waits for the key to appear, disappear or change.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            // The keeper is gone, which ends the process; until then nothing changes.
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps the key and its Secret.
#[derive(Debug)]
pub struct KeyKeeper {
    secret: Named<Secret>,
    metrics: Metrics,
    state: watch::Sender<State>,
    stand_down: Arc<Notify>,
    /// Until when this replica knows that the installation stands down, whatever the Secret says yet.
    stands_down_until: Option<Instant>,
    held: Option<Arc<DigestKey>>,
    /// The keys that it replaced, as far as they are kept.
    former: Vec<FormerKey>,
    aligned: watch::Sender<Option<Instant>>,
    recheck: Arc<Notify>,
    /// Another key that the Secret holds, and since when.
    other: Option<(DigestKey, Instant)>,
}

/// Why the key could not be brought in line with its Secret.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error(transparent)]
    Request(#[from] named::Error),
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
    #[error(
        "the Secret {SECRET_NAME} holds no key: it should have `id` (letters and digits) and `key` ({} bytes); \
         restore it, or delete it to have a new key made",
        DigestKey::LEN
    )]
    Malformed,
}

impl KeyKeeper {
    /// A keeper for the Secret in that namespace, and the handle to what it keeps.
    pub fn new(client: Client, namespace: &str, metrics: Metrics) -> (Self, KeyReader) {
        let (sender, state) = watch::channel(State::default());
        let stand_down = Arc::new(Notify::new());
        let (aligned, is_aligned) = watch::channel(None);
        let recheck = Arc::new(Notify::new());
        let reader = KeyReader {
            state,
            stand_down: stand_down.clone(),
            aligned: is_aligned,
            recheck: recheck.clone(),
        };
        let secret =
            Named::new(Api::namespaced(client, namespace), SECRET_NAME, RETRY).watched_for(WATCH_SECONDS);
        (
            Self {
                secret,
                metrics,
                state: sender,
                stand_down,
                stands_down_until: None,
                held: None,
                former: vec![],
                aligned,
                recheck,
                other: None,
            },
            reader,
        )
    }

    /// Runs until cancelled.
    pub async fn run(mut self) {
        loop {
            let began = Instant::now();
            match self.align().await {
                Ok(seen) => {
                    self.aligned.send_replace(Some(began));
                    let (stand_down, recheck) = (self.stand_down.clone(), self.recheck.clone());
                    tokio::select! {
                        () = self.wait_for_change(seen) => {}
                        () = recheck.notified() => {}
                        () = stand_down.notified() => self.announce_stand_down().await,
                    }
                }
                Err(error) => {
                    if let KeyError::Request(error) = &error
                        && let Some(cause) = error.cause()
                    {
                        self.metrics.count_error("digest_key", cause);
                    }
                    tracing::error!(error = %with_causes(&error), "cannot keep the digest key");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Compares the Secret with what this replica holds. Returns the version to watch from, if there is one.
    async fn align(&mut self) -> Result<Option<String>, KeyError> {
        let (stored, seen) = self.secret.find().await?;
        let Some(stored) = stored else {
            let (key, story) = match self.held.clone() {
                Some(key) => (key, "restored the digest key: its Secret had been deleted"),
                None => (Arc::new(new_key()?), "made a new digest key"),
            };
            // With the former keys, so that what is recorded with them stays comparable.
            let secret = with_former(to_secret(&key), &self.former);
            return match self.secret.create(&secret).await {
                Ok(_) => {
                    tracing::info!(id = key.id(), "{story}");
                    self.hold(key);
                    Ok(Some(seen))
                }
                // Another replica was faster: read what it stored.
                Err(error) if error.status().is_some_and(Status::is_already_exists) => Ok(None),
                Err(error) => Err(error.into()),
            };
        };

        self.see_stand_down(&stored);
        self.see_key(&stored).await.map(|is_replaced| (!is_replaced).then_some(seen))
    }

    /// Takes over the key that the Secret holds. Returns whether the Secret has to be read again at once.
    async fn see_key(&mut self, stored: &Secret) -> Result<bool, KeyError> {
        match (from_secret(stored), self.held.clone()) {
            (Some(key), held) if held.as_ref().is_none_or(|held| held.is_same(&key)) => {
                if held.is_none() {
                    tracing::info!(id = key.id(), "loaded the digest key");
                }
                if is_rotation_asked(stored) {
                    self.rotate(stored, &key).await?;
                    return Ok(true);
                }
                self.former = former(stored, Timestamp::now()).0;
                self.hold(Arc::new(key));
                self.drop_former(stored).await?;
            }
            // It was replaced on purpose.
            (Some(key), Some(held)) if key.former().iter().any(|former| former.is_same(&held)) => {
                tracing::info!(id = key.id(), old = held.id(), "the digest key was replaced by a new one");
                self.former = former(stored, Timestamp::now()).0;
                self.hold(Arc::new(key));
            }
            // Under the same id it would be taken for the one that all digests were made with.
            (Some(key), Some(held)) if key.id() == held.id() => self.repair(stored, held).await?,
            (Some(key), Some(held)) => self.consider(key, &held),
            (None, Some(held)) => self.repair(stored, held).await?,
            (_, None) => return Err(KeyError::Malformed),
        }
        Ok(false)
    }

    /// Puts the key that is held back into a Secret that was corrupted.
    async fn repair(&mut self, stored: &Secret, held: Arc<DigestKey>) -> Result<(), KeyError> {
        let repaired = repaired(stored, &held, &self.former);
        self.secret.replace(&repaired).await?;
        tracing::warn!(id = held.id(), "repaired the digest key: its Secret had been damaged");
        self.hold(held);
        Ok(())
    }

    fn hold(&mut self, key: Arc<DigestKey>) {
        self.other = None;
        self.held = Some(key.clone());
        self.state.send_if_modified(|state| {
            let has_changed = state.in_force.as_ref() != Some(&key);
            state.in_force = Some(key);
            has_changed
        });
    }

    fn consider(&mut self, stored: DigestKey, held: &DigestKey) {
        match &self.other {
            Some((other, since)) if other.is_same(&stored) => {
                if since.elapsed() >= ADOPTION_DELAY {
                    tracing::warn!(
                        id = stored.id(),
                        old = held.id(),
                        "took over the digest key that is stored"
                    );
                    self.hold(Arc::new(stored));
                }
            }
            _ => {
                tracing::warn!(
                    stored = stored.id(),
                    held = held.id(),
                    "the stored digest key is another one: nothing is decided until it has stood for {} s",
                    ADOPTION_DELAY.as_secs()
                );
                // Until it is clear which key stays, a digest of either might not be comparable later.
                self.state.send_if_modified(|state| state.in_force.take().is_some());
                self.other = Some((stored, Instant::now()));
            }
        }
    }

    /// Returns when the Secret may have changed.
    async fn wait_for_change(&self, seen: Option<String>) {
        let Some(seen) = seen else { return };
        let limit = match &self.other {
            Some((_, since)) => (*since + ADOPTION_DELAY).saturating_duration_since(Instant::now()),
            None => RECHECK,
        };
        let changed = self.secret.changed(&seen, |error| self.metrics.count_error("digest_key", error));
        // That nothing changed in that time is no failure.
        timeout(limit, changed).await.unwrap_or_default();
    }
}

fn new_key() -> Result<DigestKey, KeyError> {
    let mut bytes = [0; DigestKey::LEN];
    let mut id = [0; 8];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    getrandom::fill(&mut id).map_err(KeyError::Random)?;
    let id = format!("{:016x}", u64::from_be_bytes(id));
    DigestKey::new(id, &bytes).ok_or(KeyError::Malformed)
}

#[cfg(test)]
mod tests;
