//! Connections that hang or break.

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Works,
    /// Nothing comes any more, for ever.
    Hangs,
    /// What is under way breaks, and later requests do, too.
    Broken,
}

/// What one call of a connector gives: a pool of connections that share their fate.
#[derive(Debug)]
pub(crate) struct Connection {
    health: watch::Sender<Health>,
    /// How often all that was under way broke.
    interruptions: watch::Sender<u64>,
}

impl Connection {
    pub(crate) fn new() -> Self {
        Self { health: watch::Sender::new(Health::Works), interruptions: watch::Sender::new(0) }
    }

    pub(crate) fn set(&self, health: Health) {
        self.health.send_replace(health);
    }

    /// Breaks what is under way; what comes later works.
    pub(crate) fn interrupt(&self) {
        self.interruptions.send_modify(|count| *count += 1);
    }

    pub(crate) fn health(&self) -> Health {
        *self.health.borrow()
    }

    /// The number of interruptions so far, for [`Self::run`].
    pub(crate) fn interruptions(&self) -> u64 {
        *self.interruptions.borrow()
    }

    async fn until_unwell(&self, interruptions: u64) -> Health {
        let (mut health, mut interrupted) = (self.health.subscribe(), self.interruptions.subscribe());
        // The senders are ours: neither wait can fail.
        tokio::select! {
            biased;
            _ = health.wait_for(|health| *health != Health::Works) => self.health(),
            _ = interrupted.wait_for(|count| *count != interruptions) => Health::Broken,
        }
    }

    /// Does the work, begun after that many interruptions, as long as the connection works: `None` if it breaks; never
    /// ends if it hangs.
    pub(crate) async fn run<T>(&self, interruptions: u64, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            health = self.until_unwell(interruptions) => match health {
                Health::Broken => None,
                Health::Works | Health::Hangs => std::future::pending().await,
            },
            result = work => Some(result),
        }
    }
}
