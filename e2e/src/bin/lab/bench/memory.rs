//! What may be resident, and what is resident when there is nothing to do.

use std::time::Duration;

use super::Bench;
use super::fan_out::AT_ONCE;
use super::stage::Stage;

/// Most that may be resident at 10,000 workloads and in any burst, in MiB.
pub(super) const MOST_MIB: f64 = 64.0;
/// How much of what a burst took may still be resident after it, in MiB.
pub(super) const KEPT_MIB: f64 = 4.0;

impl Bench {
    /// What our own program takes when there is nothing to do, in MiB. It is measured once, on the first stage.
    pub(super) async fn empty_mib(&self, stage: &Stage) -> anyhow::Result<f64> {
        let measure = || async {
            let mut running = self.ours.start(stage, AT_ONCE).await?;
            running.settled(0).await?;
            // The first lists and the key have just been read.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let resident = running.resources().resident_mib()?;
            self.ours.stop(stage, running).await?;
            anyhow::Ok(resident)
        };
        self.empty_mib.get_or_try_init(measure).await.copied()
    }

    /// When memory that was needed for a while should have been given back.
    pub(super) fn given_back_after(&self) -> Duration {
        self.choose(Duration::from_secs(4), Duration::from_secs(10))
    }
}
