//! What the Lease says, and what is written into it. Pure but for the time of day, which is written and never read.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;

use super::LEASE_DURATION;

/// The candidate that holds the Lease; `None` if it was released.
pub(crate) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// For how long the Lease is valid after each renewal. Ours if it does not say; the API server refuses less than 1.
pub(crate) fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    seconds.map_or(LEASE_DURATION, Duration::from_secs)
}

/// A Lease that does not exist yet, held by that candidate.
pub(crate) fn first(name: &str, identity: &str) -> Lease {
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    let unheld =
        Lease { metadata, spec: Some(LeaseSpec { lease_transitions: Some(0), ..LeaseSpec::default() }) };
    let mut lease = held(&unheld, identity);
    if let Some(spec) = &mut lease.spec {
        spec.lease_transitions = Some(0);
    }
    lease
}

/// The Lease with that candidate as the holder, renewed now. A renewal keeps when it was acquired; a new holder counts
/// as a transition.
pub(crate) fn held(before: &Lease, identity: &str) -> Lease {
    let now = MicroTime(Timestamp::now());
    let is_ours = holder(before) == Some(identity);
    with_spec(before, |spec| {
        if !is_ours {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        if !is_ours || spec.acquire_time.is_none() {
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(identity.into());
        spec.lease_duration_seconds = i32::try_from(LEASE_DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
    })
}

/// The Lease without a holder, expired in a second: what client-go leaves behind, too.
pub(crate) fn released(before: &Lease) -> Lease {
    let now = MicroTime(Timestamp::now());
    with_spec(before, |spec| {
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.acquire_time = Some(now.clone());
        spec.renew_time = Some(now);
    })
}

/// The metadata stays, and with it the resourceVersion that guards the write.
fn with_spec(before: &Lease, change: impl FnOnce(&mut LeaseSpec)) -> Lease {
    let mut lease = before.clone();
    lease.metadata.managed_fields = None;
    change(lease.spec.get_or_insert_default());
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c5_1_a_renewal_keeps_what_client_go_keeps() {
        let first = first("lease", "a");
        let spec = first.spec.clone().unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("a"), Some(0)));
        assert_eq!(spec.lease_duration_seconds, Some(15));
        assert_eq!(spec.acquire_time, spec.renew_time);

        let renewed = held(&first, "a").spec.unwrap();
        assert_eq!((renewed.acquire_time, renewed.lease_transitions), (spec.acquire_time.clone(), Some(0)));

        let taken = held(&first, "b").spec.unwrap();
        assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("b"), Some(1)));
        assert_eq!(taken.acquire_time, taken.renew_time);
        assert!(taken.acquire_time >= spec.acquire_time);

        let released = released(&first);
        assert_eq!(holder(&released), None);
        assert_eq!(duration(&released), Duration::from_secs(1));
        let again = held(&released, "a").spec.unwrap();
        assert_eq!(again.lease_transitions, Some(1));
    }

    #[test]
    fn c5_1_times_have_the_form_that_go_reads() {
        let lease = serde_json::to_value(first("lease", "a")).unwrap();
        let time = lease["spec"]["renewTime"].as_str().unwrap();
        // 2006-01-02T15:04:05.000000Z
        assert!(time.len() == 27 && time.as_bytes()[19] == b'.' && time.ends_with('Z'), "{time}");
    }
}
