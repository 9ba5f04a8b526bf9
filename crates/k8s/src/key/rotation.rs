//! Replacing the key on purpose.
//!
//! The former key stays in the Secret for [`FORMER_KEPT`]: what is recorded with it is compared under it and recorded
//! again with the new one, so that nothing that changes meanwhile is missed (2.2). Any replica may create the new key,
//! since the write is guarded; other replicas take it at once, for it names theirs as the former one.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::core::Status;
use pod_reloader_core::digest::DigestKey;

use super::secret::{FORMER_KEPT, FormerKey, former, to_secret, with_former};
use super::{KeyError, KeyKeeper, new_key};
use crate::own_secret::RENEW;

impl KeyKeeper {
    /// Stores a new key, with the present one as a former one.
    pub(super) async fn rotate(&self, stored: &Secret, present: &DigestKey) -> Result<(), KeyError> {
        let now = Timestamp::now();
        let (earlier, _) = former(stored, now);
        let present = FormerKey { key: present.clone(), until: now + FORMER_KEPT };
        let kept: Vec<_> = std::iter::once(present).chain(earlier).collect();
        let new = new_key()?;
        let mut replaced = stored.clone();
        replaced.annotations_mut().remove(RENEW);
        replaced.data.get_or_insert_default().extend(to_secret(&new).data.unwrap_or_default());
        if self.replace(&with_former(replaced, &kept)).await? {
            tracing::warn!(
                id = new.id(),
                old = kept[0].key.id(),
                "made a new digest key, as the Secret's annotation asks; the old one is kept for {} hours",
                FORMER_KEPT.as_secs() / 3600
            );
        }
        Ok(())
    }

    /// Takes former keys out of the Secret whose time is over.
    pub(super) async fn drop_former(&self, stored: &Secret) -> Result<(), KeyError> {
        let (kept, has_others) = former(stored, Timestamp::now());
        if has_others && self.replace(&with_former(stored.clone(), &kept)).await? {
            tracing::info!("a former digest key is no longer kept");
        }
        Ok(())
    }

    /// Whether it was carried out; another replica may have been faster.
    async fn replace(&self, secret: &Secret) -> Result<bool, KeyError> {
        match self.secret.replace(secret).await {
            Ok(_) => Ok(true),
            Err(error) if error.status().is_some_and(Status::is_conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
