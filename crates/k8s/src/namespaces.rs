//! Asks whether a namespace is selected by its labels (1.6).

use kube::Resource;
use kube::api::GetParams;
use pod_reloader_core::selector::Selector;
use tokio::time::Instant;

use crate::fetch::{Fetch, Read};
use crate::objects::NamespaceMeta;
use crate::reader::ConfigReader;
use crate::unreadable::{Unreadable, attempts};

/// What the metadata of most namespaces takes at most, and that of any: 256 KiB of annotations, and what was kept of its
/// managers.
const TYPICAL_NAMESPACE_BYTES: usize = 32 << 10;
const MAX_NAMESPACE_BYTES: usize = 2 << 20;

impl ConfigReader {
    /// Whether the namespace has such labels (1.6), as it was a few seconds ago at most.
    ///
    /// # Errors
    /// If it could not be asked for before the deadline.
    pub async fn is_selected(
        &self,
        namespace: &str,
        selector: &Selector,
        deadline: Instant,
    ) -> Result<bool, Unreadable> {
        if selector.is_empty() {
            return Ok(true);
        }
        let question = self.is_selected_now(namespace, selector, deadline);
        self.selected.get_or_ask(namespace, &self.fetch.caller, deadline, question).await
    }

    /// Whether the namespace has such labels now.
    ///
    /// # Errors
    /// If it could not be asked for before the deadline.
    pub async fn is_selected_now(
        &self,
        namespace: &str,
        selector: &Selector,
        deadline: Instant,
    ) -> Result<bool, Unreadable> {
        let answer = self.namespace_now(namespace, deadline, |json| selector.matches_json(json)).await;
        answer.map(Option::unwrap_or_default)
    }

    /// What is read of the JSON of the namespace's metadata; `None` if there is no such namespace.
    ///
    /// # Errors
    /// If it could not be asked for before the deadline.
    pub async fn namespace_now<T>(
        &self,
        namespace: &str,
        deadline: Instant,
        read: impl Fn(&str) -> T,
    ) -> Result<Option<T>, Unreadable> {
        let answer = self.fetch.namespace(namespace, deadline, read).await;
        if let Err(error) = &answer {
            self.metrics.count_unreadable("get_namespace", *error);
        }
        answer
    }
}

impl Fetch {
    /// What is read of the JSON of the namespace's metadata; `None` if there is no such namespace.
    pub(crate) async fn namespace<T>(
        &self,
        namespace: &str,
        deadline: Instant,
        read: impl Fn(&str) -> T,
    ) -> Result<Option<T>, Unreadable> {
        let request = kube::core::Request::new(NamespaceMeta::url_path(&(), None))
            .get_metadata(namespace, &GetParams::default())
            .map_err(|_| Unreadable::Malformed)?;
        for room in [TYPICAL_NAMESPACE_BYTES, MAX_NAMESPACE_BYTES] {
            let _reservation = self.room(namespace, room, deadline).await?;
            match attempts(deadline, || self.body(request.clone(), room)).await? {
                Read::Absent => return Ok(None),
                Read::Whole(json) => {
                    let json = std::str::from_utf8(&json).map_err(|_| Unreadable::Malformed)?;
                    return Ok(Some(read(json)));
                }
                Read::Longer(_) => {}
            }
        }
        Err(Unreadable::TooLarge)
    }
}
