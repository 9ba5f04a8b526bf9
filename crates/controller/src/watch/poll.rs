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

/// Between two questions until the first answer, where that has to be one.
const FIRST_PERIOD: Duration = Duration::from_secs(2);

/// Reports for ever the namespace that `out` covers while it is meant, as its JSON says: as lists of one or none, one in
/// each period. Without an answer so far it is not meant, or a list that failed where that has to be one.
pub(super) async fn poll(
    reader: Arc<ConfigReader>,
    is_meant: impl Fn(&str) -> bool + Send + Sync,
    (period, needs_answer): (Duration, bool),
    out: Out<NamespaceMeta>,
    sign: Sign,
) {
    let namespace = out.coverage.namespace.clone().unwrap_or_default();
    let (mut meant, mut is_answered) = (None, false);
    loop {
        let read = |json: &str| is_meant(json).then(|| serde_json::from_str(json).ok()).flatten();
        match reader.namespace_now(&namespace, Instant::now() + REQUEST_TIMEOUT, read).await {
            Ok(answer) => {
                meant = answer.flatten();
                is_answered = true;
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
        // Of what was never answered, nothing is known.
        if needs_answer && !is_answered {
            out.send(Change::ListFailed).await;
            sleep(FIRST_PERIOD.min(period)).await;
            continue;
        }
        out.send(Change::ListBegins).await;
        if let Some(namespace) = &meant {
            out.send(Change::Listed(NamespaceMeta::clone(namespace))).await;
        }
        out.send(Change::ListEnds).await;
        sleep(period).await;
    }
}
