//! What the stub's parts have in common.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::connection::Connection;
use crate::fault::{Fault, FaultPlan, Occasion};
use crate::log::LogEntry;
use crate::random::Random;
use crate::request::{RequestInfo, RequestKind};
use crate::resource::ResourceType;
use crate::store::Store;
use crate::write::Hook;

/// How the server behaves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) has_watch_list: bool,
    pub(crate) expires_by_code: bool,
    pub(crate) watch_lag: Duration,
    pub(crate) latency: (Duration, Duration),
    pub(crate) bookmark_period: Duration,
    /// What the server does not have.
    pub(crate) absent: BTreeSet<&'static ResourceType>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) plan: FaultPlan,
    pub(crate) random: Random,
    pub(crate) log: Vec<LogEntry>,
    pub(crate) settings: Settings,
    pub(crate) hook: Option<Hook>,
    pub(crate) connections: Vec<Arc<Connection>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The version after the last write: what open watches wait for.
    versions: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(seed: u64) -> Self {
        let settings = Settings {
            has_watch_list: true,
            expires_by_code: false,
            watch_lag: Duration::ZERO,
            latency: (Duration::ZERO, Duration::ZERO),
            bookmark_period: Duration::from_mins(1),
            absent: BTreeSet::new(),
        };
        let store = Store::new(seed);
        let versions = watch::Sender::new(store.version);
        let state = State {
            store,
            plan: FaultPlan::default(),
            random: Random::new(seed),
            log: vec![],
            settings,
            hook: None,
            connections: vec![],
        };
        Self { state: Mutex::new(state), versions }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the store, and tells the watches.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.store);
        let version = state.store.version;
        drop(state);
        self.versions.send_if_modified(|last| std::mem::replace(last, version) != version);
        result
    }

    pub(crate) fn has(&self, resource: &ResourceType) -> bool {
        !self.lock().settings.absent.contains(resource)
    }

    pub(crate) fn versions(&self) -> watch::Receiver<u64> {
        self.versions.subscribe()
    }

    pub(crate) fn decide(
        &self,
        request: &RequestInfo,
        kind: RequestKind,
        is_streams_start: bool,
    ) -> Option<Fault> {
        let state = &mut *self.lock();
        let occasion = Occasion { request, kind, at: state.store.elapsed(), is_streams_start };
        state.plan.decide(&occasion, &mut state.random)
    }

    /// A pause on the way there or back.
    pub(crate) fn latency(&self) -> Duration {
        let state = &mut *self.lock();
        let (least, most) = state.settings.latency;
        let spread = u64::try_from((most.saturating_sub(least)).as_micros()).unwrap_or(u64::MAX);
        if spread == 0 {
            least / 2
        } else {
            (least + Duration::from_micros(state.random.below(spread + 1))) / 2
        }
    }

    pub(crate) fn note(&self, entry: usize, note: impl FnOnce(&mut LogEntry, Duration)) {
        let state = &mut *self.lock();
        let now = state.store.elapsed();
        if let Some(entry) = state.log.get_mut(entry) {
            note(entry, now);
        }
    }
}
