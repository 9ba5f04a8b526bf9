//! Asks for one namespace by its name, again and again: where only Roles are given, namespaces cannot be listed or
//! watched, as a Role reaches no collection of them.

use std::sync::Arc;
use std::time::Duration;

use pod_reloader_k8s::connect::REQUEST_TIMEOUT;
use pod_reloader_k8s::objects::NamespaceMeta;
use pod_reloader_k8s::reader::{ConfigReader, Unreadable};
use tokio::time::{Instant, sleep};

use super::health::Sign;
use super::{Change, Out};

/// Reports for ever the namespace that `out` covers while it is meant, as its JSON says: as lists of one or none, one in
/// each period.
pub(super) async fn poll(
    reader: Arc<ConfigReader>,
    is_meant: impl Fn(&str) -> bool + Send + Sync,
    period: Duration,
    out: Out<NamespaceMeta>,
    sign: Sign,
) {
    let namespace = out.coverage.namespace.clone().unwrap_or_default();
    let mut meant = None;
    loop {
        let read = |json: &str| is_meant(json).then(|| serde_json::from_str(json).ok()).flatten();
        match reader.namespace_now(&namespace, Instant::now() + REQUEST_TIMEOUT, read).await {
            Ok(answer) => {
                meant = answer.flatten();
                sign.steady();
            }
            // What was known last holds; at first nothing is.
            Err(error) => {
                if matches!(error, Unreadable::Status(_)) {
                    sign.alive();
                }
                sign.failed(&error.to_string(), error == Unreadable::TimedOut);
            }
        }
        out.send(Change::ListBegins).await;
        if let Some(namespace) = &meant {
            out.send(Change::Listed(NamespaceMeta::clone(namespace))).await;
        }
        out.send(Change::ListEnds).await;
        sleep(period).await;
    }
}
